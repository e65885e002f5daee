# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ledgers of rollouts that went well and badly, as the role writes them."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.checks import (
    Bounds,
    Cause,
    Check,
    ComparedWith,
    DeviceNote,
    Finding,
    Verdict,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.report import words

STRATA = ("gateway-2gb", "pi4-1gb")


def document(finding: Finding) -> dict[str, Any]:
    """A finding as the gate returns it."""
    return {**finding.to_dict(), "reason": words.reason(finding)}


def good_findings(devices: int) -> list[Finding]:
    """What the gate finds where nothing is wrong."""
    passed = functools.partial(Finding, verdict=Verdict.PASS)
    found = [
        passed(Check.FAILED_DEVICES, estimate=0, limit=0, samples=devices),
        passed(Check.COVERAGE, estimate=1.0, limit=0.5, samples=devices, events=devices),
    ]
    for number, device_class in enumerate(STRATA):
        here = functools.partial(passed, device_class=device_class)
        samples = 9000 * devices
        rates = {"samples": samples, "events": 3}
        found += [
            here(
                Check.ACCURACY_DROP,
                estimate=-0.06 + number * 0.01,
                bounds=Bounds(-0.075, -0.041),
                limit=0.02,
                baseline=0.9167,
                samples=360,
                devices=devices,
            ),
            here(Check.ERROR_RATE, estimate=0.0003, bounds=Bounds(0.0001, 0.0009), limit=0.05, **rates),
            here(
                Check.ERROR_RATE_RISE,
                estimate=0.0001,
                bounds=Bounds(-0.0002, 0.0007),
                limit=0.004,
                baseline=0.0002,
                compared_with=ComparedWith(past=True),
                **rates,
            ),
            here(
                Check.LATENCY_P95,
                estimate=1.02 + number / 100,
                bounds=Bounds(0.97, 1.08),
                limit=1.1,
                samples=devices,
                devices=devices,
            ),
        ]
    found.append(
        passed(
            Check.LATENCY_P95, estimate=1.024, bounds=Bounds(0.99, 1.06), limit=1.1, samples=devices, devices=devices
        )
    )
    found.append(Finding(Check.DRIFT, Verdict.SKIPPED, Cause.NO_DRIFT_WINDOW))
    return found


def bad_findings(devices: int) -> list[Finding]:
    """What the gate finds where the accuracy falls on one class of devices, and nobody could ask the other."""
    return [
        *(item for item in good_findings(devices) if item.check is not Check.ACCURACY_DROP),
        Finding(
            Check.ACCURACY_DROP,
            Verdict.FAIL,
            device_class="pi4-1gb",
            estimate=0.0831,
            bounds=Bounds(0.061, 0.105),
            limit=0.02,
            baseline=0.9167,
            samples=360,
        ),
        Finding(Check.ACCURACY_DROP, Verdict.INCONCLUSIVE, Cause.NO_PROBE_SET, "gateway-2gb"),
        Finding(Check.MEMORY_BYTES, Verdict.PASS, estimate=41e6, limit=64e6, samples=devices, devices=devices),
    ]


def rollout(sizes: Mapping[str, int], left_out: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The ledger of a rollout that begins: waves by name with their numbers of devices."""
    waves, device_classes, first = [], {}, 0
    for number, (name, size) in enumerate(sizes.items(), 1):
        hosts = [f"plant-{'ab'[n % 2]}-dev{n:04}" for n in range(first, first + size)]
        device_classes.update({host: STRATA[n % 3 > 0] for n, host in enumerate(hosts)})
        waves.append({"number": number, "name": name, "hosts": hosts})
        first += size
    return {
        "schema": 1,
        "id": "digits-1.2.0-1",
        "model": "digits",
        "version": "1.2.0",
        "attempt": 1,
        "digest": "8f43" * 16,
        "reason": "better on rotated digits",
        "state": "running",
        "why": "",
        "began": "2026-11-22T02:30:00Z",
        "ended": None,
        "settings": {
            "soak_seconds": 600,
            "soak_seconds_max": 3600,
            "limits": {"accuracy_drop_max": 0.02, "error_rate_max": 0.01},
            "window": ["Mon-Fri 01:00-05:00 Europe/Berlin"],
            "concurrency": 50,
        },
        "plan": {
            "salt": "digits",
            "device_class": ["device_class"],
            "device_classes": device_classes,
            "waves": waves,
            "left_out": dict(left_out or {}),
        },
        "waves": [],
        "devices": [],
    }


def judged(
    ledger: Mapping[str, Any],
    number: int,
    began: str,
    analyses: Mapping[str, str],
    findings: Sequence[Any],
    outcomes: Mapping[str, str],
) -> dict[str, Any]:
    """The ledger after a wave; ``analyses`` has verdicts by time of day, ``outcomes`` those that are not well."""
    planned = ledger["plan"]["waves"][number - 1]
    wave = {
        "number": number,
        "name": planned["name"],
        "began": f"2026-11-22T{began}Z",
        "ended": f"2026-11-22T{[*analyses][-1]}Z",
        "analyses": [{"time": f"2026-11-22T{time}Z", "verdict": verdict} for time, verdict in analyses.items()],
        "verdict": [*analyses.values()][-1],
        "findings": [document(item) if isinstance(item, Finding) else item for item in findings],
        "outcomes": {host: outcomes.get(host, "updated") for host in planned["hosts"]},
    }
    return {**ledger, "waves": [*ledger["waves"], wave]}


def closed(
    ledger: Mapping[str, Any], state: str, why: str, ended: str, became: Mapping[str, str], details: Mapping[str, str]
) -> dict[str, Any]:
    """The ledger at its end; ``became`` has the last outcomes by the waves' ones, ``details`` reasons by device."""
    told = {host: outcome for wave in ledger["waves"] for host, outcome in wave["outcomes"].items()}
    rows = []
    for wave in ledger["plan"]["waves"]:
        for host in wave["hosts"]:
            outcome = became.get(told.get(host, ""), told.get(host, "not started"))
            after = "1.2.0" if outcome in ("updated", "already there") else "-" if outcome == "away" else "1.1.0"
            before = "-" if outcome in ("away", "not started") else "1.1.0"
            rows.append(
                {
                    "device": host,
                    "class": ledger["plan"]["device_classes"][host],
                    "wave": wave["number"],
                    "before": before,
                    "after": after,
                    "outcome": outcome,
                    "detail": details.get(host, ""),
                }
            )
    for host, why_not in ledger["plan"]["left_out"].items():
        rows.append(
            {
                "device": host,
                "class": "pi4-1gb",
                "wave": None,
                "before": "-",
                "after": "-",
                "outcome": why_not.split(":")[0],
                "detail": why_not,
            }
        )
    return {**ledger, "state": state, "why": why, "ended": f"2026-11-22T{ended}Z", "devices": rows}


def passed() -> dict[str, Any]:
    """Four devices in two waves, all of them well."""
    ledger = rollout({"canary": 2, "100%": 2})
    ledger = judged(ledger, 1, "02:30:05", {"02:40:30": "pass"}, good_findings(2), {})
    ledger = judged(ledger, 2, "02:40:40", {"02:51:02": "pass"}, good_findings(2), {})
    return closed(ledger, "passed", "every wave passed", "02:51:10", {}, {})


def failed() -> dict[str, Any]:
    """Forty devices; the second wave loses accuracy on one class, and everything goes back."""
    ledger = rollout(
        {"canary": 4, "50%": 16, "100%": 20},
        {"plant-c-dev9000": "pinned: certified with 1.1.0", "plant-c-dev9001": "maintenance: belt 4 is rebuilt"},
    )
    hosts = ledger["plan"]["waves"][1]["hosts"]
    bad = {hosts[3]: "failed", hosts[4]: "silent", hosts[5]: "away", hosts[6]: "away", hosts[7]: "refused"}
    details = {
        hosts[3]: "1.2.0 did not become ready within 30 s; 1.1.0 serves again",
        hosts[4]: "swapped, then not heard from again",
        hosts[7]: "no room: 11.6 MB needed, 3.2 MB free on /var/lib/edgeml. Live now: 1.1.0",
    }
    ledger = judged(ledger, 1, "02:30:05", {"02:40:30": "inconclusive", "02:50:31": "pass"}, good_findings(4), {})
    ledger = judged(ledger, 2, "02:50:40", {"03:01:20": "inconclusive", "03:11:22": "fail"}, bad_findings(16), bad)
    why = (
        "wave 2 (50%): fail: accuracy drop in pi4-1gb: 0.0831 of accuracy lost, from 0.9167 to 0.8336 (at most 0.0200)"
    )
    return closed(ledger, "failed", why, "03:12:40", {"updated": "reverted", "silent": "not reverted"}, details)


def paused() -> dict[str, Any]:
    """Ten devices; too few of the first wave answer to say anything."""
    ledger = rollout({"canary": 4, "100%": 6})
    hosts = ledger["plan"]["waves"][0]["hosts"]
    coverage = Finding(Check.COVERAGE, Verdict.INCONCLUSIVE, estimate=0.25, limit=0.5, samples=4, events=1)
    analyses = {"02:40:30": "inconclusive", "02:50:30": "inconclusive", "03:00:30": "inconclusive"}
    ledger = judged(ledger, 1, "02:30:05", analyses, [coverage], dict.fromkeys(hosts[1:], "away"))
    return closed(
        ledger,
        "paused",
        "wave 1 (canary): inconclusive: coverage: 1 of 4 devices reported (25%, at least 50%)",
        "03:00:31",
        {},
        {},
    )


def large() -> dict[str, Any]:
    """Ten thousand devices in four waves, a third of them away, a few failed."""
    ledger = rollout({"canary": 10, "10%": 990, "50%": 4000, "100%": 5000})
    for number, wave in enumerate(ledger["plan"]["waves"], 1):
        bad = dict.fromkeys(wave["hosts"][::3], "away") if number > 1 else {}
        bad.update(dict.fromkeys(wave["hosts"][100::997], "failed"))
        analyses = {f"0{number + 2}:50:00": "pass"}
        ledger = judged(ledger, number, f"0{number + 2}:00:00", analyses, good_findings(len(wave["hosts"])), bad)
    return closed(ledger, "passed", "every wave passed", "07:00:00", {}, {})


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}\x1b[2J\x00&amp;"


def hostile() -> dict[str, Any]:
    """Everything that a device or an operator may name is an attack."""
    ledger = rollout({HOSTILE: 2, "100%": 2})
    names = {host: f"{HOSTILE}{host}" for host in ledger["plan"]["device_classes"]}
    ledger["plan"]["device_classes"] = {names[host]: HOSTILE for host in names}
    for wave in ledger["plan"]["waves"]:
        wave["hosts"] = [names[host] for host in wave["hosts"]]
    ledger["plan"]["device_class"] = [HOSTILE]
    ledger["plan"]["left_out"] = {f"{HOSTILE}-left": f"{HOSTILE}: {HOSTILE}"}
    drop = Finding(
        Check.ACCURACY_DROP,
        Verdict.FAIL,
        device_class=HOSTILE,
        estimate=0.5,
        limit=0.02,
        named=(DeviceNote(HOSTILE),),
        named_total=1,
    )
    nonsense = {**drop.to_dict(), "bounds": {"lower": 1.0, "upper": float("nan")}, "reason": HOSTILE}
    unknown = {**nonsense, "check": HOSTILE, "verdict": HOSTILE, "bounds": None}
    found = [drop, nonsense, unknown, HOSTILE]
    ledger = judged(ledger, 1, "02:30:05", {"02:40:30": "fail"}, found, {names["plant-a-dev0000"]: HOSTILE})
    ledger.update(id=HOSTILE, model=HOSTILE, version=HOSTILE, reason=HOSTILE, digest=HOSTILE)
    ledger["settings"].update(limits={HOSTILE: HOSTILE}, window=[HOSTILE])
    return closed(ledger, "failed", HOSTILE, "02:41:00", {}, dict.fromkeys(names.values(), HOSTILE))
