# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The archives that the role ``inference_service`` installs from, read for an image: the wheels and the app."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import sys
from email.parser import Parser
from typing import Iterator, NamedTuple, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.process import CommandError, run_command

from .contents import APP, PYTHON
from .debian import ImageError
from .layer import Entry, Files, read_tar

# plugins/plugin_utils/_image/ is three levels below the collection.
COLLECTION = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
_ROLE = os.path.join(COLLECTION, "roles", "inference_service", "files")
_LOCK = os.path.join(_ROLE, "requirements", f"cp{PYTHON.replace('.', '')}.txt")
# What the role installs with Python 3.11 for 64 bits, beside the runtimes.
PACKAGES = ("h11", "httptools", "numpy", "orjson", "prometheus-client", "pysimdjson", "uvloop")
RUNTIMES = ("onnxruntime", "ai-edge-litert", "ncnn")
_SITE_PACKAGES = "site-packages/"
# pip downloads: a slow link is no error.
_SECONDS = 6 * 3600
_APP = "app/"
_APP_PARTS = ("edgeml_server/", "edgeml_device/")


class Wheel(NamedTuple):
    """A wheel that is unpacked: its name, its version and its files, by their paths in ``site-packages``."""

    name: str
    version: str
    files: Files


def read_wheels(machine: str, runtimes: Sequence[str], cache: str) -> list[Wheel]:
    """The locked wheels of the server for an architecture (as ``uname -m`` says), each by itself.

    pip downloads them, and compares each with the digest in the lock. Raises ImageError.
    """
    unknown = sorted(set(runtimes) - set(RUNTIMES))
    if unknown:
        raise ImageError(f"runtimes: expected {', '.join(RUNTIMES)}; found {', '.join(unknown)}")
    names = [*PACKAGES, *runtimes]
    archive = wheels_archive(machine, names, cache)
    if not os.path.exists(archive):
        _pack("pack-wheels", archive, machine, PYTHON, _LOCK, *names)
    files = _below(_SITE_PACKAGES, archive)
    wheels = list(_split(files))
    found = sorted(wheel.name for wheel in wheels)
    if found != sorted(names):
        raise ImageError(f"{archive}: expected the wheels {', '.join(sorted(names))}; found {', '.join(found)}")
    return sorted(wheels, key=lambda wheel: names.index(wheel.name))


def wheels_archive(machine: str, names: Sequence[str], cache: str) -> str:
    """Where the archive of these wheels is: named by what is in it."""
    with open(_LOCK, "rb") as lock:
        digest = hashlib.sha256(lock.read() + " ".join(names).encode()).hexdigest()[:16]
    return os.path.join(cache, f"wheels-{digest}-{machine}.tar.gz")


def read_app(cache: str) -> Files:
    """The server's code with that of the device's which it imports, by their paths in an image. Raises ImageError."""
    archive = os.path.join(cache, "app.tar.gz")
    _pack("pack-app", archive, _ROLE, os.path.join(COLLECTION, "plugins", "module_utils"))
    files = _below(_APP, archive)
    return {f"{APP}/{path}": entry for path, entry in files.items() if path.startswith(_APP_PARTS)}


def _pack(program: str, archive: str, *arguments: str) -> None:
    """Have one of the role's own programs make its archive."""
    command = [os.path.join(_ROLE, program), archive, *arguments]
    try:
        ended = run_command(command, _SECONDS, shown=program, env={**os.environ, "PYTHON": sys.executable})
    except CommandError as error:
        raise ImageError(str(error)) from error
    if ended.code != 0:
        raise ImageError(f"{program}: {ended.stderr.strip() or ended.stdout.strip()}")


def _below(prefix: str, archive: str) -> Files:
    with open(archive, "rb") as source:
        # The archives' modes depend on who made them.
        return {
            path[len(prefix) :]: entry if entry.target else Entry(0o755 if entry.mode & 0o100 else 0o644, entry.content)
            for path, entry in read_tar(source)
            if path.startswith(prefix)
        }


def _split(files: Files) -> Iterator[Wheel]:
    """The files of each distribution, by its own record."""
    for path in sorted(files):
        directory, _slash, name = path.partition("/")
        if not directory.endswith(".dist-info") or name != "METADATA":
            continue
        said = Parser().parsestr(files[path].content.decode("utf-8"))
        record = files[f"{directory}/RECORD"].content.decode("utf-8")
        own = [row[0] for row in csv.reader(io.StringIO(record))]
        yield Wheel(
            str(said["Name"]).lower().replace("_", "-"),
            str(said["Version"]),
            {path: files[path] for path in own if path in files},
        )
