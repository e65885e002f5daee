# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What is changed under all models at once, the server's image or the device's packages, is observed by all of them."""

from __future__ import annotations

from typing import Collection

from .._common.errors import EdgemlError, ServerError
from .client import Server
from .metrics import server_counts
from .serving import Strategy
from .state import Record
from .trial import Reading


class WholeServerStrategy(Strategy):
    """A strategy whose versions are judged by what the server counts of all models together."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def reading(self, model: str, version: str, held: Collection[str]) -> Reading:
        try:
            return Reading(True, self.is_ready(model, version, held), self.record(model, version))
        except ServerError:
            return Reading(answers=False, ready=None, record=None)

    def record(self, model: str, version: str | None) -> Record | None:
        try:
            found = server_counts(self._server.metrics())
        except EdgemlError:
            return None
        return Record(**found)
