# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes this clone's import paths known; for scripts that are run by themselves. To be imported before the others."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from links import PYTHON_PATH, REPOSITORY, make_links

make_links()
sys.path.insert(0, str(PYTHON_PATH))

__all__ = ["PYTHON_PATH", "REPOSITORY"]
