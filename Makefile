# labkit: `make help` lists the targets.

VENV ?= .venv
# The interpreter that makes $(VENV): the first of these that is Python >= 3.11.
PYTHON ?=
PYTHONS := $(or $(PYTHON),python3.13 python3.12 python3.11 python3)
# Programs outside Python that some tests use, each with its package when that is called otherwise.
TEST_TOOLS := git sqlite3 postgres:postgresql ssh:openssh-client sshd:openssh-server ip:iproute2
# Debian keeps the programs of a server apart.
TOOL_FOLDERS := $(wildcard /usr/lib/postgresql/*/bin) /usr/sbin /sbin

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

# Shell fragments for the recipes below.
can_apt = [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null
apt_install = { apt-get -qq update || true; } </dev/null >/dev/null && \
	DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
	install --no-install-recommends $(1) </dev/null >/dev/null
find_python = python=; for candidate in $(PYTHONS); do \
	if "$$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
	>/dev/null 2>&1; then python=$$candidate; break; fi; done

## Use

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^## /{print "\n" substr($$0, 4)} /^[a-z-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' \
		$(firstword $(MAKEFILE_LIST))
	@printf '\nPYTHON=/path/to/python3 chooses the interpreter for %s.\n' '$(VENV)'

.PHONY: demo
demo: install ## find discords and motifs in a real recording on two engines
	@$(VENV)/bin/labkit demo

.PHONY: venv
venv: $(VENV)/bin/pip ## make the virtual environment

.PHONY: install
install: $(VENV)/.installed ## install labkit and what it needs into it

## Develop

.PHONY: dev
dev: $(VENV)/.installed-dev ## install what tests, linters and documentation need, too

.PHONY: test
test: dev tools lint docs ## everything that has to hold: lint, documentation, tests
	@$(VENV)/bin/python -m pytest --numprocesses=3 --dist=loadgroup

.PHONY: lint
lint: dev ## check style and types
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check
	@$(VENV)/bin/mypy

.PHONY: format
format: dev ## format the code and mend what can be mended mechanically
	@$(VENV)/bin/ruff check --fix-only
	@$(VENV)/bin/ruff format

.PHONY: docs
docs: dev ## build the documentation into docs/_build/html; a warning is an error
	@$(VENV)/bin/python -m sphinx -q -E -W --keep-going -b html docs docs/_build/html
	@echo "docs: open docs/_build/html/index.html"

.PHONY: bench
bench: TEST_TOOLS := gcc g++ cmake
bench: dev tools ## measure labkit against its peers, side by side
	@$(VENV)/bin/python -m tests.bench

.PHONY: chaos
chaos: dev ## kill labs, engines and controllers at random moments, 50 rounds
	@$(VENV)/bin/python -m tests.labs.chaos --rounds 50

.PHONY: clean
clean: ## remove what builds and tests leave behind (not the virtual environment)
	@rm -rf build dist *.egg-info docs/_build .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find labkit tests docs notebooks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# What the targets above rest on.

$(VENV)/bin/pip:
	@$(find_python); \
	if [ -z "$$python" ] && [ -z "$(PYTHON)" ] && $(can_apt); then \
		echo "Installing Python with apt-get"; \
		$(call apt_install,python3 python3-venv) || true; $(find_python); \
	fi; \
	if [ -z "$$python" ]; then \
		echo "labkit needs Python 3.11 or newer with its venv module; tried: $(PYTHONS)." >&2; \
		echo "On Debian or Ubuntu: sudo apt-get install python3 python3-venv" >&2; \
		echo "An interpreter in another place: make PYTHON=/path/to/python3" >&2; \
		exit 1; \
	fi; \
	clear=; if [ -e '$(VENV)/pyvenv.cfg' ]; then clear=--clear; fi; \
	echo "Making $(VENV) with $$("$$python" --version)"; \
	"$$python" -m venv $$clear '$(VENV)'

$(VENV)/.installed: setup.cfg | $(VENV)/bin/pip
	@echo "Installing labkit into $(VENV)"
	@$(VENV)/bin/python -m pip install -qq --editable . </dev/null
	@touch $@

$(VENV)/.installed-dev: setup.cfg | $(VENV)/bin/pip
	@echo "Installing labkit and its tools into $(VENV)"
	@$(VENV)/bin/python -m pip install -qq --editable '.[dev]' </dev/null
	@touch $@ $(VENV)/.installed

.PHONY: tools
tools:
	@missing=; for folder in $(TOOL_FOLDERS); do PATH="$$PATH:$$folder"; done; \
	for tool in $(TEST_TOOLS); do \
		command -v "$${tool%%:*}" >/dev/null || missing="$$missing $${tool##*:}"; done; \
	[ -z "$$missing" ] || { $(can_apt) && echo "Installing$$missing with apt-get" \
		&& $(call apt_install,$$missing); } \
	|| echo "Not installed, so the tests that use it are skipped:$$missing"
