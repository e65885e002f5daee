# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The collection's own code publishes what the checks of this scenario roll out."""

from __future__ import annotations

import sys

import links

links.make_links()
sys.path.insert(0, str(links.PYTHON_PATH))
