# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reports on the controller: which of them count, and what the tasks of a rollout read of them."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from authorities import Authority
from releases import NO_DOCUMENTS

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.module_utils._pull.report import (
    Report,
    read_envelope,
    read_report,
    sign_report,
    write_envelope,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._pull import results
from ansible_collections.edgeml.fleet.plugins.plugin_utils._pull.collect import Collector
from ansible_collections.edgeml.fleet.plugins.plugin_utils._pull.mailbox import (
    DirectoryMailbox,
    MailboxError,
    open_mailbox,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._pull.reports import (
    Book,
    DeviceReports,
    ReportError,
    Verifier,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._pull.settings import PullSettings, read_settings

RESULT = {"changed": True, "model": "plain", "version": "2.0.0", "live": "2.0.0"}
INFO = {"changed": False, "server_live": True, "model": {"name": "plain", "active": "1.0.0", "previous": None}}


class Hall:
    """A fleet's authority and mailbox."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority("hall")
        self.mailbox = directory / "reports"
        self.mailbox.mkdir()
        self.settings = PullSettings(
            fleet="hall",
            repository=str(directory),
            fleet_key="",
            online_key="",
            mailbox=str(self.mailbox),
            ca_file=str(self.authority.write(directory / "ca.pem")),
            ledger=str(directory / "ledger"),
        )

    def key(self, device: str, authority: Authority | None = None) -> Path:
        return (authority or self.authority).issue(device, self.directory / f"{device}.pem")

    def write(self, device: str, sequence: int, content: bytes) -> None:
        path = self.mailbox / device / f"{sequence}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)

    def report(self, sequence: int = 1, device: str = "edge-1", **fields: Any) -> bytes:
        """A genuine report of a device."""
        own = self.directory / f"{device}.pem"
        key = str(own if own.exists() else self.key(device))
        known: dict[str, Any] = {"fleet": "hall", "written_at": "2026-11-29T00:00:00Z", "model": "plain", "question": 1}
        return sign_report(Report(device=device, sequence=sequence, **{**known, **fields}), key, key)

    def collect(self, question: int = 1, device: str = "edge-1") -> tuple[list[str], list[str]]:
        found = Collector(self.settings).collect({device: "plain"}, question, 0.0)
        return found.missing, found.refused

    def known(self, device: str = "edge-1") -> DeviceReports:
        return Book(self.settings.book).read(device)


@pytest.fixture
def hall(tmp_path: Path) -> Hall:
    return Hall(tmp_path)


def test_a_report_counts_and_its_result_is_what_the_device_said(hall: Hall) -> None:
    hall.write("edge-1", 1, hall.report(begun=True))
    assert hall.collect() == (["edge-1"], [])
    assert results.swap_result(hall.known(), "edge-1", "plain", 1)["started"] is True
    hall.write("edge-1", 2, hall.report(2, state="active", version="2.0.0", result=RESULT, info=INFO))
    assert hall.collect() == ([], [])
    assert results.swap_result(hall.known(), "edge-1", "plain", 1) == RESULT
    assert results.info_result(hall.known(), "edge-1", "plain", 1) == INFO
    assert hall.collect(question=2) == (["edge-1"], [])


def test_a_device_that_said_nothing_is_away(hall: Hall) -> None:
    assert hall.collect() == (["edge-1"], [])
    swap = results.swap_result(hall.known(), "edge-1", "plain", 1)
    assert (swap["unreachable"], swap["started"]) == (True, False)
    assert swap["msg"] == "edge-1 has not reported in time; nothing was heard of it yet"
    assert results.info_result(hall.known(), "edge-1", "plain", 1)["unreachable"] is True


def test_a_forged_report_does_not_count(hall: Hall) -> None:
    genuine = json.loads(hall.report())
    payload = json.loads(base64.b64decode(genuine["payload"]))
    changed = base64.b64encode(json.dumps({**payload, "question": 1, "result": RESULT}).encode()).decode()
    hall.write("edge-1", 1, json.dumps({**genuine, "payload": changed}).encode())
    missing, (refused,) = hall.collect()
    assert missing == ["edge-1"]
    assert refused == "edge-1: report 1: forged: its signature is not of the key in its certificate"


def test_a_certificate_of_another_authority_does_not_count(hall: Hall) -> None:
    hall.key("edge-1", Authority("hall"))
    hall.write("edge-1", 1, hall.report())
    _missing, (refused,) = hall.collect()
    assert refused.startswith("edge-1: report 1: forged: its certificate is of none of the authorities in ")


def test_a_report_of_another_device_does_not_count(hall: Hall) -> None:
    hall.write("edge-1", 1, hall.report(device="edge-2"))
    _missing, (refused,) = hall.collect()
    assert refused == "edge-1: report 1: foreign: expected the certificate of edge-1; found that of edge-2"
    own = str(hall.key("edge-3"))
    lie = sign_report(Report(device="edge-1", fleet="hall", sequence=1, written_at="now"), own, own)
    hall.write("edge-3", 1, lie)
    _missing, (refused,) = hall.collect(device="edge-3")
    assert refused == "edge-3: report 1: foreign: device: expected edge-3; found edge-1"


def test_a_report_to_another_fleet_does_not_count(hall: Hall) -> None:
    hall.write("edge-1", 1, hall.report(fleet="yard"))
    assert hall.collect()[1] == ["edge-1: report 1: foreign: fleet: expected hall; found yard"]


def test_a_replayed_report_does_not_count(hall: Hall) -> None:
    old = hall.report(1, question=1, result=RESULT)
    hall.write("edge-1", 1, old)
    hall.write("edge-1", 2, hall.report(2, question=2, result={**RESULT, "version": "3.0.0"}))
    assert hall.collect(question=2) == ([], [])
    hall.write("edge-1", 3, old)
    assert hall.collect(question=2) == ([], ["edge-1: report 3: foreign: sequence: expected 3; found 1"])
    # Put back under its own name, it is passed over.
    assert hall.collect(question=1) == (["edge-1"], ["edge-1: report 3: foreign: sequence: expected 3; found 1"])
    assert results.swap_result(hall.known(), "edge-1", "plain", 2)["version"] == "3.0.0"


def test_a_device_with_a_new_key_counts_from_one_again_and_its_old_key_does_not(hall: Hall) -> None:
    first = hall.report(7, question=1)
    hall.write("edge-1", 7, first)
    assert hall.collect() == ([], [])
    hall.key("edge-1")
    hall.write("edge-1", 1, hall.report(1, question=2))
    assert hall.collect(question=2) == ([], [])
    assert len(hall.known().sequences) == 2


@pytest.mark.parametrize("text", NO_DOCUMENTS)
def test_what_is_no_report_is_refused(hall: Hall, text: str) -> None:
    hall.write("edge-1", 1, text.encode())
    _missing, (refused,) = hall.collect()
    assert refused.startswith("edge-1: report 1: ")
    with pytest.raises(ArgumentError):
        read_report(text.encode())


def test_a_report_that_is_too_long_is_refused(hall: Hall) -> None:
    hall.write("edge-1", 1, b" " * (2 << 20))
    assert hall.collect()[1] == [
        "edge-1: report 1: the report: expected an envelope; expected at most 1048576 bytes; found more"
    ]


def test_a_link_in_the_mailbox_is_not_followed(hall: Hall, tmp_path: Path) -> None:
    (hall.mailbox / "edge-1").mkdir()
    (hall.mailbox / "edge-1" / "1.json").symlink_to(tmp_path / "ca.pem")
    with pytest.raises(MailboxError, match=r"1\.json: cannot be read"):
        hall.collect()
    with pytest.raises(MailboxError, match="expected the name of a device"):
        hall.collect(device="../edge-1")


def test_files_that_are_no_reports_are_passed_over(hall: Hall) -> None:
    hall.write("edge-1", 2, hall.report(2))
    for name in ("1.json.part", "x.json", "²3.json", "-1.json"):
        (hall.mailbox / "edge-1" / name).write_text("{}")
    assert open_mailbox(hall.settings).sequences("edge-1") == [2]
    assert hall.collect() == ([], [])


def test_what_is_known_survives_a_damaged_file(hall: Hall) -> None:
    hall.write("edge-1", 1, hall.report())
    hall.collect()
    (path,) = Path(hall.settings.book).iterdir()
    for text in NO_DOCUMENTS:
        path.write_text(text)
        assert hall.known() == DeviceReports()
        assert hall.collect() == ([], [])


def test_an_expired_certificate_and_a_missing_mailbox_are_named(hall: Hall, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"ca_file: .*nothing: expected the certificate that issued"):
        Verifier("hall", str(tmp_path / "nothing"))
    os.rmdir(hall.mailbox)
    with pytest.raises(MailboxError, match="expected a directory; there is none"):
        hall.collect()


def test_a_certificate_without_an_elliptic_curve_is_refused(hall: Hall) -> None:
    envelope = read_envelope(hall.report())
    with pytest.raises(ReportError, match="edge-1: report 1: "):
        Verifier("hall", hall.settings.ca_file).verify(
            write_envelope(envelope._replace(certificate=b"no certificate")), "edge-1", 1
        )


def test_a_device_that_cannot_follow_says_why(hall: Hall) -> None:
    hall.write("edge-1", 1, hall.report(question=0, model="", problem="the metadata has expired"))
    hall.write("edge-1", 2, hall.report(2, problem="2.0.0 is withdrawn: bad", info=INFO))
    assert hall.collect() == ([], [])
    swap = results.swap_result(hall.known(), "edge-1", "plain", 1)
    assert (swap["failed"], swap["refused"], swap["live"]) == (True, True, "1.0.0")
    assert swap["msg"] == "edge-1: 2.0.0 is withdrawn: bad. Live now: 1.0.0"
    away = results.swap_result(hall.known(), "edge-1", "plain", 2)
    heard = "it was heard of last at 2026-11-29T00:00:00Z"
    assert away["msg"] == f"edge-1 has not reported in time; {heard}. It says: 2.0.0 is withdrawn: bad"


def test_the_status_is_what_was_said_last_of_each_model(hall: Hall) -> None:
    assert results.info_result(hall.known(), "edge-1", None, None)["unreachable"] is True
    hall.write("edge-1", 1, hall.report(1, info=INFO))
    hall.write("edge-1", 2, hall.report(2, model="other", written_at="2026-11-30T00:00:00Z", info=INFO))
    hall.collect()
    found = results.info_result(hall.known(), "edge-1", None, None)
    assert (len(found["models"]), found["reported_at"]) == (2, "2026-11-30T00:00:00Z")
    assert results.info_result(hall.known(), "edge-1", "plain", None)["reported_at"] == "2026-11-29T00:00:00Z"


@pytest.mark.parametrize(
    ("args", "changed", "after"),
    [
        ({"version": "2.0.0"}, True, {"active": "2.0.0", "previous": "1.0.0"}),
        ({"version": "1.0.0"}, False, {"active": "1.0.0", "previous": None}),
        ({"version": "1.0.0", "state": "previous"}, True, {"active": None, "previous": None}),
        ({"version": "2.0.0", "state": "previous"}, False, {"active": "1.0.0", "previous": None}),
    ],
)
def test_check_mode_tells_what_would_happen_by_the_last_report(
    hall: Hall, args: dict[str, str], changed: bool, after: dict[str, Any]
) -> None:
    asked = {"model": "plain", **args}
    assert results.predicted_result(hall.known(), "edge-1", asked)["unreachable"] is True
    hall.write("edge-1", 1, hall.report(info=INFO))
    hall.collect()
    found = results.predicted_result(hall.known(), "edge-1", asked)
    assert (found["changed"], found["after"]) == (changed, after)


def test_what_the_controller_needs_is_named() -> None:
    values = {"fleet": "hall", "fleet_key": "~/k", "online_key": "o", "mailbox": "m", "ca_file": "c"}
    found = read_settings(values, "/srv/models", "/ledger")
    assert (found.repository, found.book) == ("/srv/models", "/ledger/pull/hall")
    assert found.fleet_key == os.path.expanduser("~/k")
    for changes, message in (
        ({"fleet": ""}, "missing: fleet"),
        ({"fleet": "a b"}, "rollout_pull: fleet: expected 1 to 64"),
        ({"repository": "https://models.example"}, "repository: expected the directory"),
    ):
        with pytest.raises(ArgumentError, match=message):
            read_settings({**values, **changes}, "/srv/models", "/ledger")
    assert read_settings({**values, "mailbox": "https://m/r"}, "/srv", "/l").mailbox == "https://m/r"


class CountedMailbox(DirectoryMailbox):
    """Counts what is asked for."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.listed: list[str] = []
        self.given: list[tuple[str, int]] = []

    def sequences(self, device: str) -> list[int]:
        self.listed.append(device)
        return super().sequences(device)

    def read(self, device: str, sequence: int) -> bytes:
        self.given.append((device, sequence))
        return super().read(device, sequence)


def aged(path: Path) -> None:
    """Have a directory as it is when nothing has come for some time."""
    os.utime(path, (1_700_000_000, 1_700_000_000))


def test_each_report_is_read_once_whoever_collects(hall: Hall) -> None:
    for number in (1, 2, 3):
        hall.write("edge-1", number, hall.report(number, question=number))
    for question, given in ((3, [1, 2, 3]), (3, []), (4, [4])):
        if question == 4:
            hall.write("edge-1", 4, hall.report(4, question=4))
        mailbox = CountedMailbox(str(hall.mailbox))
        found = Collector(hall.settings, mailbox).collect({"edge-1": "plain"}, question, 0)
        assert (found.missing, found.refused) == ([], [])
        assert mailbox.given == [("edge-1", number) for number in given]
    # The mailbox was cleaned, and what is gone is no longer remembered.
    for number in (1, 2, 3):
        (hall.mailbox / "edge-1" / f"{number}.json").unlink()
    hall.collect()
    assert hall.known().seen == {4}


def test_a_device_of_which_nothing_has_come_is_not_asked_for_again(hall: Hall) -> None:
    names = [f"edge-{number}" for number in (1, 2, 3)]
    for name in names[:2]:
        (hall.mailbox / name).mkdir()
        aged(hall.mailbox / name)
    mailbox = CountedMailbox(str(hall.mailbox))
    collector = Collector(hall.settings, mailbox)
    for _pass in range(3):
        assert collector.collect(dict.fromkeys(names, "plain"), 1, 0).missing == names
    assert mailbox.listed == names
    hall.write("edge-1", 1, hall.report())
    assert collector.collect(dict.fromkeys(names, "plain"), 1, 0).missing == names[1:]
    assert mailbox.listed == [*names, "edge-1"]


def test_what_was_read_before_the_mailbox_broke_off_counts(hall: Hall) -> None:
    hall.write("edge-1", 1, hall.report())
    (hall.mailbox / "edge-1" / "2.json").symlink_to(hall.directory / "ca.pem")
    for _time in range(2):
        with pytest.raises(MailboxError, match=r"2\.json: cannot be read"):
            hall.collect(question=9)
    assert hall.known().answer_to("plain", 1) is not None


def test_a_mailbox_that_is_gone_is_named(hall: Hall) -> None:
    collector = Collector(hall.settings)
    hall.mailbox.rmdir()
    with pytest.raises(MailboxError, match="reports: cannot be read"):
        collector.collect({"edge-1": "plain"}, 1, 0)
