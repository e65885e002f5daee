# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fleets as their devices describe themselves, and the documents that are made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ledgers

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.fleet import Asked, fleet_document
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.rollout import Rollout

NOW = "2026-11-29T04:00:00Z"
WAY_BACK = {"version": "1.0.0", "ready": True, "problem": None, "tested": True, "ends": "next release"}
AWAY = {"unreachable": True, "msg": "ssh: connect to host edge: No route to host"}


def model(**said: Any) -> dict[str, Any]:
    """What a device says of a model where all is well."""
    return {
        "name": "digits",
        "live": "1.1.0",
        "active": "1.1.0",
        "previous": "1.0.0",
        "variant": "onnx-fp32",
        "trial": None,
        "failed": [],
        "withdrawn": {},
        "labels": {"right": 480, "wrong": 20},
        "drift": [{"series": "pixel mean", "psi": 0.02, "alarm": False, "windows": 7}],
        "way_back": WAY_BACK,
        **said,
    }


def status(*models: Mapping[str, Any], **said: Any) -> dict[str, Any]:
    """What ``model_info`` returns of a device where all is well."""
    return {
        "models": list(models or (model(),)),
        "server_live": True,
        "expires": {"server_certificate": "2027-05-01T00:00:00Z"},
        **said,
    }


def ledger_rollouts() -> list[Rollout]:
    """The rollouts of a ledger, oldest first."""
    failed, passed = ledgers.failed(), ledgers.passed()
    passed.update(attempt=2, began="2026-11-23T02:30:00Z", ended="2026-11-23T05:30:00Z")
    return [Rollout.from_dict(failed), Rollout.from_dict(passed)]


def troubled() -> dict[str, Any]:
    """A fleet in which something of everything is wrong."""
    probe = {"metric": "accuracy", "value": 0.95, "samples": 360, "version": "1.1.0"}
    trial = {"seconds": 300.0, "returns_to": "1.0.0", "crashes": 0}
    lost = {
        **WAY_BACK,
        "ready": False,
        "problem": "/var/lib/edgeml/store/model.onnx: the file is missing",
        "tested": None,
    }
    first = {**WAY_BACK, "version": None, "ready": False, "problem": "no version was active before", "tested": None}
    wanted = [
        {"model": "digits", "version": "1.1.0", "stopped_releases": [{"version": "1.2.0", "why": "less accurate"}]}
    ]
    said = {
        "edge-good": status(model(probe=probe)),
        "edge-first": status(model(way_back=first, labels={}, drift=[])),
        "edge-trial": status(model(trial=trial, way_back={**WAY_BACK, "ends": "trial", "tested": False})),
        "edge-drift": status(model(drift=[{"series": "pixel mean", "psi": 0.4, "alarm": True, "windows": 9}])),
        "edge-lost": status(model(way_back=lost)),
        "edge-old": status(model(live="1.0.0", active="1.0.0", way_back=None)),
        "edge-stopped": status(model(live="1.2.0", active="1.2.0")),
        "edge-withdrawn": status(model(withdrawn={"1.1.0": "labels were permuted"})),
        "edge-dead": status(
            model(live=None), server_live=False, expires={"server_certificate": "2026-11-01T00:00:00Z"}
        ),
        "edge-broken": {"failed": True, "msg": "state.json: damaged"},
        "edge-expiring": status(
            expires={"device_certificate": "2026-12-04T00:00:00Z", "metadata": "2026-11-29T16:00:00Z"}
        ),
        "edge-away": AWAY,
        "edge-new": AWAY,
        "edge-empty": status(models=[]),
    }
    before = fleet_document(
        {"edge-away": Asked(status(), "small"), "edge-elsewhere": Asked(status())}, now="2026-11-27T04:00:00Z"
    )
    asked = {
        name: Asked(item, "small" if number % 2 else "large", wanted)
        for number, (name, item) in enumerate(said.items())
    }
    return fleet_document(asked, ledger_rollouts(), before=before, notes=["/ledger/x.json: cannot be read"], now=NOW)


def well() -> dict[str, Any]:
    """A fleet of which nothing is to be said."""
    return fleet_document({f"edge-{number}": Asked(status(), "small") for number in range(6)}, now=NOW)


def large() -> dict[str, Any]:
    """Three hundred devices, three of which are away."""
    return fleet_document(
        {f"edge-{number:04}": Asked(AWAY if number % 100 == 7 else status(), "small") for number in range(300)},
        ledger_rollouts(),
        now=NOW,
    )


def empty() -> dict[str, Any]:
    """No device, no rollout."""
    return fleet_document({}, now=NOW)


def hostile() -> dict[str, Any]:
    """A fleet whose devices say what a page must show, and not obey."""
    text = ledgers.HOSTILE
    bad = model(
        name=text, live=text, active=text, variant=text, withdrawn={text: text}, drift=[{"series": text, "alarm": 1}]
    )
    return fleet_document(
        {text: Asked(status(bad), text), f"{text}2": Asked({"failed": True, "msg": text}, text)}, notes=[text], now=NOW
    )
