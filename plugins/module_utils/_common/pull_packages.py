# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The packages that a device in pull mode needs beside the standard library. The role ``pull_agent`` brings them."""

from __future__ import annotations

import os
import sys

from .errors import EdgemlError

PACKAGES = "/opt/edgeml/pull-packages"


def use_pull_packages(path: str = PACKAGES) -> None:
    """Have Python import from them, before everything else. Raises EdgemlError where they are not installed."""
    if not os.path.isdir(path):
        raise EdgemlError(
            f"{path}: expected the packages of pull mode; found none. The role edgeml.fleet.pull_agent brings them"
        )
    if path not in sys.path:
        sys.path.insert(0, path)
