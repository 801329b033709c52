# make demo: the whole job on a phantom study.   make test: the checks.   make test-all: with slow tests.
PYTHON ?= python3
BIN := .venv/bin
DEMO ?= demo

.PHONY: install demo checks test test-all coverage docs format clean

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e ".[dev,dicom,video,heif,ocr,pacs,onnx,bert,pretrained,review,object-store,publish,docs]"
	# pip compiles on one core; this uses all cores and skips what is rarely imported
	$(BIN)/python -m compileall -q -j 0 -x '/(tests?|transformers/models)/' .venv/lib >/dev/null || true
	touch $@

demo: install
	rm -rf $(DEMO)
	$(BIN)/sono phantom $(DEMO)/export
	$(BIN)/sono init $(DEMO)/study
	cat benchmarks/demo.toml >> $(DEMO)/study/sono.toml
	$(BIN)/sono qc $(DEMO)/export/raw --records $(DEMO)/export/records.csv --center-from Hospital -w $(DEMO)/study
	$(BIN)/sono masks import $(DEMO)/export/masks.coco.json -w $(DEMO)/study
	$(BIN)/sono masks propose -w $(DEMO)/study
	$(BIN)/sono captions build -w $(DEMO)/study
	$(BIN)/sono stats -w $(DEMO)/study
	$(BIN)/sono train --hold-out B --name demo -w $(DEMO)/study
	$(BIN)/python benchmarks/planted.py $(DEMO)/study $(DEMO)/export
	$(BIN)/sono eval --center B --run demo -w $(DEMO)/study

checks: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy -n 2

test: checks
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-all: checks
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

# Tracing every line makes the tests of tables three times as slow, so it is a command of its own.
coverage: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --cov --cov-report=term:skip-covered --cov-fail-under=85

# The site is build/site/index.html; every page opens from disk.
docs: install
	$(BIN)/python docs/generate.py
	$(BIN)/mkdocs build --quiet

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(DEMO) .pytest_cache .mypy_cache .ruff_cache .coverage build *.egg-info
