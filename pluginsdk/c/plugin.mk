# The build of a plugin in C, for GNU make. A plugin's Makefile is
#
#   NAME := my-plugin
#   SDK ?= path/of/this/directory
#   include $(SDK)/plugin.mk
#
# make        builds $(OUT) from SOURCES and MANIFEST
# make test   builds TESTS natively, with sanitizers, and runs them
# make verify checks $(OUT) against the ABI, in the sandbox of cleat

SOURCES ?= plugin.c
TESTS ?= plugin_test.c
MANIFEST ?= manifest.json
OUT ?= $(NAME).wasm

CLANG ?= clang
CLEAT ?= cleat
SANITIZE ?= -fsanitize=address,undefined -fno-sanitize-recover=all

cleat_sources := $(wildcard $(SDK)/src/*.c)
cleat_headers := $(wildcard $(SDK)/include/cleat/*.h $(SDK)/src/*.h)
cleat_test_sources := $(wildcard $(SDK)/test/host/*.c)
cleat_test_headers := $(wildcard $(SDK)/test/host/*.h)
cleat_flags := -std=c11 -Wall -Wextra -Werror -I$(SDK)/include

# One compiler run, so that nothing is inlined twice and what is not used is left out. Bulk memory
# makes copies one instruction; the stack is first, so that running over it traps.
cleat_wasm_flags := --target=wasm32-wasi -mexec-model=reactor -mbulk-memory -O2 -flto \
	-Wl,--lto-O2 -Wl,--strip-debug -Wl,--stack-first -Wl,-z,stack-size=65536

.DELETE_ON_ERROR:
.PHONY: all test verify clean

all: $(OUT)

$(OUT): $(SOURCES) $(MANIFEST) $(cleat_sources) $(cleat_headers) $(SDK)/plugin.mk
	@mkdir -p $(@D)
	$(CLANG) $(cleat_flags) $(cleat_wasm_flags) $(PLUGIN_CFLAGS) -DCLEAT_MANIFEST_FILE='"$(abspath $(MANIFEST))"' \
		-o $@ $(SOURCES) $(cleat_sources)

test: $(OUT:.wasm=)-test
	$(abspath $<)

$(OUT:.wasm=)-test: $(SOURCES) $(TESTS) $(cleat_sources) $(cleat_headers) $(cleat_test_sources) $(cleat_test_headers)
	@mkdir -p $(@D)
	$(CC) $(cleat_flags) -g -O1 $(SANITIZE) $(PLUGIN_CFLAGS) \
		-o $@ $(SOURCES) $(TESTS) $(cleat_sources) $(cleat_test_sources) -lm

verify: $(OUT)
	$(CLEAT) plugin verify $<

clean:
	rm -f $(OUT) $(OUT:.wasm=)-test
