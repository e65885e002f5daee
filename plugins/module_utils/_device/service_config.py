# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What the device's command asks of the inference server's configuration: how long a load may take, and what it
computes on."""

from __future__ import annotations

import json
from typing import Any

from .._common.records import is_whole

CONFIG = "/etc/edgeml/server.json"
# The server's own default; other servers say nothing.
LOAD_SECONDS = 120
CPU = "cpu"


def load_seconds(path: str = CONFIG) -> int:
    """Return for how many seconds the server loads a model before it gives up."""
    found = _value("load_seconds", path)
    return int(found) if is_whole(found) and found > 0 else LOAD_SECONDS


def execution_provider(path: str = CONFIG) -> str:
    """Return what the server computes on, as its configuration calls it."""
    found = _value("execution_provider", path)
    return found if isinstance(found, str) and found else CPU


def _value(name: str, path: str) -> Any:
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)[name]
    except (OSError, ValueError, KeyError, TypeError):
        return None
