# make demo   train, search and report on emoji: the whole of msiam in two minutes
# make test   lint, types and tests
# make bench  encoding and training beside sentence-transformers and others, on the data sets of
#             MSIAM_DATA; writes the tables of docs/performance.md; and how soon msiam answers
# make bench-losses  each loss beside its peer; writes the table of docs/losses.md
# make bench-gallery  what a gallery costs over FAISS, filtered recall beside FAISS's, what msiam tune
#             promises, a served gallery under load, ten million records (10 GB of disk); writes the
#             tables of docs/search.md and docs/serving.md
# make recipes  train every recipe on the data sets of MSIAM_DATA, and write docs/results.md

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export MSIAM_DATA ?= ../shared/data

.PHONY: demo test lint recipes bench bench-losses bench-gallery clean

demo: $(VENV)/demo
	$(BIN)/msiam demo

test: lint
	$(BIN)/pytest -n 2 --dist loadfile

lint: $(VENV)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

recipes: $(VENV)/dev
	$(BIN)/python benchmarks/recipes.py

bench: $(VENV)/bench
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/profile_step.py

bench-losses: $(VENV)/bench
	$(BIN)/python benchmarks/losses.py

bench-gallery: $(VENV)/dev
	$(BIN)/python benchmarks/gallery_overhead.py
	$(BIN)/python benchmarks/gallery_recall.py
	$(BIN)/python benchmarks/serving.py
	$(BIN)/python benchmarks/gallery_size.py

# One environment; each stamp says which extras are in it.
$(VENV)/demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[demo]'
	touch $@

$(VENV)/dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[demo,dev,pretrained]'
	touch $@ $(VENV)/demo

$(VENV)/bench: $(VENV)/dev
	$(BIN)/pip install --quiet -c constraints.txt -e '.[bench]'
	touch $@

clean:
	rm -rf $(VENV) runs build dist *.egg-info
