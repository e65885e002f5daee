# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What a device that forwards its metrics is told once. Written by the role ``telemetry``."""

from __future__ import annotations

from typing import Any, NamedTuple

from .._common.configuration import parse_record, read_json

CONFIG = "/etc/edgeml/forward.json"
# What a label of Prometheus may hold without being escaped, and a name in an inventory does.
_NOT_IN_NAMES = set('"\\\n')


class ForwardConfig(NamedTuple):
    """The configuration of ``edgeml forward``.

    ``device`` is the device's name in the inventory, the label of its samples. ``url`` is the address of a
    VictoriaMetrics, or of what stands before it. ``ca_file`` has the authorities of its server, None: those of the
    system. ``certificate`` and ``key`` are the device's own, ``username`` and ``password`` are for HTTP Basic; None and
    empty: without. At most ``batches_max`` batches are kept. ``state`` is the directory that they are kept in,
    ``runtime`` one in memory; ``store`` and ``server`` are those of ``model_swap``, ``pull_state`` is the directory of
    pull mode. ``textfile`` is written as well, where its directory is.
    """

    device: str
    url: str
    ca_file: str | None = None
    certificate: str | None = None
    key: str | None = None
    username: str = ""
    password: str = ""
    batches_max: int = 10_080
    state: str = "/var/lib/edgeml/telemetry"
    runtime: str = "/run/edgeml-forward"
    store: str = "/var/lib/edgeml/store"
    server: str = "/run/edgeml/server.sock"
    pull_state: str = "/var/lib/edgeml/pull"
    textfile: str = "/var/lib/prometheus/node-exporter/edgeml.prom"


def parse_config(document: Any, origin: str) -> ForwardConfig:
    """Read the configuration from JSON values. Raises ArgumentError, which begins with ``origin``."""
    return parse_record(ForwardConfig, document, _check, origin)


def _check(config: ForwardConfig) -> None:
    if not config.device or _NOT_IN_NAMES & set(config.device):
        raise TypeError(f"device: expected a name without quotes and backslashes; found {config.device!r:.80}")
    if not config.url.startswith(("https://", "http://")):
        raise TypeError(f"url: expected an address with https://; found {config.url!r:.80}")
    if config.batches_max < 1:
        raise TypeError(f"batches_max: expected at least 1; found {config.batches_max}")


def read_config(path: str) -> ForwardConfig:
    """Read the configuration's file. Raises ArgumentError, which names it."""
    return parse_config(read_json(path, "edgeml forward"), path)
