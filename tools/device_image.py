#!/usr/bin/env python3
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the image of a device in a container from its root file system and give it to the Docker Engine.

The image is written as an archive for `docker load`: that needs neither a builder nor a registry,
and every engine keeps the architecture that it says, which `docker import` does not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import pathlib
import sys
import tarfile
import tempfile

import docker
import docker.errors

DEFINITION = pathlib.Path(__file__).resolve().parent.parent / "molecule" / "shared" / "device"
REPOSITORY = "edgeml-fleet/device"
# Debian's names, and what the engine calls them.
ARCHITECTURES = {
    "amd64": {"architecture": "amd64"},
    "arm64": {"architecture": "arm64"},
    "armhf": {"architecture": "arm", "variant": "v7"},
}
CONFIG = {
    "Cmd": ["/sbin/init"],
    "StopSignal": "SIGRTMIN+3",
    "Env": [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "container=docker",
    ],
}


def definition_digest() -> str:
    """Return the SHA-256 of all that makes the image: the device's definition and this program."""
    digest = hashlib.sha256(pathlib.Path(__file__).read_bytes())
    for path in sorted(DEFINITION.rglob("*")):
        digest.update(f"\0{path.relative_to(DEFINITION)}\0".encode())
        if path.is_symlink():
            digest.update(str(path.readlink()).encode())
        elif path.is_file():
            digest.update(b"x" if path.stat().st_mode & 0o100 else b"-")
            digest.update(path.read_bytes())
    return digest.hexdigest()


def image_tag(architecture: str) -> str:
    """Return the name of the image of this definition for one of ARCHITECTURES."""
    return f"{REPOSITORY}:{definition_digest()[:12]}-{architecture}"


def architecture_of(client: docker.DockerClient, tag: str) -> str | None:
    """Return the architecture that the engine reports for an image, None when it has no such one."""
    try:
        return str(client.images.get(tag).attrs["Architecture"])
    except docker.errors.ImageNotFound:
        return None


def write_overlay(layer: pathlib.Path, files: pathlib.Path) -> None:
    """Write a layer with files that are put over Debian's, all owned by root."""

    def as_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = entry.mtime = 0
        entry.uname = entry.gname = "root"
        entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
        return entry

    with tarfile.open(layer, "w") as tar:
        for path in sorted(files.iterdir()):
            tar.add(path, path.name, filter=as_root)


def write_archive(archive: pathlib.Path, rootfs: pathlib.Path, architecture: str) -> None:
    """Write an archive for `docker load`: the layers, the image's configuration and a manifest."""
    layers = [rootfs]
    for files in (DEFINITION / "overlay", DEFINITION / f"overlay-{architecture}"):
        if files.is_dir():
            layers.append(archive.with_name(f"{files.name}.tar"))
            write_overlay(layers[-1], files)
    digests = []
    for layer in layers:
        with layer.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    config = {
        **ARCHITECTURES[architecture],
        "os": "linux",
        "config": CONFIG,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
    }
    manifest = [
        {
            "Config": "config.json",
            "RepoTags": [image_tag(architecture)],
            "Layers": [f"{digest}.tar" for digest in digests],
        }
    ]
    with tarfile.open(archive, "w") as tar:
        for digest, layer in zip(digests, layers, strict=True):
            tar.add(layer, f"{digest}.tar")
        for name, content in (("config.json", config), ("manifest.json", manifest)):
            path = archive.with_name(name)
            path.write_text(json.dumps(content), encoding="utf-8")
            tar.add(path, name)


def load(client: docker.DockerClient, rootfs: pathlib.Path, architecture: str) -> None:
    """Make the image and load it into the engine.

    Raises:
        SystemExit: when the engine then has the image under another architecture, or not at all.
    """
    with tempfile.TemporaryDirectory(dir=rootfs.parent) as directory:
        archive = pathlib.Path(directory) / "image.tar"
        write_archive(archive, rootfs, architecture)
        with archive.open("rb") as stream:
            client.images.load(stream)
    tag, expected = image_tag(architecture), ARCHITECTURES[architecture]["architecture"]
    actual = architecture_of(client, tag)
    if actual != expected:
        sys.exit(f"{tag}: expected architecture {expected}, actual {actual}")


def remove(client: docker.DockerClient) -> None:
    """Remove every device image, of this definition and of earlier ones, that no container uses."""
    for image in client.images.list(REPOSITORY):
        for tag in image.tags:
            try:
                client.images.remove(tag)
                print(f"removed {tag}")
            except docker.errors.APIError as error:
                print(f"kept {tag}: {error.explanation}")


def main() -> int:
    """Run one action; exit code 1 of `exists` means that the image has to be made."""
    parser = argparse.ArgumentParser(description="the image of a device in a container")
    parser.add_argument("--architecture", choices=list(ARCHITECTURES), default="arm64", help="as Debian calls it")
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("tag", help="print the image's name")
    actions.add_parser("exists", help="succeed when the engine has the image")
    actions.add_parser("remove", help="remove the device images that no container uses")
    load_parser = actions.add_parser("load", help="make the image and load it into the engine")
    load_parser.add_argument("rootfs", type=pathlib.Path, help="tar of the root file system")
    arguments = parser.parse_args()

    tag = image_tag(arguments.architecture)
    if arguments.action == "tag":
        print(tag)
        return 0
    client = docker.from_env()
    if arguments.action == "exists":
        return 0 if architecture_of(client, tag) == ARCHITECTURES[arguments.architecture]["architecture"] else 1
    if arguments.action == "load":
        load(client, arguments.rootfs, arguments.architecture)
    else:
        remove(client)
    return 0


if __name__ == "__main__":
    sys.exit(main())
