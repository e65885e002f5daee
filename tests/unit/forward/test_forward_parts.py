# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The parts of store and forward by themselves: clocks, what is recorded, the receiver, the command."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_server import FakeServer
from forwarding import ForwardingDevice, MetricsReceiver, SimulatedClock
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError, StoreError
from ansible_collections.edgeml.fleet.plugins.module_utils._forward import clock as clocks
from ansible_collections.edgeml.fleet.plugins.module_utils._forward import recording
from ansible_collections.edgeml.fleet.plugins.module_utils._forward.clock import (
    EARLIEST_MS,
    TOLERANCE_MS,
    Reading,
    read_clock,
    right_times,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._forward.command import main
from ansible_collections.edgeml.fleet.plugins.module_utils._forward.config import parse_config
from ansible_collections.edgeml.fleet.plugins.module_utils._forward.receiver import LinkError, Receiver, RefusedError
from ansible_collections.edgeml.fleet.plugins.module_utils._forward.recording import record
from ansible_collections.edgeml.fleet.plugins.module_utils._forward.spool import (
    Batch,
    parse_name,
    read_batch,
    write_batch,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._watch.metrics import Sample

NOON = 1_795_953_600_000
HOUR = 3_600_000


# ---- clocks ----


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, HOUR), st.integers(-60, 60), st.booleans()), min_size=1, max_size=9
    )
)
def test_a_time_is_right_or_nobody_knows_it(moments: list[tuple[int, int, int, bool]]) -> None:
    """Starts, moments in them, errors in years, and whether the clock was trusted, which it is only if it is right."""
    order = sorted(moments, key=lambda moment: moment[:2])
    true = [NOON + boot * HOUR + passed for boot, passed, _error, _trusted in order]
    readings = [
        Reading(right + (0 if trusted else years * 365 * 24 * HOUR), passed, str(boot), trusted)
        for right, (boot, passed, years, trusted) in zip(true, order, strict=True)
    ]
    now = Reading(0, HOUR, "3", False)
    for found, right, reading in zip(right_times(readings, now, NOON + 3 * HOUR), true, readings, strict=True):
        known = reading.boot == "3" or any(other.trusted and other.boot == reading.boot for other in readings)
        assert found == (right if known else None)


@pytest.mark.parametrize("wrong", [EARLIEST_MS - 2 * TOLERANCE_MS, NOON + 2 * HOUR])
def test_a_time_that_cannot_be_is_not_believed(wrong: int) -> None:
    """Before there was this software, and after now."""
    readings = [Reading(wrong, 1000, "before", True), Reading(NOON, 1000, "now", True)]
    assert right_times(readings, Reading(NOON, 2000, "now", True), NOON - 1000) == [None, NOON]


def test_a_clock_that_went_back_between_two_starts_is_not_believed() -> None:
    readings = [Reading(NOON, 5000, "first", True), Reading(NOON - HOUR, 1000, "second", True)]
    assert right_times(readings, Reading(NOON + HOUR, 1000, "third", True), NOON + HOUR - 1000) == [NOON, None]


def make_root(root: Path, is_source: str, since_epoch: int) -> None:
    rtc, kernel = root / "sys/class/rtc/rtc0", root / "proc/sys/kernel/random"
    rtc.mkdir(parents=True)
    kernel.mkdir(parents=True)
    (rtc / "hctosys").write_text(f"{is_source}\n")
    (rtc / "since_epoch").write_text(f"{since_epoch}\n")
    (kernel / "boot_id").write_text("3a2f0c1e-77aa-4d0c-9d0b-1f6f0c0d9a11\n")


@pytest.mark.parametrize(
    ("is_source", "error", "synchronised", "trusted"),
    [
        ("1", 0, False, True),
        ("0", 0, False, False),
        ("1", -86_400, False, False),
        ("0", -86_400, True, True),
        ("broken", 0, False, False),
    ],
)
def test_what_a_clock_is_trusted_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_source: str, error: int, synchronised: bool, trusted: bool
) -> None:
    make_root(tmp_path, is_source, int(time.time()) + error)
    monkeypatch.setattr(clocks, "is_synchronised", lambda: synchronised)
    before_ms = time.time_ns() // 1_000_000
    found = read_clock(str(tmp_path))
    assert (found.boot, found.trusted) == ("3a2f0c1e77aa4d0c9d0b1f6f0c0d9a11", trusted)
    assert before_ms <= found.time_ms <= time.time_ns() // 1_000_000
    assert read_clock(str(tmp_path)).boot_ms >= found.boot_ms > 0


def test_the_kernel_is_asked_whether_it_is_synchronised() -> None:
    assert clocks.is_synchronised() in (True, False)


# ---- what is recorded ----


def test_what_the_server_says_gets_the_labels_of_a_scrape(tmp_path: Path) -> None:
    text = """# HELP a_total Help.
a_total{code="200",path="/x y"} 3.0
b 1e-05
c{} 2
d{le="+Inf"} +Inf
e NaN
f{x="1"} 1 1700000000
g 1 1700000000
half
h word
"""
    device = ForwardingDevice(tmp_path, "http://127.0.0.1:1", SimulatedClock(NOON))
    with FakeServer(device.config.server) as server:
        server.reply = (200, text.encode())
        samples, problems = record_beside(server, device)
    labels = '{device="edge-1",job="edgeml-server"'
    assert problems == []
    assert [sample for sample in samples if "edgeml-server" in sample] == [
        f"up{labels}}} 1",
        f'a_total{labels},code="200",path="/x y"}} 3.0',
        f"b{labels}}} 1e-05",
        f"c{labels}}} 2",
        f'd{labels},le="+Inf"}} +Inf',
    ]
    assert list(text_string_to_metric_families("\n".join(samples)))


def record_beside(server: FakeServer, device: ForwardingDevice) -> tuple[list[str], list[str]]:
    """Record while the server answers."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        return record(device.config, [])
    finally:
        server.shutdown()
        thread.join()


def test_there_are_at_most_so_many_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "SAMPLES_MAX", 1)
    samples, problems = record(ForwardingDevice(tmp_path, "http://127.0.0.1:1", SimulatedClock(NOON)).config, [])
    assert len(samples) == 1
    assert "expected at most 1 samples; found 2" in problems[-1]


def test_a_store_that_cannot_be_read_hides_nothing_else(tmp_path: Path) -> None:
    device = ForwardingDevice(tmp_path, "http://127.0.0.1:1", SimulatedClock(NOON))
    (tmp_path / "store").write_text("no directory")
    samples, problems = record(device.config, [("edgeml_forward_queued_batches", {}, 3.0)])
    assert samples[-1] == 'edgeml_forward_queued_batches{device="edge-1",job="edgeml-device"} 3'
    assert problems


def test_node_exporter_gets_what_is_recorded_of_the_device(tmp_path: Path) -> None:
    device = ForwardingDevice(tmp_path, "http://127.0.0.1:1", SimulatedClock(NOON))
    textfile = Path(device.config.textfile)
    own: list[Sample] = [("edgeml_forward_queued_batches", {}, 3.0)]
    record(device.config, own)
    # Where no node_exporter is, there is no directory.
    assert not textfile.parent.exists()
    textfile.parent.mkdir()
    samples, _problems = record(device.config, own)
    assert textfile.read_text().endswith("\nedgeml_forward_queued_batches 3\n")
    textfile.unlink()
    textfile.mkdir()
    again, problems = record(device.config, own)
    assert again == samples
    assert problems[-1] == f"{textfile}: node_exporter keeps what was there: Is a directory"


# ---- files ----


def test_a_name_says_what_is_in_a_file() -> None:
    batch = Batch(12, Reading(-5, 7, "abc", False), 3)
    assert parse_name(batch.name) == batch
    assert batch.name == "000000000012.-5.7.abc.unknown.3.gz"


@pytest.mark.parametrize("name", ["staging", "1.2.3.gz", "a.2.3.b.trusted.4.gz", "1.2.3.b.trusted.4.part"])
def test_another_file_is_no_batch(name: str) -> None:
    assert parse_name(name) is None


def test_a_file_is_read_as_it_was_written() -> None:
    samples = ['up{device="ä b"} 1', "x 2"]
    assert read_batch(write_batch(samples, NOON)) == samples
    with pytest.raises(StoreError, match="damaged"):
        read_batch(b"no gzip")


# ---- the receiver ----


@pytest.fixture
def receiver() -> Iterator[MetricsReceiver]:
    with MetricsReceiver(SimulatedClock(NOON)) as found:
        yield found


def client(tmp_path: Path, url: str, **config: object) -> Receiver:
    return Receiver(ForwardingDevice(tmp_path, url, SimulatedClock(NOON), **config).config)  # type: ignore[arg-type]


def test_who_asks_says_who_it_is(tmp_path: Path, receiver: MetricsReceiver) -> None:
    client(tmp_path, receiver.url, username="edge-1", password="open sesame").ask_time()
    assert receiver.headers[0]["Authorization"] == "Basic ZWRnZS0xOm9wZW4gc2VzYW1l"
    assert receiver.headers[0]["Host"] == f"127.0.0.1:{receiver.server_port}"


def test_a_reply_has_the_time(tmp_path: Path, receiver: MetricsReceiver) -> None:
    found = client(tmp_path, receiver.url)
    assert found.time_ms is None
    found.ask_time()
    assert found.time_ms == NOON + 500


@pytest.mark.parametrize(("status", "error"), [(429, LinkError), (500, LinkError), (400, RefusedError)])
def test_what_cannot_be_now_is_told_from_what_is_wrong(
    tmp_path: Path, receiver: MetricsReceiver, status: int, error: type[Exception]
) -> None:
    receiver.status = status
    with pytest.raises(error, match=f"HTTP status {status}"):
        client(tmp_path, receiver.url).store(write_batch(["up 1"], NOON))


@pytest.mark.parametrize("config", [{"ca_file": "/nowhere/ca.pem"}, {"certificate": "/nowhere/device.pem"}])
def test_a_certificate_that_is_not_there_is_named(tmp_path: Path, config: dict[str, str]) -> None:
    with pytest.raises(RefusedError, match=r"/nowhere/.*cannot be used for TLS"):
        client(tmp_path, "https://127.0.0.1:1", **config)


def test_a_port_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="expected an address such as"):
        client(tmp_path, "http://127.0.0.1:port")


def test_an_answer_that_is_none_of_a_victoriametrics_is_named(tmp_path: Path, receiver: MetricsReceiver) -> None:
    receiver.stored['up{device="edge-1"}'] = {NOON: "1"}
    assert client(tmp_path, receiver.url).stored(NOON, NOON) == {NOON: 1}
    assert client(tmp_path, receiver.url).stored(NOON + 1, NOON + 2) == {}


# ---- configuration and command ----


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("device", 'a"b', "expected a name without quotes"),
        ("url", "ftp://x", "expected an address with https://"),
        ("batches_max", 0, "expected at least 1"),
        ("batches_max", "1", "expected int"),
    ],
)
def test_a_configuration_that_is_wrong_is_told_with_its_field(field: str, value: object, message: str) -> None:
    with pytest.raises(ArgumentError, match=f"{field}.*{message}"):
        parse_config({"device": "edge-1", "url": "https://x", field: value}, "forward.json")


def test_the_command_says_what_happens(
    tmp_path: Path, receiver: MetricsReceiver, capsys: pytest.CaptureFixture[str]
) -> None:
    receiver.clock.true_ms = time.time_ns() // 1_000_000
    device = ForwardingDevice(tmp_path, receiver.url, SimulatedClock(NOON))
    config = tmp_path / "forward.json"
    config.write_text(json.dumps(device.config._asdict()))
    assert main(["--config", str(config)]) == 0
    assert "no answer from the server" in capsys.readouterr().err
    assert len(receiver.posts) == 1
    assert main(["--config", str(config), "--again"]) == 0
    assert "0 batches that were set aside are sent again" in capsys.readouterr().err
    assert main(["--help"]) == 0
    assert main(["--config"]) == 2
    assert main(["--config", str(tmp_path / "none.json")]) == 1
    assert "expected the configuration of edgeml forward" in capsys.readouterr().err
