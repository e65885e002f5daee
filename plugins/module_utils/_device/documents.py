# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The store's JSON documents, as bytes and as values."""

from __future__ import annotations

import json
from typing import Any

from .._common.errors import StoreError, with_path


def document_bytes(document: Any) -> bytes:
    """One line of JSON, with its keys sorted."""
    return json.dumps(document, sort_keys=True).encode("utf-8") + b"\n"


def read_document(path: str, missing: Any = None) -> Any:
    """What the file at ``path`` says; ``missing``, if it is not None, where there is none. Raises StoreError."""
    try:
        with with_path(path), open(path, "rb") as file:
            return json.loads(file.read().decode("utf-8"))
    except FileNotFoundError as error:
        if missing is not None:
            return missing
        raise StoreError(f"{path}: missing") from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path}: damaged: {error}") from error
