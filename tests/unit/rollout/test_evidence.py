# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The evidence of a rollout: who verifies it has other software than ours, as docs/evidence.md says."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from controller import DIGITS
from evidence_verifiers import PAGE, opened, validate, verify_with_openssl, verify_with_securesystemslib
from rollout_stage import Stage
from securesystemslib.exceptions import VerificationError

from ansible_collections.edgeml.fleet.plugins.module_utils._trust.metadata import TrustError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.evidence import evidence_statement, read_key
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.rollout import State, Wave
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust import keys

NAME = "digits-1.1.0-1.intoto.jsonl"


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    (tmp_path / "scratch").mkdir()
    key = keys.write(keys.generate("controller"), str(tmp_path), None)
    return Stage(tmp_path, rollout_evidence_key=key, rollout_approve_after=[1], rollout_approved=1)


def rolled_out(stage: Stage) -> dict[str, Any]:
    """Roll out in two waves; return what the last step says."""
    stage.step("plan")
    for number in (1, 2):
        stage.wave(number, {})
    return stage.step("close")


@pytest.mark.parametrize(
    ("verify", "error"),
    [
        (verify_with_openssl, subprocess.CalledProcessError),
        (verify_with_securesystemslib, VerificationError),
    ],
)
def test_others_verify_it_and_refuse_what_was_changed(
    stage: Stage, tmp_path: Path, verify: Callable[[Path, Path], str], error: type[Exception]
) -> None:
    closed = rolled_out(stage)
    assert closed["stats"]["rollout_evidence"] == str(stage.ledger / NAME)
    path, public = stage.ledger / NAME, tmp_path / "controller.pub"
    assert "passed" in verify(path, public)
    envelope = json.loads(path.read_text())
    changed = base64.b64decode(envelope["payload"]).replace(b'"updated"', b'"refused"')
    path.write_text(json.dumps({**envelope, "payload": base64.b64encode(changed).decode()}))
    with pytest.raises(error):
        verify(path, public)


def test_it_says_what_was_planned_judged_done_and_agreed(stage: Stage) -> None:
    rolled_out(stage)
    statement = opened(stage.ledger / NAME)
    manifest = json.loads((DIGITS / "digits/1.1.0/manifest.json").read_text())
    content = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["subject"] == [
        {"name": "digits/1.1.0", "digest": {"sha256": hashlib.sha256(content.encode()).hexdigest()}}
    ]
    page, _hash, anchor = statement["predicateType"].partition("#")
    assert (page.rpartition("/")[2], f"\n### {anchor.replace('-', ' ')}\n" in PAGE) == ("evidence.md", True)
    predicate = statement["predicate"]
    validate(predicate)
    first, second = predicate["waves"]
    assert [wave["hosts"] for wave in predicate["plan"]["waves"]] == stage.waves
    assert (first["verdict"], second["verdict"], first["agreed"]) == ("pass", "pass", None)
    assert (second["agreed"]["by"], second["agreed"]["how"]) == ("ann", "rollout_approved")
    assert {"failed devices", "coverage"} <= {finding["check"] for finding in first["findings"]}
    assert {row["device"]: row["after"] for row in predicate["devices"]} == dict.fromkeys(stage.hosts, "1.1.0")
    fields = re.search(r"^### rollout v1$(.+?)^`agreed` names", PAGE, re.MULTILINE | re.DOTALL)
    assert fields
    assert sorted(predicate) == sorted(
        name for cell in re.findall(r"^\| (`.+?`) \|", fields[1], re.MULTILINE) for name in re.findall(r"`(\w+)`", cell)
    )
    assert "wave 2 agreed to by" in (stage.ledger / "digits-1.1.0-1.html").read_text()


@pytest.mark.parametrize(
    ("variables", "answer", "agreed"),
    [
        ({"rollout_approved": 0}, "yes", ("ann", "terminal")),
        ({"rollout_approved_by": "bob"}, None, ("bob", "rollout_approved")),
        # A person who types is there; who agreed to an earlier run is not asked.
        ({"rollout_approved": 0, "rollout_approved_by": "bob"}, "yes", ("ann", "terminal")),
    ],
)
def test_the_ledger_knows_who_agreed(
    stage: Stage, variables: dict[str, Any], answer: str | None, agreed: tuple[str, str]
) -> None:
    stage.variables.update(variables)
    stage.step("plan")
    stage.wave(1, {})
    stage.batch = stage.waves[1]
    stage.can_ask, stage.answer = answer is not None, answer or ""
    assert stage.step("begin_wave")["next"] == "swap"
    found = stage.rollout().begun_wave(2)
    assert found.agreed is not None
    assert (found.agreed.by, found.agreed.how) == agreed
    assert Wave.from_dict(found.to_dict()) == found


def test_a_rollback_signs_anew(stage: Stage) -> None:
    rolled_out(stage)
    stage.variables["rollback_rollout"] = "digits-1.1.0-1"
    stage.step("rollback")
    assert opened(stage.ledger / NAME)["predicate"]["state"] == "rolled back"


def test_evidence_that_is_of_another_state_is_named(stage: Stage) -> None:
    rolled_out(stage)
    del stage.variables["rollout_evidence_key"]
    stage.variables["rollback_rollout"] = "digits-1.1.0-1"
    (warning,) = stage.step("rollback")["warnings"]
    assert warning.startswith(f"{stage.ledger / NAME}: signed before this")
    assert opened(stage.ledger / NAME)["predicate"]["state"] == "passed"


def test_without_a_key_there_is_none(stage: Stage) -> None:
    del stage.variables["rollout_evidence_key"]
    assert rolled_out(stage)["stats"]["rollout_evidence"] == ""
    assert not (stage.ledger / NAME).exists()


def test_a_key_that_cannot_sign_is_refused_before_anything_begins(stage: Stage, tmp_path: Path) -> None:
    stage.variables["rollout_evidence_key"] = str(tmp_path / "lost.pem")
    with pytest.raises(TrustError, match=r"lost\.pem: expected a key; No such file"):
        stage.step("plan")
    assert not stage.ledger.exists() or list(stage.ledger.glob("*.json")) == []


def test_a_key_that_cannot_sign_keeps_no_device_from_going_back(stage: Stage, tmp_path: Path) -> None:
    rolled_out(stage)
    stage.variables.update(rollout_evidence_key=str(tmp_path / "lost.pem"), rollback_rollout="digits-1.1.0-1")
    (warning,) = stage.step("rollback")["warnings"]
    assert "the evidence could not be written: " in warning
    assert "lost.pem: expected a key; No such file" in warning
    assert stage.rollout().state is State.ROLLED_BACK


def test_a_key_that_is_lost_meanwhile_is_a_warning(stage: Stage, tmp_path: Path) -> None:
    stage.step("plan")
    (tmp_path / "controller.pem").unlink()
    for number in (1, 2):
        stage.wave(number, {})
    closed = stage.step("close")
    assert (closed["state"], closed["problem"], closed["stats"]["rollout_evidence"]) == ("passed", "", "")
    assert "controller.pem: expected a key" in closed["warnings"][0]


def test_nobody_is_asked_for_a_passphrase_in_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = keys.write(keys.generate("ci"), str(tmp_path), "five random words together")
    with pytest.raises(TrustError, match="Set EDGEML_PASSPHRASE_CI"):
        read_key(path)
    monkeypatch.setenv("EDGEML_PASSPHRASE_CI", "five random words together")
    assert read_key(path).name == "ci"


def test_a_number_that_json_does_not_have_is_null(stage: Stage) -> None:
    stage.step("plan")
    wave = Wave(1, findings=({"estimate": math.inf, "bounds": {"lower": math.nan, "upper": 1.5}},))
    statement = evidence_statement(stage.rollout().with_wave(wave))
    (finding,) = statement["predicate"]["waves"][0]["findings"]
    assert finding == {"estimate": None, "bounds": {"lower": None, "upper": 1.5}}
