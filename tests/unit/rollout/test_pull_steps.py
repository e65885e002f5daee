# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of a rollout for devices that pull: what is published, who is waited for, and how it ends."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest
from pulled import FLEET, MODEL, PulledFleet, web_fleet
from rollout_stage import CLASSES, DONE, Stage

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.module_utils._pull.command import pull
from ansible_collections.edgeml.fleet.plugins.module_utils._release.desired import Desired, read_desired
from ansible_collections.edgeml.fleet.plugins.plugin_utils._broker import BrokerError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._pull import collect
from ansible_collections.edgeml.fleet.plugins.plugin_utils._pull.mailbox import MailboxError, WebMailbox
from ansible_collections.edgeml.fleet.plugins.plugin_utils._pull.settings import PullSettings
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.run import Run
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.steps import pulling
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.steps.scene import (
    REPORTED,
    REPORTED_REVERTS,
    REVERT,
    SOAKED,
    SWAP,
    Scene,
    StepError,
    current_run,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust import keys


class PulledStage(Stage):
    """A fleet whose devices pull, all but one."""

    def __init__(self, directory: Path, fleet: PulledFleet) -> None:
        super().__init__(
            directory,
            model_name=MODEL,
            model_version="2.0.0",
            model_repository=str(fleet.signed.path),
            model_repository_root=str(fleet.directory / "root.json"),
            rollout_min_ready_seconds=0,
            rollout_trial_seconds=0,
            rollout_pull={
                "fleet": FLEET,
                "fleet_key": keys.write(fleet.key, str(directory / "keys"), None),
                "online_key": keys.write(fleet.signed.holders.online, str(directory / "keys"), None),
                "mailbox": str(fleet.mailbox),
                "ca_file": str(fleet.ca),
                "report_seconds": 120,
            },
        )
        del self.variables["model_repository_unsigned"]
        self.fleet = fleet
        for name in CLASSES:
            if name != "edge-l2":
                self.host[name]["rollout_transport"] = "pull"

    @contextmanager
    def polls(self) -> Iterator[None]:
        """Have the devices look again and again."""
        devices = [self.fleet.device(name, device_class=CLASSES[name]) for name in self.noted["pulled"]]
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(0.1):
                for device in devices:
                    pull(device.config)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    @property
    def desired(self) -> Desired:
        return read_desired(self.fleet.publisher.published().content, FLEET)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[PulledStage]:
    (tmp_path / "scratch").mkdir()
    with web_fleet(tmp_path / "fleet") as fleet:
        yield PulledStage(tmp_path, fleet)


def test_the_devices_of_a_wave_swap_and_the_rollout_waits_for_them(stage: PulledStage) -> None:
    stage.step("plan")
    assert set(stage.noted["pulled"]) == set(CLASSES) - {"edge-l2"}
    stage.batch = stage.waves[0]
    pulled = [name for name in stage.batch if name != "edge-l2"]
    begun = stage.step("begin_wave")
    assert (begun["published"], begun["changed"], "answered" in begun) == (1, True, False)
    controls = {host for pairs in stage.noted["controls"][:1] for host in pairs.values()}
    assert (set(begun["controls"]), set(begun["controls_called"])) == (controls, controls & {"edge-l2"})
    with stage.polls():
        collected = stage.step("collect_swaps")
    assert (collected["next"], collected["missing"], collected["away"]) == ("swap", [], [])
    assert set(collected["reports"]) == set(pulled)
    assert {report["live"] for report in collected["reports"].values()} == {"2.0.0"}
    assert set(collected["controls"]) == controls - {"edge-l2"}
    assert collected["answered"] == len({*pulled, *controls} - {"edge-l2"})
    (rollout,) = stage.desired.models[MODEL].rollouts
    assert (rollout.reached, rollout.stopped) == (1, False)
    stage.step("close")
    assert stage.desired.version == 1


def test_in_check_mode_the_desired_state_is_shown_and_nobody_is_asked(stage: PulledStage) -> None:
    stage.check_mode = True
    stage.step("plan")
    stage.batch = stage.waves[0]
    collected = stage.step("begin_wave")
    assert collected["changed"]
    assert '"version": "2.0.0"' in collected["diff"]["after"]
    assert stage.fleet.publisher.published().version == 0


def test_each_device_swaps_by_its_own_variables(stage: PulledStage) -> None:
    stage.variables["rollout_keep"] = 4
    for name in ("edge-s1", "edge-s2"):
        stage.host[name]["rollout_trial_seconds"] = 30
    stage.host["edge-l1"]["rollout_keep"] = 2
    stage.variables["rollout_pull"]["report_seconds"] = 0
    # It has none of them, so those that are known here are the play's.
    stage.task_host = "edge-l2"
    stage.step("plan")
    stage.batch = stage.waves[0]
    stage.step("begin_wave")
    (rollout,) = stage.desired.models[MODEL].rollouts
    found = {name: rollout.settings_of(name, CLASSES[name]) for name in CLASSES}
    assert {name: (settings.trial_seconds, settings.keep) for name, settings in found.items()} == {
        "edge-s1": (30, 4),
        "edge-s2": (30, 4),
        "edge-l1": (0, 2),
        # It is pushed: what its class has would hold.
        "edge-l2": (0, 2),
    }
    stage.host["edge-l1"]["rollout_keep"] = "many"
    with pytest.raises(ArgumentError, match="edge-l1: rollout_keep: expected a whole number"):
        stage.step("plan")


def test_devices_that_do_not_report_in_time_are_named(stage: PulledStage) -> None:
    stage.step("plan")
    with stage.polls():
        stage.wave(1, {})
    stage.variables["rollout_pull"]["report_seconds"] = 0
    stage.batch = stage.waves[1]
    stage.step("begin_wave")
    collected = stage.step("collect_swaps")
    silent = set(stage.batch) - {"edge-l2"}
    assert collected["missing"] == sorted(silent)
    assert collected["msg"].startswith(f"0 of {len(silent)} devices that pull have reported; no word from")
    assert {name: report["unreachable"] for name, report in collected["reports"].items()} == dict.fromkeys(silent, True)
    stage.register(REPORTED, dict.fromkeys(stage.batch, collected))
    stage.register(SWAP, dict.fromkeys(stage.batch, DONE))
    # They have not even begun, so nobody waits for what they have measured.
    stage.variables["rollout_pull"]["report_seconds"] = 120
    stage.said.clear()
    collected = stage.step("soak")
    assert (collected["missing"], stage.said) == (sorted(silent), [])
    asked = stage.desired.models[MODEL].ask
    assert (asked.purpose, asked.waves, asked.probe) == ("read", [2], True)


def test_who_waits_is_told_for_whom_and_until_when(stage: PulledStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "_LINE_SECONDS", (0.5, 0.5))
    stage.step("plan")
    stage.batch = stage.waves[0]
    pulled = sorted(set(stage.batch) - {"edge-l2"})
    stage.step("begin_wave")
    stage.variables["rollout_pull"]["report_seconds"] = 2
    with stage.polls():
        stage.step("collect_swaps")
    stage.said.clear()
    # Nobody answers what was asked of the next wave.
    stage.register(REPORTED, {})
    collected = stage.step("soak")
    assert set(pulled) <= set(collected["missing"])
    assert len(stage.said) >= 2
    asked = len(collected["missing"])
    for line in stage.said:
        assert re.fullmatch(
            rf"plain-2\.0\.0-1: wave 1 of 2 \(25%\): 0 of {asked} that pull have reported what they have "
            rf"measured; waits for at most \d s, until [\d:]{{8}} UTC, for {', '.join(collected['missing'])}",
            line,
        ), line


def test_a_mailbox_that_cannot_be_read_pauses_the_rollout(stage: PulledStage) -> None:
    stage.variables["rollout_pull"]["report_seconds"] = 0
    stage.step("plan")
    stage.batch = stage.waves[0]
    stage.step("begin_wave")
    away = stage.fleet.mailbox.rename(stage.fleet.mailbox.parent / "away")
    collected = stage.step("collect_swaps")
    assert (collected["next"], stage.step("begin_wave")["next"]) == ("end", "end")
    closed = stage.step("close")
    assert closed["state"] == "paused"
    assert "reports: expected a directory; there is none" in closed["problem"]
    away.rename(stage.fleet.mailbox)
    # The same command goes on. After the soak no wave is judged without its reports either.
    stage.step("plan")
    stage.step("begin_wave")
    stage.register(REPORTED, dict.fromkeys(stage.batch, stage.step("collect_swaps") | {"away": []}))
    stage.register(SWAP, dict.fromkeys(stage.batch, DONE))
    stage.fleet.mailbox.rename(away)
    stage.register(SOAKED, dict.fromkeys(stage.batch, stage.step("soak")))
    judged = stage.step("judge")
    assert judged["next"] == "end"
    assert "could not be judged: " in judged["msg"][0]
    assert "reports: expected a directory; there is none" in judged["msg"][0]


def test_a_fleet_without_such_devices_publishes_nothing(stage: PulledStage) -> None:
    for variables in stage.host.values():
        variables.pop("rollout_transport", None)
    del stage.variables["rollout_pull"]
    stage.step("plan")
    stage.batch = stage.waves[0]
    assert "published" not in stage.step("begin_wave")
    assert stage.fleet.publisher.published().version == 0


def test_what_is_missing_is_said_before_anything_begins(stage: PulledStage) -> None:
    del stage.variables["rollout_pull"]["mailbox"]
    with pytest.raises(ArgumentError, match="missing: mailbox"):
        stage.step("plan")
    stage.variables["rollout_pull"]["mailbox"] = "/nowhere"
    with pytest.raises(MailboxError, match="expected a directory"):
        stage.step("plan")


def test_a_rollback_is_of_the_whole_fleet(stage: PulledStage) -> None:
    stage.variables["rollout_pull"]["report_seconds"] = 0
    stage.limited = True
    with pytest.raises(StepError, match="follow one desired state"):
        stage.step("rollback")
    stage.limited = False
    stage.step("rollback")
    collected = stage.step("collect_reverts")
    assert len(collected["missing"]) == 3
    assert set(collected["reports"]) == set(CLASSES) - {"edge-l2"}
    assert {report["unreachable"] for report in collected["reports"].values()} == {True}
    asked = stage.desired.models[MODEL].ask
    assert (asked.purpose, asked.version, asked.everybody) == ("revert", "2.0.0", True)


def test_a_failed_wave_is_published_as_stopped(stage: PulledStage) -> None:
    stage.variables["rollout_pull"]["report_seconds"] = 0
    stage.step("plan")
    failed = {"failed": True, "version": "2.0.0", "live": "1.0.0", "msg": "it crashed", "refused": False}
    judged = stage.wave(1, dict.fromkeys(stage.waves[0], failed))
    assert (judged["next"], judged["changed"]) == ("revert", True)
    (rollout,) = stage.desired.models[MODEL].rollouts
    assert rollout.stopped
    assert stage.desired.models[MODEL].ask.purpose == "revert"
    pulled = sorted(set(stage.waves[0]) - {"edge-l2"})
    reverts = stage.step("collect_reverts")
    assert (reverts["missing"], sorted(reverts["reports"])) == (pulled, pulled)
    stage.register(REPORTED_REVERTS, dict.fromkeys(CLASSES, reverts))
    assert stage.step("close")["stats"]["rollout_outcomes"]["not reverted"] == len(pulled)


def test_devices_that_could_not_be_told_to_go_back_are_waited_for_by_nobody(
    stage: PulledStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.variables["rollout_pull"]["report_seconds"] = 0
    stage.step("plan")
    failed = {"failed": True, "version": "2.0.0", "live": "1.0.0", "msg": "it crashed", "refused": False}
    key = Path(stage.variables["rollout_pull"]["fleet_key"])

    def is_lost(line: str) -> None:
        raise AssertionError(line)

    stage.batch = stage.waves[0]
    stage.step("begin_wave")
    stage.register(SWAP, dict.fromkeys(stage.batch, failed))
    reports = dict.fromkeys(set(stage.batch) - {"edge-l2"}, failed)
    for host in stage.batch:
        stage.register(REPORTED, {host: {"reports": reports}})
    stage.register(SOAKED, dict.fromkeys(stage.batch, stage.step("soak")))
    key.unlink()
    monkeypatch.setattr(stage, "say", is_lost)
    judged = stage.step("judge")
    assert judged["next"] == "revert"
    assert "could not be told to go back" in judged["warnings"][0]
    stage.variables["rollout_pull"]["report_seconds"] = 120
    (report, *_others) = stage.step("collect_reverts")["reports"].values()
    assert report["unreachable"]
    assert report["msg"].endswith("pulls, and could not be told to go back")
    Path(stage.noted["path"]).unlink()
    step_scene = cast(Scene, stage)
    run = current_run(step_scene)
    assert isinstance(run, Run)
    (warning,) = pulling.begin_reverts(step_scene, run)["warnings"]
    assert "could not be told to go back" in warning
    assert "the rollout's file is gone" in warning
    assert set(pulling.collect_reverts(step_scene)["reports"]) == set(reports)


def test_a_rollback_without_the_settings_for_devices_that_pull_names_them_in_its_summary(stage: PulledStage) -> None:
    """The devices that are called have gone back by then."""
    del stage.variables["rollout_pull"]
    (warning,) = stage.step("rollback")["warnings"]
    assert "could not be told to go back: rollout_pull: expected fleet, " in warning
    reports = stage.step("collect_reverts")["reports"]
    assert set(reports) == set(CLASSES) - {"edge-l2"}
    assert reports["edge-s1"]["msg"] == "edge-s1 pulls, and could not be told to go back"
    stage.register(REPORTED_REVERTS, {host: {"reports": reports} for host in CLASSES})
    back = {"changed": True, "before": {"active": "2.0.0"}, "after": {"active": "1.0.0"}}
    stage.register(REVERT, {"edge-l2": back})
    closed = stage.step("close")
    assert closed["stats"]["rollback_outcomes"] == {"away": 3, "reverted": 1}
    assert closed["problem"].startswith("not gone back: edge-l1, edge-s1, edge-s2: ")


def test_a_reconciliation_publishes_what_the_ledger_says_and_waits_for_nobody(stage: PulledStage) -> None:
    stage.variables["rollout_pull"]["report_seconds"] = 0
    stage.step("plan")
    stage.batch = stage.waves[0]
    stage.step("begin_wave")
    wanted = stage.step("wanted")
    assert stage.desired.models[MODEL].rollouts[0].reached == 1
    assert set(stage.noted["calls"]) <= {"edge-l2"}
    assert wanted["msg"] == []


def test_a_broker_that_is_away_is_named_and_nothing_waits_for_it(stage: PulledStage, tmp_path: Path) -> None:
    assert stage.step("presence") == {"presence": {}}
    own = stage.fleet.authority.issue("controller", tmp_path / "controller.pem")
    with socket.socket() as silent:
        # It belongs to this test, and refuses connections.
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        stage.variables["rollout_pull"].update(
            report_seconds=0, mqtt_broker="127.0.0.1", mqtt_port=port, certificate_file=str(own)
        )
        with pytest.raises(BrokerError, match="Connection refused"):
            stage.step("presence")
        stage.step("plan")
        stage.batch = stage.waves[0]
        collected = stage.step("begin_wave")
    assert collected["published"] == 1
    assert "devices were not told to look" in collected["warnings"][0]
    assert "Connection refused" in collected["warnings"][0]


def test_a_mailbox_on_the_web_is_read_by_its_listing(stage: PulledStage, tmp_path: Path) -> None:
    directory = stage.fleet.mailbox / "edge-1"
    directory.mkdir()
    (directory / "7.json").write_text("a report")
    listing = tmp_path / "listing.conf"
    configuration = stage.fleet._configuration
    stage.fleet.stop()
    stage.fleet._configuration = configuration.replace(
        "etag off;",
        f"etag off; location /reports/ {{ root {stage.fleet.mailbox.parent}; autoindex on; autoindex_format json; }}",
    )
    stage.fleet.start_web()
    listing.touch()
    values = {
        **stage.variables["rollout_pull"],
        "mailbox": f"{stage.fleet.url}/reports",
        "repository": "",
        "ledger": "",
    }
    mailbox = WebMailbox(PullSettings(**values))
    assert mailbox.marks() == {"edge-1": None}, "it was changed in this second"
    os.utime(directory, (1_700_000_000, 1_700_000_000))
    assert mailbox.marks() == {"edge-1": "Tue, 14 Nov 2023 22:13:20 GMT"}
    assert mailbox.sequences("edge-1") == [7]
    assert mailbox.sequences("edge-2") == []
    assert mailbox.read("edge-1", 7) == b"a report"
    with pytest.raises(MailboxError, match="the report 8 of edge-1 is gone"):
        mailbox.read("edge-1", 8)
    mailbox.close()
    nobody = WebMailbox(PullSettings(**{**values, "mailbox": "http://127.0.0.1:1/reports"}))
    with pytest.raises(MailboxError, match="cannot be reached"):
        nobody.sequences("edge-1")
    with pytest.raises(MailboxError, match="cannot be used for TLS"):
        WebMailbox(PullSettings(**{**values, "mailbox": "https://x/", "mailbox_ca_file": str(listing)}))
