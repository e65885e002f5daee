# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What systemd and edge-l2 made of a server that crashed at every start, and what another unit was told."""

from __future__ import annotations

import json

from testinfra.host import Host

testinfra_hosts = ["ssh://edge-l2"]


def test_systemd_gave_the_service_up_and_the_rescue_reverted_the_trial(host: Host) -> None:
    journal = host.check_output("journalctl --unit=edgeml-inference --output=cat --boot")
    assert "Start request repeated too quickly" in journal
    assert "Triggering OnFailure= dependencies" in journal
    shown = host.check_output("systemctl show edgeml-rescue --property=Result,ExecMainStatus,ActiveState")
    assert set(shown.splitlines()) == {"Result=success", "ExecMainStatus=0", "ActiveState=inactive"}
    (model,) = [
        model for model in json.loads(host.check_output("edgeml status --json"))["models"] if model["name"] == "digits"
    ]
    assert (model["live"], model["active"], model["trial"]) == ("1.1.0", "1.1.0", None)
    assert {entry["version"]: entry["reason"] for entry in model["failed"]} == {
        "1.2.0": "the service manager gave the service up"
    }
    last = json.loads(host.check_output("edgeml history digits --json"))["history"][-1]
    assert [last[key] for key in ("event", "from", "to", "actor")] == ["revert", "1.2.0", "1.1.0", "device"]
    assert host.service("edgeml-inference").is_running


def test_the_other_unit_was_restarted_reloaded_and_put_back(host: Host) -> None:
    assert host.file("/run/gauge-reader.log").content_string.split() == [
        *("started", "versions/1.0.0", "reloaded", "versions/1.1.0"),
        *("started", "versions/1.2.0", "started", "versions/1.1.0"),
    ]
    assert host.service("gauge-reader").is_running
