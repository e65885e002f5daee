# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The file of those who are let in to an inference server: what is kept of a secret, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.edgeml.fleet.plugins.module_utils._common.credentials import (
    Credentials,
    CredentialsError,
    make_document,
)

ANNA = {"name": "anna", "secret": "anna's secret of 24 char"}
BERT = {"name": "bert", "secret": "bert's secret of 24 char"}


def written(directory: Path, document: Any) -> str:
    path = directory / "credentials.json"
    path.write_text(json.dumps(document))
    return str(path)


def test_a_secret_opens_for_its_own_name_only(tmp_path: Path) -> None:
    known = Credentials(written(tmp_path, make_document([ANNA, BERT], "pi-1")))
    assert known.verify("anna", ANNA["secret"])
    assert known.verify(None, BERT["secret"])
    assert not known.verify("anna", BERT["secret"])
    assert not known.verify("carl", ANNA["secret"])
    assert not known.verify(None, "a secret of nobody's")


def test_the_file_holds_no_secret_and_is_the_same_for_the_same() -> None:
    document = make_document([ANNA], "pi-1")
    assert document == make_document([ANNA], "pi-1")
    assert ANNA["secret"] not in json.dumps(document)
    other = make_document([ANNA], "pi-2")
    assert other["salt"] != document["salt"]
    assert other["hashes"]["anna"] != document["hashes"]["anna"]


@pytest.mark.parametrize(
    ("credentials", "expected"),
    [
        ([{**ANNA, "name": ""}], "name: expected texts without a colon, each once; found ''"),
        ([{**ANNA, "name": "an:na"}], "name: expected texts without a colon, each once; found 'an:na'"),
        ([ANNA, {**BERT, "name": "anna"}], "name: expected texts without a colon, each once; found 'anna'"),
        ([{**ANNA, "secret": "hunter2hunter2h"}], "the secret of 'anna': expected at least 16 characters; found 15"),
    ],
)
def test_what_no_file_is_made_of(credentials: list[dict[str, str]], expected: str) -> None:
    with pytest.raises(CredentialsError) as refused:
        make_document(credentials, "pi-1")
    assert str(refused.value) == expected


@pytest.mark.parametrize(
    "document",
    [[], {}, {"salt": "0", "hashes": {}}, {"salt": "00", "hashes": []}, {"salt": "00", "hashes": {"anna": 1}}],
)
def test_a_file_of_another_shape_is_refused(tmp_path: Path, document: Any) -> None:
    path = written(tmp_path, document)
    with pytest.raises(CredentialsError) as refused:
        Credentials(path)
    assert str(refused.value).startswith(f"{path}: expected credentials; found ")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "none.json")
    with pytest.raises(CredentialsError, match=r"none\.json: expected credentials; found FileNotFoundError"):
        Credentials(path)
