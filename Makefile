# Thin: each line calls a real command.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := train,serve,schedule,local,demo,dev

.PHONY: install demo test bench lint clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	@echo "installing into $(VENV): some minutes, once"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch torchvision
	$(BIN)/pip install --quiet -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@

demo: install
	$(BIN)/moodlake demo

test: install
	$(BIN)/python -m pytest

bench: install
	$(BIN)/python -m training.bench
	$(BIN)/python -m infra.bench.serve
	$(BIN)/python -m infra.bench.score

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .moodlake build data/prepared data/validation
