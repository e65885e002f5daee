# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What a device knows of withdrawn releases: it keeps the newest list of each model in its store, and stays on it
without a controller."""

from __future__ import annotations

import os

from .._common.errors import ArgumentError, StoreError, WithdrawnError
from .._release.names import check_name
from .._release.withdrawals import Withdrawals, parse_withdrawals
from .documents import read_document
from .orders import Orders
from .store import Store

_MODE = 0o640


def known_withdrawals(store: Store, model: str) -> Withdrawals:
    """What the device knows of a model's withdrawn releases. Raises StoreError where that is damaged."""
    path = _path(store, model)
    try:
        return parse_withdrawals(read_document(path, missing={}), path)
    except ArgumentError as error:
        raise StoreError(f"{error}. Remove the file: the next swap brings it again") from error


def keep_withdrawals(store: Store, model: str, found: Withdrawals) -> None:
    """Keep ``found``, unless a newer list is known, and end the orders to fetch what it names. Hold the store's lock.

    A device without withdrawn releases gets no file.
    """
    try:
        known = known_withdrawals(store, model)
        newest = known.followed_by(found)
        is_new = newest != known and bool(newest.releases or known.releases)
    except StoreError:
        newest, is_new = found, True
    if is_new:
        store.write_document(_path(store, model), newest.document(), _MODE)
    for version in newest.releases:
        Orders(store).end(model, version)


def refuse_withdrawn(withdrawals: Withdrawals, model: str, version: str) -> None:
    """Raise WithdrawnError for a release that nobody may run any more."""
    reason = withdrawals.releases.get(version)
    if reason is not None:
        raise WithdrawnError(f"{model} {version} is withdrawn: {reason}. Choose another version")


def _path(store: Store, model: str) -> str:
    return os.path.join(store.root, "models", check_name(model, "model"), "withdrawn.json")
