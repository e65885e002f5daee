# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the server is starting, serving, handed over or stopping, which several endpoints must know."""

from __future__ import annotations

import enum


class Phase(enum.Enum):
    """The phases of a server process, in their order."""

    STARTING = "starting"
    SERVING = "serving"
    HANDED_OVER = "handed over"
    """Another process accepts connections; this one answers what is still open."""
    STOPPING = "stopping"


class Lifecycle:
    """The current phase; the process sets it, the endpoints read it."""

    def __init__(self, owns_sockets: bool) -> None:
        self.phase = Phase.STARTING
        self.owns_sockets = owns_sockets
        """Whether the files of the Unix sockets are this process's to remove; they are the successor's after a
        handover."""
