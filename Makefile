# The verbs of this repository; continuous integration (.ci/run) calls the same.
#
#   build  bin/nexd and bin/nexctl: static, and the same bytes from the same commit and Go
#   demo   the main job on this machine; KEEP=1 leaves it running
#   test   install what tests need, build, vet, and every test, with real programs too
#   race   the tests of the packages under the race detector; PACKAGES=./proxy narrows it
#   lab    a NAT laboratory by hand, as root: LAB='a=full-cone b=symmetric,nodes=2'
#   fuzz   every fuzz target in turn for FUZZTIME (30s) each; FUZZ=ParseRule narrows it
#   bench  nexd beside plain proxies, the stock netstack and a kernel TUN, directly and by relays;
#          as root for all of it; BENCHFLAGS='-quick', '-only tcp -json new.json', '-h'
#   bench-compare  the same, and what changed: OLD=old.json is an earlier run, OLD=DIR or FILE
#          another nexd that runs beside; OLD=a.json NEW=b.json only compares
#   soak         an hour of mixed load: fails when memory, goroutines or files grow
#   bench-flame  where the time goes: docs/flame.svg, by perf, as root
#   bench-paths  how fast paths are found and how long changes of networks are felt,
#          in the NAT laboratory, as root; BENCHFLAGS='-runs 5 -only rebind', '-long'
#   lint   format, vet and staticcheck, as pinned in tools.mod; and the tests of the benchmark
#   fmt    format the Go files
#   clean  remove what the above made

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X nexd/internal/buildinfo.version=$(VERSION) -X nexd/internal/buildinfo.commit=$(COMMIT)
GOBUILD := CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)'

GO       := go
TOOL     := go tool -modfile=tools.mod
GOFILES   = $$(git ls-files --cached --others --exclude-standard '*.go' | while read -r f; do if [ -f "$$f" ]; then echo "$$f"; fi; done)
# Tests with real programs are apart: they are never cached, and want the machine to themselves.
PACKAGES ?= $$($(GO) list ./... | grep -v '^nexd/test\b')

.PHONY: bin/bench build demo test race lab fuzz soak bench bench-compare bench-flame bench-paths lint fmt clean

build:
	@mkdir -p bin
	$(GOBUILD) -o bin/ ./cmd/nexd ./cmd/nexctl

demo: build
	KEEP=$(KEEP) examples/demo.sh

test: build
	test/setup.sh
	$(GO) vet ./...
	$(GO) test -timeout 10m $(PACKAGES)
	NEXD_TEST_BIN=$(CURDIR)/bin $(GO) test -p 1 -count=1 -timeout 30m ./test/...

race:
	CGO_ENABLED=1 $(GO) test -race -timeout 20m $(PACKAGES)

LAB ?= a=port-restricted b=symmetric
lab:
	@$(GO) build -o bin/natlab ./test/lab/natlab
	@bin/natlab $(LAB)

fuzz:
	test/fuzz.sh

bin/bench:
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -C test/bench -trimpath -o $(CURDIR)/bin/bench .

bench: build bin/bench
	bin/bench -nexd bin/nexd -nexctl bin/nexctl $(BENCHFLAGS)

bench-compare: bin/bench $(if $(NEW),,build)
	$(if $(OLD),,$(error bench-compare: OLD=a.json, or OLD=DIR of another nexd))
	bin/bench $(if $(NEW),compare $(OLD) $(NEW),-nexd bin/nexd -nexctl bin/nexctl -old $(OLD) $(BENCHFLAGS))

soak: build bin/bench
	bin/bench soak -nexd bin/nexd -nexctl bin/nexctl $(BENCHFLAGS)

bench-flame: build bin/bench
	@mkdir -p bin/symbols
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -o bin/symbols/nexd ./cmd/nexd
	bin/bench flame -nexd bin/symbols/nexd -nexctl bin/nexctl $(BENCHFLAGS) docs/flame.svg

bench-paths: build
	$(GO) build -o bin/pathbench ./test/paths/pathbench
	bin/pathbench -bin bin $(BENCHFLAGS)

lint:
	@unformatted=$$($(TOOL) gofumpt -l $(GOFILES)); \
	if [ -n "$$unformatted" ]; then printf 'not formatted (make fmt):\n%s\n' "$$unformatted"; exit 1; fi
	for script in .ci/run $$(git ls-files '*.sh'); do bash -n "$$script"; done
	$(GO) vet ./...
	$(TOOL) staticcheck ./...
	cd test/bench && $(GO) vet ./... && $(GO) test ./...

fmt:
	$(TOOL) gofumpt -w $(GOFILES)

clean:
	rm -rf bin tmp coverage.out
