# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The model that a whole machine of the tests serves: what is asked of it, and who answers."""

from __future__ import annotations

import json

from controller import DIGITS
from load import Load
from whole_machine import WholeMachine

# An emulated processor that has more to answer does nothing else.
REQUESTS_PER_SECOND = 2
OLD, NEW = "1.1.0", "1.2.0"
ACTIVATE = "edgeml activate digits {} --trial-seconds 0 --min-ready-seconds 0"
TRY = "edgeml activate digits {} --trial-seconds 3600 --min-ready-seconds 0"


def request() -> dict[str, object]:
    """An inference of the digits."""
    golden = json.loads((DIGITS / "digits" / OLD / "manifest.json").read_text())["golden"]
    blob = DIGITS / "blobs" / "sha256" / golden["sha256"]
    return {"inputs": json.loads(blob.read_text())["inputs"]}


def versions(load: Load) -> set[str]:
    """Whose answers came."""
    return {json.loads(body)["model_version"] for body in load.bodies}


def serving(machine: WholeMachine) -> tuple[str | None, str | None]:
    """Which version serves, and which is active in the store, when the server is up again."""
    machine.wait_until("systemctl --quiet is-active edgeml-inference")
    models = json.loads(machine.shell("edgeml status --json").stdout)["models"]
    (digits,) = [model for model in models if model["name"] == "digits"]
    return digits["live"], digits["active"]


def on_trial(machine: WholeMachine) -> bool:
    """Whether the version that is active is on trial: a revert ends it."""
    state = json.loads(machine.shell("cat /var/lib/edgeml/store/models/digits/state.json").stdout)
    return state["trial"] is not None


def has_failed(machine: WholeMachine) -> bool:
    """Whether the service was given up since the boot, or, by systemd from 254 on, failed once."""
    started = "systemctl show --property=ExecMainStartTimestamp --value edgeml-rescue.service"
    return machine.shell(started).stdout.strip() != ""
