# One entry for people and CI. `make help` lists the targets.
PYTHON ?= python3
BIN := .venv/bin
RUST_SOURCES := $(shell find rust -name '*.rs' -o -name 'Cargo.toml') Cargo.toml Cargo.lock

.PHONY: help quickstart setup build format lint test wheel clean
help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

quickstart: setup ## set up, then run the main job: train, status, plot
	$(BIN)/tttkit train
	$(BIN)/tttkit status runs/quick
	$(BIN)/tttkit plot runs/quick

setup: build ## make .venv with everything pinned, and the extension

.venv/.installed: pyproject.toml constraints.txt
	@command -v cargo >/dev/null || { echo "cargo is missing: install a Rust toolchain (rustup)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 setup"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q --upgrade pip
	$(BIN)/pip install -q -c constraints.txt --group dev torch numpy tokenizers datasets safetensors typer rich matplotlib pydantic
	@touch $@

build: .venv/.built ## build the extension again when a Rust file is newer
.venv/.built: .venv/.installed $(RUST_SOURCES)
	$(BIN)/pip install -q -e . --no-deps --no-build-isolation
	@touch $@

format: setup ## format Python and Rust
	$(BIN)/ruff format . && $(BIN)/ruff check --fix . ; cargo fmt

lint: setup ## ruff, mypy, clippy, rustfmt
	$(BIN)/ruff check .
	$(BIN)/mypy
	cargo clippy --release --all-targets -- -D warnings
	cargo fmt --check

test: setup ## all tests
	cargo test --release -q
	$(BIN)/python -m pytest

wheel: setup ## build the wheel into dist/
	$(BIN)/maturin build --release --out dist

clean: ## remove what was built
	rm -rf target dist .venv
