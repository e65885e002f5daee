# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is said of a device whose module ended without an answer."""

from __future__ import annotations

from typing import Any

import pytest

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
