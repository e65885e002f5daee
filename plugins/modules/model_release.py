#!/usr/bin/python
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_release
short_description: Convert, prove, measure and publish a model as a release
version_added: 0.2.0
description:
  - Runs on the controller, as C(edgeml-publish) does, and connects to no device.
  - Takes a trained model and a labelled holdout. Makes smaller variants, compares each with the source row by row,
    measures its memory and its latency, and runs the smoke test that a device runs. Then it writes the release into the
    model repository, or refuses it with every reason.
  - C(docs/publishing.md) explains what is proved, and how to read the table.
options:
  source:
    description: >-
      The trained model: a file .onnx or .tflite, or a recipe .py.
    type: path
    required: true
  samples:
    description: >-
      The holdout: a .npz file with inputs, labels and reference outputs.
    type: path
    required: true
  repository:
    description: Directory of the model repository.
    type: path
    required: true
  description:
    description: A text for people.
    type: str
    default: ""
  created:
    description: Time of publication, UTC, such as V(2026-11-01T00:00:00Z) (now, or that of SOURCE_DATE_EPOCH).
    type: str
  variants:
    description: Variants in the order in which devices prefer them; those that do not pass are left out.
    type: list
    elements: str
    choices: [fp32, fp16, int8, int8-dynamic, ncnn]
    default: [fp32]
  required_variants:
    description: Variants that have to pass, or nothing is published.
    type: list
    elements: str
    choices: [fp32, fp16, int8, int8-dynamic, ncnn]
    default: []
  architectures:
    description: What the release is for, as C(uname -m) says.
    type: list
    elements: str
    choices: [aarch64, armv7l, x86_64]
    default: [aarch64, x86_64]
  output:
    description: The output that the labels belong to, where a model has several.
    type: str
  task:
    description: What the model answers, where the samples leave it open; see docs/release.md.
    type: str
    choices: [class_scores, labels, score, multi_label, regression, reference]
  metric:
    description: How answers are judged, where the task has several metrics.
    type: str
    choices: [accuracy, within, agreement, auc, r2, mae, rmse, distance]
  accuracy_drop_max:
    description: What a variant may lose against the source, in points (0.01 is one), below V(1).
    type: float
    default: 0.01
  error_increase_max:
    description: >-
      By what part a variant's mean error may be larger.
    type: float
    default: 0.05
  accuracy_min:
    description: What the source itself must reach on the holdout (for errors, at most).
    type: float
  conversion_absolute:
    description: How far a converted output may be off, absolute.
    type: float
    default: 0.0001
  conversion_relative:
    description: How far a converted output may be off, relative.
    type: float
    default: 0.001
  missing_values:
    description: Whether samples may have NaN, as values that are missing.
    type: bool
    default: false
  calibration:
    description: >-
      .npz with the inputs that int8 is calibrated by (else the holdout's).
    type: path
  calibration_samples:
    description: How many samples calibrate int8, at most.
    type: int
    default: 512
  drift_reference:
    description: Whether devices compare their requests with the holdout, and report drift.
    type: bool
    default: true
  golden_rows:
    description: How many samples the golden file has. A model that takes a fixed number of samples gets that number.
    type: int
    default: 8
  runtime_minimum:
    description: The oldest runtime that devices have; a newer model is refused.
    type: str
  runtime_pythons:
    description: >-
      Pythons with other versions of the runtime: each variant is tried in them.
    type: list
    elements: path
    default: []
  latency_seconds_max:
    description: What one run of the golden samples may take on a device.
    type: float
  devices:
    description: >-
      Device classes: name, architecture, memory_bytes, runtimes; each variant must fit one.
    type: list
    elements: dict
    default: []
  measure_again:
    description: Whether to measure again what a publication of the last 7 days measured on this machine.
    type: bool
    default: false
  device_image:
    description: >-
      Docker image of an aarch64 device, in which each variant runs too; none: no emulation.
    type: str
  recipe_python:
    description: The Python that a recipe runs with (this one).
    type: path
  report:
    description: Where the HTML report is written.
    type: path
  python:
    description: The Python that has the packages of C(requirements-publish.txt). By default the one that runs Ansible.
    type: path
attributes:
  check_mode:
    support: full
    description: Does all but write the release.
  diff_mode:
    support: full
    description: Shows the manifest.
  idempotent:
    support: full
    description: A release that is published from the same source, samples and options is not made again.
requirements:
  - the packages of C(requirements-publish.txt), in the Python that O(python) names
author:
  - The edgeml.fleet authors (@edgeml)
extends_documentation_fragment:
  - edgeml.fleet.release
seealso:
  - module: edgeml.fleet.release_info
  - module: edgeml.fleet.model_swap
"""

EXAMPLES = r"""
- name: Publish a release in three variants
  edgeml.fleet.model_release:
    model: digits
    version: 1.2.0
    source: train/digits.onnx
    samples: holdout.npz
    repository: /srv/models
    variants: [fp32, fp16, int8]
  delegate_to: localhost
  run_once: true

- name: Publish what a recipe exports, with the packages of its own environment
  edgeml.fleet.model_release:
    model: churn
    version: 2026.11.1
    source: recipes/churn.py
    recipe_python: /opt/train/bin/python
    samples: holdout.npz
    repository: /srv/models
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
table:
  description: What was measured of each variant; empty for a release that was published before.
  returned: success
  type: list
  elements: dict
  sample: [{variant: onnx-int8, verdict: pass, published: true, size: 25511, metric: 0.9861, latency_seconds: 0.00002}]
lines:
  description: The table for people, as lines of text.
  returned: success
  type: list
  elements: str
  sample: ["variant    verdict  size"]
manifest:
  description: The release's manifest.
  returned: success
  type: dict
  sample: {schema: 2, model: digits, version: 1.2.0, variants: []}
digest:
  description: SHA-256 of the manifest's canonical JSON; it identifies the release.
  returned: success
  type: str
  sample: 0d3e...
needs_signature:
  description: Whether the repository is signed. Then a change is in force once C(edgeml-publish sign) was run.
  returned: success
  type: bool
  sample: true
notes:
  description: What was not proved, and which variants are left out and why.
  returned: success
  type: list
  elements: str
  sample: ["onnx-int8 is left out: holdout too small: it would take about 474 samples"]
reasons:
  description: Every reason of a refusal.
  returned: failure
  type: list
  elements: str
  sample: ["labels: the source is right in 0.1028 of 360 samples, and always giving the most frequent label in 0.1028"]
"""
