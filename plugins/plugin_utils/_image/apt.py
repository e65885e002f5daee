# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Debian's packages, downloaded and verified by apt, for any architecture and without root."""

from __future__ import annotations

import os
from typing import Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.process import CommandError, run_command

from .debian import ImageError

MIRROR = "http://deb.debian.org"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# A slow link is no error, and one that is dead ends apt earlier.
_SECONDS = 6 * 3600
_CONFIGURATION = """\
Dir::State "{root}/state";
Dir::State::status "{root}/status";
Dir::Cache "{root}/cache";
Dir::Etc::sourcelist "{root}/sources.list";
Dir::Etc::sourceparts "-";
APT::Architecture "{architecture}";
APT::Architectures "{architecture}";
APT::Sandbox::User "";
Acquire::Languages "none";
"""


def download_packages(
    names: Sequence[str], *, suite: str, architecture: str, directory: str, mirror: str = MIRROR
) -> list[str]:
    """Have apt download packages of ``suite`` in their newest version, below ``directory``; return their paths.

    apt verifies the signature of the lists with Debian's keys, and each package by the lists. It has a state of its own
    and needs no root. Raises ImageError, with what apt said.
    """
    root = os.path.join(os.path.abspath(directory), f"{suite}-{architecture}")
    for name in ("state/lists/partial", "cache/archives/partial", "packages"):
        os.makedirs(os.path.join(root, name), exist_ok=True)
    sources = (
        f"{mirror}/debian {suite}",
        f"{mirror}/debian {suite}-updates",
        f"{mirror}/debian-security {suite}-security",
    )
    _write(os.path.join(root, "sources.list"), "".join(f"deb [signed-by={KEYRING}] {each} main\n" for each in sources))
    _write(os.path.join(root, "status"), "")
    _write(os.path.join(root, "apt.conf"), _CONFIGURATION.format(root=root, architecture=architecture))
    _apt(root, ["apt-get", "--quiet=2", "--error-on=any", "update"])
    listed = _apt(root, ["apt-get", "--print-uris", "download", *names])
    # 'address' name size digest
    paths = [os.path.join(root, "packages", line.split()[1]) for line in listed.splitlines() if line.startswith("'")]
    if len(paths) != len(names):
        raise ImageError(
            f"{suite}: expected {len(names)} packages for {architecture}; apt found {len(paths)}: {listed}"
        )
    _apt(root, ["apt-get", "--quiet=2", "download", *names], os.path.join(root, "packages"))
    return paths


def _apt(root: str, command: Sequence[str], directory: str | None = None) -> str:
    environment = {**os.environ, "APT_CONFIG": os.path.join(root, "apt.conf"), "LC_ALL": "C.UTF-8"}
    try:
        ended = run_command(command, _SECONDS, shown=" ".join(command[:3]), env=environment, cwd=directory)
    except CommandError as error:
        raise ImageError(f"{error}. An image is built on Debian, or where apt is installed") from error
    if ended.code != 0:
        raise ImageError(f"{' '.join(command[:3])}: {ended.stderr.strip() or ended.stdout.strip()}")
    return ended.stdout


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
