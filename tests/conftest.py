# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What all tests share: the import paths, and hypothesis without a deadline, for machines that are busy."""

from __future__ import annotations

import os
import sys

import hypothesis
import links

# `make coverage` measures the processes that run tests, and not the programs that tests start.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.pop("COVERAGE_PROCESS_START", None)

links.make_links()
sys.path.insert(0, str(links.PYTHON_PATH))

hypothesis.settings.register_profile("edgeml", deadline=None, derandomize=True)
hypothesis.settings.load_profile("edgeml")
