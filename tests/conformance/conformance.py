# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Serve models that others made, compare each answer with the runtime's own, and write docs/conformance.md."""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import re
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

sys.path.extend(str(Path(__file__).resolve().parents[1] / name) for name in ("support", "integration/server"))

from clone import REPOSITORY
from conformance_cases import Case, Pin, download, installed_cases, pins, wheel_cases
from conformance_page import FAULTS, make_page, render
from conformance_reference import Judge
from conformance_serving import Form, Found, Kind, ServedModels

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator", "real")
PAGE = REPOSITORY / "docs" / "conformance.md"
DIRECTORY = REPOSITORY / ".cache" / "conformance"
RESULTS = DIRECTORY / "results.json"
_PACKAGES = ("onnxruntime", "ai-edge-litert", "onnx", "numpy")
# So many models are served by one process, and lie in one store.
_MODELS_PER_SERVER = 500


def main() -> int:
    """Run everything. Exit code: 0, or 1 if any model was refused without a reason or answered wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", default="", metavar="PATTERN", help="ask only these again; of the others, the last run's results stay"
    )
    arguments = parser.parse_args()
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    download(DIRECTORY)
    pinned = pins()
    cases = all_cases(pinned, DIRECTORY)
    chosen = (case for case in cases if re.search(arguments.only, f"{case.source} {case.name}"))
    now = {(each.source, each.name, each.form): each for each in run(chosen)}
    found = list({**(read_results() if arguments.only else {}), **now}.values())
    RESULTS.write_text(
        json.dumps([[each.source, each.name, each.form.name, each.kind.name, each.detail] for each in found])
    )
    versions = [("Python", platform.python_version()), *((name, version(name)) for name in _PACKAGES)]
    PAGE.write_text(render(make_page(found, [("machine", platform.machine()), *versions], pinned)))
    faults = [each for each in now.values() if each.kind in FAULTS]
    for each in faults:
        print(f"{each.source}: {each.name}: {each.kind.value}: {each.detail}", file=sys.stderr)
    print(f"{len(now)} asked, {len(faults)} refused without a reason, answered wrong or ended the server: see {PAGE}")
    return 1 if faults else 0


def read_results() -> dict[tuple[str, str, Form], Found]:
    """What the last run found, if there was one."""
    if not RESULTS.exists():
        return {}
    return {
        (source, name, Form[form]): Found(source, name, Form[form], Kind[kind], detail)
        for source, name, form, kind, detail in json.loads(RESULTS.read_text())
    }


def all_cases(pinned: list[Pin], wheels: Path) -> Iterator[Case]:
    """The models of the wheels, and the tests of the installed onnx."""
    for pin in pinned:
        yield from wheel_cases(pin, wheels)
    yield from installed_cases(KINDS)


def run(cases: Iterator[Case]) -> Iterator[Found]:
    """Ask each model, the backend tests also without golden inputs, the others also in batches."""
    judge = Judge()
    try:
        with tempfile.TemporaryDirectory() as directory:
            for part in iter(lambda: list(itertools.islice(cases, _MODELS_PER_SERVER)), []):
                servers = [ServedModels(Path(directory), form) for form in Form]
                try:
                    for case in part:
                        reference = judge.ask(case)
                        print(f"{case.source} {case.name}", end="", file=sys.stderr, flush=True)
                        skipped = Form.BATCHED if case.requests else Form.WITHOUT_GOLDEN
                        for served in servers:
                            if served.form is not skipped:
                                each = served.ask(case, reference)
                                yield each
                                print(f": {each.kind.value}", end="", file=sys.stderr, flush=True)
                        print(file=sys.stderr)
                finally:
                    for served in servers:
                        served.close()
    finally:
        judge.close()


if __name__ == "__main__":
    sys.exit(main())
