# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real filesystem in a file: to lose its power, and to be full."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def make_image(path: Path, megabytes: int, *options: str) -> None:
    """Make an ext4 in the file ``path``."""
    with path.open("wb") as image:
        image.truncate(megabytes << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", *options, str(path)], check=True)


def copy_image(source: Path, target: Path) -> None:
    """Copy an image. Of a mounted one this is what its device holds now: what was not written back is not there."""
    subprocess.run(["cp", "--sparse=always", str(source), str(target)], check=True)


@contextmanager
def mounted(image: Path, directory: Path, options: str = "") -> Iterator[Path]:
    """Mount an image at ``directory`` by a loop device, which goes away with the mount."""
    directory.mkdir(exist_ok=True)
    command = ["mount", "-t", "ext4", "-o", ",".join(filter(None, ["loop", options])), str(image), str(directory)]
    subprocess.run(command, check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)
