# Two commands matter: `make demo` and `make test`. Both set everything up first.
.DEFAULT_GOAL := help

help: ## Say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: ## Install uv and the locked dependencies into .venv
	@tools/setup

demo: ## Bring up a throwaway target, apply the budget tier, prove it, show the report
	@tools/demo

test: ## Set everything up and run every test
	@tools/test $(ARGS)

quick: ## Only the tests that need no target
	@tools/setup
	@.venv/bin/python -m pytest -n auto --dist loadgroup --no-loadscope-reorder -m 'not lab' $(ARGS)

bench: ## A no-op apply and verify against bare ansible-playbook: medians and ratios
	@tools/setup lab
	@.venv/bin/python tools/bench.py

lock: ## Renew uv.lock and the locks of the roles
	@tools/lock

.PHONY: help setup demo test quick bench lock
