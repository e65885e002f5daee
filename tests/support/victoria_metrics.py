# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real VictoriaMetrics, Debian's, that a test starts, stops and kills; and what it has stored."""

from __future__ import annotations

import json
import math
import re
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType

from links import REPOSITORY

PROGRAM = REPOSITORY / ".cache" / "victoria-metrics" / "usr" / "bin" / "victoria-metrics"
GUARD_SECONDS = 300.0
# Values by their series: ``up{device="edge-1",job="edgeml-device"}``.
Samples = dict[str, float]


class VictoriaMetrics:
    """A VictoriaMetrics whose data is in ``directory``; on the same port each time it is started."""

    def __init__(self, directory: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> VictoriaMetrics:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """The number of its process."""
        assert self._process is not None
        return self._process.pid

    def start(self, *options: str) -> None:
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen(
            [
                str(PROGRAM),
                f"-storageDataPath={self._directory}",
                f"-httpListenAddr=127.0.0.1:{self.port}",
                "-retentionPeriod=1y",
                # What is sent twice is one sample.
                "-dedup.minScrapeInterval=1ms",
                "-loggerLevel=ERROR",
                *options,
            ]
        )
        wait_for(self._answers, "VictoriaMetrics answers")

    def kill(self) -> None:
        """End it as a power cut does: what is in its memory only is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stored(self, device: str) -> dict[int, Samples]:
        """The samples of a device by their time, as ``samples_by_time`` has them."""
        return samples_by_time(self.get("/api/v1/export", **{"match[]": f'{{device="{device}"}}'}))

    def get(self, path: str, **query: str) -> str:
        """The reply to a question."""
        with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode({**query, 'nocache': '1'})}") as reply:
            text: str = reply.read().decode()
            return text

    def _answers(self) -> bool:
        try:
            return "OK" in self.get("/health")
        except (urllib.error.URLError, ConnectionError):
            return False


def samples_by_time(exported: str) -> dict[int, Samples]:
    """The samples of an export by their time in milliseconds since 1970.

    What Prometheus sends where a series ends is no number, and no sample.
    """
    found: dict[int, Samples] = defaultdict(dict)
    for line in exported.splitlines():
        series = json.loads(line)
        labels = dict(series["metric"])
        name = _series(labels.pop("__name__"), labels)
        for time_ms, value in zip(series["timestamps"], series["values"], strict=True):
            if value is not None:
                found[time_ms][name] = float(value)
    return dict(found)


def exported_form(samples: Iterable[str]) -> Samples:
    """Samples without a time in that form: labels by their names, values as numbers."""
    found = {}
    for sample in samples:
        series, _space, value = sample.rpartition(" ")
        name, _brace, labels = series[:-1].partition("{")
        found[_series(name, dict(re.findall(r'(\w+)="([^"]*)"', labels)))] = float(value)
    return found


def has_all(stored: Samples, recorded: Samples) -> bool:
    """Whether all that was recorded is stored. VictoriaMetrics cuts a value off behind 14 digits."""
    return all(name in stored and math.isclose(stored[name], value, rel_tol=1e-12) for name, value in recorded.items())


def _series(name: str, labels: Mapping[str, str]) -> str:
    pairs = ",".join(f'{label}="{labels[label]}"' for label in sorted(labels))
    return f"{name}{{{pairs}}}"


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait until something is so."""
    end = time.monotonic() + GUARD_SECONDS
    while not condition():
        assert time.monotonic() < end, f"expected that {what} within {GUARD_SECONDS:g} s"
        time.sleep(0.2)
