# run · test · verify (never writes) · fix · bench · chaos · deps
#
# One release build serves them all: RocksDB takes a quarter of an hour to compile on two cores, so nothing here
# uses another profile or selects other packages than --workspace (another selection would mean other features).

SHELL := /bin/sh
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: run build test test-unit test-cluster test-sdk broken disk verify rust-verify lockfile sdk-verify deny fix bench chaos chaos-short deps deps-native deps-sdk sdk fuzz

export CARGO_TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
RELEASE := $(CARGO_TARGET_DIR)/release
CARGO_BUILD := cargo build --release --workspace --locked
CARGO_TEST := cargo test --release --workspace --locked

# A whole cluster with the demo page; its data is kept between runs. More: make run ARGS="--nodes 1"
run: build sdk
	$(RELEASE)/parlance dev --page-dir sdk/packages/demo/dist $(ARGS)

build: deps-native
	$(CARGO_BUILD)

sdk: deps-sdk
	cd sdk && npm run --silent build

# === tests ===

test: test-unit test-cluster test-sdk chaos-short

test-unit: build disk
	$(CARGO_TEST) --lib --bins
	cd tests/disk && cargo test --release --locked --target-dir $(CARGO_TARGET_DIR)/disk

# Real processes: one cluster at a time. The program that is broken on purpose is for the tests of the history checker.
BROKEN := $(CARGO_TARGET_DIR)/broken/parlance
test-cluster: broken disk build
	PARLANCE_BROKEN_BIN=$(BROKEN) $(CARGO_TEST) --test '*' -- --test-threads=1

# Same packages, one feature more: only our own crates are built twice. `build` puts the good program back.
broken: deps-native
	$(CARGO_BUILD) --features parlance-node/unsafe-test-switches
	mkdir -p $(dir $(BROKEN))
	cp $(RELEASE)/parlance $(BROKEN)
	$(CARGO_BUILD)

# Disks that can be made to fail: a workspace of its own, so that FUSE stays out of the product's lock file.
export PARLANCE_DISK_BIN := $(CARGO_TARGET_DIR)/disk/release/parlance-disk
disk:
	cd tests/disk && cargo build --release --locked --target-dir $(CARGO_TARGET_DIR)/disk

test-sdk: build sdk
	scripts/need-chromium
	command -v php >/dev/null || scripts/need-package php-cli
	cd sdk && npm test && npm run test:integration && npm run test:browser

# Faults and their seeds: `make chaos FAULTS=kill-nodes,freeze SEED=7 LENGTH=2m`; names by `parlance-tests chaos --faults list`.
SEED ?= 0
LENGTH ?= 60s
FAULTS ?= all
NODES ?= 3
SHARDS ?= 4
BULK ?= 0
chaos: broken disk build
	PARLANCE_BROKEN_BIN=$(BROKEN) $(RELEASE)/parlance-tests chaos --seed $(SEED) --length $(LENGTH) --faults $(FAULTS) --nodes $(NODES) --shards $(SHARDS) --bulk $(BULK)

# A fixed set, and a swarm on three or five nodes whose seed is new each time and told at once: `make chaos-short SWARM_SEED=7`
# repeats it.
SWARM_SEED ?= 0
SWARM_LENGTH ?= 150s
chaos-short: broken disk build
	$(RELEASE)/parlance-tests chaos --seed 1 --length 10s --faults none
	$(RELEASE)/parlance-tests chaos --seed 2 --length 12s --faults kill-node,kill-gateway,retries
	PARLANCE_BROKEN_BIN=$(BROKEN) $(RELEASE)/parlance-tests chaos --seed $(SWARM_SEED) --length $(SWARM_LENGTH) --faults swarm --nodes 0

# === checks: these never write to the source tree ===

verify: rust-verify sdk-verify deny

rust-verify: deps-native
	cargo fmt --all -- --check
	cargo clippy --release --workspace --all-targets --locked -- -D warnings
	cd tests/disk && cargo fmt -- --check
	cd tests/disk && cargo clippy --release --all-targets --locked --target-dir $(CARGO_TARGET_DIR)/disk -- -D warnings

sdk-verify: deps-sdk
	cd sdk && npm run verify
	scripts/audit-npm

deny:
	scripts/deny

fix:
	cargo fmt --all
	cd tests/disk && cargo fmt
	cargo clippy --release --workspace --all-targets --fix --allow-dirty --allow-staged
	cd sdk && npm run gen

# === measurements: see docs/benchmarks.md ===

bench: build
	$(RELEASE)/parlance bench send --nodes 3 --gateways 2
	$(RELEASE)/parlance bench fanout --nodes 3 --gateways 2
	$(RELEASE)/parlance bench connections --nodes 3 --gateways 1

# Seconds for each decoder: make fuzz SECONDS=120
SECONDS ?= 60
fuzz:
	scripts/fuzz $(SECONDS)

# === what is needed ===

deps: deps-native deps-sdk

deps-native:
	@scripts/need-libclang

deps-sdk: sdk/node_modules/.package-lock.json

sdk/node_modules/.package-lock.json: sdk/package-lock.json
	cd sdk && npm ci --no-audit --no-fund
	@touch $@
