# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation that the modules share which call a device again while its connection fails."""

from __future__ import annotations


class ModuleDocFragment:
    """How long that is."""

    DOCUMENTATION = r"""
options:
  retry_seconds:
    description:
      - How long to try again, in seconds, while the connection fails. It may break, and the greeting or become may
        take too long. Each call finds what an earlier one did.
      - A device where nobody answers, or nobody is let in, is tried again for 15 seconds at most.
    type: float
    default: 0.0
"""
