# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The controller's side of ``device_setup``: what is asked of a device, and what is said of its answer."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any, Collection, Iterable, Mapping, Sequence

from .device.facts import REQUIRED

# The interpreter that the device's own command uses as well.
PYTHON = "/usr/bin/python3"
MINIMUM_PYTHON = (3, 8)
# The files of the program, each after those that it imports; the last one has ``main``.
PROGRAM = ("commands", "files", "facts", "units", "programs", "program")
# Reads the program and the request from standard input. An older Python than the program's can run this much.
_BOOTSTRAP = f"""
import json, sys
if sys.version_info < {MINIMUM_PYTHON}:
    found = "%d.%d.%d" % sys.version_info[:3]
    message = "Python: expected %d.%d or later, but found %s" % ({MINIMUM_PYTHON} + (found,))
    print(json.dumps({{"failed": True, "msg": message}}))
else:
    call = json.load(sys.stdin)
    for name, text in call["program"]:
        module = type(sys)("device_setup." + name)
        module.__package__ = "device_setup"
        sys.modules[module.__name__] = module
        exec(compile(text, name + ".py", "exec"), module.__dict__)
    print(json.dumps(module.main(call["request"])))
"""
# Isolated, and without the site's packages: that is the quickest start.
COMMAND = shlex.join([PYTHON, "-I", "-S", "-c", _BOOTSTRAP.strip()])

_TEXT = {"type": "str", "required": True}
_OWNERSHIP = {
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
    "mode": _TEXT,
}
_FILE = {
    "path": _TEXT,
    "present": {"type": "bool", "default": True},
    "keep": {"type": "bool", "default": False},
    "content": {"type": "str"},
    "template": {"type": "str"},
    **_OWNERSHIP,
    "secret": {"type": "bool", "default": False},
    "validate": {"type": "list", "elements": "str", "default": []},
    "restarts": {"type": "str", "default": ""},
    "reloads": {"type": "str", "default": ""},
}
_COMMAND = {
    "name": _TEXT,
    "check": {"type": "list", "elements": "str", "required": True},
    "run": {"type": "list", "elements": "str", "required": True},
    "undo": {"type": "list", "elements": "str", "default": []},
    "daemon_reload": {"type": "bool", "default": False},
}
_UNIT = {
    "name": _TEXT,
    "enabled": {"type": "bool", "default": False},
    "running": {"type": "bool", "default": False},
    "outside_containers": {"type": "bool", "default": False},
    "handover_lock": {"type": "str", "default": ""},
}
_BUNDLE = {
    "directory": _TEXT,
    "names": {"type": "list", "elements": "str", "required": True},
    "archives": {"type": "list", "elements": "path", "default": []},
    "arguments": {"type": "list", "elements": "str", "default": []},
    "way_back": {"type": "str", "default": ""},
    "trial": {"type": "list", "elements": "str", "default": []},
}
_OUTDATED = {
    "directory": _TEXT,
    "pattern": _TEXT,
    "keep": {"type": "list", "elements": "str", "required": True},
    "lock": _TEXT,
}
_PART: dict[str, dict[str, Any]] = {
    "packages": {"type": "list", "elements": "str", "default": []},
    "users": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"name": _TEXT, "group": _TEXT, "home": _TEXT, "shell": _TEXT},
    },
    "directories": {"type": "list", "elements": "dict", "default": [], "options": {"path": _TEXT, **_OWNERSHIP}},
    "files": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": _FILE,
        "required_one_of": [("content", "template")],
        "mutually_exclusive": [("content", "template")],
    },
    "commands": {"type": "list", "elements": "dict", "default": [], "options": _COMMAND},
    "units": {"type": "list", "elements": "dict", "default": [], "options": _UNIT},
    "outdated": {"type": "list", "elements": "dict", "default": [], "options": _OUTDATED},
}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "requires": {
        "type": "dict",
        "default": {},
        "options": {name: {"type": "list", "elements": "str"} for name in REQUIRED},
    },
    "parts": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "tags": {"type": "list", "elements": "str", "default": []},
            "service_mgr": {"type": "list", "elements": "str", "default": []},
            **_PART,
        },
    },
    "bundle": {"type": "dict", "options": _BUNDLE},
    "retry_seconds": {"type": "int", "default": 300},
}


def chosen_parts(
    parts: Iterable[Mapping[str, Any]], task_tags: Collection[str], only: Collection[str]
) -> list[Mapping[str, Any]]:
    """The parts that ``--tags`` would run, were each a task of its own with its tags.

    ``task_tags``: the tags of the one task that has all of them; those that are no part's own came from the role or the
    play, and so hold for each part. ``only``: Ansible's ``ansible_run_tags``.
    """
    parts = list(parts)
    inherited = set(task_tags).difference(*(part["tags"] for part in parts))
    found = []
    for part in parts:
        tags = inherited.union(part["tags"], {"all", "tagged"})
        if not part["tags"] or tags.intersection(only) or "always" in tags:
            found.append(part)
    return found


def make_request(
    requires: Mapping[str, Sequence[str] | None],
    parts: Iterable[Mapping[str, Any]],
    bundle: Mapping[str, Any] | None,
    check_mode: bool,
) -> dict[str, Any]:
    """What the program on the device is to do. The parts' files have their ``content``."""
    parts = list(parts)
    anywhere = [part for part in parts if not part.get("service_mgr")]
    only = [part for part in parts if part.get("service_mgr")]
    return {
        "check_mode": check_mode,
        "requires": {name: values for name, values in requires.items() if values},
        "bundle": bundle or {},
        **{name: [item for part in anywhere for item in part[name]] for name in _PART},
        "only": [
            {"service_mgr": part["service_mgr"], "items": {name: list(part[name]) for name in _PART}} for part in only
        ],
    }


def make_input(request: Mapping[str, Any]) -> bytes:
    """What ``COMMAND`` reads: the program, and the request to it."""
    directory = Path(__file__).parent / "device"
    program = [(name, (directory / f"{name}.py").read_text(encoding="utf-8")) for name in PROGRAM]
    return json.dumps({"program": program, "request": request}).encode()


def parse_output(output: str) -> dict[str, Any] | None:
    """The answer among the lines that the device printed; None where there is none."""
    for line in reversed(output.splitlines()):
        if line.startswith("{"):
            try:
                answer = json.loads(line)
            except ValueError:
                return None
            return answer if isinstance(answer, dict) else None
    return None


def make_result(answer: Mapping[str, Any], diff: bool) -> dict[str, Any]:
    """The task's result from a device's answer."""
    found = list(answer.get("changes", []))
    names = ("subject", "before", "after")
    result: dict[str, Any] = {
        "changed": bool(found),
        "changes": [{name: change[name] for name in names} for change in found],
        "missing": answer.get("missing", []),
    }
    if answer.get("failed"):
        result.update(failed=True, msg=answer["msg"])
    if answer.get("facts"):
        result["ansible_facts"] = answer["facts"]
    if diff:
        result["diff"] = [_diff(change) for change in found]
    return result


def _diff(change: Mapping[str, Any]) -> dict[str, str]:
    """The contents of a file where they differ; else what was noted."""
    texts: Mapping[str, str] = change.get("content") or {}
    if texts.get("before") == texts.get("after"):
        texts = {name: f"{change[name]}\n" for name in ("before", "after")}
    return {"before_header": change["subject"], "after_header": change["subject"], **texts}
