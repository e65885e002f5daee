# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a device is asked and what it answers, and the digest that decides who answers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from links import REPOSITORY
from module_options import documented_options

from ansible_collections.edgeml.fleet.plugins.module_utils._common.code import PACKAGE, code_digest
from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.module_utils._device.request import (
    MODULES,
    REQUEST_BYTES_MAX,
    RESULTS,
    InfoRequest,
    SwapRequest,
    argument_spec,
    make_request,
    read_answer,
    read_call,
    write_call,
    write_code,
    write_result,
)

CODE = "c" * 64
SWAP: dict[str, Any] = {"model": "digits", "version": "1.1.0"}


# ---- one declaration ----


@pytest.mark.parametrize("module", sorted(MODULES))
def test_the_documentation_has_each_option_with_its_type_default_and_choices(module: str) -> None:
    documented = documented_options(module)
    spec = argument_spec(module)
    assert set(documented) == set(spec)
    for name, option in spec.items():
        facts = {
            key: documented[name][key] for key in ("type", "default", "choices", "required") if key in documented[name]
        }
        assert facts == {key: option[key] for key in ("type", "default", "choices", "required") if key in option}, name
        if "options" in option:
            suboptions = documented[name]["suboptions"]
            assert _kept(suboptions) == _kept(option["options"])


@pytest.mark.parametrize("module", sorted(MODULES))
def test_the_documentation_has_each_return_value_that_the_controller_takes(module: str) -> None:
    """What is missing in ``RESULTS`` the controller refuses with the whole result."""
    source = (REPOSITORY / f"plugins/modules/{module}.py").read_text()
    documented = yaml.safe_load(source.split('RETURN = r"""')[1].split('"""')[0])
    common = {"changed", "failed", "msg", "warnings", "diff"}
    assert set(documented) - common == set(get_type_hints(RESULTS[module])) - common


def _kept(options: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        name: {key: option[key] for key in ("type", "default", "elements") if key in option}
        for name, option in options.items()
    }


def test_a_request_has_the_defaults_of_the_argument_spec() -> None:
    defaults = {name: option.get("default") for name, option in argument_spec("model_swap").items()}
    assert make_request(SwapRequest, {**defaults, **SWAP}) == SwapRequest(**SWAP)
    assert make_request(InfoRequest, dict.fromkeys(("model",))) == InfoRequest()


# ---- there and back ----

ARGUMENTS = st.fixed_dictionaries(
    {"model": st.text(), "version": st.text()},
    optional={
        "state": st.sampled_from(["present", "active", "previous", "absent"]),
        "manifest": st.none() | st.dictionaries(st.text(), st.text()),
        "inline_blobs": st.dictionaries(st.text(), st.text()),
        "inline_deltas": st.dictionaries(st.text(), st.text()),
        "min_ready_seconds": st.floats(allow_nan=False) | st.integers(),
        "trial_limits": st.fixed_dictionaries({}, optional={"crashes_max": st.none() | st.integers()}),
        "fetch": st.fixed_dictionaries(
            {},
            optional={
                "sources": st.lists(st.text()),
                "proxy": st.none() | st.text(),
                "bytes_per_second": st.integers(),
            },
        ),
        "retry": st.booleans(),
        "keep": st.integers(),
        "keep_versions": st.lists(st.text()),
        "rollout_id": st.none() | st.text(),
        "reason": st.text(),
    },
)


@given(ARGUMENTS, st.booleans())
def test_what_is_asked_arrives(arguments: dict[str, Any], check_mode: bool) -> None:
    call = read_call(write_call(CODE, "model_swap", check_mode, arguments), CODE)
    assert call.check_mode is check_mode
    assert call.request == make_request(SwapRequest, arguments)


def test_only_what_differs_from_its_default_is_sent() -> None:
    text = write_call(CODE, "model_swap", False, {**SWAP, "keep": 1, "repository": "/srv", "trial_limits": {}})
    assert json.loads(text)["arguments"] == SWAP


def test_a_path_is_one_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    text = write_call(CODE, "model_info", False, {"store": "~/store/$SITE", "server": "~/s"})
    monkeypatch.setenv("HOME", "/home/device")
    monkeypatch.setenv("SITE", "hall")
    assert read_call(text, CODE).request == InfoRequest(store="/home/device/store/hall", server="~/s")


def test_the_request_of_other_code_is_not_even_read() -> None:
    text = json.dumps({"code": "d" * 64, "ask": {"of": "the future"}}).encode()
    assert read_call(text, CODE).request is None
    assert read_call(text, None).request is None


@pytest.mark.parametrize(
    "change",
    [
        {"module": "shell"},
        {"check_mode": 1},
        {"arguments": []},
        {"arguments": {**SWAP, "unheard": 1}},
        {"arguments": {"model": "digits"}},
        {"arguments": {**SWAP, "model": None}},
        {"arguments": {**SWAP, "keep": "1"}},
        {"arguments": {**SWAP, "keep": True}},
        {"arguments": {**SWAP, "keep_versions": "1.0.0"}},
        {"arguments": {**SWAP, "retry": 1}},
        {"arguments": {**SWAP, "manifest": []}},
        {"arguments": {**SWAP, "trial_limits": {"crashes_max": "2"}}},
        {"arguments": {**SWAP, "trial_limits": {"unheard": 2}}},
        {"arguments": {**SWAP, "fetch": {"sources": "http://cache"}}},
        {"arguments": {**SWAP, "fetch": {"unheard": 2}}},
    ],
    ids=str,
)
def test_a_request_that_no_controller_makes_is_refused(change: dict[str, Any]) -> None:
    document = {"code": CODE, "module": "model_swap", "check_mode": False, "arguments": SWAP, **change}
    with pytest.raises(ArgumentError, match="the request: expected a call of edgeml; found "):
        read_call(json.dumps(document).encode(), CODE)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"code": 1}'])
def test_what_is_no_request_is_refused(text: bytes) -> None:
    with pytest.raises(ArgumentError, match="the request: expected a call of edgeml; found "):
        read_call(text, CODE)


def test_a_request_that_is_too_long_is_refused() -> None:
    with pytest.raises(ArgumentError, match="the request: expected at most 4194304 bytes; found more"):
        read_call(b" " * (REQUEST_BYTES_MAX + 1), CODE)


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none()))
def test_an_answer_is_found_in_noise(result: dict[str, Any]) -> None:
    lines = [
        "Welcome",
        write_result({"early": 1}),
        write_code(CODE),
        "more noise",
        write_result(result),
        write_result({}),
    ]
    for end in ("\n", "\r\n"):
        answer = read_answer(end.join(line.rstrip("\n") for line in lines) + end)
        assert answer.code == CODE
        assert answer.result is not None
        assert json.loads(answer.result) == result


@pytest.mark.parametrize(
    ("text", "code"),
    [("", None), ("rubbish\n", None), (write_result({}), None), (write_code(None), "null"), (write_code(CODE), CODE)],
)
def test_an_answer_without_a_result_has_none(text: str, code: str | None) -> None:
    assert read_answer(text) == (code, None)


# ---- which code ----


def test_the_digest_is_of_every_file_of_code_and_nothing_else(tmp_path: Path) -> None:
    copy = tmp_path / "edgeml_device"
    shutil.copytree(PACKAGE, copy)
    assert code_digest(str(copy)) == code_digest()
    (copy / "_device" / "__pycache__").mkdir(exist_ok=True)
    (copy / "_device" / "__pycache__" / "x.pyc").write_bytes(b"x")
    assert code_digest(str(copy)) == code_digest()
    found = {code_digest()}
    for path in sorted(copy.rglob("*.py")):
        content = path.read_bytes()
        path.write_bytes(content + b"#")
        found.add(code_digest(str(copy)))
        path.write_bytes(content)
    (copy / "_device" / "more.py").touch()
    found.add(code_digest(str(copy)))
    assert len(found) == len(list(copy.rglob("*.py"))) + 1


def test_the_digest_is_written_where_the_device_reads_it(tmp_path: Path) -> None:
    copy = tmp_path / "edgeml_device"
    shutil.copytree(PACKAGE, copy)
    program = "from edgeml_device._common.code import installed_digest as found; print(found())"

    def installed() -> str:
        command = [sys.executable, "-sSE", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {program}"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert installed() == "None"
    subprocess.run([sys.executable, str(copy / "_common" / "code.py"), str(copy)], check=True)
    assert installed() == code_digest()


# ---- what a call imports ----


def test_a_read_imports_neither_what_people_are_offered_nor_what_a_swap_needs() -> None:
    program = (
        "import sys; before = set(sys.modules); import edgeml_device._device.call, edgeml_device._device.describe; "
        "print(*sorted(set(sys.modules) - before))"
    )
    command = [
        sys.executable,
        "-sSE",
        "-c",
        f"import sys; sys.path.insert(0, {str(REPOSITORY / '.cache/python')!r}); {program}",
    ]
    found = set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert "edgeml_device._device.describe" in found
    heavy = {
        "argparse",
        "dataclasses",
        "inspect",
        "http.client",
        "email",
        "ssl",
        "subprocess",
        "tempfile",
        "shutil",
        "platform",
    }
    assert found & {*heavy, "edgeml_device._device.swap", "edgeml_device._device.cli"} == set()
