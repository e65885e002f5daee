# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""docs/conformance.md is what ``make conformance`` writes today, of the wheels that it downloads."""

from __future__ import annotations

from conformance_cases import pins
from conformance_page import AGAIN, ALL, FAULT_COLUMNS, make_page, parse, render
from conformance_serving import Form, Found, Kind
from links import REPOSITORY

TEXT = (REPOSITORY / "docs" / "conformance.md").read_text()


def found(name: str, kind: Kind, detail: str = "", form: Form = Form.PUBLISHED) -> Found:
    return Found("a source", name, form, kind, detail)


def test_the_page_has_the_form_that_the_command_writes() -> None:
    assert render(parse(TEXT)) == TEXT


def test_the_page_is_of_the_wheels_that_the_command_downloads() -> None:
    assert parse(TEXT).wheels == [(pin.package, pin.version, pin.sha256) for pin in pins()]


def test_nothing_is_wrong_in_the_page() -> None:
    page = parse(TEXT)
    assert page.counts("models")[ALL] > 3000
    assert page.counts("served right")[ALL] > 2500
    for column in FAULT_COLUMNS:
        assert set(page.counts(column).values()) == {0}, column


def test_counts_and_reasons_of_a_run() -> None:
    run = [
        found("first", Kind.SAME),
        found("second", Kind.CLOSE),
        found("third", Kind.PROTOCOL, "400: input 'x': expected one of a|b; found tensor(bfloat16) of 12"),
        found("fourth", Kind.PROTOCOL, "400: input 'y': expected one of a|b; found tensor(bfloat16) of 9"),
        found("fifth", Kind.WRONG, "output 'y': 3 of 4 values differ"),
        found("first", Kind.SIZES, "400: shape: expected 1 or more", Form.WITHOUT_GOLDEN),
    ]
    page = make_page(run, [("machine", "any")], [])
    assert page.counts("models") == {"a source": 5, ALL: 5, AGAIN[Form.WITHOUT_GOLDEN]: 1}
    assert page.counts("served right") == {"a source": 2, ALL: 2, AGAIN[Form.WITHOUT_GOLDEN]: 0}
    assert page.counts("of these within tolerance") == {"a source": 1, ALL: 1, AGAIN[Form.WITHOUT_GOLDEN]: 0}
    assert page.counts("wrong values") == {"a source": 1, ALL: 1, AGAIN[Form.WITHOUT_GOLDEN]: 0}
    assert page.refusals == [
        (
            "a type that the protocol cannot carry",
            r"input '…': expected one of a\|b; found tensor(…) of N",
            "2",
            "`third`",
        ),
        ("a size that no golden input shows", "shape: expected N or more", "1", "`first`"),
        ("wrong values", "output '…': N of N values differ", "1", "`fifth`"),
    ]
    assert parse(render(page)) == page
