# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What the device's command asks of the inference server's configuration: how long a load may take."""

from __future__ import annotations

import json

from .._common.records import is_whole

CONFIG = "/etc/edgeml/server.json"
# The server's own default; other servers say nothing.
LOAD_SECONDS = 120


def load_seconds(path: str = CONFIG) -> int:
    """Return for how many seconds the server loads a model before it gives up."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)["load_seconds"]
    except (OSError, ValueError, KeyError, TypeError):
        return LOAD_SECONDS
    return int(found) if is_whole(found) and found > 0 else LOAD_SECONDS
