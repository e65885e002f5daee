# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How many bytes other tools send to a device that holds the version before.

Debian's packages are unpacked below ``.cache/peers``; those of PyPI are in the environment of
``requirements-deltas.txt``.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from clone import REPOSITORY

UNPACKED = REPOSITORY / ".cache" / "peers" / "deltas"
ENVIRONMENT = REPOSITORY / ".cache" / "deltas"
PACKAGES = ("bsdiff", "xdelta3", "zstd", "rsync", "libpopt0", "casync", "libfuse2", "zchunk", "libzck1")

# The XOR of both files, with its byte planes compressed: zipnn's own delta. A file with other offsets has none.
ZIPNN = """
import sys
from zipnn import ZipNN
old, new = (open(path, "rb").read() for path in sys.argv[1:3])
sizes = []
for kind in ("float32", "float16"):
    sizes.append(len(ZipNN(bytearray_dtype=kind, threads=1).compress(bytearray(new))))
    if len(old) == len(new):
        packer = ZipNN(bytearray_dtype=kind, threads=1, delta_compressed_type="byte")
        sizes.append(len(packer.compress(bytearray(new), delta_second_data=old)))
print(min(sizes))
"""


class Peers:
    """The tools that there are, each with a limit of processor time."""

    def __init__(self, seconds: int) -> None:
        self._limit = ["prlimit", f"--cpu={seconds}", "--"]
        _unpack()
        libraries = {str(path.parent) for path in UNPACKED.rglob("*.so*")}
        self._environment = {
            "PATH": f"{UNPACKED}/usr/bin:{os.environ['PATH']}",
            "LD_LIBRARY_PATH": ":".join(sorted(libraries)),
            "HOME": os.environ.get("HOME", "/"),
        }

    def sizes(self, old: Path, new: Path) -> dict[str, int | None]:
        """The bytes that each sends; None for one that is not to be had, or takes longer than its limit."""
        tools: dict[str, Callable[[Path, Path, Path], int]] = {
            "bsdiff": self._bsdiff,
            "xdelta3": self._xdelta3,
            "zstd": self._zstd,
            "rsync": self._rsync,
            "casync": self._casync,
            "zchunk": self._zchunk,
            "detools": self._detools,
            "zipnn": self._zipnn,
        }

        def size_by(tool: Callable[[Path, Path, Path], int]) -> int | None:
            with tempfile.TemporaryDirectory() as directory:
                try:
                    return tool(old, new, Path(directory))
                except (OSError, subprocess.CalledProcessError):
                    return None

        # Each has its limit of processor time, whatever runs beside it.
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            return dict(zip(tools, threads.map(size_by, tools.values()), strict=True))

    def _run(self, *command: object) -> str:
        done = subprocess.run(
            [*self._limit, *map(str, command)], env=self._environment, check=True, capture_output=True, text=True
        )
        return done.stdout

    def _bsdiff(self, old: Path, new: Path, directory: Path) -> int:
        self._run("bsdiff", old, new, directory / "patch")
        return (directory / "patch").stat().st_size

    def _xdelta3(self, old: Path, new: Path, directory: Path) -> int:
        window = max(1 << 20, old.stat().st_size)
        self._run("xdelta3", "-9", "-e", "-B", window, "-s", old, new, directory / "patch")
        return (directory / "patch").stat().st_size

    def _zstd(self, old: Path, new: Path, directory: Path) -> int:
        self._run("zstd", "-q", "-19", "--long=27", f"--patch-from={old}", new, "-o", directory / "patch")
        return (directory / "patch").stat().st_size

    def _rsync(self, old: Path, new: Path, directory: Path) -> int:
        copied = directory / "copied"
        copied.write_bytes(old.read_bytes())
        os.utime(copied, (1, 1))
        self._run("rsync", "--no-whole-file", "-z", f"--only-write-batch={directory / 'batch'}", new, copied)
        return (directory / "batch").stat().st_size

    def _casync(self, old: Path, new: Path, directory: Path) -> int:
        def stored() -> int:
            return sum(path.stat().st_size for path in (directory / "store").rglob("*.cacnk"))

        for path in (old, new):
            before = stored()
            self._run("casync", "make", f"--store={directory / 'store'}", directory / "index.caibx", path)
        return stored() - before + (directory / "index.caibx").stat().st_size

    def _zchunk(self, old: Path, new: Path, directory: Path) -> int:
        for name, path in (("old", old), ("new", new)):
            self._run("zck", "-o", directory / name, path)
        said = self._run("zck_delta_size", directory / "old", directory / "new")
        return int(said.split("download ")[1].split()[0])

    def _detools(self, old: Path, new: Path, directory: Path) -> int:
        self._run(ENVIRONMENT / "bin" / "detools", "create_patch", old, new, directory / "patch")
        return (directory / "patch").stat().st_size

    def _zipnn(self, old: Path, new: Path, _directory: Path) -> int:
        return int(self._run(ENVIRONMENT / "bin" / "python", "-W", "ignore", "-c", ZIPNN, old, new))


def _unpack() -> None:
    if UNPACKED.exists():
        return
    with tempfile.TemporaryDirectory() as directory:
        for package in PACKAGES:
            subprocess.run(["apt-get", "download", package], cwd=directory, check=False, capture_output=True)
        UNPACKED.mkdir(parents=True)
        for archive in Path(directory).glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(archive), str(UNPACKED)], check=True)


def best(sizes: dict[str, int | None]) -> int | None:
    """The smallest of them."""
    return min((size for size in sizes.values() if size is not None), default=None)
