# Gimli: `make help` lists what there is. Every target does its own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := .make
# meson-python looks for meson and ninja on PATH.
TOOLS := PATH="$(CURDIR)/$(BIN):$$PATH"
SOURCES := $(shell find src libgimli examples -name __pycache__ -prune -o -path src/gimli/_lib -prune -o -type f -print) \
	man/gimli.1 man/gimli-monitor.1 man/gimli-pair.1 man/gimli.toml.5 man/pair.toml.5 meson.build pyproject.toml README.md LICENSE
# Debuggers and debug information that the tests hold our cores against; python3-venv is not in Debian's python3.
PACKAGES := python3-venv gcc g++ libc6-dev gdb strace elfutils libc6-dbg logrotate
# Daemons that the tests keep up.
PACKAGES += tor redis-server haproxy nginx-light
# What the pair needs, its peers on the wire, and what looks at their packets.
PACKAGES += iproute2 nftables conntrack ucarp tcpdump tshark iputils-ping ethtool iptables
# What the benchmarks put beside ours.
PEERS := runit s6 supervisor keepalived conntrackd

.DEFAULT_GOAL := help
.PHONY: help demo test soak check bench chaos install wheel package lib clean
.DELETE_ON_ERROR:

help: ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

demo: install ## See three real programs go down, and why (about a minute)
	@$(BIN)/gimli demo

test: install ## Run every test
	@$(BIN)/pytest -q -n 2 --dist loadfile -m "not alone"
	@$(BIN)/pytest -q -m alone

soak: install ## Simulate and fuzz at length, for an hour or so; SEED=N begins elsewhere
	@GIMLI_SIMULATION_EVENTS=20000000 GIMLI_PAIR_STORIES=10000 GIMLI_SIMULATION_SEED=$(or $(SEED),100000) \
		GIMLI_FUZZ_PACKETS=1000000 GIMLI_LAB_SOAK_S=600 $(BIN)/pytest -q -s tests/simulation tests/pairsim \
		tests/pair/test_fuzz.py tests/lab/network/test_memory.py -k "invariants or fuzz or memory"

check: $(STAMPS)/venv ## Format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	MYPYPATH=src $(BIN)/mypy
	PYTHONPATH=src $(BIN)/lint-imports
	$(BIN)/python -m compileall -q src

bench: install $(STAMPS)/peers ## Measure against the budgets (docs/benchmarks.md); ARGS="services --full"
	@$(BIN)/python bench/run.py $(ARGS)

# python -m tests.chaos --help has the rest. A seed that a run printed repeats it, as far as the kernel allows.
SECONDS ?= 120
chaos: install ## Crashes, kills, HUPs and full disks for SECONDS=120; SEED=N repeats
	@$(BIN)/python -m tests.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

install: $(STAMPS)/install ## Build the wheel and install it into .venv

wheel: $(STAMPS)/venv ## Build the wheel into dist/
	rm -rf dist
	$(TOOLS) $(BIN)/pip wheel -q --no-deps --no-build-isolation -w dist .

package: wheel ## Install the wheel into an empty environment and run the demo from it
	rm -rf $(STAMPS)/package
	$(PYTHON) -m venv $(STAMPS)/package
	$(STAMPS)/package/bin/pip install -q "$$(ls dist/gimli_monitor-*.whl)[analysis]"
	cd / && $(CURDIR)/$(STAMPS)/package/bin/gimli demo

lib: $(STAMPS)/venv ## Build libgimli for working from the source tree (src/gimli/_lib)
	test -d build || $(TOOLS) meson setup -Dbuildtype=release -Ddebug=true build
	$(TOOLS) meson compile -C build
	install -D -m 755 -t src/gimli/_lib build/libgimli/libgimli.so build/libgimli/libgimli_monitor.so
	install -D -m 644 libgimli/include/libgimli.h src/gimli/_lib/include/libgimli.h
	install -D -m 644 build/libgimli/gimli.pc src/gimli/_lib/pkgconfig/gimli.pc

clean: ## Remove everything that was made
	rm -rf $(VENV) $(STAMPS) build dist src/gimli/_lib

# What is missing of NAMES is installed where that is possible; elsewhere the tests that need it say so, and the
# benchmarks leave it out. While POLICY says 101, Debian starts no service that a package brings (invoke-rc.d(8)).
POLICY := /usr/sbin/policy-rc.d
$(STAMPS)/apt: NAMES := $(PACKAGES)
$(STAMPS)/peers: NAMES := $(PEERS)
$(STAMPS)/peers: | $(STAMPS)/apt
$(STAMPS)/apt $(STAMPS)/peers: Makefile
	@mkdir -p $(STAMPS)
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		missing=$$(for name in $(NAMES); do dpkg -s $$name >/dev/null 2>&1 || echo $$name; done); \
		if [ -n "$$missing" ]; then \
			if [ ! -e $(POLICY) ]; then \
				trap 'rm -f $(POLICY)' EXIT; trap 'exit 1' INT TERM; \
				printf '#!/bin/sh\nexit 101\n' >$(POLICY) && chmod 755 $(POLICY); \
			fi; \
			echo "installing" $$missing && apt-get update -q >/dev/null && \
			DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$missing >/dev/null; \
		fi; \
	fi
	@touch $@

$(STAMPS)/venv: pyproject.toml | $(STAMPS)/apt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the Python packages of the project and of its checks"
	@$(BIN)/pip install -q --upgrade 'pip>=25.1'
	@$(BIN)/pip install -q 'meson-python>=0.17' 'meson>=1.5' ninja
	@$(BIN)/python -c 'import tomllib; d = tomllib.load(open("pyproject.toml", "rb")); p = d["project"]; \
		print("\n".join(p["dependencies"] + p["optional-dependencies"]["analysis"] + \
		[x for x in d["dependency-groups"]["dev"] if not x.startswith(p["name"])]))' >$(STAMPS)/requirements
	@$(BIN)/pip install -q -r $(STAMPS)/requirements
	@touch $@

$(STAMPS)/install: $(STAMPS)/venv $(SOURCES)
	@echo "building and installing gimli"
	@$(TOOLS) $(BIN)/pip install -q --force-reinstall --no-deps --no-build-isolation .
	@touch $@
