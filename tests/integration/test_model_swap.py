# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``model_swap`` and ``model_info``, run by Ansible on a device with the real server and the real digits releases."""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from controller import DIGITS, Ansible
from device import GUARD_SECONDS, Device
from releases import make_release, publish, read_release, sha256, variant_entry

from ansible_collections.edgeml.fleet.plugins.module_utils._device.facts import device_facts

MODEL_FILE = "model.onnx"


# All tests ask by requests; `make both-ways` has them ask by modules too, and a test with this mark always does. That
# both ways return the same fields is in test_device_call.py.
both_ways = pytest.mark.parametrize("device", ["request", "module"], indirect=True)


@pytest.fixture(params=["request", pytest.param("module", marks=pytest.mark.both_ways)])
def device(machines: dict[str, Device], request: pytest.FixtureRequest) -> Device:
    """A pristine device that can be asked in one way alone: by a request to its command, having no Python for modules,
    or by a module, having no command."""
    found = machines["edge-s1"]
    found.reset()
    if request.param == "request":
        found.python = "/nonexistent/python"
    else:
        found.remove_command()
    return found


@pytest.fixture
def ansible(tmp_path: Path, device: Device) -> Ansible:
    return Ansible(tmp_path, [device])


@pytest.fixture
def serving(device: Device) -> Device:
    """The device, after 1.0.0 became live there."""
    device.serve(read_release(DIGITS, "digits", "1.0.0"))
    return device


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of the digits repository that a test may damage."""
    copy = tmp_path / "repository"
    shutil.copytree(DIGITS, copy)
    return copy


def swap(version: str = "1.0.0", state: str = "active", **arguments: Any) -> dict[str, Any]:
    """A task that calls model_swap for digits; without a trial unless ``arguments`` say so."""
    common = {"model": "digits", "version": version, "state": state, "min_ready_seconds": 0.2, "trial_seconds": 0}
    repository = {"repository": str(DIGITS)} if state in ("present", "active") else {}
    return {"edgeml.fleet.model_swap": {**common, **repository, **arguments}}


def info(**arguments: Any) -> dict[str, Any]:
    return {"edgeml.fleet.model_info": arguments}


def manifest(version: str, repository: Path = DIGITS) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((repository / "digits" / version / "manifest.json").read_text())
    return document


def blob(version: str, path: str, repository: Path = DIGITS) -> Path:
    """The blob of a file of a release."""
    document = manifest(version, repository)
    entries = [document["golden"], document["probe"], *document["variants"][0]["files"]]
    (digest,) = [entry["sha256"] for entry in entries if entry["path"] == path]
    return repository.joinpath("blobs", "sha256", digest)


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)


def message(result: dict[str, Any]) -> str:
    """What a failed task said."""
    assert result["failed"] is True
    assert result["changed"] is False
    assert "Traceback" not in json.dumps(result)
    text: str = result["msg"]
    return text


# ---- each path four ways ----


@both_ways
def test_a_versions_life_four_ways(ansible: Ansible, device: Device) -> None:
    """First installation, staging, upgrade, going back, and forth again."""
    first, staged, upgrade, back, forth = (
        ways.must_be_exact()
        for ways in ansible.four_ways(
            swap("1.0.0", rollout_id="rollout-1", reason="first"),
            swap("1.1.0", "present"),
            swap("1.1.0", rollout_id="rollout-2", reason="better"),
            swap("1.1.0", "previous", reason="worse"),
            swap("1.0.0", "previous", reason="not worse", retry=True),
        )
    )

    assert first.run["before"] == {"active": None, "previous": None}
    assert first.run["after"] == {"active": "1.0.0", "previous": None}
    assert (first.check["live"], first.run["live"], first.check_again["live"]) == (None, "1.0.0", "1.0.0")
    digest = read_release(DIGITS, "digits", "1.0.0").release.digest
    assert first.run["diff"] == {
        "before": {"active": None, "previous": None, "versions": {}, "live": None},
        "after": {"active": "1.0.0", "previous": None, "versions": {"1.0.0": digest}, "live": "1.0.0"},
    }
    assert first.run["tested"]["runtime_id"] == "venv-test app-test"
    assert first.run["variant"] == first.check["variant"] == "onnx-fp32"
    lacking = ["golden.json", MODEL_FILE, "probe.json", "reference.json"]
    assert sorted(item["path"] for item in first.check["missing_blobs"]) == lacking
    assert first.run["missing_blobs"] == []
    assert first.run["baseline"] is None

    assert staged.run["after"] == {"active": "1.0.0", "previous": None}
    assert list(staged.run["diff"]["after"]["versions"]) == ["1.0.0", "1.1.0"]
    assert sorted(item["path"] for item in staged.check["missing_blobs"]) == [
        *("golden.json", MODEL_FILE, "reference.json"),
    ]

    assert upgrade.run["after"] == {"active": "1.1.0", "previous": "1.0.0"}
    assert upgrade.check["missing_blobs"] == []
    baseline = upgrade.run["baseline"]
    assert (baseline["version"], baseline["samples"]) == ("1.0.0", 360)
    assert 0.9 <= baseline["accuracy"] <= 0.94
    assert "baseline" not in upgrade.run_again

    assert back.run["after"] == {"active": "1.0.0", "previous": "1.1.0"}
    assert forth.run["after"] == {"active": "1.1.0", "previous": "1.0.0"}

    assert device.versions() == ("1.1.0", "1.1.0", "1.0.0")
    assert device.events() == [
        ("activate", None, "1.0.0"),
        ("activate", "1.0.0", "1.1.0"),
        ("revert", "1.1.0", "1.0.0"),
        ("revert", "1.0.0", "1.1.0"),
    ]
    history = device.store.journal("digits").history()
    assert [(entry["actor"], entry["rollout_id"], entry["why"]) for entry in history] == [
        ("ansible", "rollout-1", "first"),
        ("ansible", "rollout-2", "better"),
        ("ansible", None, "worse"),
        ("ansible", None, "not worse"),
    ]
    assert history[1]["baseline"] == baseline


def test_a_first_version_is_left_for_none_and_removed_when_it_is_not_needed(ansible: Ansible, serving: Device) -> None:
    ansible.tasks(swap("1.1.0", "present"))
    nothing, gone = (
        ways.must_be_exact() for ways in ansible.four_ways(swap(state="previous"), swap("1.1.0", "absent"))
    )
    assert nothing.run["after"] == {"active": None, "previous": "1.0.0"}
    assert nothing.run["live"] is None
    assert serving.versions() == (None, None, "1.0.0")
    assert list(gone.run["diff"]["before"]["versions"]) == ["1.0.0", "1.1.0"]
    assert list(gone.run["diff"]["after"]["versions"]) == ["1.0.0"]
    assert not (serving.root / "blobs" / "sha256" / blob("1.1.0", MODEL_FILE).name).exists()


def test_the_device_keeps_nothing_of_the_transfer(ansible: Ansible, device: Device) -> None:
    (result,) = ansible.tasks({**swap(), "vars": {"ansible_pipelining": False}})
    assert result["live"] == "1.0.0"
    assert list(ansible.directory.glob("remote-tmp/*")) == []
    assert list((device.root / "staging").iterdir()) == []


def test_without_a_server_the_store_alone_is_switched(ansible: Ansible, device: Device) -> None:
    device.stop_server()
    up, down = ansible.four_ways(swap(strategy="none"), swap(state="previous", strategy="none"))
    assert up.must_be_exact().run["live"] == "1.0.0"
    assert down.must_be_exact().run["live"] is None


def test_a_held_release_needs_no_repository(ansible: Ansible, device: Device) -> None:
    staged, active, held = ansible.tasks(
        swap("1.0.0", "present"), swap("1.0.0", repository=None), swap("1.0.0", "present", repository=None)
    )
    assert staged["changed"]
    assert active["after"]["active"] == active["live"] == "1.0.0"
    assert not held["changed"]


def test_old_versions_make_room(ansible: Ansible, device: Device, repository: Path) -> None:
    model = blob("1.0.0", MODEL_FILE).read_bytes()
    for number in range(5):
        publish(make_release(f"2.{number}.0", files={MODEL_FILE: model, "extra": b"%d" % number}), repository)
    versions = ["2.0.0", "2.1.0", "2.2.0", "2.3.0", "2.4.0"]
    results = ansible.tasks(*(swap(version, keep=1, repository=str(repository)) for version in versions[:4]))
    assert [result["after"]["active"] for result in results] == versions[:4]
    assert device.store.versions("digits") == ["2.1.0", "2.2.0", "2.3.0"]
    # Check mode and diff mode tell which ones go, also with the one that was previous until then.
    (last,) = ansible.four_ways(swap("2.4.0", keep=0, repository=str(repository)))
    assert list(last.must_be_exact().run["diff"]["after"]["versions"]) == ["2.3.0", "2.4.0"]
    assert device.versions() == ("2.4.0", "2.4.0", "2.3.0")
    assert device.store.versions("digits") == ["2.3.0", "2.4.0"]
    for version in device.store.versions("digits"):
        device.store.version("digits", version).verify()


# ---- what is refused changes nothing, and the old version serves on ----


def must_have_refused(device: Device, before: Any, *results: dict[str, Any]) -> None:
    """Nothing happened on the device, and each result says so."""
    for result in results:
        assert result["refused"] is True, result
        assert result["live"] == "1.0.0", result
        assert message(result).endswith("Live now: 1.0.0")
    assert device.versions() == ("1.0.0", "1.0.0", None)
    assert device.events() == [("activate", None, "1.0.0")]
    assert device.snapshot() == before


@both_ways
def test_a_damaged_release_is_refused(ansible: Ansible, serving: Device, tmp_path: Path) -> None:
    digest = blob("1.1.0", MODEL_FILE).name
    good = blob("1.1.0", MODEL_FILE).read_bytes()
    damages = {
        "flipped": (bytes([good[0] ^ 1]) + good[1:], f"model.onnx: expected SHA-256 {digest}; found "),
        "truncated": (good[:-1], "expected 57067 bytes; found 57066"),
        "grown": (good + b"x", "expected 57067 bytes; found more"),
        "empty": (b"", "expected 57067 bytes; found 0"),
    }
    tasks = []
    for name, (content, _words) in damages.items():
        shutil.copytree(DIGITS, tmp_path / name)
        blob("1.1.0", MODEL_FILE, tmp_path / name).write_bytes(content)
        tasks += [swap("1.1.0", state, repository=str(tmp_path / name)) for state in ("active", "present")]
    *results, repaired = ansible.tasks(*tasks, info(model="digits"), swap("1.1.0"))
    told = results.pop()["model"]
    for index, (_content, words) in enumerate(damages.values()):
        for result in results[2 * index : 2 * index + 2]:
            assert words in message(result)
            assert (result["refused"], result["live"]) == (True, "1.0.0")
    assert (told["live"], told["active"], told["previous"], told["versions"]) == ("1.0.0", "1.0.0", None, ["1.0.0"])
    assert repaired["live"] == "1.1.0"
    assert serving.events() == [("activate", None, "1.0.0"), ("activate", "1.0.0", "1.1.0")]


def test_what_cannot_be_is_refused(ansible: Ansible, serving: Device, repository: Path) -> None:
    """Every refusal in one run: what is wrong is named, and the device is as it was."""
    blob("1.1.0", MODEL_FILE, repository).unlink()
    strange = {**manifest("1.1.0"), "version": "3.0.0", "variants": [variant_entry({"m": b"m"}, architectures=["vax"])]}
    huge = {**manifest("1.1.0"), "version": "3.0.0", "variants": [variant_entry({"m": b"m"}, memory_bytes=1 << 40)]}
    changed = {**manifest("1.0.0"), "description": "changed after it was published"}
    cases = [
        (swap("1.1.0", repository=None), "does not hold digits 1.1.0; it holds 1.0.0"),
        (swap("1.1.0", "present", repository=None), "does not hold digits 1.1.0; it holds 1.0.0"),
        (
            swap("1.1.0", repository=None, manifest=manifest("1.1.0")),
            "The device lacks 3 blobs of digits 1.1.0: set 'repo",
        ),
        (
            swap("3.0.0", manifest=strange),
            "no variant of digits 3.0.0 runs on this device: variant onnx-fp32: built for",
        ),
        (swap("3.0.0", manifest=huge), "needs 1099511627776 bytes of memory; the device has"),
        (swap("1.0.0", manifest=changed), "A release is immutable: publish the change as a new version"),
        (swap("1.1.0", manifest=manifest("1.0.0")), "manifest: expected digits 1.1.0; found digits 1.0.0"),
        (swap("1.1.0", manifest={"schema": 2}), "manifest: missing model, version, variants"),
        (swap("1.0.0", "absent"), "digits 1.0.0 is active or previous on this device: revert it first"),
        (swap("1.0.0\n", repository=None), "version: expected 1 to 64 of the characters"),
        (swap("../x", repository=None), "version: expected 1 to 64 of the characters"),
        (swap("-rf", "previous"), "version: expected 1 to 64 of the characters"),
        (swap("x" * 10_240, "absent"), "version: expected 1 to 64 of the characters"),
        (swap(model="../../etc", repository=None), "model: expected 1 to 64 of the characters"),
        (swap("1.1.0", min_ready_seconds="nan"), "min_ready_seconds: expected a number from 0 to 3600; found nan"),
    ]
    before = serving.snapshot()
    results = ansible.tasks(*({**task, "check_mode": check} for task, _words in cases for check in (True, False)))
    for (_task, words), check, run in zip(cases, results[::2], results[1::2], strict=True):
        assert words in message(check)
        assert message(check) == message(run), "check mode refuses what a run refuses"
        assert len(message(run)) < 500
    only_digits = [result for result in results if result["model"] == "digits"]
    must_have_refused(serving, before, *only_digits)


def test_what_the_repository_lacks_is_refused_on_the_controller(
    ansible: Ansible, serving: Device, repository: Path
) -> None:
    blob("1.1.0", MODEL_FILE, repository).unlink()
    (repository / "digits" / "1.2.0" / "manifest.json").write_text("{")
    before = serving.snapshot()
    cases = [
        (
            swap("1.1.0", repository=str(repository)),
            rf"{blob('1.1.0', MODEL_FILE).name}: model.onnx: expected 57067 bytes; the file is missing",
        ),
        (swap("1.2.0", repository=str(repository)), r"digits/1\.2\.0/manifest\.json: expected JSON in UTF-8; "),
        (
            swap("9.9.9", repository=str(repository)),
            r"digits/9\.9\.9/manifest\.json: expected the manifest of digits 9\.9",
        ),
        (swap("1.1.0", repository="/nowhere"), r"/nowhere/digits/1\.1\.0/manifest\.json: expected the manifest"),
        (swap("../1.1.0"), r"version: expected 1 to 64 of the characters"),
    ]
    results = ansible.tasks(*({**task, "check_mode": check} for task, _words in cases for check in (True, False)))
    for (_task, words), check, run in zip(cases, results[::2], results[1::2], strict=True):
        assert re.search(words, message(run))
        assert message(check) == message(run)
        assert message(run).endswith("Live now: 1.0.0")
        assert (run["refused"], run["live"]) == (True, "1.0.0")
    assert serving.versions() == ("1.0.0", "1.0.0", None)
    assert serving.snapshot() == before


def test_a_device_whose_server_is_down_is_left_as_it_is(ansible: Ansible, serving: Device) -> None:
    serving.stop_server()
    before = serving.snapshot()
    started = time.monotonic()
    check, run = ansible.tasks({**swap("1.1.0"), "check_mode": True}, swap("1.1.0"))
    assert time.monotonic() - started < 30, "nobody waits for a server that was down before"
    for result in (check, run):
        assert "/run/edgeml/server.sock: the inference server does not answer. Live now: no version" in message(result)
        assert (result["refused"], result["live"]) == (True, None)
    assert serving.snapshot() == before


def test_a_device_without_a_store(ansible: Ansible, device: Device) -> None:
    device.root.rmdir()
    swapped, told = ansible.tasks(swap(), info())
    assert message(swapped).startswith("/var/lib/edgeml/store: no store here; the role edgeml.fleet.provision makes it")
    assert told["models"] == []


def test_a_device_that_is_to_get_its_store_is_checked(ansible: Ansible, device: Device) -> None:
    device.root.rmdir()
    device.stop_server()
    (result,) = ansible.tasks({**swap(), "check_mode": True})
    assert (result["changed"], result["live"], result["after"]["active"]) == (True, None, "1.0.0")
    assert not device.root.exists()


def test_a_damaged_state_is_named(ansible: Ansible, serving: Device) -> None:
    (serving.root / "models/digits/state.json").write_text('{"schema": 1, "active": "../x", "previous": null}')
    for result in ansible.tasks(
        swap("1.1.0"), swap("1.0.0", "previous"), swap("1.1.0", "absent"), info(model="digits")
    ):
        assert "/var/lib/edgeml/store/models/digits/state.json: damaged: " in message(result)
    assert serving.live == "1.0.0"


def test_a_version_that_rotted_on_the_device_is_not_activated(ansible: Ansible, serving: Device) -> None:
    ansible.tasks(swap("1.1.0", "present"))
    flip(Path(serving.store.version("digits", "1.1.0").entrypoint_path))
    result, gone, again = ansible.tasks(swap("1.1.0"), swap("1.1.0", "absent"), swap("1.1.0"))
    assert f"model.onnx: expected SHA-256 {blob('1.1.0', MODEL_FILE).name}; found " in message(result)
    assert (result["refused"], result["live"]) == (True, "1.0.0")
    assert gone["changed"], "this is how it is repaired"
    assert again["live"] == "1.1.0"


def test_damage_that_versions_share_is_healed(ansible: Ansible, serving: Device) -> None:
    ansible.tasks(swap("1.1.0"))
    probes = [Path(serving.root, "models/digits/versions", version, "probe.json") for version in ("1.0.0", "1.1.0")]
    assert probes[0].samefile(probes[1]), "both releases have the same probe set"
    flip(probes[0])
    quick, healed = ansible.four_ways(swap("1.1.0", "present"), swap("1.1.0", "present", verify="full"))
    assert not quick.run["changed"]
    healed.must_be_exact()
    assert [item["path"] for item in healed.check["missing_blobs"]] == ["probe.json"]
    assert probes[0].samefile(probes[1])
    for version in ("1.0.0", "1.1.0"):
        serving.store.version("digits", version).verify()
    assert serving.versions() == ("1.1.0", "1.1.0", "1.0.0")


def test_what_would_fill_the_disk_or_the_memory_is_refused_with_numbers(
    ansible: Ansible, serving: Device, repository: Path
) -> None:
    big = manifest("1.1.0")
    big["variants"][0]["files"][0] = {"path": MODEL_FILE, "size": 1 << 40, "sha256": "0" * 64}
    greedy = manifest("1.1.0")
    for document in (big, greedy):
        del document["variants"][1:]
    greedy["variants"][0]["memory_bytes"] = int(serving_memory() * 0.9)
    before = serving.snapshot()
    disk, memory, more_room = ansible.tasks(
        swap("1.1.0", manifest=big),
        swap("1.1.0", manifest=greedy),
        {**swap("1.1.0", manifest=greedy, headroom_percent=5), "check_mode": True},
    )
    assert re.search(r"digits 1\.1\.0 needs 10995\d+ bytes; \d+ are free, .*; 20% of that stay free", message(disk))
    assert re.search(r"needs \d+ bytes of memory; the device has \d+, of which 20% are to stay free", message(memory))
    assert "20%" not in more_room.get("msg", "")
    must_have_refused(serving, before, disk, memory)


def serving_memory() -> int:
    """What this machine's devices believe that they have."""
    total: int = device_facts()["memory_bytes"]
    return total


# ---- what fails is put back ----


def republish(repository: Path, version: str, files: dict[str, bytes], golden: bytes | None) -> None:
    publish(make_release(version, files=files, golden=golden), repository)


def test_a_release_that_fails_its_test_is_not_switched_to(ansible: Ansible, serving: Device, repository: Path) -> None:
    model = {version: blob(version, MODEL_FILE).read_bytes() for version in ("1.0.0", "1.1.0")}
    republish(repository, "2.0.0", {MODEL_FILE: model["1.1.0"]}, blob("1.0.0", "golden.json").read_bytes())
    republish(repository, "2.1.0", {MODEL_FILE: b"this is no model"}, None)
    republish(repository, "2.2.0", {MODEL_FILE: model["1.0.0"]}, b"this is no golden test")
    slow = variant_entry({MODEL_FILE: model["1.0.0"]}, latency_seconds_max=1e-9)
    golden = blob("1.0.0", "golden.json").read_bytes()
    publish(make_release("2.3.0", files={MODEL_FILE: model["1.0.0"]}, golden=golden, variants=[slow]), repository)
    words = {
        "2.0.0": "golden test: output 'probabilities' at [0, 1]: expected 0.000547",
        "2.1.0": "cannot load it",
        "2.2.0": "golden",
        "2.3.0": "s; the release allows 1e-09 s",
    }
    results = ansible.tasks(*(swap(version, repository=str(repository)) for version in words))
    for (version, expected), result in zip(words.items(), results, strict=True):
        assert message(result).startswith(f"digits {version}: smoke test: ")
        assert expected in message(result)
        assert message(result).endswith("Live now: 1.0.0")
        assert (result["refused"], result["live"]) == (True, "1.0.0")
    assert serving.versions() == ("1.0.0", "1.0.0", None)
    assert [event for event, _from, _to in serving.events()[1:]] == ["refused"] * 4
    (again,) = ansible.tasks(swap("2.0.0", repository=str(repository)))
    assert "digits 2.0.0 failed on this device at " in message(again)
    assert "golden test" in message(again)
    (retried,) = ansible.tasks(swap("2.0.0", repository=str(repository), retry=True))
    assert message(retried).startswith("digits 2.0.0: smoke test: ")


def test_a_first_release_that_fails_its_test_leaves_nothing_active(
    ansible: Ansible, device: Device, repository: Path
) -> None:
    republish(repository, "2.1.0", {MODEL_FILE: b"this is no model"}, None)
    failed, told, good = ansible.tasks(swap("2.1.0", repository=str(repository)), info(model="digits"), swap("1.0.0"))
    assert message(failed).endswith("Live now: no version")
    assert (told["model"]["active"], told["model"]["live"], told["server_live"]) == (None, None, True)
    assert good["live"] == "1.0.0"


def test_a_server_that_dies_under_the_new_version_comes_back_with_the_old(ansible: Ansible, serving: Device) -> None:
    def kill_and_restart() -> None:
        while serving.live != "1.1.0":
            time.sleep(0.02)
        serving.stop_server()
        while serving.store.state("digits").active != "1.0.0":
            time.sleep(0.02)
        serving.start_server()

    accident = threading.Thread(target=kill_and_restart)
    accident.start()
    (result,) = ansible.tasks(swap("1.1.0", min_ready_seconds=20))
    accident.join()
    assert message(result).startswith("digits 1.1.0 did not become healthy: ")
    assert (result["refused"], result["live"]) == (False, "1.0.0")
    assert serving.versions() == ("1.0.0", "1.0.0", None)


# ---- going back ----


def test_going_back_names_the_version_to_leave(ansible: Ansible, serving: Device) -> None:
    _up, other, back, again = ansible.tasks(
        swap("1.1.0"), swap("1.0.0", "previous"), swap("1.1.0", "previous"), swap("1.1.0", "previous")
    )
    assert (other["changed"], other["live"]) == (False, "1.1.0")
    assert (back["changed"], back["live"]) == (True, "1.0.0")
    assert (again["changed"], again["live"]) == (False, "1.0.0")


def test_a_second_way_back_does_not_end_at_what_was_left(ansible: Ansible, serving: Device) -> None:
    _up, _back, second = ansible.tasks(
        swap("1.1.0"), swap("1.1.0", "previous", reason="worse"), swap("1.0.0", "previous")
    )
    assert message(second).startswith("digits 1.1.0, the version before 1.0.0, failed on this device at ")
    assert second["msg"].endswith(": worse. It is not tried again until it is asked for with retry. Live now: 1.0.0")
    assert (second["refused"], second["live"]) == (True, "1.0.0")
    assert serving.versions() == ("1.0.0", "1.0.0", "1.1.0")


def test_going_back_works_while_the_server_is_down(ansible: Ansible, serving: Device) -> None:
    # A version that kills the server must not be what it starts with.
    ansible.tasks(swap("1.1.0"))
    serving.stop_server()
    (back,) = ansible.tasks(swap("1.1.0", "previous"))
    assert message(back).startswith("digits: the store went back to 1.0.0, the server did not: ")
    assert back["live"] is None
    assert serving.store.state("digits").active == "1.0.0"
    serving.start_server()
    (again,) = ansible.tasks(swap("1.1.0", "previous"))
    assert (again["changed"], again["live"]) == (False, "1.0.0")


def test_going_back_is_finished_by_the_next_call(ansible: Ansible, serving: Device) -> None:
    # As when the controller's connection broke after the store's switch: the server was never told.
    ansible.tasks(swap("1.1.0"), swap("1.1.0", "previous", strategy="none"))
    assert serving.versions() == ("1.1.0", "1.0.0", "1.1.0")
    (ways,) = ansible.four_ways(swap("1.1.0", "previous"))
    assert [result["changed"] for result in (ways.check, ways.run, ways.check_again, ways.run_again)] == [
        True,
        True,
        False,
        False,
    ]
    assert serving.versions() == ("1.0.0", "1.0.0", "1.1.0")


def test_a_previous_version_that_rotted_is_not_gone_back_to(ansible: Ansible, serving: Device) -> None:
    ansible.tasks(swap("1.1.0"))
    flip(Path(serving.store.version("digits", "1.0.0").entrypoint_path))
    (back,) = ansible.tasks(swap("1.1.0", "previous"))
    assert "expected SHA-256" in message(back)
    assert (back["refused"], back["live"]) == (True, "1.1.0")
    assert serving.versions() == ("1.1.0", "1.1.0", "1.0.0")


def test_a_server_that_lost_the_active_version_is_told_again(ansible: Ansible, serving: Device) -> None:
    serving.server.unload("digits")
    (ways,) = ansible.four_ways(swap("1.0.0"))
    assert (ways.check["changed"], ways.run["changed"], ways.run_again["changed"]) == (True, True, False)
    assert serving.versions() == ("1.0.0", "1.0.0", None)
    assert serving.events() == [("activate", None, "1.0.0")], "the store had nothing to change"


# ---- model_info ----


def test_info_of_a_pristine_device(ansible: Ansible, device: Device) -> None:
    everything, one = ansible.tasks(info(), info(model="digits", probe=True, history=5))
    assert everything["models"] == []
    assert everything["server_live"] is True
    assert everything["device"]["architecture"]
    assert one["model"] == {
        "name": "digits",
        "active": None,
        "previous": None,
        "versions": [],
        "live": None,
        "trial": None,
        "failed": [],
        "withdrawn": {},
        "way_back": None,
        "history": [],
    }


@both_ways
def test_info_of_a_device_that_serves(ansible: Ansible, serving: Device) -> None:
    _swap, plain, probed = ansible.tasks(
        swap("1.1.0", rollout_id="rollout-7"), info(), info(model="digits", probe=True, history=1)
    )
    (model,) = plain["models"]
    assert {
        name: model[name] for name in ("name", "active", "previous", "live", "versions", "variant", "replaced")
    } == {
        "name": "digits",
        "active": "1.1.0",
        "previous": "1.0.0",
        "live": "1.1.0",
        "versions": ["1.0.0", "1.1.0"],
        "variant": "onnx-fp32",
        "replaced": "1.0.0",
    }
    assert model["rollout_id"] == "rollout-7"
    assert model["baseline"]["version"] == "1.0.0"
    assert model["requests"]["errors"] == 0
    assert "probe" not in model
    assert "history" not in model
    probe = probed["model"]["probe"]
    assert (probe["version"], probe["samples"]) == ("1.1.0", 360)
    assert probe["accuracy"] >= 0.97
    assert probe["latency_seconds"] > 0
    assert [entry["to"] for entry in probed["model"]["history"]] == ["1.1.0"]
    assert "models" not in probed


def ask(device: Device, times: int) -> None:
    """Have a client ask the server for digits."""
    for _turn in range(times):
        status = device.ask("digits", name="image", datatype="FP32", shape=[1, 1, 8, 8], data=[0.0] * 64)
        assert status == 200


def test_info_tells_what_was_counted_of_the_active_version_and_of_the_one_before(
    ansible: Ansible, serving: Device
) -> None:
    serving.stop_server()
    serving.start_server("digits")
    ask(serving, 7)
    ansible.tasks(swap("1.1.0"))
    ask(serving, 5)
    (told,) = ansible.tasks(info(model="digits", probe=True))
    model = told["model"]
    assert (model["requests"]["requests"], model["requests"]["errors"], model["requests"]["timed"]) == (5, 0, 5)
    assert model["requests"]["latency_buckets"][-1] == [10.0, 5]
    assert model["past"]["requests"]["requests"] == 7
    assert model["labels"] == {"right": 0, "wrong": 0}
    assert model["shadow"] == {"agreed": 0, "disagreed": 0, "failed": 0, "dropped": 0, "requests": 0}
    assert model["resident_bytes"] > 10 << 20
    assert model["past"]["resident_bytes"] > 10 << 20
    assert model["restarts"] == 0
    assert 0 <= model["active_seconds"] < GUARD_SECONDS
    assert model["counted_seconds"] == model["active_seconds"]
    # Back and forth: what 1.1.0 had counted before it was left is not counted again.
    ansible.tasks(swap("1.1.0", state="previous"), swap("1.1.0", retry=True))
    ask(serving, 2)
    (again,) = ansible.tasks(info(model="digits"))
    assert again["model"]["requests"]["requests"] == 2


def test_the_questions_of_a_probe_are_no_traffic(ansible: Ansible, serving: Device) -> None:
    before, probed, after = ansible.tasks(info(model="digits"), info(model="digits", probe=True), info(model="digits"))
    assert probed["model"]["probe"]["samples"] > 0
    assert after["model"]["requests"] == before["model"]["requests"]


def test_info_of_a_device_whose_server_is_down(ansible: Ansible, serving: Device) -> None:
    serving.stop_server()
    (told,) = ansible.tasks(info(model="digits", probe=True))
    assert told["server_live"] is False
    assert (told["model"]["active"], told["model"]["live"]) == ("1.0.0", None)
    assert "probe" not in told["model"]
    assert "requests" not in told["model"]


def test_info_refuses_a_bad_name(ansible: Ansible, device: Device) -> None:
    for told in ansible.tasks(*(info(model=model) for model in ("../x", "-rf", "x" * 1000))):
        assert "model: expected 1 to 64 of the characters" in message(told)


def test_info_of_a_release_without_a_probe_set(ansible: Ansible, device: Device, repository: Path) -> None:
    republish(repository, "2.0.0", {MODEL_FILE: blob("1.0.0", MODEL_FILE).read_bytes()}, None)
    swapped, told = ansible.tasks(swap("2.0.0", repository=str(repository)), info(model="digits", probe=True))
    assert swapped["live"] == "2.0.0"
    assert told["model"]["probe"] is None


def test_blobs_are_named_by_their_digest() -> None:
    assert sha256(blob("1.0.0", MODEL_FILE).read_bytes()) == blob("1.0.0", MODEL_FILE).name
