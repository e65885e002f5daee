# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The state of a fleet, by what each device said and what the ledger has. Pure.

It is the document of the playbook ``status``. A device that is away keeps what it said last, with the time of that.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.records import finite_json, is_number

from .gate.estimates import proportion_lower, proportion_upper
from .gate.measurements import metric_words
from .report.words import time_of
from .rollout import Rollout, utc_now

SCHEMA = 1
# Of all errors of an interval, half on each side: 95%.
_ALPHA = 0.025
# How many days before its end something needs attention. The metadata of a repository is signed anew each day;
# certificates are renewed when a third of their life is left.
_DAYS_LEFT = {"metadata": 1.0, "device_certificate": 14.0, "server_certificate": 14.0}
_ENDS = {
    "metadata": "the signed metadata",
    "device_certificate": "the device's certificate",
    "server_certificate": "the server's certificate",
}
# What a device that pulls reported this long ago is no news.
_REPORT_DAYS_MAX = 1.0
_ROLLOUTS_MAX = 20
# The levels of attention, by urgency.
LEVELS = ("bad", "waits", "good")

Document = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """What is known of one device: ``status`` as ``model_info`` returned it, nothing where it did not answer."""

    status: Mapping[str, Any]
    device_class: str = ""
    wanted: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    # The device through which a microcontroller is reached.
    gateway: str = ""


def answers(status: Mapping[str, Any]) -> str:
    """Return how a device answered: ``yes``, ``no server``, ``error`` or ``away``."""
    if status.get("unreachable") or not status:
        return "away"
    if status.get("failed"):
        return "error"
    return "yes" if status.get("server_live") else "no server"


def fleet_document(
    devices: Mapping[str, Asked],
    rollouts: Iterable[Rollout] = (),
    withdrawn: Mapping[str, Mapping[str, str]] | None = None,
    before: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    now: str = "",
) -> Document:
    """Return the state of the fleet as JSON's types; the devices that need attention first.

    ``withdrawn``: why releases are withdrawn, by model and version. ``before``: the document of an earlier run, which
    knows when devices that are away were seen. ``notes``: what could not be read. ``now`` is the time, as the ledger
    writes times.
    """
    now = now or utc_now()
    earlier = {item["device"]: item for item in _items(before, "devices") + _items(before, "not_asked")}
    found = [_device(name, asked, withdrawn or {}, earlier.get(name), now) for name, asked in devices.items()]
    newest = sorted(rollouts, key=lambda rollout: rollout.began, reverse=True)
    return {
        "schema": SCHEMA,
        "made": now,
        "devices": sorted(found, key=_urgency),
        "rollouts": [_rollout(rollout) for rollout in newest[:_ROLLOUTS_MAX]],
        "notes": list(notes),
        # So that a run for a part of the fleet does not forget when the others were seen.
        "not_asked": [item for name, item in sorted(earlier.items()) if name not in devices],
    }


def fleet_samples(document: Mapping[str, Any]) -> list[tuple[str, dict[str, str], float]]:
    """Return what Prometheus is told of a document: name, labels and value of each sample."""
    made = time_of(document["made"])
    samples: list[tuple[str, dict[str, str], float]] = [
        ("edgeml_fleet_made_timestamp_seconds", {}, made.timestamp() if made else 0.0)
    ]
    # Those that were not asked as well: an alert about one of them is not over because somebody asked another device.
    devices = [*document["devices"], *document["not_asked"]]
    for item in devices:
        seen = time_of(item["seen"])
        labels = {"device": item["device"], "device_class": item["device_class"]}
        samples.append(("edgeml_fleet_seen_timestamp_seconds", labels, seen.timestamp() if seen else 0.0))
        active = {model["model"]: model["active"] for model in item["models"]}
        for model, version in sorted(item["wanted"].items()):
            labels = {"device": item["device"], "model": model, "version": version}
            samples.append(("edgeml_fleet_on_release", labels, float(active.get(model) == version)))
    for level in LEVELS:
        number = sum(item["attention"] == level for item in devices)
        samples.append(("edgeml_fleet_devices", {"attention": level}, float(number)))
    return samples


def json_text(document: Document) -> str:
    """Return a document as JSON, which has no NaN and no infinity: a number that is not finite is null."""
    return json.dumps(finite_json(document), indent=1, allow_nan=False) + "\n"


def finite_number(value: Any) -> float | None:
    """Return the value, if it is a finite number; else None."""
    return float(value) if is_number(value) and math.isfinite(value) else None


def days_until(time: str, now: str) -> float | None:
    """Return how many days there are from ``now`` to ``time``, negative when it is over; None for what is no time."""
    end, begin = time_of(time), time_of(now)
    return None if end is None or begin is None else (end - begin).total_seconds() / 86400


def _items(document: Mapping[str, Any] | None, name: str) -> list[Mapping[str, Any]]:
    """The devices of an earlier document; those that are none are passed over."""
    found = (document or {}).get(name)
    return [
        item for item in (found if isinstance(found, list) else []) if isinstance(item, Mapping) and "device" in item
    ]


def _urgency(item: Mapping[str, Any]) -> tuple[Any, ...]:
    """Worst first; of the same level those with more reasons, then those that were not seen for longest; a
    microcontroller behind its gateway."""
    beside = item["gateway"] or item["device"]
    return (LEVELS.index(item["attention"]), -len(item["reasons"]), item["seen"] or "", beside, item["device"])


# ---- one device ----


def _device(
    name: str,
    asked: Asked,
    withdrawn: Mapping[str, Mapping[str, str]],
    earlier: Mapping[str, Any] | None,
    now: str,
) -> Document:
    status, answer = asked.status, answers(asked.status)
    said = answer in ("yes", "no server")
    item: Document = {
        "device": name,
        "device_class": asked.device_class,
        "gateway": asked.gateway,
        "answers": answer,
        "seen": (status.get("reported_at") or now) if said else (earlier or {}).get("seen"),
        "problem": None if said else str(status.get("msg") or "it did not answer").strip(),
        "expires": dict(status.get("expires") or {}) if said else dict((earlier or {}).get("expires") or {}),
        "wanted": {entry["model"]: entry["version"] for entry in asked.wanted if entry["version"] is not None},
        "models": [],
    }
    wanted = {entry["model"]: entry for entry in asked.wanted}
    if said:
        found = {model["name"]: model for model in status.get("models") or []}
        # A device that was replaced, or whose store was emptied, has nothing to say of what the ledger has for it.
        missing = {model: {"name": model} for model in item["wanted"] if model not in found}
        item["models"] = [
            _model(model, withdrawn.get(name, {}), wanted.get(name)) for name, model in {**found, **missing}.items()
        ]
    else:
        # What it said then, held to what the repository and the ledger say now.
        item["models"] = [
            {**model, **_held_to(model, withdrawn.get(model["model"], {}), wanted.get(model["model"]))}
            for model in (earlier or {}).get("models") or []
        ]
    bad, waits = _reasons(item, now)
    item.update(attention="bad" if bad else "waits" if waits else "good", reasons=[*bad, *waits])
    return item


def _model(model: Mapping[str, Any], withdrawn: Mapping[str, str], wanted: Mapping[str, Any] | None) -> Document:
    active = model.get("active")
    known = {"active": active, "withdrawn": (model.get("withdrawn") or {}).get(active)}
    return {
        "model": model["name"],
        "live": model.get("live"),
        "active": active,
        "variant": model.get("variant"),
        "trial": model.get("trial"),
        "failed": [entry["version"] for entry in model.get("failed") or []],
        **_held_to(known, withdrawn, wanted),
        "accuracy": _accuracy(model),
        "drift": [entry["series"] for entry in model.get("drift") or [] if entry.get("alarm")]
        if "drift" in model
        else None,
        "way_back": model.get("way_back"),
    }


def _held_to(model: Mapping[str, Any], withdrawn: Mapping[str, str], wanted: Mapping[str, Any] | None) -> Document:
    """What the repository and the ledger say of the active version; the device may know of a withdrawal, too."""
    active = model["active"]
    stopped = {entry["version"]: entry["why"] for entry in (wanted or {}).get("stopped_releases") or []}
    return {
        "withdrawn": withdrawn.get(active, model["withdrawn"]),
        "wanted": (wanted or {}).get("version"),
        "stopped": stopped.get(active),
    }


def _accuracy(model: Mapping[str, Any]) -> Document | None:
    """What is known of the answers: on the probe set if it was asked, else by the labels that came back."""
    probe, labels = model.get("probe") or {}, model.get("labels") or {}
    if probe.get("error"):
        return {"of": "probe set", "error": str(probe["error"])}
    metric, value, samples = probe.get("metric"), finite_number(probe.get("value")), probe.get("samples") or 0
    top = probe.get("top", 1)
    if metric is not None and value is None:
        several = f": {probe['not_finite']} of {samples} answers are none" if probe.get("not_finite") else ""
        return {"of": "probe set", "error": f"{metric_words(metric, top)} is no finite number{several}"}
    if metric is not None and metric != "accuracy":
        return {"of": "probe set", "metric": metric, "value": value, "samples": samples, "lower": None, "upper": None}
    if metric is not None and value is not None and samples:
        return {**_share("probe set", value * samples, samples), **({"top": top} if top > 1 else {})}
    right, wrong = labels.get("right", 0), labels.get("wrong", 0)
    return _share("labels", right, right + wrong) if right + wrong else None


def _share(of: str, events: float, total: float) -> Document:
    return {
        "of": of,
        "metric": "accuracy",
        "value": events / total,
        "samples": total,
        "lower": proportion_lower(events, total, _ALPHA),
        "upper": proportion_upper(events, total, _ALPHA),
    }


# ---- what needs attention ----


def _reasons(item: Document, now: str) -> tuple[list[str], list[str]]:
    """What is bad about a device, and what is to be watched."""
    bad: list[str] = []
    waits: list[str] = []
    if item["answers"] == "error":
        bad.append(f"cannot be read: {item['problem']}")
    elif item["answers"] == "no server":
        bad.append(f"the {'microcontroller' if item['gateway'] else 'inference server'} does not answer")
    elif item["answers"] == "away":
        waits.append(f"away; last seen {item['seen']}" if item["seen"] else "away; never seen here")
    for model in item["models"]:
        for found, reasons in zip(_model_reasons(model, item["answers"] == "yes"), (bad, waits)):
            reasons += [f"{model['model']}: {reason}" for reason in found]
    for name, time in item["expires"].items():
        days = days_until(time, now)
        if days is not None and days <= 0:
            bad.append(f"{_ENDS.get(name, name)} has expired")
        elif days is not None and days <= _DAYS_LEFT.get(name, 0):
            waits.append(f"{_ENDS.get(name, name)} expires in {days:.1f} days")
    reported = days_until(now, item["seen"]) if item["answers"] == "yes" and item["seen"] else None
    if reported is not None and reported > _REPORT_DAYS_MAX:
        waits.append(f"has not reported for {reported:.1f} days")
    return bad, waits


def _model_reasons(model: Mapping[str, Any], server_answers: bool) -> tuple[list[str], list[str]]:
    bad, waits = [], []
    active = model["active"]
    if server_answers and active is not None and model["live"] != active:
        bad.append(f"serves {model['live'] or 'no version'}, although {active} is active")
    if model["withdrawn"]:
        bad.append(f"{active} is withdrawn: {model['withdrawn']}")
    if model["stopped"]:
        bad.append(f"{active} was stopped: {model['stopped']}")
    elif model["wanted"] not in (None, active):
        waits.append(f"on {active or 'no version'}; the ledger has {model['wanted']}")
    if model["trial"]:
        waits.append(f"{active} is on trial")
    if model["drift"]:
        waits.append(f"drift of {', '.join(model['drift'])}")
    way_back = model["way_back"]
    if way_back and way_back["version"] is not None and not way_back["ready"]:
        waits.append(f"no way back: {way_back['problem']}")
    if (model["accuracy"] or {}).get("error"):
        waits.append(f"the probe set: {model['accuracy']['error']}")
    return bad, waits


# ---- rollouts ----


def _rollout(rollout: Rollout) -> Document:
    return {
        "id": rollout.id,
        "model": rollout.model,
        "version": rollout.version,
        "state": rollout.state.value,
        "why": rollout.why,
        "began": rollout.began,
        "ended": rollout.ended,
        "waves_begun": rollout.reached,
        "waves": len(rollout.plan.waves),
        "devices": len(rollout.plan.wave_numbers),
    }
