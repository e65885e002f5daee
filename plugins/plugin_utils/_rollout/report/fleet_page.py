# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The state of a fleet as one page: what needs attention first. The document is that of ``_rollout/fleet.py``."""

from __future__ import annotations

from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import write_whole
from ansible_collections.edgeml.fleet.plugins.module_utils._common.words import counted
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.fleet import LEVELS, days_until
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.measurements import metric_words

from .charts import Scale
from .page import render_page
from .words import NONE, number_text, span_text, state_words, time_of, when_text

_TITLES = {"bad": "Needs attention", "waits": "To watch", "good": "Well"}
_ENDS = (
    ("server_certificate", "server certificate"),
    ("device_certificate", "device certificate"),
    ("metadata", "metadata"),
)
# A longer group of devices that are well stays folded until a reader opens it.
_ROWS_OPEN_MAX = 100


def render(document: Mapping[str, Any]) -> str:
    """Return the page of a fleet."""
    return render_page("fleet.html.j2", view_of(document))


def write(document: Mapping[str, Any], path: str) -> None:
    """Put the page in place, whole or not at all. Raises OSError."""
    write_whole(path, render(document))


def view_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the template shows."""
    devices = document["devices"]
    numbers = {level: sum(item["attention"] == level for item in devices) for level in LEVELS}
    tone = next((level for level in LEVELS if numbers[level]), "waits")
    scale = _accuracy_scale(devices)
    return {
        "tone": tone,
        "state": _state(len(devices), numbers) + _not_asked(len(document["not_asked"])),
        "when": when_text(time_of(document["made"]), None).removeprefix("since "),
        "notes": document["notes"],
        "figures": _figures(devices, numbers),
        "groups": [
            {
                "level": level,
                "title": _TITLES[level],
                "devices": counted(numbers[level], "device"),
                "rows": [_row(item, document["made"], scale) for item in devices if item["attention"] == level],
                "open": level != "good" or numbers[level] <= _ROWS_OPEN_MAX,
            }
            for level in LEVELS
            if numbers[level]
        ],
        "ticks": [{"x": scale.place(tick), "text": number_text(tick)} for tick in scale.ticks] if scale else [],
        "rollouts": [_rollout(rollout) for rollout in document["rollouts"]],
    }


def _state(total: int, numbers: Mapping[str, int]) -> str:
    if not total:
        return "No device was asked"
    if numbers["bad"]:
        return f"{counted(numbers['bad'], 'device')} of {total} {'needs' if numbers['bad'] == 1 else 'need'} attention"
    if numbers["waits"]:
        return f"Nothing is wrong; {counted(numbers['waits'], 'device')} of {total} to watch"
    return f"All is well on {counted(total, 'device')}"


def _not_asked(number: int) -> str:
    """What a page for a part of the fleet does not show."""
    return f"; {number} more {'was' if number == 1 else 'were'} not asked" if number else ""


def _figures(devices: Sequence[Mapping[str, Any]], numbers: Mapping[str, int]) -> list[dict[str, str]]:
    models = [model for item in devices for model in item["models"]]
    figures = [
        ("devices", len(devices), ""),
        ("need attention", numbers["bad"], "bad"),
        ("away", sum(item["answers"] == "away" for item in devices), "waits"),
        ("models on trial", sum(bool(model["trial"]) for model in models), "waits"),
        ("models with drift", sum(bool(model["drift"]) for model in models), "waits"),
        (
            "models not on the ledger's release",
            sum(model["wanted"] not in (None, model["active"]) for model in models),
            "waits",
        ),
    ]
    return [
        {"what": what, "value": number_text(number), "tone": tone if number else ""} for what, number, tone in figures
    ]


# ---- devices ----


def _row(item: Mapping[str, Any], now: str, scale: Scale | None) -> dict[str, Any]:
    ends = [(title, item["expires"][name]) for name, title in _ENDS if name in item["expires"]]
    return {
        "device": item["device"],
        "device_class": (item["device_class"] or NONE) + (f", behind {item['gateway']}" if item["gateway"] else ""),
        "reasons": item["reasons"],
        "seen": _seen(item, now),
        "ends": [f"{title}: {_days(time, now)}" for title, time in ends],
        "models": [_model(model, scale) for model in item["models"]],
        "answers": item["answers"],
    }


def _seen(item: Mapping[str, Any], now: str) -> str:
    """When a device was seen last; nothing special for one that has just answered."""
    if item["seen"] is None:
        return "never seen here"
    seen, made = time_of(item["seen"]), time_of(now)
    if seen is None or made is None:
        return str(item["seen"])
    return "now" if seen >= made else f"{span_text(made - seen)} ago"


def _days(time: str, now: str) -> str:
    days = days_until(time, now)
    if days is None:
        return NONE
    return "expired" if days <= 0 else counted(int(days), "day") if days >= 1 else "less than a day"


def _model(model: Mapping[str, Any], scale: Scale | None) -> dict[str, Any]:
    way_back = model["way_back"] or {}
    return {
        "model": model["model"],
        "version": model["live"] or (f"{model['active']} (not served)" if model["active"] else NONE),
        "variant": model["variant"] or "",
        "trial": f"{model['trial']['seconds']:g} s, else {model['trial']['returns_to'] or 'none'}"
        if model["trial"]
        else "",
        "accuracy": _accuracy(model["accuracy"], scale),
        "drift": NONE if model["drift"] is None else ", ".join(model["drift"]) or "none",
        "back": _way_back(way_back),
    }


def _way_back(way_back: Mapping[str, Any]) -> str:
    if not way_back.get("version"):
        return NONE
    if not way_back["ready"]:
        return f"not to {way_back['version']}: {way_back['problem']}"
    until = "by itself, until the trial ends" if way_back["ends"] == "trial" else "until the next release"
    untested = "; not tested with this runtime" if way_back["tested"] is False else ""
    return f"{way_back['version']}, {until}{untested}"


def _accuracy_scale(devices: Iterable[Mapping[str, Any]]) -> Scale | None:
    """One scale for all accuracies, so that their places on the page compare."""
    found = [model["accuracy"] for item in devices for model in item["models"] if model["accuracy"]]
    limits = [share[end] for share in found if share.get("lower") is not None for end in ("lower", "upper")]
    return Scale.around(limits) if limits else None


def _accuracy(found: Mapping[str, Any] | None, scale: Scale | None) -> dict[str, Any]:
    """The text of an accuracy, and where it is drawn."""
    if found is None or found.get("value") is None:
        return {"text": "error" if found and found.get("error") else NONE, "of": "", "marks": None}
    of = f"{counted(round(found['samples']), 'sample')}, {found['of']}"
    if found["lower"] is None or scale is None:
        return {"text": f"{found['metric']} {found['value']:.4g}", "of": of, "marks": None}
    marks = {name: scale.place(found[name]) for name in ("lower", "value", "upper")}
    text = f"{100 * found['value']:.1f}% ({100 * found['lower']:.1f} to {100 * found['upper']:.1f})"
    if found.get("top", 1) > 1:
        text = f"{metric_words(found['metric'], found['top'])} {text}"
    return {"text": text, "of": of, "marks": marks}


# ---- rollouts ----


def _rollout(rollout: Mapping[str, Any]) -> dict[str, Any]:
    tone, state = state_words(rollout["state"])
    return {
        "tone": tone,
        "state": state,
        "id": rollout["id"],
        "what": f"{rollout['model']} {rollout['version']}",
        "when": when_text(time_of(rollout["began"]), time_of(rollout["ended"])),
        "waves": f"{rollout['waves_begun']} of {rollout['waves']}",
        "devices": number_text(rollout["devices"]),
        "why": rollout["why"],
    }
