# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What the steps of a publication share, and what becomes of it."""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence

from .desk import Desk
from .measurements import Measurements, cache_directory
from .model import Progress
from .options import ReleaseOptions


@dataclass(frozen=True)
class Publication:
    """One publication. ``notes`` are for people: what is left out, and what nothing vouches for.

    ``started`` is when it began, ``created`` what the manifest says; both in UTC.
    """

    options: ReleaseOptions
    progress: Progress
    desk: Desk
    started: str
    created: str
    notes: list[str] = field(default_factory=list)

    @classmethod
    def begin(cls, options: ReleaseOptions, progress: Progress, work: str) -> Publication:
        """Begin a publication; ``work`` is an empty directory for its files."""
        started = utc_now()
        kept = None if options.measure_again else Measurements(os.path.join(cache_directory(), "measurements"))
        return cls(options, progress, Desk(work, kept=kept), started, options.created or started)

    def path(self, name: str) -> str:
        """Where a file of this publication is while it runs."""
        return os.path.join(self.desk.work, name)


@dataclass(frozen=True)
class Published:
    """What became of a publication. ``changed``: the release was not there before (in check mode: would not be)."""

    changed: bool
    document: Mapping[str, Any]
    digest: str
    table: Sequence[Mapping[str, Any]]
    facts: Mapping[str, Any]
    notes: Sequence[str] = ()


def utc_now() -> str:
    """The present time in UTC, or that of SOURCE_DATE_EPOCH."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    moment = (
        datetime.datetime.fromtimestamp(int(epoch), datetime.timezone.utc)
        if epoch and epoch.isdigit()
        else datetime.datetime.now(datetime.timezone.utc)
    )
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
