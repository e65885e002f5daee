# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The command ``edgeml listen``, which the unit ``edgeml-mqtt.service`` runs."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
from typing import Any, Mapping, Sequence

from .._common.errors import EdgemlError
from .._common.files import DurableTree
from .._device.store import Store
from .config import CONFIG, read_config

PULL_UNIT = "edgeml-pull.service"


def main(arguments: Sequence[str]) -> int:
    """Listen until the unit is stopped. Exit code: 0 then; 1 when something is wrong, 2 for a wrong call."""
    parser = argparse.ArgumentParser(prog="edgeml listen", description="Listen to the broker, as the unit does.")
    parser.add_argument("--config", default=CONFIG, metavar="FILE", help=f"default: {CONFIG}")
    options = parser.parse_args(arguments)
    try:
        config = read_config(options.config)
        # It needs what the role brings.
        from .listener import Listener

        starts = next_start(config.state)
        listener = Listener(config, starts, start_pull, lambda: served_versions(Store(config.store)))
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: stop.set())
        listener.run(stop)
    except (EdgemlError, OSError, ValueError) as error:
        sys.stderr.write(f"edgeml: {error}\n")
        return 1
    return 0


def next_start(directory: str) -> int:
    """Count the listener's starts in a file, which outlives a power cut."""
    path = os.path.join(directory, "mqtt-starts")
    try:
        with open(path, encoding="ascii") as file:
            number = int(file.read()) + 1
    except (FileNotFoundError, ValueError):
        number = 1
    DurableTree(directory).replace(path, b"%d\n" % number, 0o600)
    return number


def start_pull() -> None:
    """Have systemd start a poll, unless one is running. It is no matter if that fails: the timer does it, too."""
    subprocess.run(["systemctl", "--no-block", "start", PULL_UNIT], stdin=subprocess.DEVNULL, check=False)


def served_versions(store: Store) -> Mapping[str, Any]:
    """What the device serves, for people: for each model the active version, and whether it is on trial."""
    models: dict[str, Any] = {}
    for name in store.models() if store.exists() else []:
        try:
            state = store.state(name)
        except EdgemlError as error:
            models[name] = {"error": str(error)}
        else:
            models[name] = {"active": state.active, "previous": state.previous, "trial": state.trial is not None}
    return {"models": models}
