# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The metrics of a device: what is collected, how it is written, and that both keep to the table."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from releases import make_release, make_store

from ansible_collections.edgeml.fleet.plugins.module_utils._device.state import WATCHING, Failure, Limits, State, Trial
from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store
from ansible_collections.edgeml.fleet.plugins.module_utils._pull.memory import Memory, PullState
from ansible_collections.edgeml.fleet.plugins.module_utils._watch.collect import collect
from ansible_collections.edgeml.fleet.plugins.module_utils._watch.command import main
from ansible_collections.edgeml.fleet.plugins.module_utils._watch.metrics import DEVICE_METRICS, exposition

OLD, NEW = "1.0.0", "1.1.0"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = make_store(tmp_path, make_release(OLD), make_release(NEW))
    store.update("digits", State(NEW, OLD))
    return store


def values(store: Store, pull_state: str = "/nowhere", root: str = "/nowhere") -> dict[tuple[str, ...], float]:
    """What is collected, by the metric's name and the values of its labels."""
    return {(name, *labels.values()): value for name, labels, value in collect(store, pull_state, root)}


def test_a_device_where_all_is_well(store: Store) -> None:
    store.reserve_space()
    found = values(store)
    assert found.pop(("edgeml_store_size_bytes",)) >= found.pop(("edgeml_store_free_bytes",)) > 0
    assert found == {
        ("edgeml_store_reserve",): 1,
        ("edgeml_store_damaged_models",): 0,
        ("edgeml_version_info", "digits", NEW, "active"): 1,
        ("edgeml_version_info", "digits", OLD, "previous"): 1,
        ("edgeml_trial_active", "digits"): 0,
        ("edgeml_reverted_timestamp_seconds", "digits"): 0,
        ("edgeml_failed_versions", "digits"): 0,
        ("edgeml_withdrawn_active", "digits"): 0,
        ("edgeml_way_back_ready", "digits", OLD): 1,
    }


def test_a_trial_and_what_failed_before(store: Store) -> None:
    trial = Trial(WATCHING, OLD, None, 300, Limits(), None, 0, "", 0)
    store.update("digits", State(NEW, OLD, trial, {"1.2.0": Failure("slow", "2026-11-21T10:15:09Z", "")}))
    found = values(store)
    assert (found["edgeml_trial_active", "digits"], found["edgeml_failed_versions", "digits"]) == (1, 1)


def test_only_what_the_device_did_by_itself_is_a_return(store: Store) -> None:
    store.transition("digits", State(OLD, NEW), {"event": "revert", "actor": "ansible"})
    assert values(store)["edgeml_reverted_timestamp_seconds", "digits"] == 0
    store.transition("digits", State(OLD, NEW), {"event": "revert", "actor": "device"})
    at = values(store)["edgeml_reverted_timestamp_seconds", "digits"]
    assert at > 1.7e9
    store.transition("digits", State(NEW, OLD), {"event": "activate", "actor": "ansible"})
    assert values(store)["edgeml_reverted_timestamp_seconds", "digits"] == at


def test_damage_is_counted_and_hides_nothing(store: Store, tmp_path: Path) -> None:
    (Path(store.root) / "models" / "faces").mkdir()
    (Path(store.root) / "models" / "faces" / "state.json").write_text("{")
    found = values(store)
    assert found[("edgeml_store_damaged_models",)] == 1
    assert ("edgeml_trial_active", "digits") in found


def test_a_device_without_a_store_says_what_else_it_has(tmp_path: Path) -> None:
    assert values(Store(str(tmp_path / "none"))) == {}


def test_a_device_that_pulls(store: Store, tmp_path: Path) -> None:
    pull = tmp_path / "pull"
    pull.mkdir()
    memory = Memory(str(pull))
    memory.keep(PullState(sequence=3, desired_version=12, expires=1_800_000_000, problem="expired"))
    memory.enqueue(4, b"{}", observation=True)
    found = values(store, str(pull))
    assert found[("edgeml_pull_problem",)] == 1
    assert found[("edgeml_pull_desired_version",)] == 12
    assert found[("edgeml_pull_queued_reports",)] == 1
    assert found["edgeml_expiry_timestamp_seconds", "metadata"] == 1_800_000_000
    (pull / "state.json").write_text("{")
    found = values(store, str(pull))
    assert (found[("edgeml_pull_problem",)], found[("edgeml_pull_queued_reports",)]) == (1, 1)


# ---- the text format ----


def test_promtool_has_nothing_to_say() -> None:
    samples = [(metric.name, dict.fromkeys(metric.labels, "x"), 1.5) for metric in DEVICE_METRICS]
    checked = subprocess.run(["promtool", "check", "metrics"], input=exposition(samples).encode(), capture_output=True)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


@given(st.text(), st.floats(allow_nan=False, allow_infinity=False))
def test_any_name_and_number_is_read_back(name: str, value: float) -> None:
    text = exposition([("edgeml_power_watts", {"sensor": name}, value)])
    (family,) = text_string_to_metric_families(text)
    (sample,) = family.samples
    assert (sample.labels, sample.value) == ({"sensor": name}, value)


def test_what_is_not_in_the_table_is_refused() -> None:
    with pytest.raises(KeyError):
        exposition([("edgeml_humidity", {}, 1)])
    with pytest.raises(ValueError, match=r"expected the labels \('sensor',\); found \(\)"):
        exposition([("edgeml_power_watts", {}, 1)])


def test_the_command_writes_a_textfile_whole(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "edgeml.prom"
    options = ["--store", store.root, "--pull-state", str(tmp_path / "none")]
    assert main([*options, "--textfile", str(path)]) == 0
    assert path.read_text().startswith("# HELP edgeml_store_free_bytes")
    assert path.stat().st_mode & 0o777 == 0o644
    assert [name for name in os.listdir(tmp_path) if name.endswith(".part")] == []
    assert main(options) == 0
    assert "edgeml_trial_active" in capsys.readouterr().out
    assert main([*options, "--textfile", str(tmp_path / "absent" / "x.prom")]) == 1
    assert "edgeml metrics: " in capsys.readouterr().err
