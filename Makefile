# make demo and make test each work as the first command on a fresh Debian 12 with a Rust toolchain.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# RocksDB is compiled once a machine and linked from there (scripts/rocksdb.sh).
export ROCKSDB_LIB_DIR := $(shell scripts/rocksdb.sh path)
export ROCKSDB_STATIC := 1

TARGET := $(or $(CARGO_TARGET_DIR),target)

# Crash points are in the tests' builds, never in a release.
TEST_FEATURES := blox-node/failpoints

.PHONY: help
help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

.PHONY: prerequisites
prerequisites:
	@scripts/prerequisites.sh
	@scripts/rocksdb.sh build

.PHONY: build
build: prerequisites ## target/release/blox
	cargo build --locked --release --bin blox

.PHONY: demo
demo: build ## Three nodes, a simulated ECS fleet, a daemon on every instance (Ctrl-C ends it)
	target/release/blox demo $(DEMO_FLAGS)

.PHONY: test
test: prerequisites ## All tests
	@scripts/prerequisites.sh test
	@cargo nextest --version >/dev/null 2>&1 || cargo install --locked --debug cargo-nextest
	cargo nextest run --locked --workspace --features $(TEST_FEATURES) $(TEST_FLAGS)
	@$(MAKE) --no-print-directory test-simulation

# Whole clusters in virtual time (docs/decisions/0019). The package is no member of the workspace, and shares its lock and its target.
SIMULATION := --manifest-path simulation/Cargo.toml --target-dir $(TARGET)
.PHONY: test-simulation
test-simulation: prerequisites
	@cp Cargo.lock simulation/Cargo.lock
	cargo nextest run $(SIMULATION)

.PHONY: simulate
simulate: prerequisites ## The story of one seed of the simulation: make simulate SEED=7
	@cp Cargo.lock simulation/Cargo.lock
	@cargo run --quiet $(SIMULATION) -- $(SEED)

# The tests that keep full counts for later; SOAK narrows them down further, as in SOAK='binary(watching)'.
SOAK ?= all()
.PHONY: soak
soak: export BLOX_SOAK_COMMIT = $(shell git rev-parse --short HEAD 2>/dev/null)
soak: prerequisites ## The hard cases at full count: some two hours (docs/soak.md)
	@scripts/prerequisites.sh test
	@cargo nextest --version >/dev/null 2>&1 || cargo install --locked --debug cargo-nextest
	@mkdir -p $(TARGET)/soak
	BLOX_SOAK=1 cargo nextest run --locked --profile soak --workspace --features $(TEST_FEATURES) \
	  -E '($(SOAK)) and package(blox-node) and kind(test) and not binary(it)' $(TEST_FLAGS); result=$$?; $(MAKE) --no-print-directory soak-page && exit $$result

# Built together with the tests, so that what they share is not compiled anew for it.
.PHONY: soak-page
soak-page: ## docs/soak.md and its charts, from the results in target/soak
	cargo build --quiet --locked --workspace --features $(TEST_FEATURES) --tests --example soak_report
	$(TARGET)/debug/examples/soak_report $(TARGET)/soak docs target/nextest/soak/junit.xml

# Commit what it writes to node/tests/backup/golden/VERSION; what stands there stays for ever.
.PHONY: golden
golden: prerequisites ## Adds this version's data directory and backup to those that every later build must open
	BLOX_BLESS_GOLDEN=1 cargo nextest run --locked --workspace --features $(TEST_FEATURES) -E 'binary(backup) and test(every_release_is_opened)'

.PHONY: up
up: ## Three nodes and the simulator by Docker Compose, ready when it returns
	@deploy/image.sh
	@deploy/up.sh up

.PHONY: down
down: ## Stops them; their data stays
	@deploy/up.sh down

.PHONY: clean-data
clean-data: ## Stops them and removes their data
	@deploy/up.sh clean-data

# A cluster of its own beside that of `make up`. FAILOVER_FLAGS='--rounds 20', '--short', '--chapters kill,cut', '--seed 7'; --help says more.
.PHONY: failover
failover: prerequisites ## Breaks three nodes in containers, chapter by chapter, under load; a table, a time line, a verdict
	@scripts/prerequisites.sh failover
	@deploy/image.sh
	@cargo run --quiet --locked --release --bin failover -- $(FAILOVER_FLAGS)

# About an hour: every kind of fault in turn, then mixes of three at once, all workloads side by side. Said again, it goes on where it was stopped.
# JEPSEN_FLAGS='--for 10m', '--seed 7', '--nemesis kill,pause'; '--goals issue' goes on after that hour until a release's counts are reached, which takes
# another one, '--session 40m' stops in between, '--state jepsen-tests/campaigns/7.json' keeps its state and a few charts there; --help says more.
.PHONY: jepsen
jepsen: prerequisites ## Breaks clusters in containers again and again under load, judges what clients saw; a report
	@scripts/prerequisites.sh failover
	@deploy/image.sh
	@cargo run --quiet --locked --release --bin jepsen-tests -- campaign $(JEPSEN_FLAGS)

# About half an hour. ZOO_FLAGS='--bug early-ack,no-fence', '--runs 5'; --help says more. What is caught already is not run again: see its folder.
.PHONY: zoo
zoo: prerequisites ## Gives nodes twelve deliberate bugs, one after the other, and shows that the failure tests catch each
	@scripts/prerequisites.sh failover
	cargo test --locked --quiet -p blox-runtime --features zoo
	cargo build --locked --profile zoo -p blox-node --features zoo
	@BLOX_BINARY=$(TARGET)/zoo/blox BLOX_IMAGE=blox:zoo deploy/image.sh
	@cargo run --quiet --locked --release --bin jepsen-tests -- zoo $(ZOO_FLAGS)

# BENCH_FLAGS='--rows keys,failover', '--rounds 10', '--seconds 5'; --help says more. A figure counts only from a machine that does nothing else meanwhile.
BENCH = ETCD=$${ETCD:-$$(command -v etcd || echo $${BLOX_CACHE:-$$HOME/.cache/blox}/etcd/etcd)} \
  cargo run --quiet --locked --release --bin bench -- --blox $(TARGET)/release/blox
.PHONY: bench
bench: build ## Blox beside etcd, in turn, on this machine: the main rows
	@scripts/prerequisites.sh bench
	@$(BENCH) quick $(BENCH_FLAGS)

.PHONY: bench-full
bench-full: build ## The same with all rows and counts
	@scripts/prerequisites.sh bench
	@$(BENCH) full $(BENCH_FLAGS)

.PHONY: lint
lint: prerequisites ## Formatting, clippy
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --features $(TEST_FEATURES) -- -D warnings
	cargo clippy --locked --workspace --features $(TEST_FEATURES),blox-node/zoo -- -D warnings
	cargo fmt --check --manifest-path simulation/Cargo.toml
	@cp Cargo.lock simulation/Cargo.lock
	cargo clippy $(SIMULATION) --all-targets -- -D warnings

.PHONY: deny
deny: ## Licences, bans and sources of all dependencies
	@cargo deny --version >/dev/null 2>&1 || cargo install --locked --debug cargo-deny
	cargo deny --locked check bans licenses sources

.PHONY: clean
clean: ## Removes target/ (RocksDB's archive stays, see scripts/rocksdb.sh)
	cargo clean
