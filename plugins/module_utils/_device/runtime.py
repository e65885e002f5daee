# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What a device tests and prepares models with: the service's newest environment and code, or those of its image."""

from __future__ import annotations

import glob
import os
from typing import NamedTuple, Sequence

from .accelerator import read_accelerator
from .request import STORE
from .runner import Image, Runner, read_image, read_runner
from .service_config import CPU, execution_provider

ROOT = "/opt/edgeml"
USER = "edgeml"


def runtime_id() -> str | None:
    """Which runtime this device would test with, as ``runtime_identity`` names it; None without.

    A test's result holds for the runtime that it was made with.
    """
    runtime = installed_runtime()
    return runtime_identity(runtime) if runtime else None


class Runtime(NamedTuple):
    """What tests a model: its ``id`` (the names of its environment and code), its Python, and the code's directory.

    Of one in an image, these are paths in the image, and ``engine`` and ``image`` say what runs it; its containers have
    the device's directories ``mounts`` at the same paths, read-only.
    """

    id: str
    python: str
    app: str
    engine: str = ""
    image: str = ""
    user: str = USER
    mounts: Sequence[str] = ()


def runtime_identity(runtime: Runtime) -> str:
    """What a test's result holds for: the runtime, and the accelerator that it computes on, which has software and a
    power mode of its own."""
    provider = execution_provider()
    return runtime.id if provider == CPU else " ".join(filter(None, (runtime.id, provider, read_accelerator().words)))


def installed_runtime() -> Runtime | None:
    """The runtime of the image that serves, or the newest one that is installed; None without.

    In K3s there is none: nothing but the kubelet starts containers there. The server tests what it loads by itself.
    """
    runner = read_runner()
    if runner.code:
        image = read_image(STORE) if runner.engine else None
        return None if image is None else image_runtime(runner, image)
    venv, app = _newest("venv-*"), _newest("app-*")
    if not venv or not app:
        return None
    return Runtime(f"{venv} {app}", os.path.join(ROOT, venv, "bin", "python"), os.path.join(ROOT, app))


def image_runtime(runner: Runner, image: Image) -> Runtime:
    """The runtime in an image that the engine has, whether or not the service starts from it already."""
    name = f"image {image.reference.rpartition(':')[2]}"
    return Runtime(name, runner.python, runner.code, runner.engine, image.reference, runner.user, runner.mounts)


def _newest(pattern: str) -> str | None:
    complete = [path for path in glob.glob(os.path.join(ROOT, pattern)) if not path.endswith(".part")]
    newest = max(complete, key=lambda path: os.stat(path).st_mtime, default=None)
    return os.path.basename(newest) if newest else None
