# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.
"""What a device records each minute: the metrics of its server and its own, as samples of one moment."""

from __future__ import annotations

import os
from typing import Iterable, Iterator

from .._common.errors import EdgemlError, ServerError
from .._device.client import Server
from .._device.store import Store
from .._watch.collect import collect
from .._watch.metrics import Sample, exposition
from .._watch.textfile import replace_textfile
from .config import ForwardConfig

# A server that has more metrics has some that nobody watches.
SAMPLES_MAX = 5000


def record(config: ForwardConfig, own: Iterable[Sample]) -> tuple[list[str], list[str]]:
    """Return the samples without their time, and what could not be read.

    As if Prometheus had asked: with the labels ``device`` and ``job``, and ``up`` for each of the two jobs. ``own`` are
    the samples of the forwarding itself. Where node_exporter is, it gets those of the device: one process is enough.
    """
    texts: dict[str, str] = {}
    problems = []
    try:
        texts["edgeml-server"] = Server(config.server).metrics()
    except ServerError as error:
        problems.append(str(error))
    try:
        texts["edgeml-device"] = exposition([*collect(Store(config.store), config.pull_state), *own])
    except (EdgemlError, OSError) as error:
        problems.append(str(error))
        texts["edgeml-device"] = exposition(own)
    try:
        if os.path.isdir(os.path.dirname(config.textfile)):
            replace_textfile(config.textfile, texts["edgeml-device"])
    except OSError as error:
        problems.append(f"{config.textfile}: node_exporter keeps what was there: {error.strerror}")
    samples: dict[str, str] = {}
    for job in ("edgeml-server", "edgeml-device"):
        labels = f'device="{config.device}",job="{job}"'
        samples[f"up{{{labels}}}"] = str(int(job in texts))
        samples.update(_labelled(texts.get(job, ""), labels))
    lines = [f"{series} {value}" for series, value in samples.items()]
    if len(lines) > SAMPLES_MAX:
        problems.append(f"expected at most {SAMPLES_MAX} samples; found {len(lines)}: the last ones are left out")
    return lines[:SAMPLES_MAX], problems


def _labelled(text: str, labels: str) -> Iterator[tuple[str, str]]:
    """The series and values of Prometheus' text format, with labels added. What a receiver would drop is left out:
    values that are no number, and lines that are none."""
    for line in text.splitlines():
        series, _space, value = line.rpartition(" ")
        name, brace, rest = series.partition("{")
        if line.startswith("#") or not name or " " in name or (brace and not rest.endswith("}")):
            continue
        try:
            is_number = float(value) == float(value)
        except ValueError:
            continue
        if is_number:
            yield f"{name}{{{labels}{f',{rest}' if len(rest) > 1 else '}'}", value
