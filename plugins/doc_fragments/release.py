# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation that the modules share which work on a release."""

from __future__ import annotations


class ModuleDocFragment:
    """Options that name a release."""

    DOCUMENTATION = r"""
options:
  model:
    description: Name of the model.
    type: str
    required: true
  version:
    description: Version of the release.
    type: str
    required: true
"""
