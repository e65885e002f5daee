# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the signed repository of a fleet that pulls, and its keys.

usage: make_repository.py DIRECTORY FLEET     (with the tests' modules in PYTHONPATH)

DIRECTORY/repository: the digits, the releases of bad_releases.py, and 1.6.0 and 1.7.0, which are good ones.
DIRECTORY/keys: the key that signs everything, and ``controller``, which may write the desired state.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import bad_releases
from links import REPOSITORY

# Beside the releases of bad_releases.py.
GOOD = ("1.6.0", "1.7.0")


def write(directory: Path, fleet: str) -> None:
    """Write them into ``directory``, where the repository's directory may be there already, and empty."""
    repository, keys = directory / "repository", directory / "keys"
    bad_releases.make_repository(repository, GOOD)
    _publish("init", "--dev", f"--repository={repository}", f"--keys={keys}")
    _publish("new", "--online", f"--keys={keys}", "controller")
    own = f"{keys}/dev.pem"
    _publish(
        "fleet",
        f"--repository={repository}",
        f"--fleet={fleet}",
        f"--add={keys}/controller.pub",
        f"--key={own}",
        f"--online-key={own}",
    )


def _publish(*arguments: str) -> None:
    command = [str(REPOSITORY / "bin/edgeml-publish"), "keys", *arguments]
    subprocess.run(command, check=True, env={**os.environ, "PYTHON": sys.executable})


if __name__ == "__main__":
    write(Path(sys.argv[1]), sys.argv[2])
