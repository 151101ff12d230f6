# SPDX-License-Identifier: GPL-3.0-or-later
# Everything a developer runs. `make demo` and `make test` set up what they need by themselves, as root on Debian.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON := /usr/bin/python3
VENV := .dev/venv
export ANSIBLE_CONFIG := $(CURDIR)/tests/ansible.cfg
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.dev/collections
export ANSIBLE_HOME := $(CURDIR)/.dev/ansible
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PY_COLORS := 0
# More workers than cores: many tests wait for a deadline.
UNITS := --quiet --numprocesses=6 --dist=worksteal

say = printf '\n==> %s\n' "$(1)"

.PHONY: help
help: ## Show what can be run
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

.PHONY: setup
setup: ## Install packages, virtual environments and the link that makes this checkout importable
	@tests/tools/packages.sh
	@$(PYTHON) tests/tools/venv.py main floor units
	@$(PYTHON) tests/tools/collection_path.py >/dev/null

.PHONY: demo
demo: ## A throw-away provider and a server: configure, log in, send, prove arrival, explain a broken login
	@tests/tools/packages.sh
	@$(PYTHON) tests/tools/venv.py main
	@$(PYTHON) tests/tools/collection_path.py >/dev/null
	@$(PYTHON) tests/demo/demo.py

.PHONY: test
test: setup lint units sanity scenarios system ## Everything that CI checks

.PHONY: test-fast
test-fast: ## The inner loop: ruff, mypy and the unit tests on one Python
	@tests/tools/packages.sh
	@$(PYTHON) tests/tools/venv.py main
	@$(PYTHON) tests/tools/collection_path.py >/dev/null
	@$(call say,ruff)
	@ruff check .
	@$(call say,mypy)
	@tests/tools/mypy.sh
	@$(call say,unit tests with $$(ansible --version | sed -n 1p))
	@$(VENV)/bin/python -m pytest $(UNITS)

.PHONY: lint
lint: ## ruff, mypy, ansible-lint, shellcheck, changelog
	@$(call say,ruff)
	@ruff check .
	@$(call say,mypy)
	@tests/tools/mypy.sh
	@$(call say,ansible-lint)
	@ansible-lint --offline --strict
	@$(call say,shellcheck)
	@shellcheck tests/tools/*.sh tests/platforms/*.sh .ci/run tests/rig/images/customize.sh tests/rig/images/provider/usr/local/sbin/rig-provider-setup \
	  tests/rig/images/mta/usr/local/sbin/* tests/rig/images/mta/usr/local/share/rig/*/setup.sh
	@$(call say,changelog)
	@antsibull-changelog lint
	@$(call say,pages that are made from the code)
	@$(VENV)/bin/python tests/tools/diagnoses_doc.py --check
	@$(VENV)/bin/python tests/tools/lint_doc.py --check

.PHONY: units
units: ## Unit tests, with the coverage of the login test, and on every Python from 3.8 on that this machine has
	@$(call say,unit tests and their coverage with $$(ansible --version | sed -n 1p))
	@tests/tools/coverage.sh
	@[ "$$(readlink -f .dev/venv-floor)" = "$$(readlink -f $(VENV))" ] || { \
	  $(call say,unit tests with $$(.dev/venv-floor/bin/ansible --version | sed -n 1p)); \
	  .dev/venv-floor/bin/python -m pytest $(UNITS); }
	@$(call say,unit tests of module_utils on the Pythons of managed hosts)
	@tests/tools/units.sh

.PHONY: sanity
sanity: ## ansible-test sanity on both supported lines of ansible-core
	@$(call say,ansible-test sanity with $$(ansible --version | sed -n 1p))
	@tests/tools/sanity.sh $(VENV)
	@[ "$$(readlink -f .dev/venv-floor)" = "$$(readlink -f $(VENV))" ] || { \
	  $(call say,ansible-test sanity with $$(.dev/venv-floor/bin/ansible --version | sed -n 1p)); \
	  tests/tools/sanity.sh .dev/venv-floor; }

.PHONY: scenarios
scenarios: ## Molecule scenarios on Debian 11, 12 and 13 against a real provider
	@$(call say,molecule scenarios)
	@rm -rf $(ANSIBLE_HOME)/tmp/molecule.* # what a killed run remembers of hosts that are gone
	@molecule test --all --no-command-borders

.PHONY: system
system: ## Check-mode truth, secrets, bad input and the built collection, in the rig
	@$(call say,system tests)
	@$(VENV)/bin/python -m pytest --quiet --numprocesses=2 --dist=loadgroup tests/system

.PHONY: bench
bench: setup ## The role against a facts-only play; the login test against swaks, msmtp and a script with smtplib
	@$(PYTHON) tests/bench/bench.py --chart docs/fleet-cost.svg
	@$(VENV)/bin/python tests/bench/probe.py

.PHONY: mutants
mutants: setup ## Break the login test, the configuration of Postfix and the firewall in ways that matter and see that the unit tests notice
	@$(VENV)/bin/python tests/tools/mutants.py

.PHONY: fuzz
fuzz: setup ## Try the parsers with random input, a minute each; with atheris (tests/requirements/fuzz.txt) if it is installed
	@$(VENV)/bin/python tests/fuzz/fuzz.py --seconds 60

.PHONY: clean
clean: ## Remove every lab and what the checkout keeps in .dev
	@$(PYTHON) tests/rig/rig.py down --all
	@rm -rf .dev tests/output
