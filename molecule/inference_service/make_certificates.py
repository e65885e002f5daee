# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write what the device edge-s1 and its clients are known by.

usage: make_certificates.py DIRECTORY     (with the tests' modules in PYTHONPATH)

first, second: authorities of the server, each with a certificate of it; clients, strangers: those of clients.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from certificates import Authority


def write(directory: Path) -> None:
    """Write four authorities, each with one certificate, into ``directory``, which is made anew."""
    shutil.rmtree(directory, ignore_errors=True)
    for name in ("first", "second"):
        Authority(directory / name, "authority").issue("server")
    for name in ("clients", "strangers"):
        Authority(directory / name, "authority").issue("client")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
