# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A device fetches from nginx over a bad link: 256 kbit/s, 300 ms there and back, 5% of the packets lost, and worse.

Each case must end with the file, verified, for at most 1.1 times its bytes. Needs a network of its own:
``unshare --net python tests/benchmark/fetch_links.py``.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from bad_link import BadLink
from clone import PYTHON_PATH
from nginx import CONFIGURATION, NGINX
from releases import file_entry, sha256

from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import DurableTree
from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.fetcher import Fetcher
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.options import FetchOptions
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.partial import held_bytes
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import File

RATE = 256_000 / 8
DELAY, LOSS = 0.15, 0.05
SHARE_MAX = 1.1
PORT = 8080
ORIGIN = "server {{ listen {address}:{port}; root {root}; access_log {root}/../log; }}"
GUARD_SECONDS = 1800


@dataclass(frozen=True)
class Case:
    """A link, and how the device is treated: ``restart`` ends its process after so many seconds, again and again."""

    name: str
    loss: float = LOSS
    cut: float = 0.0
    restart: float = 0.0


CASES = (
    Case("slow, far", loss=0.0),
    Case("and 5% lost"),
    Case("and cut every 10 s", cut=10),
    Case("and the device killed every 15 s", restart=15),
)


class Origin:
    """nginx behind the link, which serves one object."""

    def __init__(self, link: BadLink, directory: Path, content: bytes) -> None:
        root = directory / "root"
        blobs = root / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        (blobs / sha256(content)).write_bytes(content)
        address = link.address(0)
        self.url = f"http://{address}:{PORT}"
        (directory / "server.conf").write_text(ORIGIN.format(address=address, port=PORT, root=root))
        (directory / "nginx.conf").write_text(CONFIGURATION.format(directory=directory))
        self._command = [*link.enter, NGINX, "-p", str(directory), "-c", str(directory / "nginx.conf")]
        subprocess.run(self._command, check=True)

    def stop(self) -> None:
        subprocess.run([*self._command, "-s", "stop"], check=True)


def fetched(device: Path, url: str, file: File) -> None:
    """Fetch in a process of its own, and add what came to a log, whenever the process ends."""
    fetcher = Fetcher(DurableTree(str(device)), str(device / "fetched"), FetchOptions(sources=[url]))

    def end(*_arguments: object) -> None:
        with open(device / "received", "a", encoding="ascii") as log:
            log.write(f"{fetcher.tally.received}\n")
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    try:
        fetcher.fetch(file)
    finally:
        end()


def run(case: Case, directory: Path, content: bytes) -> dict[str, object]:
    """Fetch over the link of ``case``, whatever it takes."""
    entry = file_entry("model.onnx", content)
    file = File(entry["path"], entry["size"], entry["sha256"], tuple(entry.get("blocks", ())))
    device = directory / "device"
    device.mkdir()
    path = device / "fetched" / file.sha256
    began = time.monotonic()
    with BadLink(case.loss, DELAY, RATE, case.cut) as link:
        origin = Origin(link, directory, content)
        processes = 0
        while not path.exists() and time.monotonic() - began < GUARD_SECONDS:
            processes += 1
            in_child(lambda: fetched(device, origin.url, file), case.restart or GUARD_SECONDS)
        origin.stop()
    received = sum(map(int, (device / "received").read_text().split()))
    right = path.exists() and sha256(path.read_bytes()) == file.sha256
    return {
        "link": case.name,
        "verified": "yes" if right else f"no: {held_bytes(str(device / 'fetched'), file)} bytes",
        "bytes": len(content),
        "received": f"{received / len(content):.3f}x",
        "seconds": round(time.monotonic() - began),
        "processes": processes,
        "good": right and received <= SHARE_MAX * len(content),
    }


def in_child(action: Callable[[], None], seconds: float) -> None:
    """Run ``action`` in a child, which is ended after so many seconds."""
    child = os.fork()
    if child == 0:
        action()
        os._exit(1)
    ends = time.monotonic() + seconds
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() >= ends:
            os.kill(child, signal.SIGTERM)
            os.waitpid(child, 0)
            return
        time.sleep(0.2)


def main() -> int:
    """Run all cases, print a table, and fail if one is not good."""
    os.environ["PYTHONPATH"] = str(PYTHON_PATH)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bytes", type=int, default=1_600_000, help="the size of the file")
    content = random.Random(5).randbytes(parser.parse_args().bytes)
    rows = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as directory:
            rows.append(run(case, Path(directory), content))
        print(*text_table(rows), sep="\n", flush=True)
    return 0 if all(row["good"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
