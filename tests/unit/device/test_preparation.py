# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prepared models: what a runtime makes is taken over whole or not at all, and never stands in a release's way."""

from __future__ import annotations

import functools
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from releases import activate, make_pipeline, make_release, put

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import (
    CandidateError,
    IntegrityError,
    StoreError,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._device import (
    preparation,
    runtime,
    service_config,
    smoke_test,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._device.accelerator import read_accelerator
from ansible_collections.edgeml.fleet.plugins.module_utils._device.facts import processor_id
from ansible_collections.edgeml.fleet.plugins.module_utils._device.plan import SwapOptions
from ansible_collections.edgeml.fleet.plugins.module_utils._device.preparation import prepare
from ansible_collections.edgeml.fleet.plugins.module_utils._device.prepared import (
    MODEL_BYTES_MIN,
    PreparedModel,
    parse_prepared,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._device.state import ModelServer
from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store
from ansible_collections.edgeml.fleet.plugins.module_utils._device.swap import Swap
from ansible_collections.edgeml.fleet.plugins.module_utils._device.transitions import Cause
from ansible_collections.edgeml.fleet.plugins.module_utils._device.upgrade import renew
from ansible_collections.edgeml.fleet.plugins.module_utils._device.version import Version
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import WHOLE

MODEL = bytes(MODEL_BYTES_MIN)
SMOKE = """*tools.smoke*) echo '{"latency_seconds": 0.1, "runtime": "shell 1"}' ;;"""
ANSWER = {
    "settings": {"prepacking": "no"},
    "files": ["model.onnx", "model.onnx.data"],
    "entrypoint": "model.onnx",
    "runtime": "shell 1",
    "load_cpu_seconds": 0.01,
}
# Called as: -m edgeml_server.tools.prepare VERSION OUTPUT …
MAKE = 'printf graph >"$4/model.onnx"; printf weights >"$4/model.onnx.data"'
RIGHT = f"{MAKE}; echo '{json.dumps(ANSWER)}'"


@pytest.fixture(autouse=True)
def own_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, opt: Path) -> None:
    """The service's user is the one of the tests."""
    monkeypatch.setattr(preparation, "USER", "no such user")
    monkeypatch.setattr(smoke_test, "CONFIG", str(tmp_path / "server.json"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    root = tmp_path / "store"
    root.mkdir()
    return Store(str(root))


def install(opt: Path, script: str, name: str = "1") -> None:
    """Install a runtime whose Python is a shell script: its smoke tests are good, and ``script`` prepares."""
    python = opt / f"venv-{name}" / "bin" / "python"
    python.parent.mkdir(parents=True, exist_ok=True)
    python.write_text(f'#!/bin/sh\ncase "$*" in {SMOKE}\n*)\n{script}\n;; esac\n')
    python.chmod(0o755)
    (opt / f"app-{name}").mkdir(exist_ok=True)


def hold(store: Store, version: str = "1.0.0", content: bytes = MODEL, golden: bytes | None = b"{}") -> Version:
    put(store, make_release(version, files={"model.onnx": content + version.encode()}, golden=golden))
    return store.version("digits", version)


def prepare_tested(store: Store, version: Version) -> dict[str, Any]:
    store.note_test(version, {"runtime_id": runtime.runtime_id(), "runtime": "shell 1"})
    prepare(store, version)
    return store.tested(version) or {}


def beside(version: Version) -> list[str]:
    """What is prepared in the version's directory, used or not."""
    return [name for name in os.listdir(version.directory) if name.startswith("prepared-")]


def swap(store: Store) -> Swap:
    return Swap(store, "digits", Cause(actor="test"), ModelServer(server=str(Path(store.root, "no.sock"))))


# ---- what is right ----


def test_what_the_runtime_makes_becomes_the_stores_own(opt: Path, store: Store) -> None:
    install(opt, RIGHT)
    version = hold(store)
    noted = prepare_tested(store, version)
    prepared = store.prepared(version)
    assert prepared is not None
    assert noted["prepared"]["load_cpu_seconds"] == 0.01
    assert (prepared.runtime, prepared.processor, prepared.settings) == (
        "shell 1",
        processor_id(),
        {"prepacking": "no"},
    )
    graph, weights = (Path(version.directory, file.path) for file in prepared.files)
    assert (graph.read_text(), weights.read_text()) == ("graph", "weights")
    assert prepared.entrypoint == str(graph.relative_to(version.directory))
    assert stat.S_IMODE(weights.stat().st_mode) == 0o440
    assert os.listdir(Path(store.root, "staging")) == []
    version.verify_prepared(prepared)


def test_a_second_call_does_nothing(opt: Path, store: Store) -> None:
    install(opt, RIGHT)
    version = hold(store)
    before = prepare_tested(store, version)
    prepare(store, version)
    assert store.tested(version) == before


def test_the_servers_configuration_is_passed_on(opt: Path, store: Store, tmp_path: Path) -> None:
    (tmp_path / "server.json").write_text("{}")
    install(opt, """printf '{"reason": "%s"}' "$*" """)
    version = hold(store)
    noted = prepare_tested(store, version)["prepared"]["reason"]
    assert noted.startswith(
        f"-m edgeml_server.tools.prepare {version.directory} {store.root}/staging/work --bytes-max "
    )
    assert noted.endswith(f" --config {tmp_path}/server.json")


@pytest.mark.parametrize(("content", "golden"), [(MODEL[:-6], b"{}"), (MODEL, None)], ids=["small", "no golden"])
def test_what_does_not_pay_or_cannot_be_tested_is_not_prepared(
    opt: Path, store: Store, content: bytes, golden: bytes | None
) -> None:
    install(opt, RIGHT)
    version = hold(store, content=content, golden=golden)
    assert "prepared" not in prepare_tested(store, version)


def test_an_engine_pays_for_a_small_model_too(opt: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "execution_provider", lambda: "qnn")
    install(opt, RIGHT)
    assert "settings" in prepare_tested(store, hold(store, content=MODEL[:-6]))["prepared"]


PIPELINE = {name: MODEL + name.encode() for name in ("detector", "reader", "speller")}
# The name of the part is the last argument: one has a form, one settings, one fails.
PARTS = f"""case "$*" in *detector) {RIGHT} ;;
*reader) echo '{json.dumps({**ANSWER, "files": [], "entrypoint": ""})}' ;;
*) echo '{{"error": "no memory"}}'; exit 1 ;; esac"""


def hold_pipeline(store: Store) -> Version:
    put(store, make_pipeline("1.0.0", "digits", PIPELINE, dict.fromkeys(PIPELINE, b"{}")))
    return store.version("digits", "1.0.0")


def test_each_part_of_a_pipeline_is_prepared_for_itself(opt: Path, store: Store) -> None:
    install(opt, PARTS)
    version = hold_pipeline(store)
    noted = prepare_tested(store, version)["prepared"]
    assert noted["parts"]["speller"] == {"reason": "digits 1.0.0: preparation: no memory"}
    prepared = store.prepared(version)
    assert prepared is not None
    assert sorted(prepared.parts) == ["detector", "reader"]
    detector, reader = (prepared.part(name) for name in ("detector", "reader"))
    assert detector is not None
    assert reader is not None
    assert (prepared.part("speller"), prepared.part(WHOLE)) == (None, None)
    assert detector.files == prepared.files != ()
    assert Path(version.directory, detector.entrypoint).read_text() == "graph"
    assert (reader.entrypoint, reader.settings) == ("", {"prepacking": "no"})
    version.verify_prepared(prepared)
    prepare(store, version)
    assert store.tested(version) == {**(store.tested(version) or {}), "prepared": noted}, "it is tried once"
    Path(version.directory, detector.entrypoint).unlink()
    assert store.prepared(version) is None


def test_a_pipeline_of_which_no_part_gains_is_loaded_as_it_is(opt: Path, store: Store) -> None:
    install(opt, """echo '{"reason": "none is quicker"}'""")
    version = hold_pipeline(store)
    noted = prepare_tested(store, version)["prepared"]
    assert noted["reason"] == "no part loads quicker in another form"
    assert noted["parts"]["reader"] == {"reason": "none is quicker"}
    assert store.prepared(version) is None


def test_settings_alone_need_no_files(opt: Path, store: Store) -> None:
    answer = {**ANSWER, "files": [], "entrypoint": ""}
    install(opt, f"echo '{json.dumps(answer)}'")
    version = hold(store)
    prepare_tested(store, version)
    prepared = store.prepared(version)
    assert prepared is not None
    assert (prepared.entrypoint, prepared.files, beside(version)) == ("", (), [])
    Path(version.entrypoint_path).chmod(0o600)
    Path(version.entrypoint_path).write_bytes(b"!" * len(MODEL + b"1.0.0"))
    with pytest.raises(IntegrityError):
        version.verify_prepared(prepared)


# ---- what is not ----


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("kill -9 $$", "ended by signal 9"),
        ("echo no JSON", "ended with code 0"),
        ("exit 3", "ended with code 3"),
        ("""echo '{"error": "no memory"}'""", "no memory"),
        ("""echo '{"settings": {}}'""", "files"),
        (f"echo '{json.dumps(ANSWER)}'", "No such file"),
        (f"{MAKE}; echo '{json.dumps({**ANSWER, 'files': ['../model.onnx']})}'", "expected at most"),
        (
            f"{MAKE}; echo '{json.dumps({**ANSWER, 'files': [f'm{number}' for number in range(5)]})}'",
            "expected at most",
        ),
        (f"{MAKE}; ln -sf /etc/passwd \"$4/model.onnx\"; echo '{json.dumps(ANSWER)}'", "symbolic links"),
        (f'{MAKE}; ln "$4/model.onnx" "$4/more"; echo \'{json.dumps(ANSWER)}\'', "expected a file with one name"),
        (f'{MAKE}; rm "$4/model.onnx"; mkfifo "$4/model.onnx"; echo \'{json.dumps(ANSWER)}\'', "expected a file"),
    ],
)
def test_whatever_goes_wrong_is_noted_and_the_releases_files_are_loaded(
    opt: Path, store: Store, script: str, reason: str
) -> None:
    install(opt, script)
    version = hold(store)
    assert reason in prepare_tested(store, version)["prepared"]["reason"]
    assert store.prepared(version) is None
    assert beside(version) == []


def test_without_room_for_as_much_again_nothing_is_made(
    opt: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(opt, RIGHT)
    version = hold(store)
    monkeypatch.setattr(Store, "free_bytes", lambda _store: 2 * MODEL_BYTES_MIN)
    assert "free bytes; found" in prepare_tested(store, version)["prepared"]["reason"]


# ---- what changes afterwards ----


@pytest.fixture
def prepared(opt: Path, store: Store) -> Version:
    """A version with a prepared model."""
    install(opt, RIGHT)
    version = hold(store)
    prepare_tested(store, version)
    assert store.prepared(version) is not None
    return version


@pytest.mark.parametrize(
    "change",
    [
        {"processor": "another"},
        {"entrypoint": "prepared-1/other"},
        {"entrypoint": 5},
        {"files": [{"path": "../../state.json", "size": 5, "sha256": ""}]},
        {"files": [{"path": "model.onnx", "size": 5, "sha256": ""}]},
        {"files": "text"},
        {"settings": []},
    ],
)
def test_a_record_that_does_not_fit_is_none(store: Store, prepared: Version, change: dict[str, Any]) -> None:
    noted = store.tested(prepared) or {}
    store.note_test(prepared, {**noted, "prepared": {**noted["prepared"], **change}})
    assert store.prepared(prepared) is None


def test_files_of_another_size_are_none(store: Store, prepared: Version) -> None:
    (directory,) = beside(prepared)
    weights = Path(prepared.directory, directory, "model.onnx.data")
    weights.chmod(0o600)
    weights.write_text("less")
    assert store.prepared(prepared) is None


def test_a_changed_bit_has_it_dropped_and_made_anew(store: Store, prepared: Version) -> None:
    (before,) = beside(prepared)
    weights = Path(prepared.directory, before, "model.onnx.data")
    weights.chmod(0o600)
    weights.write_text("Weights")
    assert store.prepared(prepared) is not None
    swap(store)._test(prepared, verify=True)
    (after,) = beside(prepared)
    assert after != before
    assert Path(prepared.directory, after, "model.onnx.data").read_text() == "weights"


def test_where_it_is_prepared_the_releases_own_model_is_not_read_again(store: Store, prepared: Version) -> None:
    path = Path(prepared.entrypoint_path)
    path.chmod(0o600)
    path.write_bytes(bytes(reversed(path.read_bytes())))
    swap(store)._test(prepared, verify=True)
    store.drop_prepared("digits", "1.0.0")
    with pytest.raises(IntegrityError):
        swap(store)._test(prepared, verify=True)


def test_golden_inputs_are_read_all_the_same(store: Store, prepared: Version) -> None:
    golden = prepared.release.parts[WHOLE].golden
    assert golden is not None
    path = Path(prepared.directory, golden.path)
    path.chmod(0o600)
    path.write_text("[]")
    with pytest.raises(IntegrityError):
        swap(store)._test(prepared, verify=True)


def test_another_app_with_the_same_runtime_keeps_it(opt: Path, store: Store, prepared: Version) -> None:
    (before,) = beside(prepared)
    install(opt, "echo must not be called", name="2")
    swap(store)._test(prepared, verify=True)
    assert (store.tested(prepared) or {})["runtime_id"] == "venv-2 app-2"
    assert beside(prepared) == [before]
    assert store.prepared(prepared) is not None


def test_another_runtime_makes_it_anew(opt: Path, store: Store, prepared: Version) -> None:
    (before,) = beside(prepared)
    install(opt, RIGHT.replace("shell 1", "shell 2"), name="2")
    python = opt / "venv-2/bin/python"
    python.write_text(python.read_text().replace("shell 1", "shell 2"))
    swap(store)._test(prepared)
    found = store.prepared(prepared)
    assert found is not None
    assert found.runtime == "shell 2"
    assert beside(prepared) != [before]


@pytest.fixture
def board(opt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a Jetson's files, whose runtime compiles for its power mode."""
    board = tmp_path / "board"
    (board / "var/lib/nvpmodel").mkdir(parents=True)
    set_mode(board, 0)
    (tmp_path / "server.json").write_text('{"execution_provider": "tensorrt"}')
    provider = functools.partial(service_config.execution_provider, str(tmp_path / "server.json"))
    monkeypatch.setattr(runtime, "execution_provider", provider)
    monkeypatch.setattr(preparation, "execution_provider", provider)
    monkeypatch.setattr(runtime, "read_accelerator", functools.partial(read_accelerator, str(board)))
    answer = json.dumps({**ANSWER, "runtime": "shell 1, MODE"})
    smoke = json.dumps({"latency_seconds": 0.1, "runtime": "shell 1, MODE"})
    install(opt, "")
    (opt / "venv-1" / "bin" / "python").write_text(f"""#!/bin/sh
say() {{ echo "$1" | sed "s/MODE/$(cat {board}/var/lib/nvpmodel/status)/"; }}
case "$*" in *tools.smoke*)
    if [ -e {board}/full ]; then echo '{{"error": "out of memory"}}'; exit 1; fi
    say '{smoke}' ;;
*)
    echo "$*" >>{board}/compiled
    {MAKE}
    say '{answer}' ;;
esac
""")
    return board


def set_mode(board: Path, mode: int) -> None:
    """As nvpmodel writes it."""
    (board / "var/lib/nvpmodel/status").write_text(f"pmode:{mode:04} fmode:quiet")


def test_another_power_mode_makes_an_engine_anew(store: Store, board: Path) -> None:
    version = hold(store)
    activate(store, "digits", "1.0.0")
    swap(store)._test(version)
    first = store.prepared(version)
    assert first is not None
    assert first.runtime == "shell 1, pmode:0000 fmode:quiet"
    with store.lock():
        assert renew(store) == []
    set_mode(board, 2)
    with store.lock():
        assert renew(store) == [("digits", "1.0.0")]
        assert renew(store) == []
    second = store.prepared(version)
    assert second is not None
    assert second.runtime == "shell 1, pmode:0002 fmode:quiet"
    assert (board / "compiled").read_text().count("tools.prepare") == 2
    # The first one is gone, and what a client is served was never stopped.
    assert len(beside(version)) == 1


def test_an_engine_that_cannot_be_made_anew_is_named_and_what_serves_stays(store: Store, board: Path) -> None:
    version = hold(store)
    activate(store, "digits", "1.0.0")
    swap(store)._test(version)
    before = store.tested(version)
    set_mode(board, 2)
    (board / "full").touch()
    with store.lock(), pytest.raises(CandidateError, match=r"digits 1\.0\.0: .*out of memory"):
        renew(store)
    assert store.tested(version) == before
    assert store.state("digits").active == "1.0.0"


def test_who_does_not_load_by_the_collections_server_needs_none(opt: Path, store: Store) -> None:
    install(opt, RIGHT)
    version = hold(store)
    Swap(store, "digits", Cause(actor="test"), ModelServer(strategy="none"))._test(version)
    assert "prepared" not in (store.tested(version) or {})


def test_it_goes_with_its_version_and_counts_as_its_own(store: Store, prepared: Version) -> None:
    model = os.stat(prepared.entrypoint_path).st_size
    assert store.prepared_bytes("digits", "1.0.0") == len("graph" + "weights")
    assert store.unique_bytes("digits", "1.0.0") >= model + len("graph" + "weights")
    store.remove("digits", "1.0.0")
    assert not Path(prepared.directory).exists()
    assert os.listdir(Path(store.root, "staging")) == []


def test_what_versions_have_both_is_one_file_and_no_room_is_counted_for_it_twice(
    opt: Path, store: Store, prepared: Version
) -> None:
    install(opt, RIGHT.replace("printf graph", "printf other"))
    other = hold(store, "1.1.0")
    prepare_tested(store, other)
    graphs, weights = (
        [
            Path(version.directory, found.files[number].path)
            for version in (prepared, other)
            if (found := store.prepared(version))
        ]
        for number in range(2)
    )
    assert [path.read_text() for path in graphs] == ["graph", "other"]
    assert weights[0].samefile(weights[1])
    assert store.prepared_bytes("digits", "1.1.0") == len("other")
    assert os.listdir(Path(store.root, "staging")) == []
    store.remove("digits", "1.0.0")
    found = store.prepared(other)
    assert found is not None
    other.verify_prepared(found)
    assert store.prepared_bytes("digits", "1.1.0") == len("other" + "weights")


def test_a_damaged_file_of_another_version_is_not_shared(opt: Path, store: Store, prepared: Version) -> None:
    (directory,) = beside(prepared)
    damaged = Path(prepared.directory, directory, "model.onnx.data")
    damaged.chmod(0o600)
    damaged.write_text("weighty")
    other = hold(store, "1.1.0")
    prepare_tested(store, other)
    (directory,) = beside(other)
    assert Path(other.directory, directory, "model.onnx.data").read_text() == "weights"


def test_it_makes_room_for_a_release_unless_its_version_is_active(
    opt: Path, store: Store, prepared: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(opt, RIGHT.replace("graph", "other").replace("weights", "others"))
    held = hold(store, "0.9.0")
    prepare_tested(store, held)
    activate(store, "digits", "0.9.0")
    new = make_release("1.1.0", files={"model.onnx": b"new" * 4000})
    room = store.prepared_bytes("digits", "1.0.0")
    monkeypatch.setattr(Store, "free_bytes", lambda _store: 12000 - room)
    device = {"architecture": "x86_64", "memory_bytes": 1 << 40}
    options = SwapOptions(keep=5, headroom_percent=0)
    call = Swap(store, "digits", Cause(actor="test"), ModelServer(strategy="none"))
    plan = call.plan_present(new.release, device, options)
    assert plan.drops_prepared
    call.prune(new.release, plan)
    assert store.prepared(prepared) is None
    assert store.prepared(held) is not None
    monkeypatch.setattr(Store, "free_bytes", lambda _store: 12000 - room)
    with pytest.raises(StoreError, match="needs 12000 bytes"):
        call.plan_present(new.release, device, options)


def test_a_record_can_be_read_again() -> None:
    prepared = PreparedModel("runtime 1", "0", "", {"delegate": "none"}, ())
    assert parse_prepared(json.loads(json.dumps(prepared.document))) == prepared
    assert parse_prepared({"reason": "none is quicker"}) is None
    assert parse_prepared({**prepared.document, "parts": {"reader": {"reason": "none is quicker"}}}) is None
    assert parse_prepared(None) is None
