# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The programs in ``tools`` that write JSON Schemas."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from links import REPOSITORY


def schema_tool(name: str) -> Any:
    """The program ``tools/<name>.py`` as a module."""
    sys.path.insert(0, str(REPOSITORY / "tools"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)
