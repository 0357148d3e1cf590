# The build of a plugin in AssemblyScript, for GNU make. A plugin's Makefile is
#
#   NAME := my-plugin
#   SDK ?= path/of/this/directory
#   include $(SDK)/plugin.mk
#
# make        builds $(OUT) from plugin.ts and manifest.json
# make test   builds it, and runs TESTS in node
# make verify checks $(OUT) against the ABI, in the sandbox of cleat

TESTS ?= plugin.test.mjs
OUT ?= $(NAME).wasm
CLEAT ?= cleat

cleat_sdk := $(abspath $(SDK))
cleat_sources := $(wildcard $(cleat_sdk)/assembly/cleat/*.ts $(cleat_sdk)/tools/*.mjs)
cleat_installed := $(cleat_sdk)/node_modules/.package-lock.json

.DELETE_ON_ERROR:
.PHONY: all test verify clean

all: $(OUT)

$(OUT): $(wildcard *.ts) manifest.json $(cleat_sources) $(cleat_installed) $(SDK)/plugin.mk
	@mkdir -p $(@D)
	node $(cleat_sdk)/tools/build.mjs --out $@ .

# The compiler, as the SDK's lock pins it.
$(cleat_installed): $(cleat_sdk)/package-lock.json
	cd $(cleat_sdk) && npm ci && touch $@

test: $(OUT)
	SDK=$(cleat_sdk) PLUGIN=$(abspath $(OUT)) node --test $(TESTS)

verify: $(OUT)
	$(CLEAT) plugin verify $<

clean:
	rm -f $(OUT)
