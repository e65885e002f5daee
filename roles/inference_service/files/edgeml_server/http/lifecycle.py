# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the server is starting, serving or stopping, which several endpoints must know."""

from __future__ import annotations

import enum


class Phase(enum.Enum):
    """The phases of a server process, in their order."""

    STARTING = "starting"
    SERVING = "serving"
    STOPPING = "stopping"


class Lifecycle:
    """The current phase; the process sets it, the endpoints read it."""

    def __init__(self) -> None:
        self.phase = Phase.STARTING
