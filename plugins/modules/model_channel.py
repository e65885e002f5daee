#!/usr/bin/python
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_channel
short_description: Have a channel, such as production, stand for a version of a model
version_added: 0.2.0
description:
  - A channel is a name that stands for one version of a model. C(model_version=channel:production) rolls out the
    version that the channel has when the rollout is planned.
  - An action plugin. It runs on the controller and connects to no device. It believes what is in the directory; who
    rolls a release out verifies who signed it.
  - A release that is withdrawn is refused.
options:
  model:
    description: Name of the model.
    type: str
    required: true
  channel:
    description: The channel that is set.
    type: str
    required: true
  version:
    description: The version that it stands for from now on. Needed without O(from_channel).
    type: str
  from_channel:
    description: Take the version of this channel. With O(version), it must be that one.
    type: str
attributes:
  diff_mode:
    support: full
    description: Shows the model's channels before and after.
extends_documentation_fragment:
  - edgeml.fleet.model_repository
seealso:
  - module: edgeml.fleet.model_repository_info
"""

EXAMPLES = r"""
- name: Promote what was tested in staging
  edgeml.fleet.model_channel:
    repository: /srv/models
    model: digits
    channel: production
    from_channel: staging
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
version:
  description: The version that the channel stands for; in check mode, that it would.
  returned: success
  type: str
  sample: 1.2.0
before:
  description: The version that it stood for; none if the channel is new.
  returned: success
  type: str
  sample: 1.1.0
digest:
  description: The digest of the release's manifest.
  returned: success
  type: str
  sample: 0d3e...
needs_signature:
  description: Whether the repository is signed. Then a change is in force once C(edgeml-publish sign) was run.
  returned: success
  type: bool
  sample: true
"""
