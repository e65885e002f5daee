# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What the listener of a device is told once. Written by the role ``pull_agent``."""

from __future__ import annotations

from typing import Any, NamedTuple

from .._common.configuration import parse_record, read_json

CONFIG = "/etc/edgeml/mqtt.json"


class MqttConfig(NamedTuple):
    """The configuration of ``edgeml listen``.

    ``broker`` and ``port`` are reached by TLS: ``ca_file`` has its authority, ``certificate`` and ``key`` are the
    device's own. Telemetry is sent every ``telemetry_seconds``. A message of its own has to come back within
    ``echo_seconds``, or the connection is given up. The device looks at most once in ``look_seconds``, and waits its
    own part of ``spread_seconds`` first, so that a fleet does not ask at once. ``state`` is the directory of its
    counter; ``store`` and ``server`` are those of ``model_info``.
    """

    device: str
    fleet: str
    broker: str
    port: int = 8883
    ca_file: str | None = None
    certificate: str = "/etc/edgeml/pull/device.pem"
    key: str = "/etc/edgeml/pull/device.key"
    telemetry_seconds: float = 300
    echo_seconds: float = 90
    look_seconds: float = 60
    spread_seconds: float = 30
    state: str = "/var/lib/edgeml/pull"
    store: str = "/var/lib/edgeml/store"
    server: str = "/run/edgeml/server.sock"


def parse_config(document: Any, origin: str) -> MqttConfig:
    """Read the configuration from JSON values. Raises ArgumentError, which begins with ``origin``."""
    return parse_record(MqttConfig, document, _check, origin)


def _check(config: MqttConfig) -> None:
    for name in ("device", "fleet"):
        if not getattr(config, name) or set("/+#\0") & set(getattr(config, name)):
            raise TypeError(f"{name}: expected a name without /, + and #; found {getattr(config, name)!r:.80}")
    for name in ("telemetry_seconds", "echo_seconds", "look_seconds"):
        if not getattr(config, name) > 0:
            raise TypeError(f"{name}: expected more than 0; found {getattr(config, name)}")


def read_config(path: str) -> MqttConfig:
    """Read the configuration's file. Raises ArgumentError, which names it."""
    return parse_config(read_json(path, "edgeml listen"), path)
