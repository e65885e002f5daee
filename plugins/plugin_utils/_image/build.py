# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""An image built from Debian's packages, the locked wheels and the app: without root, an engine, or emulation."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Callable, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._release.image import (
    ARCHITECTURES,
    CONFIG_TYPE,
    LAYER_TYPE,
    MANIFEST_TYPE,
    RUNTIMES_LABEL,
    Image,
    descriptor,
    document,
    parse_image,
)

from .apt import MIRROR, download_packages
from .bytecode import Compiler
from .contents import (
    APP,
    DIRECTORIES,
    PACKAGES,
    SUITE,
    USER,
    VENV,
    check_dependencies,
    check_libraries,
    environment_files,
    package_files,
    wheel_files,
)
from .debian import ImageError, Package, read_package
from .layer import Entry, Files, Layer, write_layer
from .wheels import RUNTIMES, Wheel, read_app, read_wheels

SERVER_CONFIG = "/etc/edgeml/server.json"
_ENVIRONMENT = {
    "PATH": f"/{VENV}/bin:/usr/bin:/bin",
    "PYTHONPATH": f"/{APP}",
    "PYTHONDONTWRITEBYTECODE": "1",
    "LC_ALL": "C.UTF-8",
    # As in the service's unit: what is freed goes back to the system.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "1048576",
    "MALLOC_TRIM_THRESHOLD_": "8388608",
}
# 150 MB, unpacked.
SIZE_MAX = 150_000_000


@dataclass(frozen=True)
class BuiltImage:
    """An image with its layers on disk, and what is in it."""

    machine: str
    image: Image
    layers: Sequence[Layer]
    packages: Sequence[Package]
    wheels: Sequence[Wheel]

    def layer_path(self, sha256: str) -> str:
        """Where a layer is, by its SHA-256."""
        return next(layer.path for layer in self.layers if layer.sha256 == sha256)


def build_images(
    machines: Sequence[str],
    *,
    version: str,
    runtimes: Sequence[str],
    directory: str,
    cache: str,
    created: int | None = None,
    mirror: str = MIRROR,
    say: Callable[[str], None] = lambda _text: None,
) -> list[BuiltImage]:
    """Build the image for each of ``machines`` (as ``uname -m`` says), with its layers below ``directory``.

    ``created`` is in seconds of the epoch, and in the image if it is given. The same packages, wheels and app give the
    same bytes. Raises ImageError, OSError.
    """
    own = os.uname().machine
    packages = {}
    for machine in dict.fromkeys([*machines, own]):
        if machine not in ARCHITECTURES:
            raise ImageError(f"architecture: expected {' or '.join(ARCHITECTURES)}; found {machine}")
        say(f"Debian's packages for {machine}")
        packages[machine] = debian_packages(machine, cache, mirror)
    python = merged([package.files for package in packages[own]])
    with Compiler(python) as compiler:
        # Of each architecture the same, and so one layer.
        app = compiler.with_bytecode(read_app(cache))
        images = []
        for machine in machines:
            wheels = read_wheels(machine, runtimes, cache)
            say(f"layers for {machine}")
            images.append(
                assemble_image(
                    machine,
                    packages[machine],
                    wheels,
                    app,
                    add_bytecode=compiler.with_bytecode,
                    version=version,
                    directory=os.path.join(directory, machine),
                    created=created,
                )
            )
    return images


def debian_packages(machine: str, cache: str, mirror: str) -> list[Package]:
    """The packages of an image, downloaded and read. Raises ImageError."""
    paths = download_packages(
        PACKAGES, suite=SUITE, architecture=ARCHITECTURES[machine], directory=cache, mirror=mirror
    )
    by_name = {package.name: package for package in map(read_package, paths)}
    missing = [name for name in PACKAGES if name not in by_name]
    if missing:
        raise ImageError(f"{SUITE}: expected the packages {', '.join(missing)} for {machine}; found none of that name")
    packages = [by_name[name] for name in PACKAGES]
    check_dependencies(packages)
    return packages


def merged(parts: Sequence[Files]) -> dict[str, Entry]:
    """All files of several parts."""
    return {path: entry for files in parts for path, entry in files.items()}


def assemble_image(
    machine: str,
    packages: Sequence[Package],
    wheels: Sequence[Wheel],
    app: Files,
    *,
    add_bytecode: Callable[[Files], Files],
    version: str,
    directory: str,
    created: int | None,
) -> BuiltImage:
    """Make the image of packages, wheels and the app: a layer for each of them, so that one that changes is one layer.

    ``add_bytecode`` does that to files. Raises ImageError for an image that is too large, or lacks a library.
    """
    contents = [(package.name, package_files(package)) for package in packages]
    contents += [("environment", environment_files())]
    contents += [(wheel.name, wheel_files(wheel.files)) for wheel in wheels]
    contents = [(title, add_bytecode(files)) for title, files in contents]
    contents.append(("app", app))
    check_libraries(merged([files for _title, files in contents]))
    os.makedirs(directory, exist_ok=True)
    layers = [
        write_layer(
            title,
            files,
            os.path.join(directory, f"layer-{number:02}-{title}.tar"),
            DIRECTORIES if title == "environment" else None,
        )
        for number, (title, files) in enumerate(contents, 1)
    ]
    config = document(_configuration(ARCHITECTURES[machine], version, layers, wheels, created))
    image = parse_image(document(_manifest(config, version, layers)), config, machine)
    if image.size > SIZE_MAX:
        largest = sorted(layers, key=lambda layer: -layer.size)[:5]
        listed = ", ".join(f"{layer.title} {layer.size}" for layer in largest)
        raise ImageError(f"{machine}: expected an image of at most {SIZE_MAX} bytes; found {image.size}: {listed}, …")
    return BuiltImage(machine, image, layers, packages, wheels)


def _configuration(
    architecture: str, version: str, layers: Sequence[Layer], wheels: Sequence[Wheel], created: int | None
) -> dict[str, Any]:
    times = {} if created is None else {"created": datetime.fromtimestamp(created, timezone.utc).strftime("%FT%TZ")}
    return {
        **times,
        "architecture": architecture,
        "os": "linux",
        "config": {
            "User": USER,
            "Env": [f"{name}={value}" for name, value in _ENVIRONMENT.items()],
            # No entry point: the service's unit says what runs, the server or one of its tools.
            "Cmd": [f"/{VENV}/bin/python", "-m", "edgeml_server", "--config", SERVER_CONFIG],
            "WorkingDir": "/",
            "Labels": {
                "org.opencontainers.image.title": "edgeml-inference",
                "org.opencontainers.image.version": version,
                RUNTIMES_LABEL: json.dumps({wheel.name: wheel.version for wheel in wheels if wheel.name in RUNTIMES}),
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.sha256}" for layer in layers]},
        "history": [{"created_by": layer.title, **times} for layer in layers],
    }


def _manifest(config: bytes, version: str, layers: Sequence[Layer]) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": descriptor(CONFIG_TYPE, config),
        "layers": [
            {
                "mediaType": LAYER_TYPE,
                "digest": f"sha256:{layer.sha256}",
                "size": layer.size,
                "annotations": {"org.opencontainers.image.title": layer.title},
            }
            for layer in layers
        ],
        "annotations": {"org.opencontainers.image.version": version},
    }


def write_layout(built: BuiltImage, directory: str) -> None:
    """Write an image as an OCI layout, for other tools. Raises OSError."""
    blobs = os.path.join(directory, "blobs", "sha256")
    os.makedirs(blobs, exist_ok=True)
    manifest = descriptor(MANIFEST_TYPE, built.image.manifest)
    index = {
        "schemaVersion": 2,
        "manifests": [{**manifest, "platform": {"architecture": built.image.architecture, "os": "linux"}}],
    }
    for described, content in (
        (descriptor(CONFIG_TYPE, built.image.config), built.image.config),
        (manifest, built.image.manifest),
    ):
        _write(os.path.join(blobs, described["digest"].partition(":")[2]), content)
    for layer in built.layers:
        target = os.path.join(blobs, layer.sha256)
        if not os.path.exists(target):
            os.link(layer.path, target)
    _write(os.path.join(directory, "index.json"), json.dumps(index).encode())
    _write(os.path.join(directory, "oci-layout"), b'{"imageLayoutVersion":"1.0.0"}')


def _write(path: str, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
