# Thin: each line calls a real command.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := train,serve,schedule,local,page,demo,dev

FER := .bench/fer
EMULATOR := $(VENV)/emulator

# For two cores: while one test waits for a server, others compute.
WORKERS ?= 3
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder

.PHONY: install demo test test-quick bench bench-fer soak lint clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	@echo "installing into $(VENV); this takes a few minutes, only the first time"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch torchvision
	$(BIN)/pip install --quiet -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@

demo: install
	$(BIN)/moodlake demo

# All tests, against real servers and a real browser.
test: install $(EMULATOR)/installed
	$(PYTEST)

# Tests of the library that start no server and no browser, except those marked slow.
test-quick: install
	$(PYTEST) -m "not slow and not e2e" tests/inference tests/scoring tests/test_*.py

# An emulator of AWS for the tests; its pinned dependencies conflict with ours.
$(EMULATOR)/installed: infra/aws/emulator.txt
	$(PYTHON) -m venv $(EMULATOR)
	$(EMULATOR)/bin/pip install --quiet -r infra/aws/emulator.txt
	touch $@

bench: install
	$(BIN)/python -m training.tools.bench
	$(BIN)/python -m infra.bench.serve
	$(BIN)/python -m infra.bench.score
	$(BIN)/python -m infra.bench.scale
	$(BIN)/python -m infra.bench.web_app
	$(BIN)/python -m infra.bench.sizing

# fer brings TensorFlow and PyTorch with CUDA: 7 GB.
bench-fer: install $(FER)/installed
	$(BIN)/python -m infra.bench.research.against_fer $(FER)/bin/python

$(FER)/installed: infra/bench/research/fer_constraints.txt
	$(PYTHON) -m venv $(FER)
	$(FER)/bin/pip install --quiet -c infra/bench/research/fer_constraints.txt fer
	touch $@

# Long runs that repeat what single tests prove: kills at random times, and a server under load.
soak: install
	$(BIN)/python -m tests.chaos.soak --kills 50 --seed 7
	$(BIN)/python -m infra.bench.soak

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

clean:
	rm -rf .moodlake build data/prepared data/validation data/overview
