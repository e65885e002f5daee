# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page docs/conformance.md: written from what a run found, and read back to see that it has that form."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from conformance_cases import Pin
from conformance_serving import Form, Found, Kind

_INTRODUCTION = """\
# Conformance

<!-- Written by `make conformance`; tests/unit/test_conformance_page.py reads it. -->

Models that others made, served by the real inference server and compared with their runtime in a process of its own:
the backend tests of the ONNX project, and the models inside wheels on PyPI. Each model becomes a release with a golden
file (the runtime's first answer), is verified as the controller does it, installed into a device's store and loaded;
then it is asked over HTTP, in JSON and with the binary extension. *Served right* means the same bits, in the protocol's
types and shapes; NaN and infinities are `null` in JSON. Models that draw random numbers are compared by type and shape.
In a batch numbers are added in another order: there a relative difference of 0.001 is within tolerance.

`make conformance` downloads the wheels, whose digests are below, asks everything and writes this page again.
"""
_COLUMNS = {
    "models": tuple(Kind),
    "served right": (Kind.SAME, Kind.CLOSE, Kind.RANDOM),
    "of these random": (Kind.RANDOM,),
    "of these within tolerance": (Kind.CLOSE,),
    "refused as the runtime does": (Kind.RUNTIME,),
    "type not in the protocol": (Kind.PROTOCOL,),
    "unusual size": (Kind.SIZES,),
    "refused otherwise": (Kind.OTHER,),
    "wrong values": (Kind.WRONG,),
    "server ended": (Kind.CRASHED,),
}
REFUSED = (Kind.RUNTIME, Kind.PROTOCOL, Kind.SIZES, Kind.OTHER)
FAULTS = (Kind.OTHER, Kind.WRONG, Kind.CRASHED)
FAULT_COLUMNS = ("refused otherwise", "wrong values", "server ended")
ALL = "all"
AGAIN = {
    Form.WITHOUT_GOLDEN: "onnx again, without golden inputs",
    Form.BATCHED: "wheels again, eight requests at once, in batches",
}
_REASON_CHARACTERS_MAX = 110


@dataclass(frozen=True)
class Page:
    """The tables of the page: cells of each row, without the headings."""

    versions: Sequence[Sequence[str]]
    results: Sequence[Sequence[str]]
    refusals: Sequence[Sequence[str]]
    wheels: Sequence[Sequence[str]]

    def counts(self, column: str) -> dict[str, int]:
        """The numbers in a column of the results, by what the row is of."""
        place = 1 + list(_COLUMNS).index(column)
        return {row[0]: int(row[place].replace(",", "")) for row in self.results}


_TABLES = {
    "versions": ("", ("package", "version")),
    "results": ("## What was served", ("models from", *_COLUMNS)),
    "refusals": ("## What was refused, and why", ("kind", "reason", "models", "such as")),
    "wheels": ("## The wheels", ("package", "version", "SHA-256")),
}


def make_page(found: Sequence[Found], versions: Sequence[tuple[str, str]], pins: Sequence[Pin]) -> Page:
    """The page of a run."""
    published: dict[str, Counter[Kind]] = {}
    for each in sorted(found, key=lambda each: each.source):
        published.setdefault(AGAIN.get(each.form, each.source), Counter())[each.kind] += 1
    again = {name: published.pop(name) for name in AGAIN.values() if name in published}
    rows = {**published, ALL: sum(published.values(), Counter()), **again}
    results = [_row(source, counts) for source, counts in rows.items()]
    return Page(versions, results, _refusals(found), [(pin.package, pin.version, pin.sha256) for pin in pins])


def render(page: Page) -> str:
    """The text of the page."""
    parts = [_INTRODUCTION]
    for name, (heading, columns) in _TABLES.items():
        rows = [columns, ["---"] * len(columns), *getattr(page, name)]
        table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
        parts.append(f"{heading}\n\n{table}" if heading else table)
    return "\n".join(parts)


def parse(text: str) -> Page:
    """The tables of a page's text. Raises ValueError where it has not the form of the page."""
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    cells = [[line[2:-2].split(" | ") for line in table.splitlines()] for table in tables]
    headings = [list(columns) for _heading, columns in _TABLES.values()]
    if [table[0] for table in cells] != headings:
        raise ValueError(f"expected tables with the headings {headings}; found {[table[0] for table in cells]}")
    return Page(*([tuple(row) for row in table[2:]] for table in cells))


def _row(source: str, counts: Counter[Kind]) -> tuple[str, ...]:
    return (source, *(f"{sum(counts[kind] for kind in kinds):,}" for kinds in _COLUMNS.values()))


def _refusals(found: Iterable[Found]) -> list[tuple[str, ...]]:
    grouped: dict[tuple[Kind, str], dict[tuple[str, str], None]] = {}
    for each in found:
        if each.kind in (*REFUSED, Kind.WRONG, Kind.CRASHED):
            grouped.setdefault((each.kind, _general(each.detail)), {})[each.source, each.name] = None
    ordered = sorted(grouped.items(), key=lambda item: (list(Kind).index(item[0][0]), -len(item[1]), item[0][1]))
    return [(kind.value, reason, f"{len(cases):,}", f"`{next(iter(cases))[1]}`") for (kind, reason), cases in ordered]


def _general(reason: str) -> str:
    """A reason without what is a single model's own."""
    patterns = (
        (r"^\d{3}: ", ""),
        (r"^[^ ]*model[^ ]*: ONNX Runtime [\d.]+ cannot load it: ", "ONNX Runtime cannot load it: "),
        (r"^model '[^']*': ", ""),
        (r"\[ONNXRuntimeError\] : \d+ : ", ""),
        (r"Load model from \S+ failed:", ""),
        (r"'[^']*'|\"[^\"]*\"", "'…'"),
        (r"\([^()]*\)", "(…)"),
        (r"\[[-\d, ]*\]", "[…]"),
        (r"\b\d+\b", "N"),
        (r"(implementation for|kernel for) \w+", r"\1 …"),
        (r"(error: [\w.]+):\w+", r"\1:…"),
        (r"(while running) \w+", r"\1 …"),
        (r"\s+", " "),
    )
    for pattern, general in patterns:
        reason = re.sub(pattern, general, reason)
    return reason[:_REASON_CHARACTERS_MAX].strip().replace("|", "\\|")
