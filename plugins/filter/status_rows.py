# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``status_rows``."""

from __future__ import annotations

from typing import Any, Callable, Iterable, Mapping

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.fleet import answers, finite_number
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.measurements import metric_words

DOCUMENTATION = r"""
name: status_rows
short_description: List which versions each device holds and serves
version_added: 0.1.0
author: The edgeml.fleet authors (@edgeml)
description:
  - Turns what the playbook C(edgeml.fleet.status) registered for each device into one row for each device and model.
options:
  _input:
    description: The variables of the devices, with the result of M(edgeml.fleet.model_info) in C(status).
    type: list
    elements: dict
    required: true
  withdrawn:
    description:
      - Why releases are withdrawn, by model and version, as M(edgeml.fleet.rollout_step) returns it.
      - A row whose active release is withdrawn, by this or by what its device knows, says why in C(withdrawn). Where
        there is none, the rows have no C(withdrawn).
    type: dict
  presence:
    description:
      - Whether each device is connected to its broker, as M(edgeml.fleet.rollout_step) returns it.
      - A row says V(online) or V(offline) of a device that is named, in C(presence). Where none is, the rows have no
        C(presence).
    type: dict
"""

EXAMPLES = r"""
- name: Show the models as a table
  ansible.builtin.debug:
    msg: "{{ ansible_play_hosts_all | map('extract', hostvars) | edgeml.fleet.status_rows | edgeml.fleet.text_table }}"
"""

RETURN = r"""
_value:
  description: One row for each device and model.
  type: list
  elements: dict
"""


def status_rows(
    devices: Iterable[Mapping[str, Any]],
    withdrawn: Mapping[str, Mapping[str, str]] | None = None,
    presence: Mapping[str, bool] | None = None,
) -> list[dict[str, Any]]:
    """One row for each device and model: what is live, active, previous, on trial or failed, and how accurate.

    A row whose active release is withdrawn says why, by ``withdrawn``, the reasons by model and version, or by what the
    device was told. ``presence`` is what the broker says of devices. Without any, no row has the column.
    """
    rows: list[dict[str, Any]] = []
    reasons = withdrawn or {}
    for device in devices:
        name, status = device["inventory_hostname"], device.get("status") or {}
        for model in status.get("models") or [{"name": "-"}]:
            probe = model.get("probe")
            rows.append(
                {
                    "device": name,
                    "answers": answers(status),
                    "presence": _presence((presence or {}).get(name)),
                    "model": model["name"],
                    "live": model.get("live"),
                    "active": model.get("active"),
                    "previous": model.get("previous"),
                    "trial": _trial(model.get("trial")),
                    "failed": ", ".join(entry["version"] for entry in model.get("failed") or []) or None,
                    "variant": model.get("variant"),
                    "accuracy": _accuracy(probe),
                    "withdrawn": {**(model.get("withdrawn") or {}), **reasons.get(model["name"], {})}.get(
                        model.get("active")
                    ),
                }
            )
    for column in ("withdrawn", "presence"):
        if not any(row[column] for row in rows):
            for row in rows:
                del row[column]
    return rows


def _accuracy(probe: Mapping[str, Any] | None) -> str | None:
    if not probe:
        return None
    if probe.get("error"):
        return "error"
    number = finite_number(probe.get("value"))
    value = "none" if number is None else f"{number:.4f}"
    metric = metric_words(str(probe.get("metric")), probe.get("top", 1))
    return value if metric == "accuracy" else f"{metric} {value}"


def _trial(trial: Mapping[str, Any] | None) -> str | None:
    return f"{trial['seconds']:g} s" if trial else None


def _presence(online: bool | None) -> str | None:
    return None if online is None else "online" if online else "offline"


class FilterModule:
    """The filter for Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name the filter."""
        return {"status_rows": status_rows}
