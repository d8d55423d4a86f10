# Thin: each line calls a real command.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := train,serve,schedule,local,page,demo,dev

FER := .bench/fer
EMULATOR := $(VENV)/emulator

.PHONY: install demo test bench bench-fer soak lint clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	@echo "installing into $(VENV): some minutes, once"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch torchvision
	$(BIN)/pip install --quiet -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@

demo: install
	$(BIN)/moodlake demo

test: install $(EMULATOR)/installed
	$(BIN)/python -m pytest

# AWS for the tests. It wants versions of its own.
$(EMULATOR)/installed: infra/aws/emulator.txt
	$(PYTHON) -m venv $(EMULATOR)
	$(EMULATOR)/bin/pip install --quiet -r infra/aws/emulator.txt
	touch $@

bench: install
	$(BIN)/python -m training.tools.bench
	$(BIN)/python -m infra.bench.serve
	$(BIN)/python -m infra.bench.score
	$(BIN)/python -m infra.bench.scale
	$(BIN)/python -m infra.bench.page
	$(BIN)/python -m infra.bench.sizing

# fer brings TensorFlow and PyTorch with CUDA: 7 GB.
bench-fer: install $(FER)/installed
	$(BIN)/python -m infra.bench.research.against_fer $(FER)/bin/python

$(FER)/installed: infra/bench/research/fer_constraints.txt
	$(PYTHON) -m venv $(FER)
	$(FER)/bin/pip install --quiet -c infra/bench/research/fer_constraints.txt fer
	touch $@

soak: install
	$(BIN)/python -m infra.bench.soak

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

clean:
	rm -rf .moodlake build data/prepared data/validation
