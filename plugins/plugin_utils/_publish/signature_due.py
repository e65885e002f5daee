# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Whether somebody has to sign a change of a repository, and what a command says of it."""

from __future__ import annotations

import os

from ansible_collections.edgeml.fleet.plugins.module_utils._trust.metadata import METADATA


def needs_signature(repository: str) -> bool:
    """Whether a change of the files is in force once somebody has signed it: who verifies signatures knows of none
    before."""
    return os.path.isdir(os.path.join(repository, METADATA))


def say_what_is_next(repository: str, *, changed: bool, check: bool) -> None:
    """Print that somebody has to sign, where a repository that is signed was changed."""
    if changed and not check and needs_signature(repository):
        print("next: edgeml-publish sign; until then, who verifies signatures does not know of it")
