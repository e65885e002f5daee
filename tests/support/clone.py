# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The import paths of this clone, for scripts that are run by themselves: importing this makes and adds them."""

from __future__ import annotations

import sys

from links import PYTHON_PATH, REPOSITORY, make_links

make_links()
sys.path.insert(0, str(PYTHON_PATH))

__all__ = ["PYTHON_PATH", "REPOSITORY"]
