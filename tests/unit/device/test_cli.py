# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command ``edgeml``, on a real store: what it says, what it does, and its exit codes."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from image_parts import make_image
from links import PYTHON_PATH
from releases import make_release, make_store, put, read_release

from ansible_collections.edgeml.fleet.plugins.module_utils._device import cli, journal
from ansible_collections.edgeml.fleet.plugins.module_utils._device.cli import main
from ansible_collections.edgeml.fleet.plugins.module_utils._device.facts import boot_id, boot_seconds
from ansible_collections.edgeml.fleet.plugins.module_utils._device.service_manager import NoServiceManager
from ansible_collections.edgeml.fleet.plugins.module_utils._device.state import (
    SWITCHING,
    WATCHING,
    Limits,
    ModelServer,
    State,
    Trial,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store
from ansible_collections.edgeml.fleet.plugins.plugin_utils._image.release import publish_images

# Whoever serves these models looks at the store.
ALONE = ModelServer(strategy="none", server="/nowhere")
TRIAL = Trial(
    phase=WATCHING,
    active="1.0.0",
    previous=None,
    seconds=3600.0,
    limits=Limits(),
    baseline=None,
    memory_bytes=1 << 20,
    boot_id=boot_id(),
    since=boot_seconds(),
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with two models, each with 1.0.0 active and 1.1.0 held."""
    models = ("digits", "faces")
    store = make_store(tmp_path, *(make_release(version, model) for model in models for version in ("1.0.0", "1.1.0")))
    for model in models:
        store.update(model, State("1.0.0", serving=ALONE))
    return store


class Edgeml:
    """Calls the command."""

    def __init__(self, store: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.store = store
        self._capsys = capsys

    def call(self, *arguments: str) -> tuple[int, str, str]:
        """The exit code, and what was printed."""
        self._capsys.readouterr()
        code = main([*arguments, "--store", self.store])
        printed = self._capsys.readouterr()
        return code, printed.out, printed.err

    def text(self, *arguments: str) -> str:
        """What a call prints that succeeds."""
        code, out, err = self.call(*arguments)
        assert (code, err) == (0, "")
        return out

    def json(self, *arguments: str) -> Any:
        """What a call returns that succeeds."""
        return json.loads(self.text(*arguments, "--json"))

    def error(self, *arguments: str) -> str:
        """What a call says that fails, which is the same in JSON."""
        code, out, err = self.call(*arguments, "--json")
        assert code == 1
        assert err == f"edgeml: {json.loads(out)['error']}\n"
        return err.removeprefix("edgeml: ").removesuffix("\n")


@pytest.fixture
def edgeml(store: Store, capsys: pytest.CaptureFixture[str]) -> Edgeml:
    return Edgeml(store.root, capsys)


def on_trial(store: Store, model: str = "digits", **changes: Any) -> None:
    """Have a model's 1.1.0 on trial."""
    trial = TRIAL._replace(**changes)
    entry = {"event": "activate", "from": "1.0.0", "to": "1.1.0"}
    store.transition(model, State("1.1.0", "1.0.0", trial, serving=ALONE), entry)


def damage_state(store: Store, model: str = "digits") -> Path:
    path = Path(store.root, "models", model, "state.json")
    path.write_text("{")
    return path


def events(store: Store, model: str = "digits") -> list[str]:
    return [entry["event"] for entry in store.journal(model).history()]


# ---- calls ----


@pytest.mark.parametrize(
    "arguments", [[], ["dance"], ["activate"], ["activate", "digits"], ["revert"], ["status", "x"]]
)
def test_a_wrong_call_is_told_so(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: edgeml" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["status"], ["history"], ["verify"], ["activate", "digits", "1.0.0"], ["revert", "digits"]]
)
def test_a_device_without_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    edgeml = Edgeml(str(tmp_path / "none"), capsys)
    expected = f"{tmp_path}/none: no store here; the role edgeml.fleet.provision makes it"
    assert edgeml.error(*arguments) == expected
    assert edgeml.call(*arguments) == (1, "", f"edgeml: {expected}\n")


@pytest.mark.parametrize("subcommand", ["recover", "watch", "crashed"])
def test_systemd_is_not_troubled_where_there_is_no_store_yet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, subcommand: str
) -> None:
    monkeypatch.setenv("SERVICE_RESULT", "signal")
    edgeml = Edgeml(str(tmp_path / "none"), capsys)
    assert edgeml.text(subcommand) == "no store yet\n"
    assert edgeml.json(subcommand) == {"models": {}}


def test_an_empty_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edgeml = Edgeml(str(tmp_path), capsys)
    assert edgeml.text("status") == "no model\n"
    assert edgeml.text("history") == "no transition\n"
    assert edgeml.text("verify") == "no version is held\n"
    assert edgeml.json("status") == {"models": [], "fetching": []}
    assert edgeml.json("recover") == {"models": {}}
    assert edgeml.error("revert", "digits") == "digits: no version is active: there is nothing to go back from"
    assert edgeml.error("activate", "digits", "1.0.0").endswith("does not hold digits 1.0.0; it holds none")


@pytest.mark.parametrize("name", ["../x", "-rf", "a\nb", "x" * 10_240, ""])
def test_a_name_that_is_none_never_becomes_a_path(edgeml: Edgeml, store: Store, name: str) -> None:
    before = sorted(Path(store.root).rglob("*"))
    for arguments in (["revert", "--", name], ["activate", "--", name, "1.0.0"], ["activate", "--", "digits", name]):
        code = main([arguments[0], "--store", store.root, *arguments[1:]])
        assert code == 1
    assert sorted(path for path in Path(store.root).rglob("*") if path.name != "lock") == before


# ---- to look ----


def test_status(edgeml: Edgeml, store: Store) -> None:
    on_trial(store)
    assert edgeml.text("status").splitlines() == [
        "model   live   active  previous  trial               held          failed",
        "digits  1.1.0  1.1.0   1.0.0     3600 s, else 1.0.0  1.0.0, 1.1.0",
        "faces   1.0.0  1.0.0   -                             1.0.0, 1.1.0",
    ]
    digits, faces = edgeml.json("status")["models"]
    assert digits["trial"] == {"seconds": 3600.0, "returns_to": "1.0.0", "crashes": 0}
    assert (faces["active"], faces["trial"]) == ("1.0.0", None)


def test_status_of_a_model_whose_server_is_nobody(edgeml: Edgeml, store: Store) -> None:
    store.update("digits", State("1.0.0", serving=ModelServer(server="/nowhere")))
    assert edgeml.json("status")["models"][0]["live"] is None


def test_history(edgeml: Edgeml, store: Store) -> None:
    assert edgeml.json("activate", "digits", "1.1.0", "--trial-seconds", "60")["live"] == "1.1.0"
    assert [entry["to"] for entry in edgeml.json("history", "digits")["history"]] == ["1.0.0", "1.1.0"]
    assert {entry["model"] for entry in edgeml.json("history")["history"]} == {"digits", "faces"}
    lines = edgeml.text("history", "digits").splitlines()
    assert lines[0].split() == ["time", "model", "event", "from", "to", "actor", "why"]
    assert lines[2].split()[1:5] == ["digits", "activate", "1.0.0", "1.1.0"]
    assert lines[2].endswith(" by edgeml activate")
    assert edgeml.text("history", "voices") == "no transition\n"


def test_history_keeps_the_order_of_a_device_whose_clock_was_set_back(
    edgeml: Edgeml, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for model, times in {"digits": ("2026-11-28", "1970-01-01", "2026-11-29"), "faces": ("2026-11-27",)}.items():
        Path(store.journal(model).path).unlink()
        for time in times:
            monkeypatch.setattr(journal, "utc_now", lambda time=time: f"{time}T00:00:00Z")
            store.journal(model).append({"event": "activate", "to": time})
    told = [(entry["model"], entry["to"]) for entry in edgeml.json("history")["history"]]
    assert [to for model, to in told if model == "digits"] == ["2026-11-28", "1970-01-01", "2026-11-29"]
    assert told[0] == ("faces", "2026-11-27")


def test_verify(edgeml: Edgeml, store: Store) -> None:
    found = edgeml.json("verify")
    assert [row["found"] for row in found["verified"]] == ["good"] * 4
    assert found["damaged"] == []
    path = Path(store.version("faces", "1.1.0").directory, "model.onnx")
    path.chmod(0o600)
    path.write_bytes(b"x" * path.stat().st_size)
    code, out, err = edgeml.call("verify", "--json")
    assert (code, err) == (1, "")
    (damaged,) = json.loads(out)["damaged"]
    assert (damaged["model"], damaged["version"]) == ("faces", "1.1.0")
    assert damaged["error"].startswith(f"{path}: expected SHA-256 ")
    code, out, _err = edgeml.call("verify")
    assert (code, out.count(" good")) == (1, 3)
    assert edgeml.json("verify", "digits")["damaged"] == []


def test_verify_goes_on_behind_a_damaged_record(edgeml: Edgeml, store: Store) -> None:
    record = Path(store.version("digits", "1.0.0").directory, "version.json")
    record.chmod(0o600)
    record.write_text("{")
    code, out, _err = edgeml.call("verify", "--json")
    assert code == 1
    assert [row["found"] == "good" for row in json.loads(out)["verified"]] == [False, True, True, True]


@pytest.mark.parametrize("arguments", [["status"], ["activate", "digits", "1.1.0"], ["revert", "digits"]])
def test_a_damaged_state_is_named(edgeml: Edgeml, store: Store, arguments: list[str]) -> None:
    path = damage_state(store)
    assert edgeml.error(*arguments).startswith(f"{path}: damaged: ")


# ---- to act ----


def test_an_image_that_was_never_active_is_activated_as_an_image(edgeml: Edgeml, store: Store, tmp_path: Path) -> None:
    """How a model's server is notified is known from the first time on; of an image there is one way."""
    (tmp_path / platform.machine()).mkdir()
    images, repository = [make_image(tmp_path, machine=platform.machine())], tmp_path / "repository"
    publish_images(
        images, name="server", version="1.0.0", repository=str(repository), directory=str(tmp_path), created=None
    )
    put(store, read_release(repository, "server", "1.0.0"))
    assert "this device runs the service without a container" in edgeml.error("activate", "server", "1.0.0")


def test_activate_and_revert(edgeml: Edgeml, store: Store) -> None:
    assert edgeml.text("activate", "digits", "1.1.0") == "digits: live now: 1.1.0\n"
    trial = store.state("digits").trial
    assert trial is not None
    assert (trial.phase, trial.seconds) == (WATCHING, 300.0)
    assert edgeml.json("activate", "digits", "1.1.0") == {
        "active": "1.1.0",
        "changed": False,
        "live": "1.1.0",
        "model": "digits",
        "previous": "1.0.0",
    }
    assert edgeml.text("revert", "digits") == "digits: live now: 1.0.0\n"
    assert events(store) == ["activate", "activate", "revert"]
    error = edgeml.error("activate", "digits", "1.1.0")
    assert "digits 1.1.0 failed on this device at " in error
    assert "until it is asked for with retry" in error
    assert edgeml.json("activate", "digits", "1.1.0", "--retry", "--trial-seconds", "0")["changed"] is True
    assert store.state("digits").trial is None
    assert edgeml.json("revert", "digits")["active"] == "1.0.0"
    assert store.state("faces") == State("1.0.0", serving=ALONE), "the other model is as it was"


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "1e300"])
def test_a_trial_that_cannot_be(edgeml: Edgeml, store: Store, seconds: str) -> None:
    error = edgeml.error("activate", "digits", "1.1.0", f"--trial-seconds={seconds}")
    assert error.startswith("trial_seconds: expected a number from 0 to ")
    assert events(store) == ["activate"]


def test_a_first_version_is_left_for_none(edgeml: Edgeml, store: Store) -> None:
    assert edgeml.text("revert", "digits") == "digits: live now: no version\n"
    assert store.state("digits").active is None
    assert edgeml.error("revert", "digits") == "digits: no version is active: there is nothing to go back from"


def test_reverting_an_interrupted_swap_goes_back_one_step_and_not_two(edgeml: Edgeml, store: Store) -> None:
    put(store, make_release("1.2.0"))
    edgeml.json("activate", "digits", "1.1.0", "--trial-seconds", "0")
    trial = TRIAL._replace(phase=SWITCHING, active="1.1.0", previous="1.0.0")
    store.transition("digits", State("1.2.0", "1.1.0", trial, serving=ALONE), {"event": "activate", "to": "1.2.0"})
    assert edgeml.text("revert", "digits") == "digits: live now: 1.1.0\n"
    assert store.state("digits") == State("1.1.0", "1.0.0", serving=ALONE)
    assert events(store)[-2:] == ["activate", "interrupted"]


def test_a_server_that_must_be_told_and_is_not_there(edgeml: Edgeml, store: Store) -> None:
    store.update("digits", State("1.0.0", serving=ModelServer(server="/nowhere")))
    assert edgeml.error("activate", "digits", "1.1.0") == "/nowhere: the inference server does not answer"
    assert edgeml.error("activate", "digits", "1.1.0", "--server", "/here") == (
        "/here: the inference server does not answer"
    )
    assert events(store) == ["activate"]


# ---- for systemd ----


def test_recover_with_nothing_to_do(edgeml: Edgeml, store: Store) -> None:
    assert edgeml.json("recover") == {"models": {"digits": "nothing to recover", "faces": "nothing to recover"}}
    assert edgeml.text("recover", "--before-start") == "digits: nothing to recover\nfaces: nothing to recover\n"
    assert events(store) == ["activate"]


def test_recover_puts_back_what_was_interrupted(edgeml: Edgeml, store: Store) -> None:
    on_trial(store, phase=SWITCHING)
    assert edgeml.json("recover")["models"]["digits"] == "1.1.0 -> 1.0.0"
    assert store.state("digits") == State("1.0.0", serving=ALONE)
    assert events(store)[-1] == "interrupted"


def test_a_restart_is_counted_and_no_reason_to_revert(edgeml: Edgeml, store: Store) -> None:
    """At boot nobody answers yet: not the collection's server, nor a unit of somebody else."""
    for serving in (
        ALONE,
        ModelServer(server="/nowhere"),
        ModelServer(strategy="restart", unit="gauge-reader.service"),
    ):
        on_trial(store, boot_id="another")
        store.update("digits", store.state("digits")._replace(serving=serving))
        edgeml.json("recover", "--before-start")
        trial = store.state("digits").trial
        assert trial is not None
        assert (trial.boots, trial.boot_id) == (1, boot_id())


def test_a_model_that_fails_does_not_keep_the_others_from_being_recovered(edgeml: Edgeml, store: Store) -> None:
    on_trial(store, "faces", phase=SWITCHING)
    path = damage_state(store)
    error = edgeml.error("recover")
    assert error.startswith(f"digits: {path}: damaged: ")
    assert store.state("faces") == State("1.0.0", serving=ALONE)


def test_a_model_without_its_files_does_not_keep_the_others_from_being_recovered(edgeml: Edgeml, store: Store) -> None:
    on_trial(store, "faces", phase=SWITCHING)
    path = Path(store.version("digits", "1.0.0").directory, "model.onnx")
    path.unlink()
    assert edgeml.error("recover") == f"digits: {path}: expected 13000 bytes; the file is missing"
    assert store.state("faces") == State("1.0.0", serving=ALONE)


@pytest.mark.parametrize("subcommand", [["recover"], ["watch"], ["crashed"], ["watch", "--service-failed"]])
def test_every_damaged_model_is_named(
    edgeml: Edgeml, store: Store, monkeypatch: pytest.MonkeyPatch, subcommand: list[str]
) -> None:
    monkeypatch.setenv("SERVICE_RESULT", "signal")
    paths = [damage_state(store, model) for model in ("digits", "faces")]
    error = edgeml.error(*subcommand)
    assert all(str(path) in error for path in paths)


@pytest.mark.parametrize("name", ["state.json", "journal.jsonl"])
def test_a_directory_in_place_of_a_file_is_an_error_and_no_traceback(edgeml: Edgeml, store: Store, name: str) -> None:
    path = Path(store.root, "models", "digits", name)
    path.unlink()
    path.mkdir()
    for arguments in (["recover"], ["watch"], ["history", "digits"], ["revert", "digits"]):
        if arguments[0] == "history" and name == "state.json":
            continue
        assert str(path) in edgeml.error(*arguments)


def test_watch(edgeml: Edgeml, store: Store) -> None:
    assert edgeml.json("watch") == {"models": {"digits": "no trial", "faces": "no trial"}}
    on_trial(store)
    assert edgeml.json("watch")["models"]["digits"].startswith("wait: ")
    on_trial(store, seconds=0.0)
    assert edgeml.text("watch").startswith("digits: commit: within its limits for ")
    assert store.state("digits") == State("1.1.0", "1.0.0", serving=ALONE)


def test_the_timer_runs_as_long_as_there_is_a_trial(
    edgeml: Edgeml, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[bool] = []

    class Manager(NoServiceManager):
        def stop_watching(self) -> None:
            stopped.append(True)

    monkeypatch.setattr(cli, "service_manager", Manager)
    on_trial(store)
    for model in ("faces", "voices"):
        Path(store.root, "models", model).mkdir(exist_ok=True)
        damage_state(store, model)
        edgeml.error("watch")
    assert stopped == []
    edgeml.json("revert", "digits")
    edgeml.error("watch")
    assert stopped == [True]


def test_a_service_that_is_started_again_was_not_given_up(
    edgeml: Edgeml, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Manager(NoServiceManager):
        def gave_up(self, unit: str) -> bool:
            return False

    monkeypatch.setattr(cli, "service_manager", Manager)
    on_trial(store)
    assert edgeml.json("watch", "--service-failed") == {"models": {}}
    assert store.state("digits").active == "1.1.0"


def test_a_service_that_systemd_gave_up_is_rescued_also_when_another_model_is_damaged(
    edgeml: Edgeml, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rescued: list[str] = []

    class Manager(NoServiceManager):
        def rescue_service(self, unit: str) -> None:
            rescued.append(unit)

    monkeypatch.setattr(cli, "service_manager", Manager)
    assert edgeml.json("watch", "--service-failed")["models"] == {"digits": "no trial", "faces": "no trial"}
    assert rescued == []
    on_trial(store)
    damage_state(store, "faces")
    edgeml.error("watch", "--service-failed")
    assert rescued == ["edgeml-inference.service"]
    assert store.state("digits").failed["1.1.0"].reason == "the service manager gave the service up"
    assert store.state("digits").active == "1.0.0"


@pytest.mark.parametrize("result", [None, "success"])
def test_a_service_that_was_stopped_did_not_crash(
    edgeml: Edgeml, store: Store, monkeypatch: pytest.MonkeyPatch, result: str | None
) -> None:
    monkeypatch.delenv("SERVICE_RESULT", raising=False)
    if result is not None:
        monkeypatch.setenv("SERVICE_RESULT", result)
    on_trial(store)
    before = store.state("digits")
    assert edgeml.text("crashed") == ""
    assert edgeml.json("crashed") == {}
    assert store.state("digits") == before


def test_crashes_are_counted_and_too_many_revert(edgeml: Edgeml, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_RESULT", "oom-kill")
    on_trial(store)
    for crashes in (1, 2):
        assert edgeml.json("crashed") == {"models": {"digits": "counted", "faces": "no trial"}}
        trial = store.state("digits").trial
        assert trial is not None
        assert trial.crashes == crashes
    assert edgeml.json("crashed")["models"]["digits"] == "counted"
    state = store.state("digits")
    assert (state.active, state.previous, state.trial) == ("1.0.0", None, None)
    assert state.failed["1.1.0"].reason == "the service crashed 3 times (at most 2)"
    assert edgeml.json("crashed")["models"]["digits"] == "no trial"


@contextmanager
def held(store: Store) -> Iterator[None]:
    """Another process holds the store's lock."""
    program = (
        "import sys; from edgeml_device._device.store import Store\nwith Store(sys.argv[1]).lock(): print(); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, store.root],
        env={"PYTHONPATH": str(PYTHON_PATH)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "\n"
        yield
        process.communicate("\n")


def test_whoever_holds_the_lock_settles_everything(
    edgeml: Edgeml, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "UNATTENDED_LOCK_SECONDS", 0.2)
    monkeypatch.setenv("SERVICE_RESULT", "signal")
    on_trial(store, phase=SWITCHING)
    before = store.state("digits")
    with held(store):
        for subcommand in ("recover", "watch", "crashed"):
            told = edgeml.json(subcommand)
            assert told["models"] == {}
            assert told["busy"] == (f"{store.root}: another swap has held the store's lock for 0.2 s; try again later")
            assert edgeml.text(subcommand) == f"left alone: {told['busy']}\n"
        assert edgeml.text("status").count("1.1.0") == 4, "reading needs no lock"
    assert store.state("digits") == before
    assert edgeml.json("recover")["models"]["digits"] == "1.1.0 -> 1.0.0"


@pytest.mark.parametrize("arguments", [["activate", "digits", "1.1.0"], ["revert", "digits"]])
def test_a_person_is_told_that_the_store_is_busy(
    edgeml: Edgeml, store: Store, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    patient = Store.lock
    monkeypatch.setattr(Store, "lock", lambda store: patient(store, 0.2))
    with held(store):
        assert edgeml.error(*arguments) == (
            f"{store.root}: another swap has held the store's lock for 0.2 s; try again later"
        )
    assert events(store) == ["activate"]
