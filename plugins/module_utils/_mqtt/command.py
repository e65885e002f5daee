# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The command ``edgeml listen``, which the unit ``edgeml-mqtt.service`` runs."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from typing import Any, Sequence

from .._common.arguments import ArgumentParser
from .._common.errors import EdgemlError, ServerError
from .._common.files import DurableTree
from .._common.process import run_command
from .._device.describe import answer_info
from .._device.request import InfoRequest
from .config import CONFIG, MqttConfig, read_config
from .messages import MESSAGE_BYTES_MAX, write_message

# A broker ends the connection of whoever sends more than a message may have, which the topic is a part of.
_TELEMETRY_BYTES_MAX = MESSAGE_BYTES_MAX - 4096
PULL_UNIT = "edgeml-pull.service"
_START_SECONDS = 90
# Of what model_info returns of a model.
_TOLD = (
    "active",
    "previous",
    "live",
    "trial",
    "failed",
    "withdrawn",
    "variant",
    "rollout_id",
    "active_seconds",
    "counted_seconds",
    "requests",
    "labels",
    "drift",
    "shadow",
    "resident_bytes",
    "restarts",
)


def main(arguments: Sequence[str]) -> int:
    """Listen until the unit is stopped. Exit code: 0 then; 1 when something is wrong, 2 for a wrong call."""
    parser = ArgumentParser(prog="edgeml listen", description="Listen to the broker, as the unit does.")
    parser.add_argument("--config", default=CONFIG, metavar="FILE", help=f"default: {CONFIG}")
    options = parser.parse_args(arguments)
    try:
        config = read_config(options.config)
        # It needs what the role brings.
        from .listener import Listener

        starts = next_start(config.state)
        listener = Listener(config, starts, start_pull, lambda: read_telemetry(config))
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
    with contextlib.suppress(ServerError):
        run_command(["systemctl", "--no-block", "start", PULL_UNIT], _START_SECONDS, prints=True)


def read_telemetry(config: MqttConfig) -> dict[str, Any]:
    """What is told of the device: of each model what it serves, and what was measured of that."""
    result = answer_info(InfoRequest(store=config.store, server=config.server))
    if result.get("failed"):
        return {"error": result["msg"]}
    models = {
        model["name"]: {name: model[name] for name in _TOLD if model.get(name) is not None}
        for model in result["models"]
    }
    told: dict[str, Any] = {"server_live": result["server_live"], "models": models}
    if len(write_message((0, 0), told)) > _TELEMETRY_BYTES_MAX:
        told["models"] = {name: {"active": model.get("active")} for name, model in models.items()}
        told["error"] = "what was measured does not fit into a message"
    return told
