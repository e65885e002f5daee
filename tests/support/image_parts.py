# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small packages, wheels and images for tests: whole in form, with next to nothing in them."""

from __future__ import annotations

import io
import json
import lzma
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible_collections.edgeml.fleet.plugins.module_utils._release.image import (
    CONFIG_TYPE,
    LAYER_TYPE,
    Image,
    descriptor,
    document,
    parse_image,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._image.build import BuiltImage, assemble_image
from ansible_collections.edgeml.fleet.plugins.plugin_utils._image.debian import read_package
from ansible_collections.edgeml.fleet.plugins.plugin_utils._image.layer import Entry, Files, write_layer
from ansible_collections.edgeml.fleet.plugins.plugin_utils._image.wheels import Wheel

CONTROL = """Package: {name}
Version: {version}
Architecture: arm64
Maintainer: Nobody <nobody@example.com>
Depends: {depends}
"""


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """A tar archive as Debian's packages have it."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return target.getvalue()


def ar_of(members: Mapping[str, bytes]) -> bytes:
    """An ar archive."""
    parts = [b"!<arch>\n"]
    for name, content in members.items():
        parts.append(f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode())
        parts.append(content + b"\n" * (len(content) % 2))
    return b"".join(parts)


def write_package(
    path: Path, files: Mapping[str, bytes], name: str = "zlib1g", version: str = "1:1.2.13+x", depends: str = "libc6"
) -> Path:
    """Write a package of Debian's."""
    control = {"control": CONTROL.format(name=name, version=version, depends=depends).encode(), "md5sums": b"0 x\n"}
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": lzma.compress(tar_of(control)),
        "data.tar.xz": lzma.compress(tar_of(files)),
    }
    path.write_bytes(ar_of(members))
    return path


def make_image(directory: Path, app: bytes = b"1", version: str = "1.0.0", machine: str = "aarch64") -> BuiltImage:
    """An image of one package, one wheel and an app."""
    package = read_package(str(write_package(directory / "package.deb", {"usr/lib/libz.so.1": b"zlib"})))
    wheel = Wheel("onnxruntime", "1.32.0", {"onnxruntime/__init__.py": Entry(0o644, b"pass")})
    return assemble_image(
        machine,
        [package],
        [wheel],
        {"opt/edgeml/app/edgeml_server/__init__.py": Entry(0o644, app)},
        add_bytecode=lambda files: files,
        version=version,
        directory=str(directory / f"layers-{version}-{machine}"),
        created=None,
    )


def with_layer(built: BuiltImage, directory: Path, title: str, files: Files) -> BuiltImage:
    """The same image with one more layer on top; ``directory`` gets it."""
    layer = write_layer(title, files, str(directory / f"{title}.tar"))
    config, manifest = json.loads(built.image.config), json.loads(built.image.manifest)
    config["rootfs"]["diff_ids"].append(f"sha256:{layer.sha256}")
    config["history"].append({"created_by": title})
    manifest["layers"].append({"mediaType": LAYER_TYPE, "digest": f"sha256:{layer.sha256}", "size": layer.size})
    return replace(built, image=_parsed(config, manifest), layers=[*built.layers, layer])


def with_entrypoint(built: BuiltImage, entrypoint: Sequence[str]) -> BuiltImage:
    """The same image, which starts whatever it is to start by a program of its own."""
    config = json.loads(built.image.config)
    config["config"]["Entrypoint"] = list(entrypoint)
    return replace(built, image=_parsed(config, json.loads(built.image.manifest)))


def _parsed(config: Mapping[str, Any], manifest: Mapping[str, Any]) -> Image:
    content = document(config)
    return parse_image(document({**manifest, "config": descriptor(CONFIG_TYPE, content)}), content, "a test")
