# make demo [STUDY=path] [ROI=...] [LINK=...]   the main job, seen: pictures, volume, report, plot
# make sim [STUDY=] [LINK=] [MODE=virtual|relay|tun] [SEED=] [ROI=]   a link against a study, as a table
# make test                                     everything that must hold
# make test-long                                the same: 2,000 seeds, every crash point, longer runs
#                                               (python -m tests.night: a night of it, as a table)
# make lint                                     style, types, import contracts
# make bench                                    the figures, as tables, out/bench/*.json and *.png
# make bench-codecs                            every exact codec over every scan: an hour
# make bench-all                                over every preset and every recorded link: hours

VENV := .venv
BIN := $(VENV)/bin
# The first Python >= 3.11 that starts and can make environments: a name on the PATH proves nothing.
PYTHON ?= $(firstword $(shell for p in python3 python3.13 python3.12 python3.11; do \
    $$p -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p; done))
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
STUDY ?=
ROI ?=
LINK ?= rate=1M,rtt=100ms
MODE ?= virtual
SEED ?= 0

.PHONY: demo sim test test-long lint bench bench-all bench-codecs peers clean

demo: $(VENV)/demo
	$(BIN)/python -m tests.demo --out out --link '$(LINK)' $(if $(STUDY),--study '$(STUDY)') $(if $(ROI),--roi '$(ROI)')

sim: $(VENV)/demo
	$(BIN)/python -m tests.simulate --out out/sim --link '$(LINK)' --mode '$(MODE)' --seed '$(SEED)' \
	    $(if $(STUDY),--study '$(STUDY)') $(if $(ROI),--roi '$(ROI)')

# What must be proven branch by branch runs under coverage; everything runs once.
PROVING := tests/protocol tests/fuzz/test_bounds.py tests/shared/test_recordlog.py \
    $(addprefix tests/receiver/test_,$(addsuffix .py,journal previews quarantine replay)) \
    tests/sender/test_session.py tests/sender/test_turns.py tests/sender/test_bwlimit.py \
    tests/receiver/test_session.py tests/shared/transports/test_pairing.py \
    $(addprefix tests/shared/trust/test_,$(addsuffix .py,invitation pairing sites))

test: $(VENV)/test peers
	$(BIN)/coverage run -m pytest $(PROVING)
	$(BIN)/coverage report
	$(BIN)/python -m pytest $(addprefix --ignore=,$(PROVING))

test-long: export MEDROI_SEEDS = 2000
test-long: export MEDROI_CRASH_EVERY = 1
test-long: export MEDROI_FUZZ_S = 15
test-long: export MEDROI_SOAK_S = 600
test-long: test

lint: $(VENV)/test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/test peers
	$(BIN)/python -m tests.bench latency, goodput, window, connect, memory, segmentation

bench-all: $(VENV)/test peers
	$(BIN)/python -m tests.bench latency --all, goodput --all --outages, window, memory

bench-codecs: $(VENV)/test
	$(BIN)/python -m tests.bench codecs

# Debian's packages of the peers we are measured against. One that cannot be had is skipped by name.
peers:
	@sh .ci/peers

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "medroi needs Python 3.11 or later with its venv module (python3-venv)"; exit 1; }
	@echo "setting up $(VENV), once: a minute or two"
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e '.[demo]'
	$(BIN)/python -m shared.codecs.causal.warm
	@touch $@

$(VENV)/test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e '.[test]'
	$(BIN)/python -m shared.codecs.causal.warm
	@touch $@

clean:
	rm -rf $(VENV) out build *.egg-info
