# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A device forwards through nginx with the role's configuration: its certificate's name is the label ``device``."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from authorities import Authority
from forwarding import ForwardingDevice, SimulatedClock
from nginx import Nginx, defaults, rendered
from report_mailbox import Mailbox
from victoria_metrics import VictoriaMetrics, wait_for

from ansible_collections.edgeml.fleet.plugins.module_utils._forward.receiver import Receiver, RefusedError
from ansible_collections.edgeml.fleet.plugins.module_utils._forward.spool import write_batch


class Front:
    """nginx before a VictoriaMetrics, with its files in ``directory``. ``refused`` are decommissioned devices."""

    def __init__(self, directory: Path, receiver: VictoriaMetrics, *refused: str) -> None:
        self._directory = directory
        directory.mkdir()
        server, self.fleet = Authority("servers"), Authority("fleet")
        self.ca = server.write(directory / "ca.pem")
        shutil.copyfile(server.issue("watch", directory / "certificate.pem"), directory / "key.pem")
        self.fleet.write(directory / "client-ca.pem")
        values = defaults("telemetry")
        self.url = f"https://127.0.0.1:{values['listen_port']}"
        values.update(
            server_store_listen_address="127.0.0.1",
            server_store_listen_port=values["listen_port"],
            server_store_tls_crl="",
        )
        text = rendered(
            "telemetry",
            "edgeml-telemetry.conf",
            __telemetry_values=values,
            __telemetry_nginx_directory=str(directory),
            __telemetry_store_port=receiver.port,
            query=lambda *_arguments: list(refused),
        )
        self.nginx = Nginx(directory, text)

    def device(self, name: str, says: str, authority: Authority | None = None) -> ForwardingDevice:
        """A device with the certificate of ``name``, which ``says`` that it is another."""
        directory = self._directory / f"{name}-{says}"
        directory.mkdir()
        certificate = (authority or self.fleet).issue(name, directory / "device.pem")
        clock = SimulatedClock(time.time_ns() // 1_000_000)
        tls = {"ca_file": str(self.ca), "certificate": str(certificate)}
        return ForwardingDevice(directory, self.url, clock, says, **tls)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[VictoriaMetrics]:
    with VictoriaMetrics(tmp_path / "victoria-metrics") as found:
        yield found


@pytest.fixture
def front(tmp_path: Path, receiver: VictoriaMetrics) -> Iterator[Front]:
    found = Front(tmp_path / "front", receiver, "edge-9")
    yield found
    found.nginx.stop()


def test_a_device_forwards_and_asks_as_itself(front: Front, receiver: VictoriaMetrics) -> None:
    device = front.device("edge-1", "edge-1")
    assert device.run() == 0
    ((time_ms, samples),) = device.recorded.items()
    wait_for(lambda: len(receiver.stored("edge-1").get(time_ms, ())) == len(samples), "it is stored")
    assert Receiver(device.config).stored(time_ms, time_ms) == {time_ms: len(samples)}


def test_a_device_is_what_its_certificate_says(front: Front, receiver: VictoriaMetrics) -> None:
    device = front.device("edge-1", "edge-2")
    assert device.run() == 0
    (time_ms,) = device.recorded
    wait_for(lambda: time_ms in receiver.stored("edge-1"), "it is stored as the device's own")
    assert receiver.stored("edge-2") == {}
    now_ms = time.time_ns() // 1_000_000
    Receiver(front.device("edge-3", "edge-3").config).store(write_batch(['secret{device="edge-3"} 1'], now_ms))
    wait_for(lambda: now_ms in receiver.stored("edge-3"), "the other's is stored")
    assert Receiver(device.config).stored(now_ms, now_ms) == {}


@pytest.mark.parametrize("name", ["edge-9", "stranger"])
def test_a_device_that_is_decommissioned_or_of_another_fleet_is_refused(front: Front, name: str) -> None:
    authority = Authority("others") if name == "stranger" else front.fleet
    with pytest.raises(RefusedError, match=r"HTTP status 40[03]"):
        Receiver(front.device(name, name, authority).config).ask_time()


# ---- by the mailbox of reports ----


@pytest.fixture
def mailbox(tmp_path: Path, receiver: VictoriaMetrics) -> Iterator[Mailbox]:
    directory = tmp_path / "mailbox"
    directory.mkdir()
    found = Mailbox(directory, metrics_store=f"127.0.0.1:{receiver.port}", refused_devices=["stolen"])
    yield found
    found.stop()


def reporting_device(mailbox: Mailbox, name: str, says: str) -> ForwardingDevice:
    """A device with the certificate of ``name`` that forwards to the mailbox, and ``says`` that it is another."""
    directory = mailbox.directory / f"{name}-{says}"
    directory.mkdir()
    url = f"https://127.0.0.1:{mailbox.port}/metrics"
    tls = {"ca_file": str(mailbox.ca), "certificate": str(mailbox.certificate(name))}
    return ForwardingDevice(directory, url, SimulatedClock(time.time_ns() // 1_000_000), says, **tls)


def test_a_device_forwards_by_the_mailbox_as_what_its_certificate_says(
    mailbox: Mailbox, receiver: VictoriaMetrics
) -> None:
    device = reporting_device(mailbox, "edge-1", "edge-2")
    assert device.run() == 0
    ((time_ms, samples),) = device.recorded.items()
    wait_for(lambda: len(receiver.stored("edge-1").get(time_ms, ())) == len(samples), "it is stored")
    assert receiver.stored("edge-2") == {}
    assert Receiver(device.config).stored(time_ms, time_ms) == {time_ms: len(samples)}
    other = reporting_device(mailbox, "edge-3", "edge-1")
    assert Receiver(other.config).stored(time_ms, time_ms) == {}
    receiver.kill()
    assert device.minute() == 0
    assert "has no room now: HTTP status 502: what was recorded is kept" in device.lines[-1]


def test_the_mailbox_passes_on_nothing_else(mailbox: Mailbox) -> None:
    device = mailbox.certificate("edge-1")
    for method, path in (
        ("GET", "/metrics/api/v1/query"),
        ("POST", "/metrics/api/v1/admin/tsdb/delete_series"),
        ("GET", "/metrics/api/v1/import/prometheus"),
        ("POST", "/metrics/api/v1/export"),
        ("GET", "/metrics/"),
    ):
        assert mailbox.ask(device, method, path)[0] == 403
    for certificate in (mailbox.reader(), mailbox.certificate("stolen")):
        assert mailbox.ask(certificate, "GET", "/metrics/health")[0] == 403
