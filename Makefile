# What it takes to build, run and test weir. Building needs Go; the other targets install what they need (Debian, root).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

# Under sudo the checkout may belong to somebody else, and PATH may not lead to Go.
GIT     := git -c safe.directory='*'
GO      := $(or $(shell command -v go),$(firstword $(wildcard /usr/local/go/bin/go /usr/lib/go/bin/go)),go)
export PATH := $(PATH):$(dir $(GO))

VERSION ?= $(shell $(GIT) describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  ?= $(shell $(GIT) rev-parse -q --verify HEAD 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)

# Every target but build and run may install Debian packages.
GENERATE_PACKAGES := clang-19 llvm-19 libbpf-dev linux-libc-dev
TEST_PACKAGES     := gcc libc6-dev bpftool iproute2 tcpdump tshark curl openssl openssh-client openssh-server systemd
BENCH_PACKAGES    := softflowd
KERNEL_PACKAGES   := qemu-system-x86 busybox-static cpio xz-utils

.PHONY: all
all: build

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

.PHONY: build
build: ## build the static binary bin/weir
	@CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/weir ./cmd/weir

.PHONY: run
run: build ## watch the default-route interface and print FlowEvents, one JSON object a line (root)
	@exec ./bin/weir run

.PHONY: test
test: test-packages ## run all tests (root)
	$(GO) vet ./...
	$(GO) test -race -p 1 -timeout 14m ./...  # one package at a time: they count packets and measure delays

.PHONY: soak
soak: test-packages ## kill, restart, starve and flood the agent under load, for half an hour (root)
	WEIR_SOAK=1 CI=true $(GO) test -count 1 -timeout 60m -v -run '^(TestKill|TestRestarts|TestOutage|TestFlood|TestHandshakes)$$' ./internal/e2e

.PHONY: test-kernels
test-kernels: kernel-packages test-packages ## run the kernel side's tests on this kernel, and with those of tunnels on Debian's 6.1 and 6.12, emulated (root)
	CI=true $(GO) test ./internal/datapath
	test/kernels

.PHONY: lint
lint: ## check the formatting and run the linters
	@unformatted=$$($(GO) tool gofumpt -l $$($(GIT) ls-files '*.go' | grep -v '_bpfel\(_test\)\?\.go$$')); \
	if [ -n "$$unformatted" ]; then echo "not formatted (go tool gofumpt -w):"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) mod tidy -diff
	$(GO) mod verify

.PHONY: generate
generate: generate-packages ## compile the kernel side and generate its Go bindings
	$(GO) generate ./...

.PHONY: check-generate
check-generate: generate ## fail if the committed generated files are not what generate makes
	@changed=$$($(GIT) status --porcelain -- '*_bpfel*.go' '*_bpfel*.o'); \
	if [ -n "$$changed" ]; then echo "generated files are not current:"; echo "$$changed"; exit 1; fi

.PHONY: bench
bench: bench-packages ## print what a packet and a FlowEvent cost, in a quarter of an hour; DOCUMENT=docs/benchmarks.md puts it there (root)
	$(GO) run ./internal/bench $(if $(DOCUMENT),-document $(DOCUMENT))

.PHONY: image
image: ## build the container image weir:dev, also tagged with its version (Docker with BuildKit)
	docker build --build-arg VERSION=$(VERSION) --build-arg COMMIT=$(COMMIT) -t weir:$(VERSION) -t weir:dev .

.PHONY: generate-packages test-packages kernel-packages bench-packages
generate-packages: PACKAGES := $(GENERATE_PACKAGES)
test-packages: PACKAGES := $(TEST_PACKAGES)
kernel-packages: PACKAGES := $(KERNEL_PACKAGES)
bench-packages: PACKAGES := $(BENCH_PACKAGES)
generate-packages test-packages kernel-packages bench-packages:
	@installed=$$(dpkg-query -W -f '$${db:Status-Status} $${Package}\n' $(PACKAGES) 2>/dev/null | awk '$$1 == "installed" {print $$2}' || true); \
	missing=$$(comm -13 <(sort <<<"$$installed") <(printf '%s\n' $(PACKAGES) | sort)); \
	if [ -n "$$missing" ]; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi
