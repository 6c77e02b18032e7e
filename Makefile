# Each target prepares what it needs by itself; tools/setup.sh says how, and does nothing when nothing changed.

SHELL := /bin/sh
BIN := .venv/bin
MAKEFLAGS += --no-print-directory

.DEFAULT_GOAL := help
.PHONY: help run test test-int test-browser test-slow core-coverage simulate walk mutants chaos bench lint fmt audit servers docker-up docker-down migrate-up migrate-down migrate-status migrate-create lock upgrade clean run-env dev-env

help: ## Show this text
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: run-env ## Start the order application (port 8080; SERVER_PORT, DATABASE_URL, UNWIND_DATA_DIR)
	@exec $(BIN)/order-saga serve

test: dev-env ## Run the quick tests
	@$(BIN)/pytest -n 2 -m "not slow and not integration and not browser" $(ARGS)

test-int: dev-env ## Run the quick tests and those on real PostgreSQL, NATS, Redis and Prometheus, which they start themselves
	-@tools/programs.sh prometheus
	@$(BIN)/pytest -n 2 -m "not slow and not browser" $(ARGS)

test-browser: dev-env ## Run the tests that look at the dashboard with Chromium, installed if need be (SCREENSHOTS=1: and redraw docs/screenshots)
	@tools/programs.sh chromium
	@$(BIN)/pytest -n 2 -m browser $(ARGS)

test-slow: dev-env ## Run the slow tests
	@$(BIN)/pytest -n 2 -m slow $(ARGS)

core-coverage: dev-env ## Check that the tests of the core take every branch of it
	@$(BIN)/pytest tests/core -n 2 --cov=unwind.core --cov-branch --cov-fail-under=100 --cov-report=term-missing:skip-covered

simulate: run-env ## Run 20000 seeded schedules of crashes, losses and repeats through the simulator
	@$(BIN)/python -m unwind.testing.simulator 20000 --workers 2

walk: dev-env ## Walk through every state of every saga of up to three steps, of every shape
	@$(BIN)/python -m tests.core.every

mutants: dev-env ## Check that the simulator catches each rule of the machine when it is left out
	@$(BIN)/python -m tests.mutants

chaos: dev-env ## Kill seven processes and three servers again and again under 2000 orders, then audit (ARGS="--seed N")
	@$(BIN)/python -m chaos $(ARGS)

bench: dev-env ## Measure (ARGS="--only sqlite|postgres|road|http|dashboard|metrics")
	@$(BIN)/python -m benchmarks $(ARGS)

lint: dev-env ## Check style, format, types and who imports whom
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy $(wildcard src apps tests benchmarks chaos examples)
	@$(BIN)/lint-imports --no-logo

fmt: dev-env ## Format, and fix what can be fixed
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

servers: dev-env ## Start PostgreSQL, NATS and Valkey (Redis) without Docker, for several processes; Ctrl-C ends them and their data
	@exec $(BIN)/python -m tests.servers

docker-up: ## Start PostgreSQL, NATS, Redis, Prometheus and Grafana in Docker; PROFILE=app: the application too
	@tools/compose.sh $(if $(PROFILE),--profile $(PROFILE)) up --detach --build --wait $(ARGS)

docker-down: ## Stop what runs in Docker; ARGS=--volumes: and delete its data
	@tools/compose.sh --profile app down $(ARGS)

migrate-up: run-env ## Bring the database (DATABASE_URL) to the newest schema
	@exec $(BIN)/unwind migrate up $(ARGS)

migrate-down: run-env ## Take the database back by one version; what it held is lost (ARGS="--to N --yes")
	@exec $(BIN)/unwind migrate down $(ARGS)

migrate-status: run-env ## Show which schema the database has; fails when it is behind
	@exec $(BIN)/unwind migrate status

migrate-create: run-env ## Begin a migration, for every dialect: NAME=add_priorities
	@exec $(BIN)/unwind migrate create "$(NAME)"

audit: run-env ## Check the stored orders: every saga ended or on its way, every effect exactly once
	@exec $(BIN)/order-saga audit

lock: ## Pin the requirement files anew, keeping the versions that still fit
	@tools/lock.sh

upgrade: ## Pin the requirement files anew, to the newest versions
	@tools/lock.sh --upgrade

clean: ## Remove the environment and what tools left behind; databases stay
	@rm -rf .venv .setup.lock .setup.lock.d dist apps/order_saga/dist .coverage .coverage.* htmlcov
	@rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find src apps tests $(wildcard benchmarks) -name __pycache__ -type d -prune -exec rm -rf {} +

run-env:
	@tools/setup.sh run

dev-env:
	@tools/setup.sh dev
