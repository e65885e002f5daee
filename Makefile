# The clone's commands. `make` alone lists them; the work is in tools/.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# As many tests at once as there are cores; one that is done takes over from another's queue, at its end, so that a file's
# tests mostly stay together and with them what they share.
WORKERS := --numprocesses=auto --maxprocesses=8 --dist=worksteal

export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export ANSIBLE_HOME := $(CURDIR)/.ansible
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

.PHONY: setup
setup: ## make this machine ready: packages, .venv, Docker Engine, device image, collection
	@tools/setup

.PHONY: demo
demo: ## roll models out over emulated ARM devices, good ones and bad ones
	@tools/setup --demo
	@.venv/bin/python examples/digits/demo.py

.PHONY: test
test: ## set up, then run all the checks that take minutes, side by side; say where the time went
	@tools/test

.PHONY: lint
lint: ## check the style of everything, with no rule skipped
	@$(MAKE) --no-print-directory --jobs=2 --keep-going --output-sync=target lint-python lint-ansible lint-text lint-ci

.PHONY: lint-python
lint-python:
	ruff check .
	ruff format --check .
	python tests/support/links.py
	mypy

.PHONY: lint-ansible
lint-ansible:
	ansible-lint

.PHONY: lint-text
lint-text:
	yamllint --strict .
	antsibull-changelog lint
	shellcheck --external-sources --check-sourced tools/setup
	shellcheck --external-sources $$(git grep --line-number --extended-regexp '^#!(/bin/sh|/usr/bin/env bash)$$' \
		| sed --quiet 's/:1:.*//p')

TEMPLATES := examples/model-repository

.PHONY: lint-ci
lint-ci:
	actionlint -no-color -config-file $(TEMPLATES)/.github/actionlint.yaml $(TEMPLATES)/.github/workflows/*.yml
	zizmor --quiet --no-progress --offline --persona=pedantic $(TEMPLATES)/.github/workflows
	check-jsonschema --quiet --builtin-schema vendor.github-workflows $(TEMPLATES)/.github/workflows/*.yml
	check-jsonschema --quiet --builtin-schema vendor.gitlab-ci --data-transform gitlab-ci $(TEMPLATES)/.gitlab-ci.yml

.PHONY: sanity
sanity: ## run ansible-test's sanity tests on the collection as it is installed
	@tools/sanity

.PHONY: matrix
matrix: ## run the life of a fleet with each ansible-core, and with the oldest and newest Python that it supports
	@tools/matrix

.PHONY: matrix-ends
matrix-ends: ## that, with the oldest and the newest ansible-core only
	@tools/matrix --ends

.PHONY: judges
judges: ## have the field's own tools judge the collection: newest ansible-core, Galaxy's importer, antsibull, vermin
	@tools/judges

.PHONY: unit
unit: coverage integration ## run the tests that need no device

.PHONY: integration
integration: ## run Ansible, servers and faults on devices that are directories of this machine
	tools/tests $(WORKERS) -m 'not both_ways and not end_to_end and not runners' tests/integration
	tools/tests $(WORKERS) tests/faults

.PHONY: both-ways
both-ways: ## ask a device by modules all that the integration tests ask it by requests
	pytest $(WORKERS) -m both_ways tests/integration

.PHONY: end-to-end
end-to-end: ## walk the whole ways of people: AWX's workflow, cron, a commit to a forge, late labels, the life of a fleet, a shadow
	pytest $(WORKERS) -m end_to_end tests/integration

.PHONY: runners
runners: ## end, hang and swap the service under Docker, Podman and Supervisor, take its sockets and its image: it serves again
	@tools/runners

.PHONY: coverage
coverage: ## run the unit tests; fail if they reach too few branches of the parts that decide
	coverage erase
	COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml tools/tests $(WORKERS) tests/unit
	coverage combine --quiet
	coverage report

.PHONY: faults
faults: ## kill, cut from power and fail a swap at every point, not only at a choice of them
	pytest $(WORKERS) tests/faults --all-points -o faulthandler_timeout=7200

.PHONY: pull-faults
pull-faults: ## kill a poll at each of its calls, cut it from power, and roll out to devices that pull in all that can go wrong
	pytest $(WORKERS) tests/faults/test_pull.py --all-points -o faulthandler_timeout=7200
	pytest $(WORKERS) tests/pull

.PHONY: credentials
credentials: ## replace the authority of a fleet under load, with devices that are away, interruptions at each step and what is refused
	pytest $(WORKERS) tests/credentials

.PHONY: pull-scale
pull-scale: ## measure what 100,000 devices that pull cost their origin, also after it was away, and 10,000 reports the controller
	PYTHONPATH=.cache/python:tests/support python tests/benchmark/pull_scale.py

.PHONY: benchmark
benchmark: ## measure what swaps cost, and what the inference server does, beside others
	pytest tests/benchmark
	python tests/benchmark/swap_under_load.py
	python tests/benchmark/activate_large_model.py
	python tests/benchmark/upgrade_under_load.py
	python tests/benchmark/server_costs.py

.PHONY: delta-sizes
delta-sizes: ## measure how small deltas of models are, beside those of eight other tools, and what they cost a device
	@tools/delta-sizes

.PHONY: publish-costs
publish-costs: ## measure what publishing a model of 100 MB costs, beside quantising it, running the holdout and one SHA-256
	python tests/benchmark/publish_large_model.py

.PHONY: scale
scale: ## measure what a rollout costs the controller, and how that grows with the fleet
	python tests/benchmark/rollout_scale.py

.PHONY: links
links: ## roll out over links that lose connections and packets: thousands of times simulated, some times by SSH
	python tests/benchmark/link_simulation.py
	python tests/benchmark/lossy_rollouts.py

.PHONY: fetch-links
fetch-links: ## fetch over links that are slow, far, lossy and cut every 10 s; fail above 1.1 times the bytes
	unshare --net python tests/benchmark/fetch_links.py

.PHONY: site-update
site-update: ## bring a version to ten devices over one link of 2 Mbit/s: by model_swap, copy, get_url, synchronize
	python tests/benchmark/site_update.py $(if $(PAIR),--pair $(PAIR))

.PHONY: fuzz
fuzz: ## send the inference server 100,000 bad requests
	FUZZ_REQUESTS=50000 pytest -rP tests/integration/server/test_server_fuzz.py

.PHONY: conformance
conformance: ## serve onnx's backend tests and the models of wheels on PyPI, beside their runtime; write docs/conformance.md
	python tests/conformance/conformance.py

.PHONY: kserve-client
kserve-client: ## download KServe's client and talk to the inference server with it
	@tools/kserve-client

.PHONY: findings
findings: ## show again how libraries and tools of the field surprise, by pinned public packages
	@code=0; for finding in findings/*-*.sh; do printf '==> %s\n' "$$finding"; "$$finding" || code=1; done; exit $$code

# The scenarios that take minutes. Each run has a directory of its own for what Molecule notes, made anew: after a run that was
# killed, Molecule would believe that the devices are there.
SCENARIOS := --scenario-name container_runtime --scenario-name default --scenario-name faults --scenario-name model_repository
GO_ON = FLEET=$(FLEET) MOLECULE_EPHEMERAL_DIRECTORY=$(CURDIR)/.ansible/tmp/$@ MOLECULE_COMMAND_BORDERS=false molecule
MOLECULE = rm -rf .ansible/tmp/$@ && $(GO_ON)
FLEET := quickstart

.PHONY: molecule
molecule: ## from pristine emulated ARM devices to a model that serves
	$(MOLECULE) --base-config .config/molecule/config.yml --base-config .config/molecule/once.yml test

.PHONY: molecule-native
molecule-native: FLEET := native
molecule-native: ## that, check mode, idempotence, faults, container engines: on devices of this machine's own architecture
	$(MOLECULE) test $(SCENARIOS)

.PHONY: molecule-arm
molecule-arm: ## the same on emulated ARM devices
	$(MOLECULE) test $(SCENARIOS)

.PHONY: inference-service
inference-service: ## prove the server's access, log, shadow, swaps and units on emulated devices
	$(MOLECULE) test --scenario-name inference_service

.PHONY: handovers
handovers: ## have a new server process take over 20 times under load, by systemd itself, and its watchdog end the last
	EDGEML_TEST_UPGRADES=20 pytest -s tests/integration/server/test_server_handover_systemd.py

.PHONY: recipes
recipes: ## publish the models of examples/recipes with their own frameworks, and refuse wrong conversions
	@tools/recipes

.PHONY: compression
compression: ## prune and distil the digits network, publish the results, and write what each costs into docs/compression.md
	@tools/compression

.PHONY: formats
formats: ## have model-signing verify an exported release, and CycloneDX's validator a bill of materials
	@tools/formats

.PHONY: watch
watch: FLEET := native
watch: ## watch devices of this machine's own architecture: scrapes, forwarding after a day without, alerts, presence, dashboards
	@tools/watch
	$(MOLECULE) test --scenario-name watch

.PHONY: watch-arm
watch-arm: ## the same scenario on emulated ARM devices
	$(MOLECULE) test --scenario-name watch

.PHONY: providers
providers: ## serve models by Qualcomm's provider, on its emulator, and by OpenVINO: engines, fallbacks, refusals
	@tools/providers

.PHONY: ci-templates
ci-templates: ## run the GitLab file of examples/model-repository with gitlab-ci-local, from packages to a request to sign
	@tools/ci-templates

.PHONY: arm-machine
arm-machine: SUITE := bookworm
arm-machine: ARCHITECTURE := arm64
arm-machine: ## prove on a whole emulated ARM machine, with a kernel of its own, what containers cannot show
	@tools/machine $(ARCHITECTURE) --suite $(SUITE)

.PHONY: mcu
mcu: FLEET := native
mcu: ## update emulated microcontrollers: 1,000 power cuts, kills of their gateway, fuzzed parsers; then rollouts to six behind two gateways
	@tools/mcu
	$(MOLECULE) test --scenario-name mcu

.PHONY: mcu-arm
mcu-arm: ## roll out to six emulated microcontrollers behind two emulated ARM gateways
	@tools/mcu --build
	$(MOLECULE) test --scenario-name mcu

.PHONY: image-release
image-release: ## build the server's image by the playbook, twice the same, publish it, and serve from it by the Docker Engine
	@tools/image-release

.PHONY: balena
balena: ## build and run the services of examples/balena by the Docker Engine, with the update lock during a trial
	@tools/balena

.PHONY: kubernetes
kubernetes: ## hold the manifest of the runner k3s to the schemas of the newest minors of Kubernetes
	@tools/kubernetes

.PHONY: pull
pull: FLEET := native
pull: ## roll out to devices of this machine's own architecture of which half pull: servers, units, what is off or down
	$(MOLECULE) test --scenario-name pull

.PHONY: pull-arm
pull-arm: ## the same on emulated ARM devices
	$(MOLECULE) test --scenario-name pull

.PHONY: credentials-arm
credentials-arm: ## replace the authority of emulated ARM devices that pull, and of their mailbox; the roles then take nothing back
	$(MOLECULE) converge --scenario-name pull
	PYTEST_ADDOPTS="-k test_pull_rotation" $(GO_ON) verify --scenario-name pull
	$(GO_ON) destroy --scenario-name pull

.PHONY: patch
patch: FLEET := native
patch: ## patch devices by snapshots of packages: a slow one, one that fails, a full disk, power cut in the middle of dpkg
	@tools/patching
	$(MOLECULE) test --scenario-name patch

.PHONY: supervisor
supervisor: ## provision a device without systemd, whose first process is Supervisor; kill and stop its server
	$(MOLECULE) test --scenario-name supervisor

.PHONY: armhf
armhf: ## run the inference server on an emulated 32-bit ARM device
	@tools/setup armhf
	$(MOLECULE) test --scenario-name armhf

.PHONY: ncnn
ncnn: ## publish the digits network for ncnn, and have an emulated ARM device go over to it while a client asks
	@tools/ncnn-converter
	python tests/support/links.py
	$(MOLECULE) test --scenario-name ncnn

.PHONY: rollout
rollout: ## roll good and bad releases out over six emulated devices, some of them off, lost, full or killed
	$(MOLECULE) test --scenario-name rollout

.PHONY: collection
collection: ## build the collection's tarball and install it into .ansible/collections
	@tools/collection

.PHONY: fleet-up
fleet-up: ## start the quickstart's devices, pristine
	ansible-playbook molecule/shared/create.yml

.PHONY: fleet-down
fleet-down: ## remove the quickstart's devices
	ansible-playbook molecule/shared/destroy.yml

.PHONY: lock
lock: ## lock the newest versions that requirements-dev.in allows
	@tools/lock

.PHONY: clean
clean: ## remove what the set-up made in this clone and in the Docker Engine
	@tools/clean

.PHONY: distclean
distclean: ## clean, and remove the cached root file system of the devices
	@tools/clean --cache
