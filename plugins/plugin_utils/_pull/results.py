# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The results of ``model_swap`` and ``model_info`` for a device that pulls: what it has reported. Pure."""

from __future__ import annotations

from typing import Any, Mapping

from .reports import DeviceReports

Result = dict[str, Any]


def swap_result(reports: DeviceReports, device: str, model: str, question: int) -> Result:
    """Return what the device answered a question with, as ``model_swap`` returns it; ``unreachable`` if it did not.

    ``started`` tells then whether it may have begun.
    """
    answer = reports.answer_to(model, question)
    if answer is None:
        return _away(reports, device, model, question)
    if answer.result is None:
        why = answer.problem or "it reported no swap"
        info = (answer.info or {}).get("model") or {}
        live = info.get("live") or info.get("active")
        return {
            "failed": True,
            "changed": False,
            "refused": True,
            "model": model,
            "live": live,
            "msg": f"{device}: {why}. Live now: {live or 'no version'}",
        }
    return dict(answer.result)


def info_result(reports: DeviceReports, device: str, model: str | None, question: int | None) -> Result:
    """Return what the device answered a question with, as ``model_info`` returns it; ``unreachable`` if it did not.

    Without a ``question``: what it said last, with the time of that in ``reported_at``.
    """
    if question is not None and model is not None:
        answer = reports.answer_to(model, question)
        return dict(answer.info) if answer and answer.info else _away(reports, device, model, question)
    said = {name: answer for name, answer in sorted(reports.answers.items()) if answer.info and model in (None, name)}
    if not said:
        return {"unreachable": True, "msg": f"{device} pulls, and has not reported yet{_why(reports)}"}
    newest = max(said.values(), key=lambda answer: answer.written_at)
    result = {**(newest.info or {}), "reported_at": newest.written_at}
    if model is None:
        result["models"] = [(answer.info or {})["model"] for answer in said.values() if "model" in (answer.info or {})]
        result.pop("model", None)
    return result


def predicted_result(reports: DeviceReports, device: str, args: Mapping[str, Any]) -> Result:
    """Return what ``model_swap`` would do, by what the device said last: for check mode."""
    model, version = str(args.get("model")), str(args.get("version"))
    answer = reports.answers.get(model)
    info = (answer.info if answer else None) or {}
    known = info.get("model")
    if not isinstance(known, Mapping):
        return {
            "unreachable": True,
            "started": False,
            "msg": f"{device} pulls, and has not reported yet{_why(reports)}",
        }
    before = {"active": known.get("active"), "previous": known.get("previous")}
    after = dict(before)
    if args.get("state", "active") == "active" and before["active"] != version:
        after = {"active": version, "previous": before["active"]}
    elif args.get("state") == "previous" and before["active"] == version:
        after = {"active": before["previous"], "previous": None}
    return {
        "changed": before != after,
        "model": model,
        "version": version,
        "live": known.get("live"),
        "before": before,
        "after": after,
        "diff": {"before": before, "after": after},
    }


def _away(reports: DeviceReports, device: str, model: str, question: int) -> Result:
    started = reports.begun.get(model) == question
    what = "has begun, and has not reported what came of it" if started else "has not reported in time"
    last = max((answer.written_at for answer in reports.answers.values()), default="")
    heard = f"; it was heard of last at {last}" if last else "; nothing was heard of it yet"
    return {"unreachable": True, "started": started, "msg": f"{device} {what}{heard}{_why(reports)}"}


def _why(reports: DeviceReports) -> str:
    return f". It says: {reports.problem}" if reports.problem else ""
