# One entry point for people and CI. `make help` lists the targets.
PYTHON ?= python3
BIN := .venv/bin
# Tests run in parallel, on all cores of a small machine. A single test starts sooner with plain pytest.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal
RUST_SOURCES := $(shell find rust -name '*.rs' -o -name 'Cargo.toml') Cargo.toml Cargo.lock

.PHONY: help quickstart setup build format lint docs test test-faults all bench bench-rust wheel clean
help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

quickstart: setup ## set up, then run the main job: train, status, plot
	$(BIN)/tttkit train
	$(BIN)/tttkit status runs/quick
	$(BIN)/tttkit plot runs/quick

setup: .venv/.built ## make .venv with everything pinned, and the extension

build: .venv/.built ## build the extension again when a Rust file is newer

# Tools come first, so that the extension is built with the pinned maturin and not in pip's isolated environment.
.venv/.tools: pyproject.toml constraints.txt
	@command -v cargo >/dev/null || { echo "cargo is missing: install a Rust toolchain, see https://rustup.rs"; exit 1; }
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: install Python 3.11 or newer"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "Python's venv is missing: install python3-venv"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --upgrade 'pip>=25.1'
	$(BIN)/pip install -q -c constraints.txt --group dev
	@touch $@

.venv/.built: .venv/.tools $(RUST_SOURCES)
	$(BIN)/pip install -q -c constraints.txt --no-build-isolation -e .
	@touch $@

format: setup ## format Python and Rust
	$(BIN)/ruff check -q --fix-only .
	$(BIN)/ruff format -q .
	cargo fmt

lint: setup ## run ruff, mypy, stubtest, clippy, rustfmt
	$(BIN)/ruff check -q .
	$(BIN)/ruff format -q --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest tttkit._rust --mypy-config-file pyproject.toml
	cargo clippy -q --release --all-targets -- -D warnings
	cargo fmt --check

docs: setup ## write docs/configuration.md from the configuration
	$(BIN)/python docs/make_configuration.py

test: setup ## run all tests
	cargo test -q --release
	$(PYTEST)

test-faults: setup ## run the whole fault suite: kills, power failures, full disks, signals
	$(PYTEST) tests/faults -m "faults or not faults"

all: lint test ## run what CI checks in a checkout

bench: setup ## compare speeds with the peers
	$(BIN)/pip install -q -c constraints.txt --group bench
	$(BIN)/python benchmarks/data_text_to_shards.py
	$(BIN)/python benchmarks/sampling.py
	$(BIN)/python benchmarks/start_up.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/inference.py reference target/inference-reference
	$(BIN)/python benchmarks/inference.py small target/inference-small
	$(BIN)/python benchmarks/statistics_speed.py
	$(BIN)/python benchmarks/any_model.py
	$(BIN)/python benchmarks/overhead.py

bench-rust: setup ## measure the inner loops of the data engine
	cargo bench -q -p tttkit-core

wheel: setup ## build the wheel into dist/
	$(BIN)/maturin build -q --release --out dist

clean: ## remove what was built
	rm -rf target dist .venv python/tttkit/_rust*.so
