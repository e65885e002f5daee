# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real VictoriaMetrics, Debian's, that a test starts, stops and kills; and what it has stored."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

from links import REPOSITORY

PROGRAM = REPOSITORY / ".cache" / "victoria-metrics" / "usr" / "bin" / "victoria-metrics"
GUARD_SECONDS = 300.0
# Of a number it keeps some fourteen digits.
_DIGITS = ".12g"


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

    def stored(self, device: str) -> dict[int, set[str]]:
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


def samples_by_time(exported: str) -> dict[int, set[str]]:
    """The samples of an export by their time: ``up{device="edge-1",job="edgeml-device"} 1``."""
    found: dict[int, set[str]] = defaultdict(set)
    for line in exported.splitlines():
        series = json.loads(line)
        labels = dict(series["metric"])
        name = labels.pop("__name__")
        pairs = ",".join(f'{label}="{labels[label]}"' for label in sorted(labels))
        for time_ms, value in zip(series["timestamps"], series["values"], strict=True):
            found[time_ms].add(f"{name}{{{pairs}}} {float(value):{_DIGITS}}")
    return dict(found)


def exported_form(samples: Iterable[str]) -> set[str]:
    """Samples without a time in that form: labels by their names, values as numbers."""
    found = set()
    for sample in samples:
        series, _space, value = sample.rpartition(" ")
        name, _brace, labels = series[:-1].partition("{")
        pairs = sorted(re.findall(r'(\w+)="([^"]*)"', labels))
        texts = ",".join(f'{label}="{text}"' for label, text in pairs)
        found.add(f"{name}{{{texts}}} {float(value):{_DIGITS}}")
    return found


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait until something is so."""
    end = time.monotonic() + GUARD_SECONDS
    while not condition():
        assert time.monotonic() < end, f"expected that {what} within {GUARD_SECONDS:g} s"
        time.sleep(0.2)
