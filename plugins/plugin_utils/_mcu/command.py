# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""``edgeml-publish mcu``: a signed image for a class of microcontrollers becomes a release."""

from __future__ import annotations

import argparse
import json
from typing import Any

from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.signature_due import say_what_is_next

from .release import FIRMWARE, MODEL, McuClass, McuRelease, publish_mcu


def register(commands: Any) -> None:
    """Add the command to ``commands``, the subparsers of the program."""
    parser = commands.add_parser("mcu", help="publish a signed firmware or model for a class of microcontrollers")
    parser.add_argument("--repository", required=True, metavar="DIRECTORY", help="the model repository")
    parser.add_argument("--model", required=True, metavar="TEXT", help="name of the model, or of the firmware")
    parser.add_argument("--version", required=True, metavar="TEXT", help="version of the release, which the image has")
    parser.add_argument("--format", required=True, choices=(MODEL, FIRMWARE), help="what the image is")
    parser.add_argument("--image", required=True, metavar="PATH", help="the image, signed by imgtool")
    parser.add_argument("--golden", default="", metavar="PATH", help="golden inputs and outputs of a model, JSON")
    parser.add_argument("--probe", default="", metavar="PATH", help="the probe set of a model, JSON")
    parser.add_argument("--device-class", required=True, metavar="TEXT", help="the class, such as mps2-an385")
    parser.add_argument("--slot-bytes", required=True, type=int, metavar="N", help="what an image may take of a slot")
    parser.add_argument("--arena-bytes", default=0, type=int, metavar="N", help="the arena of the firmware")
    parser.add_argument("--operators", default="", metavar="LIST", help="operators of the firmware, as its info says")
    parser.add_argument(
        "--security-counter", default=0, type=int, metavar="N", help="the highest that the class has seen (%(default)s)"
    )
    parser.add_argument("--latency-seconds-max", type=float, metavar="X", help="what an inference may take there")
    parser.add_argument("--judge-python", default="", metavar="PATH", help="a Python that has the package tflite-micro")
    parser.add_argument(
        "--program", default="", metavar="PATH", help="of a firmware with a model of its own: that, for this machine"
    )
    parser.add_argument(
        "--holdout", default="", metavar="PATH", help="inputs, and what the source of that model answers, JSON"
    )
    parser.add_argument("--description", default="", metavar="TEXT", help="for people")
    parser.add_argument("--check", action="store_true", help="do all but write the release")
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> int:
    given = McuRelease(
        model=parsed.model,
        version=parsed.version,
        format=parsed.format,
        image=parsed.image,
        golden=parsed.golden,
        probe=parsed.probe,
        judge_python=parsed.judge_python,
        program=parsed.program,
        holdout=parsed.holdout,
        latency_seconds_max=parsed.latency_seconds_max,
        description=parsed.description,
    )
    device_class = McuClass(
        name=parsed.device_class,
        slot_bytes=parsed.slot_bytes,
        arena_bytes=parsed.arena_bytes,
        operators=frozenset(name.strip() for name in parsed.operators.split(",") if name.strip()),
        security_counter=parsed.security_counter,
    )
    published = publish_mcu(parsed.repository, given, device_class, check=parsed.check)
    if parsed.json:
        result = {"changed": published.changed, "check": parsed.check, "manifest": published.document}
        print(json.dumps({**result, "facts": published.facts, "notes": list(published.notes)}))
        return 0
    for name, value in published.facts.items():
        print(f"{name.replace('_', ' ')}: {value}")
    for note in published.notes:
        print(f"note: {note}")
    name = f"{parsed.model} {parsed.version}"
    if not published.changed:
        print(f"{name} is published already; nothing changed")
    else:
        print(f"{name} {'would be' if parsed.check else 'is'} published in {parsed.repository}")
    say_what_is_next(parsed.repository, changed=published.changed, check=parsed.check)
    return 0
