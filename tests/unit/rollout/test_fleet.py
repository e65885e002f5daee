# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The state of a fleet: what it says of each device, and what comes first."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fleets
import pytest
from fleets import AWAY, NOW, WAY_BACK, model, status
from rollout_stage import CLASSES, Stage

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout import devices
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.fleet import (
    Asked,
    fleet_document,
    fleet_samples,
    json_text,
)

NAN = float("nan")


def only(said: Any, wanted: Any = (), **options: Any) -> dict[str, Any]:
    """The entry of the only device of a fleet."""
    (found,) = fleet_document({"edge": Asked(said, "", wanted)}, now=NOW, **options)["devices"]
    return dict(found)


def test_what_needs_attention_comes_first() -> None:
    devices = fleets.troubled()["devices"]
    levels = [item["attention"] for item in devices]
    assert levels == sorted(levels, key=["bad", "waits", "good"].index)
    assert {item["device"] for item in devices if item["attention"] == "good"} == {
        "edge-good",
        "edge-first",
    }
    assert {item["device"]: item["reasons"] for item in devices if item["reasons"]} == {
        "edge-dead": ["the inference server does not answer", "the server's certificate has expired"],
        "edge-broken": ["cannot be read: state.json: damaged"],
        "edge-stopped": ["digits: 1.2.0 was stopped: less accurate"],
        "edge-withdrawn": ["digits: 1.1.0 is withdrawn: labels were permuted"],
        "edge-expiring": ["the device's certificate expires in 4.8 days", "the signed metadata expires in 0.5 days"],
        "edge-new": ["away; never seen here"],
        "edge-away": ["away; last seen 2026-11-27T04:00:00Z"],
        "edge-drift": ["digits: drift of pixel mean"],
        "edge-lost": ["digits: no way back: /var/lib/edgeml/store/model.onnx: the file is missing"],
        "edge-old": ["digits: on 1.0.0; the ledger has 1.1.0"],
        "edge-trial": ["digits: 1.1.0 is on trial"],
        "edge-empty": ["digits: on no version; the ledger has 1.1.0"],
    }
    assert [item["device"] for item in devices][:2] == ["edge-dead", "edge-broken"], "more reasons come before fewer"


def test_a_device_that_is_away_keeps_what_it_said_last() -> None:
    before = fleet_document({"edge": Asked(status())}, now="2026-11-27T04:00:00Z")
    found = only(AWAY, before=before)
    assert (found["answers"], found["seen"]) == ("away", "2026-11-27T04:00:00Z")
    assert found["models"] == before["devices"][0]["models"]
    # Again, and again: what is not asked is remembered, too.
    other = fleet_document({"other": Asked(status())}, before=before, now=NOW)
    assert only({}, before=other)["seen"] == "2026-11-27T04:00:00Z"
    assert only(AWAY)["seen"] is None


WANTED = [{"model": "digits", "version": "1.2.0", "stopped_releases": [{"version": "1.1.0", "why": "less accurate"}]}]


def test_a_device_that_is_away_is_held_to_what_the_repository_and_the_ledger_say_now() -> None:
    before = fleet_document({"edge": Asked(status())}, now="2026-11-27T04:00:00Z")
    withdrawn = {"digits": {"1.1.0": "labels were permuted"}}
    found = only(AWAY, WANTED, before=before, withdrawn=withdrawn)
    assert found["attention"] == "bad"
    assert found["reasons"] == [
        "digits: 1.1.0 is withdrawn: labels were permuted",
        "digits: 1.1.0 was stopped: less accurate",
        "away; last seen 2026-11-27T04:00:00Z",
    ]
    # What the device itself knew of a withdrawal is not forgotten where the repository cannot be read.
    knew = fleet_document({"edge": Asked(status(model(withdrawn={"1.1.0": "recalled"})))}, now="2026-11-27T04:00:00Z")
    assert only(AWAY, before=knew)["models"][0]["withdrawn"] == "recalled"
    assert only(AWAY, before=before)["attention"] == "waits"


def test_a_device_that_was_replaced_under_its_name_lacks_the_release() -> None:
    empty = status(models=[])
    assert only(empty)["attention"] == "good", "the ledger has nothing for it"
    found = only(empty, WANTED)
    assert (found["attention"], found["reasons"]) == ("waits", ["digits: on no version; the ledger has 1.2.0"])
    assert [item["model"] for item in found["models"]] == ["digits"]
    # Nobody knows what a device has that never answered.
    assert only(AWAY, WANTED)["models"] == []


@pytest.mark.parametrize("before", [{}, {"devices": None}, {"devices": ["edge", {"name": "edge"}]}])
def test_an_earlier_document_that_somebody_edited_is_passed_over(before: dict[str, Any]) -> None:
    assert only(AWAY, before=before)["seen"] is None


def test_an_accuracy_has_its_interval() -> None:
    (found,) = only(status(model(probe={"metric": "accuracy", "value": 0.95, "samples": 100})))["models"]
    assert found["accuracy"]["of"] == "probe set"
    # Clopper and Pearson's limits of 95 in 100.
    assert (found["accuracy"]["lower"], found["accuracy"]["upper"]) == (
        pytest.approx(0.8872, abs=1e-4),
        pytest.approx(0.9836, abs=1e-4),
    )
    (found,) = only(status(model(labels={"right": 0, "wrong": 5})))["models"]
    assert (found["accuracy"]["of"], found["accuracy"]["value"], found["accuracy"]["lower"]) == ("labels", 0, 0)


@pytest.mark.parametrize(
    ("probe", "accuracy"),
    [
        (None, None),
        ({"error": "no answer"}, {"of": "probe set", "error": "no answer"}),
        (
            {"metric": "rmse", "value": 2.5, "samples": 9},
            {"of": "probe set", "metric": "rmse", "value": 2.5, "samples": 9, "lower": None, "upper": None},
        ),
        (
            {"metric": "mae", "value": None, "samples": 9, "not_finite": 9},
            {"of": "probe set", "error": "mae is no finite number: 9 of 9 answers are none"},
        ),
        ({"metric": "r2", "value": NAN, "samples": 9}, {"of": "probe set", "error": "r2 is no finite number"}),
        (
            {"metric": "accuracy", "top": 3, "value": NAN, "samples": 9},
            {"of": "probe set", "error": "top-3 accuracy is no finite number"},
        ),
    ],
)
def test_what_is_no_share_has_no_interval(probe: Any, accuracy: Any) -> None:
    (found,) = only(status(model(probe=probe, labels=None)))["models"]
    assert found["accuracy"] == accuracy


def test_a_number_that_is_none_is_a_reason_and_null_for_programs() -> None:
    """Each reader of JSON but Python's own refuses NaN."""
    said = status(model(probe={"metric": "mae", "value": NAN, "samples": 9}, labels=None, trial={"seconds": NAN}))
    document = fleet_document({"edge": Asked(said)}, now=NOW)
    assert "digits: the probe set: mae is no finite number" in document["devices"][0]["reasons"]

    def refuse(name: str) -> None:
        raise AssertionError(name)

    read = json.loads(json_text(document), parse_constant=refuse)
    assert read["devices"][0]["models"][0]["trial"] == {"seconds": None}
    assert json.loads(json_text({"a": [1, 2.5, float("-inf"), {"b": NAN}], "c": "NaN"})) == {
        "a": [1, 2.5, None, {"b": None}],
        "c": "NaN",
    }


def test_an_accuracy_among_the_best_classes_says_so() -> None:
    (found,) = only(status(model(probe={"metric": "accuracy", "top": 3, "value": 0.95, "samples": 100})))["models"]
    assert (found["accuracy"]["metric"], found["accuracy"]["top"]) == ("accuracy", 3)


def test_a_device_that_pulls_was_seen_when_it_reported() -> None:
    found = only(status(reported_at="2026-11-26T04:00:00Z"))
    assert (found["seen"], found["attention"]) == ("2026-11-26T04:00:00Z", "waits")
    assert found["reasons"] == ["has not reported for 3.0 days"]
    assert only(status(reported_at="2026-11-29T03:00:00Z"))["attention"] == "good"


def test_what_cannot_be_read_of_a_certificate_has_expired() -> None:
    assert only(status(expires={"metadata": "1970-01-01T00:00:00Z"}))["reasons"] == ["the signed metadata has expired"]
    assert only(status(expires={"metadata": "soon"}))["attention"] == "good"


# ---- the step ----


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """Four devices that answered, before anything was written."""
    found = Stage(tmp_path, status_page=str(tmp_path / "pages" / "fleet.html"))
    found.register("status", dict.fromkeys(CLASSES, status(model(live="1.0.0", active="1.0.0", way_back=WAY_BACK))))
    return found


def read(stage: Stage) -> dict[str, Any]:
    path = Path(stage.variables["status_page"]).with_suffix(".json")
    return dict(json.loads(path.read_text()))


def test_the_page_and_its_json_are_written(stage: Stage, tmp_path: Path) -> None:
    result = stage.step("fleet")
    assert result["page"] == str(tmp_path / "pages" / "fleet.html")
    assert sorted(os.listdir(tmp_path / "pages")) == ["fleet.html", "fleet.json", "fleet.prom"]
    assert {item["device"]: item["device_class"] for item in read(stage)["devices"]} == CLASSES
    metrics = (tmp_path / "pages" / "fleet.prom").read_text()
    assert 'edgeml_fleet_devices{attention="good"} 4\n' in metrics
    assert (
        len(re.findall(r'edgeml_fleet_seen_timestamp_seconds{device="edge-..",device_class="\w+"} 1\d{9}\n', metrics))
        == 4
    )
    assert "All is well on 4 devices" in (tmp_path / "pages" / "fleet.html").read_text()


def test_devices_are_held_to_the_ledger(stage: Stage) -> None:
    stage.step("plan")
    for number in (1, 2):
        stage.wave(number, {})
    stage.step("close")
    (stage.ledger / "digits-9-1.json").write_text("{")
    stage.register("status_withdrawn", {"edge-s1": {"failed": True, "msg": "no root"}})
    result = stage.step("fleet")
    document = read(stage)
    assert {item["device"]: item["reasons"] for item in document["devices"]} == {
        host: ["digits: on 1.0.0; the ledger has 1.1.0"] for host in CLASSES
    }
    (rollout,) = document["rollouts"]
    assert (rollout["id"], rollout["state"], rollout["devices"], rollout["waves_begun"]) == (
        "digits-1.1.0-1",
        "passed",
        4,
        2,
    )
    assert "digits-9-1.json: cannot be read" in document["notes"][0]
    metrics = Path(stage.variables["status_page"]).with_suffix(".prom").read_text()
    assert 'edgeml_fleet_on_release{device="edge-s1",model="digits",version="1.1.0"} 0\n' in metrics
    assert document["notes"][1] == "Withdrawn releases could not be read: no root"
    # Shown as well, but for what another task has failed with.
    assert result["warnings"] == document["notes"][:1]


def test_a_run_for_a_part_of_the_fleet_forgets_nobody_but_who_left(stage: Stage) -> None:
    stage.step("fleet")
    stage.hosts = ["edge-s1"]
    stage.groups = {"all": ["edge-s1", "edge-s2"]}
    stage.step("fleet")
    assert [item["device"] for item in read(stage)["devices"]] == ["edge-s1"]
    assert [item["device"] for item in read(stage)["not_asked"]] == ["edge-s2"]
    page = Path(stage.variables["status_page"])
    assert "All is well on 1 device; 1 more was not asked" in page.read_text()
    # Nor does Prometheus: an alert about a device does not end because another one was asked.
    metrics = page.with_suffix(".prom").read_text()
    assert re.findall(r'edgeml_fleet_seen_timestamp_seconds\{device="([^"]+)"', metrics) == ["edge-s1", "edge-s2"]
    assert 'edgeml_fleet_devices{attention="good"} 2\n' in metrics


def test_metrics_say_when_they_were_made_and_who_is_on_the_release() -> None:
    before = fleet_document({"Edge-9.Site-B": Asked(status())}, now="2026-11-27T04:00:00Z")
    asked = {name: Asked(said, "", WANTED) for name, said in (("Edge-9.Site-B", AWAY), ("new", AWAY))}
    asked["right"] = Asked(status(model(active="1.2.0", live="1.2.0")), "", WANTED)
    samples = fleet_samples(fleet_document(asked, before=before, now=NOW))
    assert samples[0] == ("edgeml_fleet_made_timestamp_seconds", {}, 1795924800.0)
    assert {labels["device"]: value for name, labels, value in samples if name == "edgeml_fleet_on_release"} == {
        "Edge-9.Site-B": 0.0,
        "new": 0.0,
        "right": 1.0,
    }


def test_a_damaged_document_of_an_earlier_run_is_named_and_replaced(stage: Stage) -> None:
    stage.step("fleet")
    path = Path(stage.variables["status_page"]).with_suffix(".json")
    for damaged in ("{", '{"schema": 9}', "[]"):
        path.write_text(damaged)
        stage.step("fleet")
        assert f"{path}: cannot be read, so that nobody knows" in read(stage)["notes"][0]
    stage.step("fleet")
    assert read(stage)["notes"] == []


def test_a_device_whose_variables_are_wrong_is_named_and_shown(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    described = devices.describe

    def describe(variables: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
        if variables is stage.host["edge-l1"]:
            raise ArgumentError("edge-l1: device_class: 'site' is undefined")
        return described(variables, names)

    monkeypatch.setattr(devices, "describe", describe)
    stage.step("fleet")
    document = read(stage)
    assert document["notes"] == ["edge-l1: device_class: 'site' is undefined"]
    assert {item["device"]: item["device_class"] for item in document["devices"]} == {**CLASSES, "edge-l1": ""}


def test_a_ledger_that_cannot_be_read_is_named(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("")
    stage.step("fleet")
    assert f"{tmp_path / 'ledger'}: cannot be read" in read(stage)["notes"][0]


@pytest.mark.parametrize("changes", [{"check_mode": True}, {"status_page": ""}])
def test_nothing_is_written_where_nothing_is_to_be(stage: Stage, changes: dict[str, Any], tmp_path: Path) -> None:
    stage.check_mode = changes.pop("check_mode", False)
    stage.variables.update(changes)
    assert stage.step("fleet") == {"page": ""}
    assert not (tmp_path / "pages").exists()


def test_a_microcontroller_is_beside_its_gateway() -> None:
    silent = {**status(), "server_live": False}
    asked = {
        "gateway-2": Asked(status()),
        "gateway-1": Asked(status()),
        "z-meter": Asked(status(), gateway="gateway-1"),
        "a-meter": Asked(silent, gateway="gateway-2"),
    }
    devices = fleet_document(asked, now=NOW)["devices"]
    assert [item["device"] for item in devices] == ["a-meter", "gateway-1", "z-meter", "gateway-2"]
    assert devices[0]["reasons"][0] == "the microcontroller does not answer"
