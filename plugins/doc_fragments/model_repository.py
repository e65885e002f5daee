# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation that the modules share which look after a model repository."""

from __future__ import annotations


class ModuleDocFragment:
    """The repository, and how these modules behave."""

    DOCUMENTATION = r"""
options:
  repository:
    description: Path of the model repository on the controller.
    type: path
    required: true
attributes:
  check_mode:
    support: full
    description: Says what would change, and changes nothing.
  idempotent:
    support: full
    description: What is as asked for is left alone.
author:
  - The edgeml.fleet authors (@edgeml)
"""
