#!/usr/bin/python
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: collected_dataset
short_description: Make datasets of the inputs that devices collected
version_added: 0.2.0
description:
  - Makes a dataset of each model of which M(edgeml.fleet.collected_inputs) has taken inputs. C(labelled.npz) has the
    inputs with the labels that feedback gave, C(unlabelled.npz) those without, and C(dataset.json) where each row comes
    from.
  - The same input of several devices is one row. Rows are in the order of their digests, so that the same inputs make
    the same files.
  - An action plugin. It runs on the controller and connects to no device.
options:
  directory:
    description: The O(edgeml.fleet.collected_inputs#module:destination) of the inputs. Datasets are below C(datasets).
    type: path
    required: true
  missing_values:
    description: Whether inputs with NaN are rows, for models to which that is a missing value.
    type: bool
    default: false
  devices:
    description:
      - Devices of which RV(rows) and RV(failed_devices) speak, each with what M(edgeml.fleet.collected_inputs) returned
        in C(collect_inputs_taken), where its task registered it.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
    description: Says which datasets would change by what is on the controller, and writes none.
  diff_mode:
    support: full
    description: Shows the numbers of rows before and after.
  idempotent:
    support: full
    description: The same inputs make the same files.
author:
  - The edgeml.fleet authors (@edgeml)
seealso:
  - module: edgeml.fleet.collected_inputs
  - module: edgeml.fleet.model_release
"""

EXAMPLES = r"""
- name: Make the datasets
  edgeml.fleet.collected_dataset:
    directory: /srv/collected
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
datasets:
  description:
    - For each model the directory of its dataset, the numbers of rows, and how many inputs were left out for what
      reason.
  returned: success
  type: dict
  sample:
    digits:
      directory: /srv/collected/datasets/digits
      changed: true
      labelled: 180
      unlabelled: 34
      left_out: {}
rows:
  description: What came of each device, as rows of a table.
  returned: success
  type: list
  elements: dict
failed_devices:
  description: The devices that were reached and could not be read, or of which something was refused.
  returned: success
  type: list
  elements: str
"""
