# What can be done here. `make` alone prints this list.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
FUZZTIME ?= 30s
RUN      ?= .
BENCH    ?= Throughput|Latency|Sinks|JetStream

.PHONY: help
help: ## print this list
	@echo 'make TARGET, where TARGET is one of'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## bin/keyhook, static, as it is released (without the servers of `keyhook dev`)
	CGO_ENABLED=0 go build -trimpath -tags nodev -ldflags "-X keyhook/internal/cli.version=$(VERSION)" -o bin/keyhook ./cmd/keyhook

.PHONY: generate
generate: ## the schemas of the files, docs/reference.md and docs/metrics.md, out of the code
	go generate ./internal/schema
	go test -count=1 ./internal/telemetry -run '^TestTheReferenceIsUpToDate$$' -update

.PHONY: test
test: ## every test, the black-box tests in their short form
	go test ./...

.PHONY: check
check: ## the gate: what CI runs, in full
	.ci/run

.PHONY: lint
lint: bin/golangci-lint ## golangci-lint alone
	bin/golangci-lint run ./...

# Built from source at the version that tools/go.mod pins.
bin/golangci-lint: tools/go.mod tools/go.sum
	go build -C tools -o ../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

# The black-box tests run in processes of their own, which -race does not see
# into: there the binary under test is built with it.
.PHONY: race
race: ## every test in its process, and the crash test's binary, with the race detector
	go test -race $$(go list ./... | grep -vE '^keyhook/(deploy|test|test/robustness)$$')
	KEYHOOK_TEST_RACE=1 go test -run '^TestCrash$$|^TestCleanStops$$' ./test

.PHONY: crash
crash: ## the long forms of the black-box tests: hundreds of kills, 200,000 changes behind a dead sink (RUN=TestCrash for one; KEYHOOK_TEST_SEED=n repeats a run)
	KEYHOOK_TEST_LONG=1 go test -count=1 -timeout 2h -v -run '$(RUN)' ./test

# Among others every version of etcd is built, which takes a while the first time.
.PHONY: robustness
robustness: ## three etcd processes killed, suspended, cut off, compacted and restored under keyhook, every scenario and every version of etcd (RUN=TestScenarios/restore for one; KEYHOOK_TEST_SEED=n repeats a plan)
	KEYHOOK_TEST_LONG=1 go test -count=1 -timeout 2h -v -run '$(RUN)' ./test/robustness

.PHONY: etcd-versions
etcd-versions: ## every test of the package watch against every version of etcd
	KEYHOOK_TEST_LONG=1 go test -count=1 -timeout 1h -v -run '^TestEveryVersionOfEtcdIsWatchedAlike$$' ./test

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (30s) each
	@for package in $$(go list ./...); do \
	  for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
	    echo "$$package $$target"; \
	    go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package; \
	  done; \
	done

.PHONY: bench
bench: ## throughput, latency and memory against bare loops in the same run, catching up, gap repair (BENCH=Inside BENCHFLAGS='-cpuprofile cpu.prof' profiles the drain)
	go test ./test/bench -run '^$$' -bench '$(BENCH)' -benchtime 1x -timeout 1h -v $(BENCHFLAGS)
	go test ./watch -run '^$$' -bench 'CatchUp|Repair' -benchtime 1x -timeout 1h
	$(MAKE) bench-rules

.PHONY: bench-rules
bench-rules: ## events evaluated a second with 10, 1,000 and 10,000 rules, on one core; load time and memory of 10,000
	go test ./rules -run '^$$' -bench '^Benchmark(Rules|Scale|Load)$$' -cpu 1
