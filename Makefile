# make demo and make test each work as the first command on a fresh Debian 12 with a Rust toolchain.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# RocksDB is compiled once a machine and linked from there (scripts/rocksdb.sh).
export ROCKSDB_LIB_DIR := $(shell scripts/rocksdb.sh path)
export ROCKSDB_STATIC := 1

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
	cargo nextest run --locked --workspace $(TEST_FLAGS)

.PHONY: lint
lint: prerequisites ## Formatting, clippy
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

.PHONY: deny
deny: ## Licences, bans and sources of all dependencies
	@cargo deny --version >/dev/null 2>&1 || cargo install --locked --debug cargo-deny
	cargo deny --locked check bans licenses sources

.PHONY: clean
clean: ## Removes target/ (RocksDB's archive stays, see scripts/rocksdb.sh)
	cargo clean
