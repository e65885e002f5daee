# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Which releases of a model nobody may run any more, as a controller tells a device and a device keeps it. Pure."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple

from .._common.errors import ArgumentError, ManifestError
from .._common.records import as_document, build
from .names import check_name


class Withdrawals(NamedTuple):
    """The withdrawn releases of a model: the reason for each, by its version.

    ``number`` is the version of the signed metadata that says so. ``root`` names the keys of the metadata's root: only
    numbers under the same root are compared. Of a repository that is not signed they are 0 and empty.
    """

    releases: Mapping[str, str] = {}
    number: int = 0
    root: str = ""

    def followed_by(self, found: Withdrawals) -> Withdrawals:
        """What is known after ``found`` was heard: that, unless it is older."""
        return self if found.root == self.root and found.number < self.number else found

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return as_document(self)


def parse_withdrawals(document: Any, origin: str) -> Withdrawals:
    """Read what ``document()`` returned. Raises ArgumentError, which begins with ``origin``, for anything else."""
    try:
        if not isinstance(document, dict):
            raise TypeError(f"found {document!r:.80}")
        found: Withdrawals = build(Withdrawals, document)
        for version, reason in found.releases.items():
            check_name(version, "version")
            if not isinstance(reason, str):
                raise TypeError(f"releases: {version}: expected a text; found {reason!r:.80}")
    except (TypeError, ManifestError) as error:
        raise ArgumentError(f"{origin}: expected releases, number and root; {error}") from error
    return found
