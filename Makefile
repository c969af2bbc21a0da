# Tandem's targets. Each sets up by itself; `make` alone lists them.
#   PYTHON=python3.12       the Python that makes .venv (3.11 to 3.14)
#   TORCH_INDEX=<url>       install torch from this package index first (for example a CPU-only one)
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
MLFLOW := $(BIN)/mlflow
export PYTHON TORCH_INDEX

.DEFAULT_GOAL := help
.PHONY: help setup run stop incident kill test test-loop test-browser test-postgres chaos loadtest contracts prove benchmark-model benchmark-serving requirements exports rebuild mlflow feasible feasible-review data-value check lint types clean lock fresh compose-env

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## create .venv and install from the lock file (only when it changed)

$(READY): pyproject.toml requirements.lock
	@bash deploy/setup.sh $(READY)

run: $(READY)  ## run Tandem in the foreground; FOR=300 ends by itself after that many seconds and checks itself
	@$(BIN)/python -m deploy.run $(if $(FOR),--for $(FOR))

stop: $(READY)  ## end a Tandem that lost its terminal
	@$(BIN)/python -m deploy.control stop

incident: $(READY)  ## start an incident in the running city: NAME=bridge-closed, miles, weather-outage, calm
	@$(BIN)/python -m deploy.control incident $(or $(NAME),$(error NAME is not set, try: make incident NAME=bridge-closed))

kill: $(READY)  ## kill one running process for a lesson; it comes back: P=serving
	@$(BIN)/python -m deploy.control kill $(or $(P),$(error P is not set, try: make kill P=serving))

test: $(READY)  ## all quick tests, under three minutes
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --ignore tests/benchmarks -m "not slow"

test-loop: $(READY)  ## the whole loop with real processes: an incident, a decision, a promotion (some 13 minutes)
	@$(BIN)/python -m pytest -m slow tests/system

test-browser: $(READY)  ## the product's and monitoring's pages in a real browser
	@$(BIN)/python -m pytest tests/browser

test-postgres: $(READY)  ## what touches a database, on Postgres too
	@$(BIN)/python -m pytest tests/chassis

chaos: $(READY)  ## serving broken in mid-load: killed, locked out, disk full, bundles gone bad; what customers saw (2 minutes)
	@$(BIN)/python -m pytest -m slow tests/chaos

loadtest: $(READY)  ## constant arrivals against a Tandem of its own, judged by requirements.toml
	@$(BIN)/python -m loadtests.run

contracts: $(READY)  ## what the teams agreed: import rules, published snapshots, changes and their notes, glossary, mutations
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python -m tests.contracts.publish --check
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" tests/contracts tests/boundaries

prove: $(READY)  ## every requirement's check goes red under its saboteur, and green again; CLASS=stream for one class
	@$(BIN)/python -m tests.saboteurs $(CLASS)

benchmark-model: $(READY)  ## the model against limits, LightGBM and the oracle: PART=city, new-york or cost; QUICK=1 for a tenth of the rows
	@$(BIN)/python -m tests.benchmarks.model $(if $(PART),--part $(PART)) $(if $(QUICK),--quick)

benchmark-serving: $(READY)  ## serving against its goals, bare uvicorn and its peers: PART=throughput, peers, tail, size, batch, observability, overload or profile; QUICK=1 for moments
	@$(BIN)/python -m tests.benchmarks.serving $(if $(PART),--part $(PART)) $(if $(QUICK),--quick)

requirements: $(READY)  ## requirement, limit, last measured, when, by which check, verdict
	@$(BIN)/python -m deploy.requirements

exports: $(READY)  ## the record in other tools' words: MLTE negotiation card and evidence, Backstage catalogue
	@$(BIN)/python -m deploy.exports

rebuild: $(READY)  ## train a released bundle again from its lineage, and compare: BUNDLE=v1-1a2b3c4d
	@$(BIN)/python -m model.rebuild --bundle $(or $(BUNDLE),$(error BUNDLE is not set, try: make rebuild BUNDLE=$(or $(notdir $(firstword $(wildcard var/bundles/v*))),v1-1a2b3c4d)))

mlflow: $(READY)  ## MLflow's pages for this machine alone: runs, plots, bundles, who serves; PORT=5001 for another port
	@$(BIN)/python -m deploy.ports $(or $(PORT),5000)
	@echo "http://127.0.0.1:$(or $(PORT),5000)/#/experiments?workflowType=machine_learning   (Ctrl-C ends it)"
	@MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(MLFLOW) server \
		--backend-store-uri sqlite:///$(abspath $(or $(TANDEM_VAR),var))/mlflow.db --host 127.0.0.1 --port $(or $(PORT),5000) --workers 1 --uvicorn-opts "--log-level critical"

feasible: $(READY)  ## could the model keep a limit? REQ=loss-against-heuristic [LIMIT=0.8] [MINUTES=5]
	@$(BIN)/python -m model.feasible --requirement $(or $(REQ),$(error REQ is not set, try: make feasible REQ=loss-against-heuristic)) $(if $(LIMIT),--limit $(LIMIT)) $(if $(MINUTES),--minutes $(MINUTES))

feasible-review: $(READY)  ## what such forecasts were worth: each against the trainings that came later
	@$(BIN)/python -m model.feasible --review

data-value: $(READY)  ## what each source of data is worth: the loss without it [MINUTES=5]
	@$(BIN)/python -m model.data_value $(if $(MINUTES),--minutes $(MINUTES))

check: lint types  ## lint, types, every test, the slow ones included, the proof of the checks
	@$(BIN)/python -m tests.contracts.publish --check
	@$(BIN)/python -m pytest
	@$(BIN)/python -m tests.saboteurs
	@$(BIN)/python -m deploy.requirements --complete

lint: $(READY)  ## style, formatting and the boundaries between teams
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports --no-logo

types: $(READY)  ## mypy, strict
	@$(BIN)/mypy

clean:  ## forget all state of Tandem: history, trips, models (var/)
	rm -rf var reports

lock: $(READY)  ## write requirements.lock from what a fresh install of pyproject.toml resolves to
	@bash deploy/lock.sh

fresh:  ## clone the last commit into a new folder, then set up and test there
	@folder=$$(mktemp -d) && git clone -q . $$folder/tandem && $(MAKE) -C $$folder/tandem test && rm -rf $$folder

compose-env:  ## write .env for docker compose with a new database password, unless it is there
	@test -f .env || (umask 077 && echo "POSTGRES_PASSWORD=$$($(PYTHON) -c 'import secrets; print(secrets.token_urlsafe(24))')" > .env && echo "wrote .env")
