# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service as a program of a real Supervisor, by the role's file, the set-up's program and the device's command."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import onnx_models
import pytest
from supervised_service import Supervised, running_supervised, wait_for

from ansible_collections.edgeml.fleet.plugins.plugin_utils._setup.device.commands import SetupError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._setup.device.programs import Supervisor

pytestmark = pytest.mark.runners


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    """A device that serves ``plus`` 1.0.0."""
    with running_supervised(tmp_path) as found:
        yield found


def test_a_second_run_changes_nothing_and_another_definition_restarts(supervised: Supervised) -> None:
    assert supervised.set_up(supervised.definition()) == []
    before = supervised.relay
    other = supervised.definition("--definition /dev/null")
    would = supervised.set_up(other, check_mode=True)
    assert would == [str(supervised.directory / "conf.d" / "edgeml-inference.conf"), "edgeml-inference.service"]
    assert supervised.relay == before
    assert supervised.set_up(other) == would
    assert supervised.relay != before
    assert b"--definition" in Path(f"/proc/{supervised.server}/cmdline").read_bytes()
    assert supervised.set_up(other) == []
    expected = r"(?s)edgeml-inference: expected it to be ready, but Supervisor says .*unrecognized"
    with pytest.raises(SetupError, match=expected):
        supervised.set_up(supervised.definition("--unknown"))


def test_a_model_swaps_without_a_restart_and_its_trial_is_watched(supervised: Supervised) -> None:
    device, before = supervised.device, supervised.server
    device.publish("plus", "2.0.0", onnx_models.plus(10))
    device.activate("plus", "1.0.0")
    done = supervised.edgeml("activate", "plus", "2.0.0", "--trial-seconds", "1")
    assert done.returncode == 0, done.stderr
    assert device.infer("plus", [1, 2]).json()["outputs"][0]["data"] == [11, 12]
    assert supervised.server == before
    # The listener looks at the trial, ends it, and has nothing to look at any more.
    wait_for(lambda: device.store.state("plus").trial is None)
    assert device.store.state("plus").active == "2.0.0"
    wait_for(lambda: not (supervised.directory / "work" / "watch").exists())


def test_crashes_and_hanging_count_and_revert_a_trial(supervised: Supervised) -> None:
    device = supervised.device
    device.publish("plus", "2.0.0", onnx_models.plus(10))
    device.activate("plus", "1.0.0")
    assert supervised.edgeml("activate", "plus", "2.0.0", "--trial-seconds", "3600").returncode == 0
    before = supervised.relay
    os.kill(supervised.server, signal.SIGKILL)
    supervised.wait_restarted(before)
    assert supervised.crashes == 1
    before = supervised.relay
    os.kill(before, signal.SIGKILL)
    supervised.wait_restarted(before)
    assert supervised.crashes == 2, "the server ended with the program of Supervisor"
    before = supervised.relay
    os.kill(supervised.server, signal.SIGSTOP)
    supervised.wait_restarted(before)
    assert "waited in vain for a sign of progress" in (supervised.directory / "edgeml-inference.log").read_text()
    assert device.store.state("plus").active == "1.0.0"
    assert device.store.state("plus").failed["2.0.0"].reason == "the service crashed 3 times (at most 2)"
    assert device.infer("plus", [1, 2]).json()["outputs"][0]["data"] == [2, 3]


def test_without_the_listener_a_trial_does_not_begin(supervised: Supervised) -> None:
    supervised.device.publish("plus", "2.0.0", onnx_models.plus(10))
    supervised.device.activate("plus", "1.0.0")
    Supervisor()._call("supervisor.stopProcess", "edgeml-listener")
    done = supervised.edgeml("activate", "plus", "2.0.0")
    assert "edgeml-listener: expected it to be RUNNING; found STOPPED" in done.stderr
    assert supervised.device.store.state("plus").active == "1.0.0"
    Supervisor()._call("supervisor.startProcess", "edgeml-listener", False)
    done = supervised.edgeml("activate", "plus", "2.0.0")
    assert done.returncode == 0, f"one that starts is waited for: {done.stderr}"
