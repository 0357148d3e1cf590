# Builds and tests a plugin with rustc alone. The Makefile of a plugin is
#
#	NAME := my-policy
#	SDK ?= ../pluginsdk/rust
#	include $(SDK)/plugin.mk
#
# make        builds $(OUT) from src/lib.rs and manifest.json
# make test   runs the unit tests natively
# make verify checks $(OUT) against the ABI, in the sandbox of cleat

OUT ?= $(NAME).wasm
CLEAT ?= cleat

# The first rustc that can build for wasm. Debian's is in the packages rustc, libstd-rust-dev-wasm32
# and lld-14.
cleat_target := wasm32-unknown-unknown
ifndef RUSTC
RUSTC := $(shell for rustc in rustc /usr/bin/rustc; do \
	libraries=$$($$rustc --print target-libdir --target $(cleat_target) 2>/dev/null) && \
	test -d "$$libraries" && echo $$rustc && break; done)
endif

# What is built depends on the sources and the compiler, not on the directories.
cleat_flags := --edition 2021 -C opt-level=s \
	--remap-path-prefix=$(CURDIR)=$(NAME) --remap-path-prefix=$(abspath $(SDK))=cleat
cleat_guest_flags := $(cleat_flags) --target $(cleat_target) -C target-feature=+bulk-memory -C lto \
	-C codegen-units=1 -C panic=abort -C strip=symbols -C link-arg=-zstack-size=65536

# Compiles the SDK with the flags $(1) into a directory that goes again, and begins to compile the
# plugin. What follows says into what.
cleat_compile = $(if $(RUSTC),,$(error no rustc can build for $(cleat_target); set RUSTC to one)) \
	parts=$$(mktemp -d) && trap 'rm -rf "$$parts"' EXIT && \
	$(RUSTC) $(1) --crate-type rlib --crate-name cleat --out-dir "$$parts" \
		$(abspath $(SDK))/src/lib.rs && \
	$(RUSTC) $(1) --crate-name $(subst -,_,$(NAME)) --extern cleat="$$parts/libcleat.rlib" \
		$(CURDIR)/src/lib.rs

.DELETE_ON_ERROR:
.PHONY: all test verify clean

all: $(OUT)

$(OUT): $(shell find src manifest.json $(SDK)/src -type f) $(SDK)/plugin.mk
	@mkdir -p $(@D)
	@$(call cleat_compile,$(cleat_guest_flags)) --crate-type cdylib -o $@

test:
	@$(call cleat_compile,$(cleat_flags)) --test -o "$$parts/test" && "$$parts/test"

verify: $(OUT)
	$(CLEAT) plugin verify $<

clean:
	rm -f $(OUT)
