# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the server uses of uvicorn, without its command line, whose imports (click, supervisors) nobody needs."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import TYPE_CHECKING


def _package() -> ModuleType:
    """Uvicorn's package, whose own ``__init__``, which imports the command line, is not run."""
    spec = importlib.util.find_spec("uvicorn")
    if spec is None:
        raise ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn")
    return importlib.util.module_from_spec(spec)


if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import Server
else:
    uvicorn = sys.modules.setdefault("uvicorn", _package())
    # Uvicorn's own modules look for it in the package.
    Config = uvicorn.Config = importlib.import_module("uvicorn.config").Config
    Server = importlib.import_module("uvicorn.server").Server

__all__ = ["Config", "Server"]
