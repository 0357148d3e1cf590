# The targets are listed by `make help`. What is built lands in bin/ and build/,
# except the payload, which the compiler wants below core/internal/embed/payload.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.SECONDEXPANSION:
.NOTPARALLEL: # the go command uses all processors itself
MAKEFLAGS += --no-builtin-rules --no-print-directory
.DEFAULT_GOAL := help

# One set of flags for builds, tests and linters: Kubernetes is then compiled once.
export CGO_ENABLED := 0
export GOFLAGS := -trimpath -buildvcs=false
export GOWORK := off

module := github.com/cleat-dev/cleat
version_of = $(shell sed -n 's/^\t$(1) *= "\(.*\)"/\1/p' core/internal/version/version.go)
kubernetes := $(call version_of,Kubernetes)
VERSION ?= $(shell git describe --tags --match 'v*' --dirty 2>/dev/null || echo v0.0.0-dev)

# What every linked program says about the parts it embeds.
part_versions := \
	-X k8s.io/component-base/version.gitVersion=$(kubernetes) \
	-X k8s.io/component-base/version.gitMajor=$(subst v,,$(word 1,$(subst ., ,$(kubernetes)))) \
	-X k8s.io/component-base/version.gitMinor=$(word 2,$(subst ., ,$(kubernetes))) \
	-X k8s.io/client-go/pkg/version.gitVersion=$(kubernetes) \
	-X github.com/containerd/containerd/v2/version.Version=$(call version_of,Containerd)
ldflags := -s -w $(part_versions) -X $(module)/core/internal/version.Cleat=$(VERSION)
test_ldflags := -s -w $(part_versions)

bundle := build/bundle
upstream := build/upstream
payload := core/internal/embed/payload/files

##@ Use

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## Install the Debian packages that building and running need, if any is missing
	@scripts/deps build run

.PHONY: build
build: bundle ## Build bin/cleat, with everything in it
	go build -ldflags '$(ldflags)' -o bin/cleat ./cmd/cleat

.PHONY: run
run: deps build ## Start a server in the foreground (as root; more flags: make run ARGS='--debug')
	exec bin/cleat server $(ARGS) </dev/null

##@ Work on it

.PHONY: test
test: deps-test build golden test-images debian-root verify-bundle conformance-suite ## Run all tests; as root the cluster tests too
	go run ./scripts/testall -ldflags '$(test_ldflags)'

.PHONY: deps-test
deps-test: ## Install the Debian packages that the tests need as well
	@scripts/deps build run test

.PHONY: bench
bench: build test-images upstream ## Measure cleat beside upstream's programs on etcd and on kine: start, memory, requests (as root; BENCH_RUNS=5 FIGURES=boot,idle,api)
bench: export CLEAT_BENCH_RUNS := $(BENCH_RUNS)
bench: export CLEAT_BENCH_FIGURES := $(FIGURES)
bench: export CLEAT_BENCH_SETTLE := $(BENCH_SETTLE)
bench: export CLEAT_BENCH_WINDOW := $(BENCH_WINDOW)
bench:
	go test -tags bench -vet=off -ldflags '$(test_ldflags)' -timeout 4h -count 1 -v -run TestCluster ./test/bench/cluster

.PHONY: bench-profile
bench-profile: build test-images ## Show what a start of cleat and an idle server spend processor time and memory on (as root)
	go test -tags bench -vet=off -ldflags '$(test_ldflags)' -timeout 20m -count 1 -v -run TestProfile ./test/bench/cluster

.PHONY: bench-nodes
bench-nodes: build $(upstream)/hollow ## Measure what a node costs a server, with real nodes to 3 and hollow ones beyond, and what an agent needs (as root; HOLLOW=100 BENCH_JOINS=5)
bench-nodes: export CLEAT_BENCH_HOLLOW := $(HOLLOW)
bench-nodes: export CLEAT_BENCH_JOINS := $(BENCH_JOINS)
bench-nodes: export CLEAT_BENCH_SETTLE := $(BENCH_SETTLE)
bench-nodes: export CLEAT_BENCH_WINDOW := $(BENCH_WINDOW)
bench-nodes:
	go test -tags bench -vet=off -ldflags '$(test_ldflags)' -timeout 2h -count 1 -v -run TestNodes ./test/bench/nodes

.PHONY: bench-plugins
bench-plugins: build golden ## Measure one policy as a plugin in each language, in CEL and as a webhook, side by side (as root)
	go test -tags bench -vet=off -ldflags '$(test_ldflags)' -timeout 20m -count 1 -run '^$$' -bench BenchmarkStart -benchtime 20x ./core/pluginhost
	go test -tags bench -vet=off -ldflags '$(test_ldflags)' -timeout 20m -count 1 -v -run TestStep ./core/internal/embed/apiserver
	go test -tags bench -vet=off -ldflags '$(test_ldflags)' -timeout 60m -count 1 -v -run TestAdmission ./test/bench/admission

.PHONY: conformance-k8s
conformance-k8s: build conformance-suite ## Run upstream's conformance specs on a fresh cluster (as root; FOCUS=regex SKIP=regex LABELS=filter NODES=1 PROCS=n)
conformance-k8s: export CLEAT_CONFORMANCE_FOCUS := $(FOCUS)
conformance-k8s: export CLEAT_CONFORMANCE_SKIP := $(SKIP)
conformance-k8s: export CLEAT_CONFORMANCE_LABELS := $(LABELS)
conformance-k8s: export CLEAT_CONFORMANCE_NODES := $(NODES)
conformance-k8s: export CLEAT_CONFORMANCE_PROCS := $(PROCS)
conformance-k8s:
	go test -tags e2e -vet=off -ldflags '$(test_ldflags)' -timeout 4h -count 1 -v -run TestConformance ./test/conformance-k8s

.PHONY: churn
churn: build test-images ## Let nodes join and leave, and kill what runs on them, for ten minutes (as root; CHURN_JOINS=20 CHURN_KILLS=50)
churn: export CLEAT_CHURN_JOINS := $(or $(CHURN_JOINS),20)
churn: export CLEAT_CHURN_KILLS := $(or $(CHURN_KILLS),50)
churn:
	go test -tags e2e -vet=off -ldflags '$(test_ldflags)' -timeout 40m -count 1 -v -run TestChurn ./test/e2e

.PHONY: check
check: ## Generate, tidy, format, lint, test; fails if that changes a file
	@scripts/unchanged make generate tidy format
	$(MAKE) lint test

.PHONY: generate
generate: ## Write the generated files
	@scripts/modules go generate ./...

.PHONY: tidy
tidy: ## Tidy every go.mod
	@scripts/modules go mod tidy

.PHONY: format
format: ## Format every Go file
	git ls-files -z --cached --others --exclude-standard '*.go' | xargs -0r gofmt -w

.PHONY: lint
lint: build/staticcheck ## Run go vet and staticcheck
	@scripts/modules --with-packages go vet -tags e2e,bench ./...
	@scripts/modules --with-packages $(CURDIR)/build/staticcheck -tags e2e,bench ./...

.PHONY: lock
lock: $$(plugins) ## Pin the plugins as they build now in plugins.lock (new powers: make lock ARGS=--accept)
	go run ./scripts/lockfile write plugins.lock $(ARGS) $(bundle)/plugins

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin build
	find $(payload) -mindepth 1 ! -name .keep -delete

##@ The payload of bin/cleat

.PHONY: bundle
bundle: $(payload)/bin.tar.zst $(payload)/sdk.tar.zst $(payload)/images.tar.zst $(payload)/plugins.lock $(bundle)/plugincache.done ## Build what bin/cleat carries

.PHONY: verify-bundle
verify-bundle: ## Build the plugins once more, elsewhere and from nothing: they must be those of plugins.lock
	@scripts/verify-bundle

# The golden guests of the conformance suite, one in each language with an SDK.
golden := golden-admission golden-deployer
golden_languages := c rust assemblyscript

.PHONY: golden
golden: $(foreach l,go $(golden_languages),$(golden:%=build/golden/$(l)/%.wasm)) ## Build the golden guests

build/golden/go/%.wasm: $$(call module_files,conformance/golden/go/$$*) $$(sdk_files) build/pluginbuild
	@mkdir -p $(@D)
	build/pluginbuild -o $@ conformance/golden/go/$*

# Their own makefiles know what they need.
define golden_guest
build/golden/$(1)/$(2).wasm: FORCE
	@mkdir -p $$(@D)
	@$$(MAKE) -s -C conformance/golden/$(1)/$(2) SDK=$$(CURDIR)/pluginsdk/$(1) OUT=$$(CURDIR)/$$@
endef
$(foreach l,$(golden_languages),$(foreach g,$(golden),$(eval $(call golden_guest,$(l),$(g)))))

.PHONY: test-images
test-images: build/test-images.tar ## Build the image that the cluster tests run

.PHONY: debian-root
debian-root: build/debian-root.done ## Build the Debian with systemd that the test of the install script boots (as root)

build/debian-root.done: scripts/debian-root
	@mkdir -p build
	if [[ $$(id -u) == 0 ]]; then scripts/debian-root build/debian-root && touch $@; fi

# Rewritten only when a compiler changes, which then rebuilds what it made.
build/toolchain: FORCE
	@mkdir -p build
	@{ go version; gcc -dumpfullversion || echo no gcc; } 2>/dev/null >$@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

.PHONY: FORCE
FORCE:

# $(call module_files,DIR): what a Go module in DIR is built from.
module_files = $(shell find $(1) -name node_modules -prune -o -type f ! -name '*_test.go' ! -name '*.md' ! -path '*/testdata/*' -print)

pack := build/pack
$(pack): $(call module_files,bundle/pack) build/toolchain
	cd bundle/pack && go build -o $(CURDIR)/$@ .
	@touch $@

# The node's programs. Each comes from a module that pins it and what it needs.
cni_programs := bridge host-local loopback portmap
programs := $(addprefix $(bundle)/,runc containerd-shim-runc-v2 $(cni_programs))

$(bundle)/runc: bundle/runc/go.mod bundle/runc/go.sum build/toolchain
	cd bundle/runc && CGO_ENABLED=1 go build -tags 'seccomp netgo osusergo urfave_cli_no_docs' \
		-ldflags '-s -w -extldflags -static' -o $(CURDIR)/$@ github.com/opencontainers/runc
	@touch $@

$(bundle)/containerd-shim-runc-v2: bundle/shim/go.mod bundle/shim/go.sum build/toolchain
	cd bundle/shim && go build -tags no_grpc -ldflags '-s -w -X github.com/containerd/containerd/v2/version.Version=$(call version_of,Containerd)' \
		-o $(CURDIR)/$@ github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2
	@touch $@

$(addprefix $(bundle)/,$(cni_programs)): bundle/cni/go.mod bundle/cni/go.sum build/toolchain
	cd bundle/cni && go build -ldflags '-s -w -X github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion=$(call version_of,CNIPlugins)' \
		-o $(CURDIR)/$@ $$(go list -f '{{.ImportPath}}' tool | grep '/$(@F)$$')
	@touch $@

$(payload)/bin.tar.zst: $(programs) $(pack)
	$(pack) files -o $@ $(programs)

# The packaged images.
$(bundle)/coredns: $(call module_files,bundle/coredns) build/toolchain
	cd bundle/coredns && go build -tags grpcnotrace -ldflags '-s -w' -o $(CURDIR)/$@ .
	@touch $@

$(bundle)/pause: go.mod build/toolchain
	@mkdir -p $(@D)
	gcc -Os -Wall -Werror -static -s -DVERSION=$(call version_of,Pause) -o $@ \
		"$$(go mod download -json k8s.io/kubernetes@$(word 1,$(subst +, ,$(kubernetes))) | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')/build/pause/linux/pause.c"

# The sources of the plugin SDKs, for `cleat plugin new`.
sdk_sources := $(shell find hostabi pluginsdk -type f ! -name '*_test.go' ! -path '*/testdata/*' ! -path '*/node_modules/*' \
	! -path 'hostabi/internal/*' ! -path 'hostabi/api/*' ! -path '*/build/*' | LC_ALL=C sort)
$(payload)/sdk.tar.zst: $(sdk_sources) $(pack)
	$(pack) sources -o $@ $(sdk_sources)

image_specs := $(wildcard bundle/images/*.json)
$(payload)/images.tar.zst: $(image_specs) $(bundle)/coredns $(bundle)/pause $(pack)
	$(pack) images -o $@ -from $(bundle) $(image_specs)

build/test-images.tar: test/images/busybox.json /bin/busybox $(pack)
	$(pack) images -o $@ -from /bin test/images/busybox.json

# Upstream's conformance suite, and stand-ins for the images that its specs name.
suite := build/conformance-k8s
suite_module := test/conformance-k8s/suite
image_programs := agnhost consume-cpu etcd nonewprivs resource-consumer sample-apiserver
suite_programs := $(addprefix $(suite)/,ginkgo $(image_programs))

.PHONY: conformance-suite
conformance-suite: $(suite)/e2e.test $(suite)/ginkgo $(suite)/images.tar ## Build upstream's conformance suite and its images

$(suite)/e2e.test: $(suite_module)/go.mod $(suite_module)/go.sum build/toolchain
	cd $(suite_module) && go test -c -vet=off -ldflags '$(test_ldflags)' -o $(CURDIR)/$@ k8s.io/kubernetes/test/e2e
	@touch $@

upstream_images := k8s.io/kubernetes/test/images
$(suite)/agnhost $(suite)/nonewprivs $(suite)/resource-consumer: package = $(upstream_images)/$(@F)
$(suite)/consume-cpu: package = $(upstream_images)/resource-consumer/$(@F)
$(suite)/etcd: package = go.etcd.io/etcd/server/v3
$(suite)/ginkgo: package = github.com/onsi/ginkgo/v2/ginkgo
$(suite)/sample-apiserver: package = k8s.io/sample-apiserver
$(suite_programs): $(suite_module)/go.mod $(suite_module)/go.sum build/toolchain
	cd $(suite_module) && go build -ldflags '$(test_ldflags)' -o $(CURDIR)/$@ $(package)
	@touch $@

$(suite)/debian.tar: test/conformance-k8s/images/debian.packages scripts/debian-tar
	@mkdir -p $(@D)
	scripts/debian-tar $@ $$(cat $<)

suite_specs := $(wildcard test/conformance-k8s/images/*.json) test/images/busybox.json
$(suite)/images.tar: $(suite_specs) $(suite)/debian.tar $(addprefix $(suite)/,$(image_programs)) $(bundle)/coredns $(bundle)/pause /bin/busybox /bin/bash-static $(pack)
	@ln -sfn "$$(cd $(suite_module) && go list -m -f '{{.Dir}}' k8s.io/kubernetes)/test/images" $(suite)/upstream
	@ln -sf /bin/busybox /bin/bash-static $(CURDIR)/$(bundle)/coredns $(CURDIR)/$(bundle)/pause $(suite)
	$(pack) images -quick -o $@ -from $(suite) $(suite_specs)

# Upstream's programs as they are, of the versions that cleat embeds, for the benchmark,
# and hollow nodes out of their parts.
upstream_module := test/bench/upstream
kubernetes_programs := kube-apiserver kube-controller-manager kube-proxy kube-scheduler kubelet
upstream_programs := $(addprefix $(upstream)/,$(kubernetes_programs) containerd ctr etcd flannel kine)

.PHONY: upstream
upstream: $(upstream_programs) ## Build upstream's programs, which the benchmark compares with

$(upstream)/flannel $(upstream)/hollow: package = ./$(@F)
$(addprefix $(upstream)/,$(kubernetes_programs)): package = k8s.io/kubernetes/cmd/$(@F)
$(upstream)/containerd $(upstream)/ctr: package = github.com/containerd/containerd/v2/cmd/$(@F)
$(upstream)/etcd: package = go.etcd.io/etcd/server/v3
$(upstream)/kine: package = github.com/k3s-io/kine
$(upstream_programs) $(upstream)/hollow: $(call module_files,$(upstream_module)) build/toolchain
	cd $(upstream_module) && go build -ldflags '$(test_ldflags)' -o $(CURDIR)/$@ $(package)
	@touch $@

# The default plugins, their lock and their machine code.
plugins := $(patsubst plugins/%/manifest.json,$(bundle)/plugins/%.wasm,$(sort $(wildcard plugins/*/manifest.json)))
sdk_files := $(call module_files,hostabi) $(filter-out $(foreach l,c rust assemblyscript,pluginsdk/$(l)/%),$(call module_files,pluginsdk))

build/pluginbuild: $(sdk_files) build/toolchain
	cd pluginsdk && go build -o $(CURDIR)/$@ ./cmd/pluginbuild
	@touch $@

$(bundle)/plugins/%.wasm: $$(call module_files,plugins/$$*) $(sdk_files) build/pluginbuild
	@mkdir -p $(@D)
	build/pluginbuild -o $@ plugins/$*

$(payload)/plugins.lock: plugins.lock $(plugins)
	go run ./scripts/lockfile check $< $(plugins)
	rm -rf $(payload)/plugins
	mkdir -p $(payload)/plugins
	cp $(plugins) $(payload)/plugins
	cp $< $@

# Rewritten only when a plugin's bytes change: compiling them takes a while.
$(bundle)/plugins.sha256: $(plugins)
	@sha256sum $(plugins) >$@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

# What decides how wazero compiles and how it names what it compiled.
compiler_files := go.mod $(addprefix core/pluginhost/,cache.go cacherecord.go cursor.go frame.go instruction.go meter.go precompile.go program.go precompile/main.go)
$(bundle)/plugincache.done: $(bundle)/plugins.sha256 $(compiler_files) build/toolchain | $(payload)/plugins.lock
	go run ./core/pluginhost/precompile -plugins $(payload)/plugins -out $(payload)/plugincache
	@touch $@

# The linter is pinned by a module of its own.
build/staticcheck: scripts/lint/go.mod scripts/lint/go.sum build/toolchain
	cd scripts/lint && go build -o $(CURDIR)/$@ honnef.co/go/tools/cmd/staticcheck
	@touch $@
