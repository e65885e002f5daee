# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Which code this is: one digest of the package that a device runs, the same on the controller and on the device.

``python code.py DIRECTORY`` writes the digest of a package beside it, when a device's app is made.
"""

from __future__ import annotations

import os
import sys

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_SUFFIX = ".sha256"


def code_digest(package: str = PACKAGE) -> str:
    """The SHA-256 of every Python file below ``package``, with its path there. Raises OSError."""
    import hashlib

    digest = hashlib.sha256()
    for directory, subdirectories, names in os.walk(package):
        subdirectories.sort()
        for name in sorted(names):
            if name.endswith(".py"):
                path = os.path.join(directory, name)
                with open(path, "rb") as file:
                    content = file.read()
                digest.update(f"{os.path.relpath(path, package)} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def installed_digest() -> str | None:
    """The digest that was written when this device's app was made; None if there is none."""
    try:
        with open(PACKAGE + _SUFFIX, encoding="ascii") as file:
            return file.read().strip() or None
    except (OSError, ValueError):
        return None


def main() -> None:
    """Write the digest of the package that the first argument names."""
    package = os.path.abspath(sys.argv[1])
    with open(package + _SUFFIX, "w", encoding="ascii") as file:
        file.write(code_digest(package) + "\n")


if __name__ == "__main__":
    main()
