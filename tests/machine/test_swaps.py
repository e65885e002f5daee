# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Models swapped on a whole machine: under load, and when its server, the swap or its power ends at any moment."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from load import OK, Load
from machine_controller import MachineController
from machine_model import ACTIVATE, NEW, OLD, REQUESTS_PER_SECOND, request, serving, versions
from whole_machine import WholeMachine

# Cuts of a swap; each costs a boot.
CUTS = 4


def test_a_swap_under_load_loses_no_request(
    machine: WholeMachine, controller: MachineController, tmp_path: Path
) -> None:
    swap = {"model": "digits", "repository": "{{ model_repository }}", "trial_seconds": 0, "min_ready_seconds": 0}
    with Load(tmp_path, machine.port, "/v2/models/digits/infer", request(), REQUESTS_PER_SECOND) as load:
        controller.tasks(
            {"name": "Forward", "edgeml.fleet.model_swap": {**swap, "version": NEW}},
            {"name": "Back", "edgeml.fleet.model_swap": {**swap, "version": OLD}},
        )
    assert {sent.status for sent in load.requests} == {OK}
    assert versions(load) == {OLD, NEW}
    assert serving(machine) == (OLD, OLD)


def test_a_server_that_is_killed_during_a_swap_serves_one_of_both(machine: WholeMachine) -> None:
    swap = machine.shell(f"""
        (timeout 600 sh -c 'until grep --quiet switching /var/lib/edgeml/store/models/digits/state.json; do :; done'
            systemctl kill --kill-who=main --signal=KILL edgeml-inference) &
        edgeml activate digits {NEW} --trial-seconds 0 --min-ready-seconds 30 && code=0 || code=$?
        wait
        echo ended $code
    """)
    live, active = serving(machine)
    assert live == active == (NEW if "ended 0" in swap.stdout else OLD), swap.stdout
    assert (
        "code=killed, status=9/KILL" in machine.shell("journalctl --unit=edgeml-inference --output=cat --boot").stdout
    )
    machine.shell(f"[ {active} = {OLD} ] || {ACTIVATE.format(OLD)}")


@pytest.mark.parametrize("cut", range(CUTS))
def test_after_a_power_cut_during_a_swap_one_of_both_serves(spare: WholeMachine, cut: int, tmp_path: Path) -> None:
    """The machine's disk is as the kernel left it, without what was only in its memory."""
    begun = time.monotonic()
    spare.shell(ACTIVATE.format(NEW))
    seconds = time.monotonic() - begun
    moment = random.Random(cut).uniform(0, seconds)
    spare.shell("sync")
    swap = spare.start(ACTIVATE.format(OLD))
    time.sleep(moment)
    told = swap.poll()
    spare.cut_power()
    swap.communicate()
    spare.boot()
    live, active = serving(spare)
    assert live == active
    # Who was told that it is done is not told something else by a power cut.
    assert active in ([OLD] if told == 0 else [OLD, NEW]), f"cut after {moment:.2f} of {seconds:.2f} s"
    spare.shell("edgeml verify")
    with Load(tmp_path, spare.port, "/v2/models/digits/infer", request()) as load:
        spare.shell(ACTIVATE.format(NEW if active == OLD else OLD))
    assert {sent.status for sent in load.requests} == {OK}
