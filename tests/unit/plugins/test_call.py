# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is said of a device whose module ended without an answer."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.edgeml.fleet.plugins.plugin_utils import _call
from ansible_collections.edgeml.fleet.plugins.plugin_utils._call import without_answer


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (
            {"module_stderr": "/bin/sh: 1: python4: not found\n", "msg": "MODULE FAILURE"},
            "/bin/sh: 1: python4: not found",
        ),
        ({"module_stderr": "", "module_stdout": "sudo: a\r\nsudo: b\n", "msg": "MODULE FAILURE"}, "sudo: a; sudo: b"),
        (
            {"module_stderr": "Traceback (most recent call last):\n  File x\nImportError: No module named ssl\n"},
            "ImportError: No module named ssl",
        ),
        ({"module_stdout": "", "msg": "Premature end.\n\n>>> Standard Error"}, "Premature end.; >>> Standard Error"),
        ({}, "nothing says why"),
    ],
)
def test_a_module_without_an_answer_is_explained_by_what_was_printed(result: dict[str, Any], reason: str) -> None:
    assert without_answer(result) == f"nothing was begun: {reason}"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("not JSON", "a result that is no JSON"),
        ("[" * 100_000, "a result that is no JSON"),
        ("[]", "a result of another form: the result is a list"),
        ("{}", "a result of another form: changed is missing"),
        ('{"changed": "yes"}', "a result of another form: changed is a text"),
        ('{"changed": false, "add_host": {}}', "a result of another form: add_host is not known"),
        ('{"changed": false, "missing_blobs": {}}', "a result of another form: missing_blobs is an object"),
        ('{"changed": false, "missing_blobs": [1]}', "a result of another form: missing_blobs[0] is a number"),
        (
            '{"changed": false, "missing_blobs": [{"path": "a"}]}',
            "a result of another form: missing_blobs[0].held_bytes is missing",
        ),
    ],
)
def test_what_is_wrong_with_a_result_is_named(text: str, wrong: str) -> None:
    assert _call._parse_result("model_swap", text) == wrong


def test_a_result_of_the_documented_form_is_taken() -> None:
    assert _call._parse_result("model_swap", '{"changed": true, "version": "1"}') == {"changed": True, "version": "1"}
