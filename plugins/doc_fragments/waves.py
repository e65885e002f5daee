# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation that the module and the filter canary_select share."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of a plan of waves."""

    DOCUMENTATION = r"""
options:
  waves:
    description:
      - How far the rollout has come after each wave.
      - A text like V(10%) is a share of the fleet, the hosts whose place is below it. A number is a count of hosts of
        the whole fleet, those of the waves before included. Any other text is a group, whose members are added.
      - After a percentage or a count each class is represented by at least one host. The last one must be V(100%).
    type: list
    elements: raw
    default: [canary, 10%, 50%, 100%]
  salt:
    description:
      - Changes which hosts come first. With the name of the model, each model has other canaries; with its version
        too, each release.
    type: str
    required: true
  groups:
    description: The hosts of each group that O(waves) names. A group that is missing is empty.
    type: dict
    default: {}
  max_unavailable:
    description:
      - The most hosts of one class that a wave may hold, as a count or a percentage of the class's hosts, at least
        one. For all device classes, or a mapping that names each device class with a limit.
      - A wave that would hold more is split into several, called for example C(50% (1 of 3)).
    type: raw
  only:
    description:
      - The hosts to return, of those that were planned. All if not given.
      - So a play that was limited to some hosts gives each the wave that it has in the whole fleet.
    type: list
    elements: str
  boundaries:
    description:
      - What an earlier plan of the whole fleet returned as C(boundaries).
      - Takes the place of the fleet where only a part of it is given, as in a slice of an AWX job; O(waves) and
        O(max_unavailable) are then those of that plan.
    type: dict
"""
