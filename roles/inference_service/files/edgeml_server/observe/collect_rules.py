# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which inputs may be kept for retraining: what the configuration allows, for each model. Nothing else is kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from edgeml_device._common.records import is_number, is_whole
from edgeml_device._release.collected_input import REASONS, is_served_name

_DEFAULT_REASONS = ("disagreeing", "drifting", "low_confidence")
_ROWS_MAX = 20_000
_BYTES_MIN = 1 << 16
_DAYS_MAX = 3650


class CollectRule(NamedTuple):
    """What is kept of one model: for which ``reasons``, and at most how many ``rows``, ``bytes`` and ``days``.

    An answer is of low confidence where its highest score is by less than ``margin`` above the second.
    """

    reasons: Sequence[str] = _DEFAULT_REASONS
    margin: float = 0.1
    rows: int = 1000
    bytes: int = 64 << 20
    days: float = 30


def parse_rules(value: Any) -> dict[str, CollectRule]:
    """The rules by the names under which models are served. Raises ValueError, which names what is wrong."""
    if not isinstance(value, list):
        raise ValueError(f"expected a list; found {value!r}")
    rules: dict[str, CollectRule] = {}
    for entry in value:
        if not isinstance(entry, Mapping) or not is_served_name(entry.get("model")):
            raise ValueError(f"expected objects with the name of a model in model; found {entry!r}")
        model = entry["model"]
        if model in rules:
            raise ValueError(f"{model}: expected once; found twice")
        try:
            rules[model] = _rule({name: value for name, value in entry.items() if name != "model"})
        except ValueError as error:
            raise ValueError(f"{model}: {error}") from error
    return rules


def _rule(entry: Mapping[str, Any]) -> CollectRule:
    known = CollectRule._fields
    unknown = sorted(set(entry) - set(known))
    if unknown:
        raise ValueError(f"unknown key {', '.join(unknown)}; expected some of {', '.join(known)}")
    rule = CollectRule(**entry)
    reasons = rule.reasons
    if not isinstance(reasons, (list, tuple)) or not reasons or set(reasons) - set(REASONS):
        raise ValueError(f"reasons: expected some of {', '.join(REASONS)}; found {reasons!r}")
    if not is_number(rule.margin) or not 0 <= rule.margin < math.inf:
        raise ValueError(f"margin: expected a number from 0 on; found {rule.margin!r}")
    if not is_whole(rule.rows) or not 1 <= rule.rows <= _ROWS_MAX:
        raise ValueError(f"rows: expected a whole number from 1 to {_ROWS_MAX}; found {rule.rows!r}")
    if not is_whole(rule.bytes) or not _BYTES_MIN <= rule.bytes <= 1 << 40:
        raise ValueError(f"bytes: expected a whole number from {_BYTES_MIN} to {1 << 40}; found {rule.bytes!r}")
    if not is_number(rule.days) or not 0 < rule.days <= _DAYS_MAX:
        raise ValueError(f"days: expected a number above 0, of at most {_DAYS_MAX}; found {rule.days!r}")
    return rule
