# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rollouts to six microcontrollers behind two gateways: one story, told by tests in their order.

The gateways are devices of the fleet; the boards run on this machine, and outlive them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from boards import Board, Wear
from containers import ContainerController, Containers, docker, kill, wait_for, wait_for_soak
from links import REPOSITORY
from mcu_images import Digits, Images, relu_of
from meters import release
from microcontrollers import FIRMWARE_BINARY, MAP, sign, sign_model
from releases import Made, file_entry, publish, sha256

from ansible_collections.edgeml.fleet.plugins.plugin_utils._mcu.release import (
    FIRMWARE,
    McuClass,
    McuRelease,
    publish_mcu,
)

Host = Any  # pytest-testinfra has no types

NAMES = os.environ.get("FLEET", "quickstart")
# As molecule/mcu/inventory/hosts.yml has them: by serial lines behind the first, by UDP behind the second.
GATEWAYS = {"edge-s1": ["meter-1", "meter-2", "meter-3"], "edge-l1": ["meter-4", "meter-5", "meter-6"]}
METERS = [name for names in GATEWAYS.values() for name in names]
GATEWAY_OF = {meter: gateway for gateway, meters in GATEWAYS.items() for meter in meters}
FLEET = Containers(list(GATEWAYS), NAMES)
DIRECTORY = REPOSITORY / ".ansible" / NAMES
INVENTORIES = [REPOSITORY / "inventories" / NAMES / "hosts.yml", REPOSITORY / "molecule/mcu/inventory/hosts.yml"]
LABELLED = 40
# Of a model's file: with the records of its slot.
RECORDS_BYTES = 100


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return Images.signed(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module", autouse=True)
def boards(images: Images) -> Iterator[dict[str, Board]]:
    """All boards, as the factory makes them: with firmware and model 1.0.0."""
    # What the stores know of boards of an earlier run is not true of these.
    for gateway in GATEWAYS:
        FLEET.on(gateway, "find /var/lib/edgeml/mcu -mindepth 2 -maxdepth 2 ! -name neighbours -exec rm -r {} +")
    with ExitStack() as stack:
        made = {}
        for name in METERS:
            # The directory above is mounted on the gateways.
            shutil.rmtree(DIRECTORY / "boards" / name, ignore_errors=True)
            made[name] = Board(DIRECTORY / "boards" / name, images.firmware, images.model)
            made[name].power_on()
            stack.callback(made[name].power_off)
        yield made


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, images: Images) -> Path:
    """All releases of this story."""
    directory = tmp_path_factory.mktemp("releases")

    def make(version: str, digits: Digits, golden: Digits | None = None, **options: Any) -> Made:
        image = sign_model(digits.payload, directory / f"image-{version}", version, **options)
        return release(image, golden or digits, version, labelled=LABELLED)

    large = directory / "large"
    large.write_bytes(relu_of((1, 64, 16, 32)))
    releases = [
        release(images.model, images.digits, "1.0.0", labelled=LABELLED),
        make("1.1.0", images.new_digits, counter=2),
        # The gate's: it answers as its golden file says, and is mostly wrong.
        make("1.2.0", Digits.of("1.2.0"), counter=2),
        # Those that do not come to the gate.
        make("1.3.0", images.digits, counter=2, key="wrong"),
        make("1.4.0", images.digits, counter=1),
        _cut(make("1.5.0", images.digits, counter=2)),
        make("1.6.0", Digits(large, *_arrays(images.digits)), counter=2),
        # Good ones again: the model of 1.0.0 answers 7 of 100 more wrong.
        *(make(version, images.new_digits, counter=2) for version in ("1.7.0", "1.8.0", "1.9.0")),
    ]
    for made in releases:
        publish(made, directory / "repository")
    kind = McuClass("mps2-an385", MAP["IMAGE_MAX"])
    image = sign(FIRMWARE_BINARY, directory / "firmware", "1.1.0")
    publish_mcu(str(directory / "repository"), McuRelease("meter", "1.1.0", FIRMWARE, str(image)), kind)
    return directory / "repository"


def _arrays(digits: Digits) -> tuple[Any, Any, Any]:
    return digits.inputs, digits.expected, digits.labels


def _cut(made: Made) -> Made:
    """The same release with the end of its image cut off: as if somebody had signed that for whole."""
    (variant,) = made.document["variants"]
    content = made.blobs[variant["files"][0]["sha256"]][:-40]
    variant["files"] = [file_entry("model.bin", content)]
    return Made(made.document, {**made.blobs, sha256(content): content})


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> ContainerController:
    directory = tmp_path_factory.mktemp("controller")
    usual = {
        "model_repository": str(repository),
        "model_repository_unsigned": True,
        "rollout_hosts": "microcontrollers",
        "rollout_waves": ["1", "50%", "100%"],
        "rollout_soak_seconds": 2,
        "rollout_soak_seconds_max": 2,
        "rollout_min_ready_seconds": 0.2,
        "rollout_trial_seconds": 0,
        # What is slow here shares a few processors with the others. A microcontroller counts no errors of long ago.
        "rollout_limits": {"latency_ratio_max": 100},
        "status_hosts": "microcontrollers",
        "status_page": str(directory / "fleet.html"),
    }
    return ContainerController(directory, INVENTORIES, usual)


def told() -> dict[str, dict[str, Any]]:
    """What the gateways say of each microcontroller."""
    found = {}
    for gateway in GATEWAYS:
        document = json.loads(FLEET.on(gateway, "edgeml mcu status --json"))
        found.update({entry["name"]: entry for entry in document["microcontrollers"]})
    return found


def live(model: str = "digits") -> dict[str, str | None]:
    """The version of a model that each microcontroller runs, by its own word."""
    return {
        name: next((each["live"] for each in entry["models"] if each["name"] == model), None)
        for name, entry in told().items()
    }


def all_on(version: str) -> dict[str, str | None]:
    return dict.fromkeys(METERS, version)


def wears(boards: dict[str, Board]) -> dict[str, Wear]:
    return {name: board.wear() for name, board in boards.items()}


def assert_written(boards: dict[str, Board], before: dict[str, Wear], size: int) -> None:
    """Each byte of an image was programmed once, and each of its sectors erased once, with the slot's log."""
    for name, board in boards.items():
        written, erased = board.wear().since(before[name])
        assert size <= written < size + RECORDS_BYTES, name
        assert erased == -(-size // MAP["FLASH_SECTOR"]) + 1, name


# ---- what the role leaves ----


def test_the_gateway_knows_what_is_behind_it(host: Host) -> None:
    described = host.file("/etc/edgeml/mcu.json")
    assert (described.user, described.group, described.mode) == ("root", "edgeml", 0o640)
    found = json.loads(described.content_string)["microcontrollers"]
    assert [(item["name"], item["port"]) for item in found] == [(name, f"/dev/{name}") for name in GATEWAYS["edge-s1"]]
    for item in found:
        assert host.file(f"{item['store']}/neighbours").linked_to == "/var/lib/edgeml/mcu"
    assert host.service("edgeml-mcu.timer").is_enabled
    entries = told()
    assert {name: (entry["class"], entry["answers"]) for name, entry in entries.items()} == dict.fromkeys(
        METERS, ("mps2-an385", True)
    )


def test_a_run_that_only_looks_shows_what_would_change(controller: ContainerController, host: Host) -> None:
    before = host.file("/etc/edgeml/mcu.json").content_string
    run = controller.run("molecule/mcu/gateway.yml", "--check", "--diff", mcu_gateway_group="edge")
    assert run.returncode == 0
    assert re.search(r'^-.*"name": "meter-1"', run.stdout, re.MULTILINE)
    assert host.file("/etc/edgeml/mcu.json").content_string == before


# ---- releases ----


def test_what_the_factory_gave_them_is_not_sent_again(
    controller: ContainerController, boards: dict[str, Board]
) -> None:
    before = wears(boards)
    assert controller.rollout("1.0.0").returncode == 0
    assert controller.outcomes("1.0.0") == dict.fromkeys(METERS, "updated")
    assert live() == all_on("1.0.0")
    assert all(board.wear().since(before[name]).written < RECORDS_BYTES for name, board in boards.items())


def test_a_good_release_goes_out_in_waves(
    controller: ContainerController, boards: dict[str, Board], repository: Path
) -> None:
    before = wears(boards)
    assert controller.rollout("1.1.0").returncode == 0
    waves = controller.ledger("1.1.0")["waves"]
    assert [wave["verdict"] for wave in waves] == ["pass"] * 3
    assert len(waves[0]["outcomes"]) == 1
    assert live() == all_on("1.1.0")
    size = (repository.parent / "image-1.1.0").stat().st_size
    assert_written(boards, before, size)
    # Of the microcontrollers of a gateway the first was sent the file, and the others took it there.
    for gateway, meters in GATEWAYS.items():
        stores = " ".join(f"/var/lib/edgeml/mcu/{meter}/blobs" for meter in meters)
        assert FLEET.on(gateway, f"find {stores} -type f -size +{size // 2}c | wc -l").strip() >= "3"


def test_report_and_page_show_them_behind_their_gateways(controller: ContainerController) -> None:
    assert controller.run("edgeml.fleet.status").returncode == 0
    page = (controller.directory / "fleet.html").read_text()
    report = next((controller.directory / "ledger").glob("digits-1.1.0-1*.html")).read_text()
    for gateway in GATEWAYS:
        assert page.count(f", behind {gateway}") == 3
        assert report.count(f"<td>{gateway}</td>") == 3


def test_the_gate_stops_a_bad_release(controller: ContainerController, boards: dict[str, Board]) -> None:
    before = wears(boards)
    assert controller.rollout("1.2.0").returncode == 2
    failed = controller.failed_checks("1.2.0")
    # A busy machine may slow the boards that it emulates.
    assert "accuracy drop" in failed
    assert "restarts" not in failed
    outcomes = controller.outcomes("1.2.0")
    assert sorted(outcomes.values()) == ["not started"] * 5 + ["reverted"]
    assert live() == all_on("1.1.0")
    for name, outcome in outcomes.items():
        if outcome == "not started":
            assert boards[name].wear() == before[name]


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("1.3.0", "does not run after a reset: signature: not by the key of this device. It runs 1.1.0"),
        ("1.4.0", "has the security counter 1; the microcontroller has 2"),
        ("1.5.0", "the image is cut off"),
        ("1.6.0", "does not run after a reset: arena: the model needs more memory than there is. It runs 1.1.0"),
    ],
    ids=["wrong key", "older security counter", "truncated image", "arena too large"],
)
def test_what_must_not_run_is_refused_and_named(controller: ContainerController, version: str, reason: str) -> None:
    # A device that fails stops the rollout; one that refuses pauses it.
    assert controller.rollout(version).returncode in (2, 3)
    rows = controller.ledger(version)["devices"]
    (row,) = [row for row in rows if row["outcome"] != "not started"]
    assert row["outcome"] in ("refused", "failed")
    assert reason in row["detail"]
    assert live() == all_on("1.1.0")
    assert {entry["answers"] for entry in told().values()} == {True}


def set_lines(options: str) -> Callable[[], None]:
    """Give the lines behind both gateways other properties; what is returned takes them away."""

    def apply(command: str) -> None:
        for gateway, meters in GATEWAYS.items():
            units = " ".join(f"board-line@{meter}" for meter in meters)
            FLEET.on(gateway, f"{command} && systemctl restart {units}")

    apply(f"echo 'OPTIONS={options}' >/run/board-line")
    return lambda: apply("rm -f /run/board-line")


def test_lines_that_lose_bytes_make_it_slower(
    controller: ContainerController, boards: dict[str, Board], request: pytest.FixtureRequest
) -> None:
    before = wears(boards)
    request.addfinalizer(set_lines("--lose 0.0001 --bits-per-second 115200"))
    assert controller.rollout("1.7.0").returncode == 0
    assert controller.outcomes("1.7.0") == dict.fromkeys(METERS, "updated")
    assert live() == all_on("1.7.0")
    size = (Path(controller.usual["model_repository"]).parent / "image-1.7.0").stat().st_size
    assert_written(boards, before, size)


def restart(gateway: str) -> None:
    """Power for a gateway that has lost it; its boards had theirs."""
    docker("start", FLEET.container(gateway))
    wait_for(lambda: "running" in FLEET.on(gateway, "systemctl is-system-running || true"), f"{gateway} has booted")


def test_a_gateway_that_dies_while_it_sends_leaves_the_old_version(
    controller: ContainerController, boards: dict[str, Board], request: pytest.FixtureRequest
) -> None:
    before = wears(boards)
    slow = set_lines("--bits-per-second 19200")
    process = controller.start_rollout("1.8.0", rollout_device_silence_seconds=10)
    wait_for(lambda: any(board.wear().since(before[name]).written > 4000 for name, board in boards.items()), "it sends")
    (meter,) = [name for name, board in boards.items() if board.wear() != before[name]]
    gateway = GATEWAY_OF[meter]
    docker("kill", FLEET.container(gateway))
    try:
        assert controller.finish(process).returncode == 2
    finally:
        restart(gateway)
        slow()
    # By its own units: no controller is at work.
    wait_for(lambda: live() == all_on("1.7.0"), "the old version runs")
    sent = boards[meter].wear().since(before[meter]).written
    assert controller.rollout("1.8.0", rollout_attempt=2).returncode == 0
    assert live() == all_on("1.8.0")
    # The upload went on where it was.
    size = (Path(controller.usual["model_repository"]).parent / "image-1.8.0").stat().st_size
    assert sent > 4000
    assert boards[meter].wear().since(before[meter]).written < size + RECORDS_BYTES


def test_a_board_that_loses_power_on_trial_ends_it_and_its_gateway_says_so(
    controller: ContainerController, boards: dict[str, Board]
) -> None:
    process = controller.start_rollout("1.9.0", rollout_soak_seconds=600, rollout_trial_seconds=3600)
    wait_for_soak(process, wave=1)
    kill(process)
    (meter,) = [name for name, version in live().items() if version == "1.9.0"]
    boards[meter].power_cycle()
    # Its timer, and its unit in the sandbox.
    journal = "journalctl --unit=edgeml-mcu.service --output=cat"
    reverted = f"{meter}: digits: revert: the microcontroller went back: it runs 1.8.0"
    wait_for(lambda: reverted in FLEET.on(GATEWAY_OF[meter], journal), "the gateway looks")
    assert live() == all_on("1.8.0")
    timers = "systemctl is-active edgeml-mcu.timer || true"
    wait_for(lambda: {FLEET.on(name, timers).strip() for name in GATEWAYS} == {"inactive"}, "nothing is left to do")


def test_firmware_is_a_release_like_others(controller: ContainerController, boards: dict[str, Board]) -> None:
    run = controller.finish(controller.start("edgeml.fleet.rollout", model_name="meter", model_version="1.1.0"))
    assert run.returncode == 0
    assert live("meter") == all_on("1.1.0")
    assert live() == all_on("1.8.0")


def test_the_unit_may_do_what_it_needs_and_no_more(host: Host) -> None:
    shown = host.check_output(
        "systemctl show edgeml-mcu.service --property=Result,ProtectSystem,NoNewPrivileges,DevicePolicy"
    )
    assert sorted(shown.splitlines()) == [
        "DevicePolicy=closed",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "Result=success",
    ]
