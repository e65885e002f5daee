# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation that the filters of maintenance windows share."""

from __future__ import annotations


class ModuleDocFragment:
    """The windows themselves."""

    DOCUMENTATION = r"""
options:
  _input:
    description: The windows. Without any it is always open.
    type: list
    elements: str
    required: true
"""
