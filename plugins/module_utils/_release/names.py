# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Names of models, versions and files, each of which can name a file or a directory, and nothing outside it. Pure."""

from __future__ import annotations

import re
from typing import Any

from .._common.errors import ManifestError
from .fields import shown

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}\Z")
# Directories of a repository that are no models.
RESERVED_MODELS = frozenset({"blobs", "deltas", "fleet", "metadata"})
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}\Z")


def check_name(value: Any, field: str) -> str:
    """Return ``value`` if it can name a model or a version (and so a directory), or raise ManifestError."""
    if not is_name(value):
        raise ManifestError(
            f"{field}: expected 1 to 64 of the characters A-Z a-z 0-9 . _ + -, "
            f"the first a letter or digit; found {shown(value)}"
        )
    name: str = value
    return name


def check_model_name(value: Any, field: str) -> str:
    """Return ``value`` if it can name a model, and so a directory in a repository, or raise ManifestError."""
    name = check_name(value, field)
    if not is_model_name(name):
        raise ManifestError(f"{field}: expected another name than {', '.join(sorted(RESERVED_MODELS))}; found {name}")
    return name


def is_model_name(value: Any) -> bool:
    """Whether ``value`` can name a model."""
    return is_name(value) and value not in RESERVED_MODELS


def is_name(value: Any) -> bool:
    """Whether ``value`` can name a model or a version."""
    return isinstance(value, str) and _NAME.match(value) is not None


def is_file_name(value: Any) -> bool:
    """Whether ``value`` can name a file: no directory, no leading dot or dash."""
    return isinstance(value, str) and _FILE_NAME.match(value) is not None
