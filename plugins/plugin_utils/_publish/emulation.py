# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""An aarch64 device at the desk: the device image, run by Docker and emulated by qemu-user, if both are there.

The image has Python and no runtime. The runtime's packages are those that the role installs on devices, from its lock
file; they are fetched once and kept in the user's cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tarfile
import tempfile
from typing import Iterable

from ansible_collections.edgeml.fleet.plugins.module_utils._common.process import CommandError, run_command

from .desk import SECONDS_MAX, Place
from .measurements import cache_directory, this_machine
from .model import COLLECTION, RUNTIMES, PublishError

IMAGES = "edgeml-fleet/device"
_FILES = os.path.join(COLLECTION, "roles", "inference_service", "files")
_PACKAGES = ("numpy", "orjson", "prometheus-client")
# ONNX Runtime (from 1.28 on) and LiteRT read the processor's features there, and an emulated process sees the host's.
_CPUINFO = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3
"""
_COMMAND_SECONDS = 600


def find(image: str | None, work: str, formats: Iterable[str]) -> tuple[Place | None, str]:
    """Return where versions of these formats can run as aarch64, or None and why they cannot. ``image`` None: one of
    this collection's.

    Raises PublishError where an image that was named cannot be used.
    """
    if image == "none":
        return None, "switched off by device_image"
    try:
        chosen = image or _image()
        if chosen is None:
            return None, f"no image {IMAGES} for arm64 is in the Docker Engine"
        version = _output(_docker(chosen), "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
        packages = _packages(version, formats)
    except PublishError as error:
        if image:
            raise
        return None, str(error)
    with open(os.path.join(work, "cpuinfo"), "w", encoding="ascii") as file:
        file.write(_CPUINFO)
    mounts = {
        os.path.join(COLLECTION, "plugins", "module_utils"): "/code/edgeml_device:ro",
        os.path.join(_FILES, "edgeml_server"): "/code/edgeml_server:ro",
        packages: "/packages:ro",
        os.path.join(work, "cpuinfo"): "/proc/cpuinfo:ro",
        work: work,
    }
    volumes = [part for source, target in mounts.items() for part in ("--volume", f"{source}:{target}")]
    python_path = "/code:/packages"
    # The engine ends no container whose client was killed.
    command = [
        *_docker(chosen, *volumes, "--env", f"PYTHONPATH={python_path}", "--workdir", work),
        "timeout", str(SECONDS_MAX), "python3", "-B",
    ]  # fmt: skip
    # The kernel is this machine's, the runtimes are those of the packages.
    told = json.dumps([this_machine(), _image_id(chosen), os.path.basename(packages)])
    return Place("aarch64", command, python_path, f"an emulated device ({chosen})", told), ""


def runtime_version(python: str, runtime: str) -> str:
    """The version of a runtime that another Python has. Raises PublishError."""
    return _output([python, "-c", f"from importlib import metadata; print(metadata.version({runtime!r}))"]).strip()


def _image() -> str | None:
    """An image of a device for arm64 that the engine has."""
    if shutil.which("docker") is None:
        raise PublishError("there is no Docker")
    listed = _output(["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", IMAGES])
    names = [name for name in listed.split() if name.endswith("-arm64")]
    return names[0] if names else None


def _image_id(image: str) -> str:
    return _output(["docker", "image", "inspect", "--format", "{{.Id}}", image]).strip()


def _docker(image: str, *options: str) -> list[str]:
    user = f"{os.getuid()}:{os.getgid()}"
    return ["docker", "run", "--rm", "--network", "none", "--platform", "linux/arm64", "--user", user, *options, image]


def _packages(version: str, formats: Iterable[str]) -> str:
    """The directory with the runtimes' packages for aarch64, fetched where it is not there yet."""
    lock = os.path.join(_FILES, "requirements", f"cp{version.replace('.', '')}.txt")
    wanted = [*_PACKAGES, *sorted(RUNTIMES[name] for name in set(formats))]
    try:
        with open(lock, "rb") as file:
            digest = hashlib.sha256(json.dumps(wanted).encode() + file.read()).hexdigest()[:16]
    except OSError as error:
        raise PublishError(f"the image has Python {version}, for which the role has no packages") from error
    cache = cache_directory()
    found = os.path.join(cache, f"aarch64-{digest}")
    if not os.path.isdir(found):
        os.makedirs(cache, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as part:
            archive = os.path.join(part, "packages.tar.gz")
            _output(
                [os.path.join(_FILES, "pack-wheels"), archive, "aarch64", version, lock, *wanted],
                PYTHON=sys.executable,
            )
            with tarfile.open(archive) as packed:
                # What pip has unpacked is packed again here. Debian 12's Python knows no filters.
                packed.extractall(part)
            try:
                os.rename(os.path.join(part, "site-packages"), found)
            except OSError:
                if not os.path.isdir(found):  # Else another publication was first.
                    raise
    return found


def _output(command: list[str], *more: str, **environment: str) -> str:
    """What a command prints. Raises PublishError with its last line."""
    try:
        ended = run_command(
            [*command, *more], _COMMAND_SECONDS, shown=os.path.basename(command[0]), env={**os.environ, **environment}
        )
    except CommandError as error:
        raise PublishError(str(error)) from error
    if ended.code != 0:
        lines = ended.stderr.strip().splitlines()[-1:] or ["nothing"]
        raise PublishError(f"{os.path.basename(command[0])}: code {ended.code}: {lines[0][:300]}")
    return ended.stdout
