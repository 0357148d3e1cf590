# Builds and tests a plugin with rustc alone. The Makefile of a plugin is
#
#	NAME := my-policy
#	SDK ?= ../pluginsdk/rust
#	include $(SDK)/plugin.mk
#
# `make` writes OUT, `make test` runs the unit tests natively. The plugin is src/lib.rs with
# manifest.json; see README.md for cargo.

OUT ?= $(NAME).wasm
WASM := wasm32-unknown-unknown

# The first rustc that can build for wasm. Debian's is the packages rustc, libstd-rust-dev-wasm32
# and lld-14.
ifndef RUSTC
RUSTC := $(shell for rustc in rustc /usr/bin/rustc; do \
	libraries=$$($$rustc --print target-libdir --target $(WASM) 2>/dev/null) && \
	test -d "$$libraries" && echo $$rustc && break; done)
endif

# What is built depends on the sources and the compiler, not on where they are.
FLAGS := --edition 2021 -C opt-level=s \
	--remap-path-prefix=$(CURDIR)=$(NAME) --remap-path-prefix=$(abspath $(SDK))=cleat
GUEST_FLAGS := $(FLAGS) --target $(WASM) -C panic=abort -C lto -C codegen-units=1 \
	-C strip=symbols -C link-arg=-zstack-size=65536
SOURCES = $(shell find src manifest.json $(SDK)/src -type f)

# Compiles the SDK into a directory that goes again, then $(1) with the rest of the arguments.
compile = $(if $(RUSTC),,$(error no rustc for $(WASM): install it, or set RUSTC)) \
	parts=$$(mktemp -d) && trap 'rm -rf "$$parts"' EXIT && \
	$(RUSTC) $(1) --crate-type rlib --crate-name cleat --out-dir "$$parts" $(SDK)/src/lib.rs && \
	$(RUSTC) $(1) --crate-name $(subst -,_,$(NAME)) --extern cleat="$$parts/libcleat.rlib" src/lib.rs

$(OUT): $(SOURCES)
	@mkdir -p $(dir $(OUT))
	@$(call compile,$(GUEST_FLAGS)) --crate-type cdylib -o $(OUT)

.PHONY: test
test:
	@$(call compile,$(FLAGS)) --test -o "$$parts/test" && "$$parts/test"
