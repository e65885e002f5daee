# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What each device made of its fault: the old version serves as before, and the device can say what happened."""

from __future__ import annotations

import json
from typing import Any

import pytest
from testinfra.host import Host

OLD, CANDIDATE = "1.1.0", "1.2.0"

# The newest transition of each device: its event, and the reason that it gives. A device makes them all by itself.
# The service that hangs at its start is noticed by systemd or by the trial's looks, whichever comes first.
ENDINGS = {
    "edge-s1": ("revert", {"the service crashed 3 times (at most 2)"}),
    "edge-s2": ("interrupted", {"the swap was interrupted"}),
    "edge-l1": ("revert", {"the service crashed 1 time (at most 0)"}),
    "edge-l2": (
        "revert",
        {"the service crashed 1 time (at most 0)", "the server did not answer 4 times in a row (at most 3)"},
    ),
}

# One login and one shell for all that is looked at: on an emulated device, these take the time.
LOOK = """
cd /var/lib/edgeml/store
edgeml status --json
edgeml history digits --json
hostname
readlink models/digits/active
echo $(ls -A staging 2>/dev/null)
echo $(systemctl is-system-running)
echo $(systemctl is-active edgeml-inference.service edgeml-trial.timer)
echo $(systemctl is-enabled edgeml-trial.timer)
"""


class Found:
    """What a device showed."""

    def __init__(self, text: str) -> None:
        status, history, self.name, self.link, self.staging, self.system, self.active, self.timer = text.splitlines()
        self.model: dict[str, Any] = json.loads(status)["models"][0]
        self.last: dict[str, Any] = json.loads(history)["history"][-1]


@pytest.fixture(scope="module")
def found(host: Host) -> Found:
    return Found(host.check_output(LOOK))


def test_the_old_version_serves_as_before(found: Found) -> None:
    model = {key: found.model[key] for key in ("name", "live", "active", "previous", "trial")}
    assert model == {"name": "digits", "live": OLD, "active": OLD, "previous": None, "trial": None}


def test_who_reads_the_link_gets_it_too(found: Found) -> None:
    assert found.link == f"versions/{OLD}"


def test_the_history_tells_what_happened(found: Found) -> None:
    last = found.last
    event, reasons = ENDINGS[found.name]
    assert last["event"] == event
    assert last["reason"] in reasons
    assert (last["actor"], last["from"], last["to"]) == ("device", CANDIDATE, OLD)


def test_what_failed_is_not_tried_again_and_only_that(found: Found) -> None:
    """A power cut says nothing against a version."""
    last = found.last
    failed = {entry["version"]: entry["reason"] for entry in found.model["failed"]}
    assert failed == ({CANDIDATE: last["reason"]} if last["event"] == "revert" else {})


def test_the_service_runs_no_unit_failed_and_nobody_watches_any_more(found: Found) -> None:
    assert (found.system, found.active, found.timer) == ("running", "active inactive", "enabled")


def test_nothing_is_left_in_staging(found: Found) -> None:
    assert found.staging == ""
