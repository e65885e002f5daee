# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Measurements of variants are kept in the user's cache, so that one that did not change is not run again.

The key of a measurement is the digest of all that it follows from: the variant's files and its entry in the manifest,
the samples, the tools, the runtime and the machine. What a variant is called, and which release it is for, is not part
of it. Only a variant that ran is kept: a failure is tried again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator, Mapping

from ansible_collections.edgeml.fleet.plugins.module_utils._release.arrays import write_archive

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# A machine changes: its latency of a month ago says little.
DAYS_KEPT = 7
BYTES_MAX = 1 << 30
SAID, OUTPUTS, REFERENCE = "said.json", "outputs.npz", "reference.json"
_RUNTIMES = ("numpy", "onnxruntime", "ai-edge-litert", "ncnn")
# Those of the release, and of an entry what is itself measured.
_UNRELATED = ("model", "version", "description", "created")
_MEASURED = ("memory_bytes",)


class Measurements:
    """The measurements that a directory keeps. Two publications may use it at once."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def key(self, tools: str, place: str, version_directory: str, samples: str | None, reference: bool) -> str:
        """Of a version that is laid out. ``tools``: the directory that the tools are in; ``place``: what tells the
        machine, its Python and runtimes from others.
        """
        found = json.loads(Path(version_directory, "version.json").read_text(encoding="utf-8"))
        release = {name: value for name, value in found["release"].items() if name not in _UNRELATED}
        release["variants"] = [
            {name: value for name, value in entry.items() if name not in _MEASURED}
            for entry in release.get("variants", [])
            if entry["name"] == found["variant"]
        ]
        told = [_digest_of_code(tools), place, release, _digest(samples) if samples else None, reference]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def get(self, key: str) -> str | None:
        """The directory of a measurement; None where there is none, or it is too old."""
        path = os.path.join(self._directory, key)
        try:
            age = time.time() - os.stat(os.path.join(path, SAID)).st_mtime
        except OSError:
            return None
        return path if 0 <= age <= DAYS_KEPT * 86400 else None

    def put(self, key: str, said: Mapping[str, Any], outputs: Mapping[str, Array], reference: str | None) -> None:
        """Keep a measurement, and remove the oldest where they are too large. Where it cannot be written, it is not."""
        import numpy as np

        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._directory, prefix=".part-") as part:
                made = os.path.join(part, "measurement")
                os.mkdir(made)
                write_archive(os.path.join(made, OUTPUTS), outputs, np.lib.format.write_array)
                if reference is not None and os.path.exists(reference):
                    shutil.copyfile(reference, os.path.join(made, REFERENCE))
                Path(made, SAID).write_text(json.dumps(said), encoding="utf-8")
                path = os.path.join(self._directory, key)
                shutil.rmtree(path, ignore_errors=True)
                os.rename(made, path)
            self._remove_oldest()
        except OSError:
            return

    def _remove_oldest(self) -> None:
        found = sorted(self._sizes(), reverse=True)
        total = 0
        for _moment, size, path in found:
            total += size
            if total > BYTES_MAX:
                shutil.rmtree(path, ignore_errors=True)

    def _sizes(self) -> Iterator[tuple[float, int, str]]:
        """When each was measured, its size and its path."""
        for entry in os.scandir(self._directory):
            if entry.name.startswith("."):
                continue
            try:
                sizes = [item.stat().st_size for item in os.scandir(entry.path)]
                yield os.stat(os.path.join(entry.path, SAID)).st_mtime, sum(sizes), entry.path
            except OSError:
                continue  # Another publication replaces it.


def read_measurement(path: str) -> tuple[Mapping[str, Any], Mapping[str, Array]]:
    """What the tool said, and the outputs."""
    import numpy as np

    said = json.loads(Path(path, SAID).read_text(encoding="utf-8"))
    with np.load(os.path.join(path, OUTPUTS), allow_pickle=False) as archive:
        return said, {name: archive[name] for name in archive.files}


def cache_directory() -> str:
    """Where publications keep what the next ones need not do again."""
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "edgeml-publish")


def this_machine() -> str:
    """What tells this machine, its Python and its runtimes from others."""
    versions = []
    for name in _RUNTIMES:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return json.dumps([list(os.uname()), _processor(), *versions])


def _processor() -> str:
    """What the kernel says of the first processor, but for its present speed."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    first = text.split("\n\n")[0]
    return "\n".join(line for line in first.splitlines() if not line.startswith(("cpu MHz", "bogomips", "BogoMIPS")))


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@functools.lru_cache(maxsize=1)
def _digest_of_code(directory: str) -> str:
    digest = hashlib.sha256()
    for package in sorted(os.listdir(directory)):
        root = Path(directory, package).resolve()
        for path in sorted(root.rglob("*.py")):
            digest.update(f"{package}/{path.relative_to(root)}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
