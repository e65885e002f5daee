# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real nginx with the configuration of the role report_mailbox: what devices and readers can do, and no one else."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from authorities import Authority
from report_mailbox import Mailbox

DIGEST = "0" * 63 + "a"


@pytest.fixture(scope="module")
def mailbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mailbox]:
    made = Mailbox(tmp_path_factory.mktemp("mailbox"), report_bytes=10_000, refused_devices=["stolen"])
    yield made
    made.stop()


@pytest.fixture(scope="module")
def device(mailbox: Mailbox) -> Path:
    """The certificate of edge-1, which has a directory."""
    certificate = mailbox.certificate("edge-1")
    assert mailbox.ask(certificate, "MKCOL", "/reports/edge-1/")[0] == 201
    return certificate


def test_a_report_is_delivered_once_and_read_and_removed(mailbox: Mailbox) -> None:
    device, reader = mailbox.certificate("edge-2"), mailbox.reader()
    assert mailbox.deliver(device, "edge-2", 7, b'{"a": 1}') == [201, 201, 204]
    # The reply was lost, so the device delivers again: the first one stays.
    assert mailbox.deliver(device, "edge-2", 7, b'{"a": 2}') == [405, 201, 412]
    listed = json.loads(mailbox.ask(reader, "GET", "/reports/")[1])
    assert "edge-2" in [entry["name"] for entry in listed]
    assert mailbox.ask(reader, "GET", "/reports/edge-2/7.json") == (200, b'{"a": 1}')
    assert mailbox.ask(reader, "DELETE", "/reports/edge-2/7.json")[0] == 204
    names = [entry["name"] for entry in json.loads(mailbox.ask(reader, "GET", "/reports/edge-2/")[1])]
    assert names == ["7.json.part"]


def test_without_a_directory_a_report_is_not_taken(mailbox: Mailbox) -> None:
    status, _content = mailbox.ask(mailbox.certificate("edge-3"), "PUT", "/reports/edge-3/1.json.part", b"{}")
    assert status == 500, "as nginx says it"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/reports/edge-9/1.json.part"),
        ("PUT", "/reports/edge-1/../edge-9/1.json.part"),
        ("PUT", "/reports/edge-1/%2e%2e/edge-9/1.json.part"),
        ("PUT", "/reports/edge-1/..%2f1.json.part"),
        ("PUT", "/reports/edge-1//edge-9/1.json.part"),
        ("PUT", "/reports/edge-1/1.json"),
        ("PUT", "/reports/edge-1/x.json.part"),
        ("PUT", "/reports/edge-1/1.json.part%0a"),
        ("PUT", "/reports/edge-1/sub/1.json.part"),
        ("PUT", "/reports/edge-10/1.json.part"),
        ("PUT", "/reports/1.json.part"),
        ("PUT", "/server.conf"),
        ("MKCOL", "/reports/edge-9/"),
        ("MKCOL", "/reports/edge-1/sub/"),
        ("MKCOL", "/reports/edge-1/../edge-9/"),
        ("DELETE", "/reports/edge-1/1.json"),
        ("DELETE", "/reports/edge-1/"),
        ("COPY", "/reports/edge-1/1.json.part"),
        ("PROPFIND", "/reports/edge-1/"),
        ("POST", "/reports/edge-1/1.json.part"),
        ("GET", "/reports/edge-1/1.json"),
        ("GET", "/reports/edge-1/"),
        ("GET", "/reports/"),
        ("GET", "/"),
        ("PUT", f"/enroll/{DIGEST}.csr"),
        ("GET", f"/enroll/{DIGEST}.pem"),
        ("GET", "/metrics/health"),
    ],
)
def test_a_device_writes_its_own_reports_and_does_nothing_else(
    mailbox: Mailbox, device: Path, method: str, path: str
) -> None:
    (mailbox.files / "reports/edge-9").mkdir(exist_ok=True)
    mailbox.deliver(device, "edge-1", 1, b"{}")
    status, content = mailbox.ask(device, method, path, b"hostile" if method == "PUT" else None)
    assert status in (400, 403)
    assert b"edge-" not in content
    assert not list((mailbox.files / "reports/edge-9").iterdir())


@pytest.mark.parametrize(
    "to",
    [
        "/reports/edge-9/1.json",
        "/reports/edge-1/../edge-9/1.json",
        "/reports/edge-1/%2e%2e/edge-9/1.json",
        "/reports/edge-1/1.json/",
        "/reports/edge-1/2.json?x",
        "/reports/edge-1/2.json#x",
        "/reports/edge-1/x",
        f"/enroll/{DIGEST}.pem",
    ],
)
def test_a_device_moves_its_reports_nowhere_else(mailbox: Mailbox, device: Path, to: str) -> None:
    """nginx itself moves to wherever Destination says."""
    (mailbox.files / "reports/edge-9").mkdir(exist_ok=True)
    assert mailbox.ask(device, "PUT", "/reports/edge-1/5.json.part", b"{}")[0] in (201, 204)
    assert mailbox.move(device, "/reports/edge-1/5.json.part", to) == 403
    assert not list((mailbox.files / "reports/edge-9").iterdir())


@pytest.mark.parametrize("overwrite", ["T", "", "f"])
def test_a_report_is_never_replaced(mailbox: Mailbox, device: Path, overwrite: str) -> None:
    mailbox.deliver(device, "edge-1", 11, b"first")
    assert mailbox.ask(device, "PUT", "/reports/edge-1/11.json.part", b"second")[0] in (201, 204)
    assert mailbox.move(device, "/reports/edge-1/11.json.part", "/reports/edge-1/11.json", overwrite) == 403
    assert (mailbox.files / "reports/edge-1/11.json").read_bytes() == b"first"


def test_too_much_is_refused(mailbox: Mailbox, device: Path) -> None:
    path = "/reports/edge-1/20.json.part"
    assert mailbox.ask(device, "PUT", path, b"x" * 10_000)[0] == 201
    assert mailbox.ask(device, "PUT", path, b"x" * 10_001)[0] == 413
    assert (mailbox.files / "reports/edge-1/20.json.part").stat().st_size == 10_000


def test_a_body_without_a_length_is_limited_as_well(mailbox: Mailbox, device: Path) -> None:
    context = ssl.create_default_context(cafile=str(mailbox.ca))
    context.load_cert_chain(device)
    with (
        socket.create_connection(("127.0.0.1", mailbox.port), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as client,
    ):
        client.sendall(b"PUT /reports/edge-1/21.json.part HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.sendall((b"1000\r\n" + b"x" * 4096 + b"\r\n") * 3)
        assert client.recv(4096).startswith(b"HTTP/1.1 413")
    assert not (mailbox.files / "reports/edge-1/21.json.part").exists()


def test_the_time_of_a_report_is_the_servers(mailbox: Mailbox, device: Path) -> None:
    """nginx takes a client's Date for it: then the report would be the oldest one, or never old."""
    date = {"Date": "Thu, 01 Jan 1970 00:00:00 GMT"}
    assert mailbox.ask(device, "PUT", "/reports/edge-1/30.json.part", b"{}", **date)[0] == 400


def test_who_is_not_of_the_fleet(mailbox: Mailbox) -> None:
    stranger = mailbox.certificate("edge-1", authority=Authority("fleet"))
    for certificate in (None, stranger):
        assert mailbox.ask(certificate, "PUT", "/reports/edge-1/40.json.part", b"{}")[0] == 400


@pytest.mark.parametrize(
    ("name", "unit"),
    [("stolen", ""), ("edge-1", "other"), ("edge-1,OU=edgeml reader", ""), ("../edge-9", ""), (" ", "edgeml reader")],
)
def test_names_that_are_nobodys(mailbox: Mailbox, name: str, unit: str) -> None:
    certificate = mailbox.fleet.issue(name, mailbox.directory / "odd.pem", unit)
    assert mailbox.ask(certificate, "GET", "/reports/")[0] == 403
    assert mailbox.ask(certificate, "MKCOL", "/reports/stolen/")[0] == 403
    assert mailbox.ask(certificate, "PUT", "/reports/edge-1/41.json.part", b"{}")[0] == 403


def test_a_reader_writes_nothing(mailbox: Mailbox, device: Path) -> None:
    reader = mailbox.reader()
    mailbox.deliver(device, "edge-1", 50, b"{}")
    assert mailbox.ask(reader, "PUT", "/reports/edge-1/51.json.part", b"{}")[0] == 403
    assert mailbox.move(reader, "/reports/edge-1/50.json", "/reports/edge-1/52.json") == 403
    assert mailbox.ask(reader, "DELETE", "/reports/edge-1/")[0] == 403
    assert mailbox.ask(reader, "DELETE", "/reports/")[0] == 403


def test_a_link_is_not_followed(mailbox: Mailbox, device: Path) -> None:
    link = mailbox.files / "reports/edge-1/60.json"
    link.symlink_to("/etc/passwd")
    try:
        assert mailbox.ask(mailbox.reader(), "GET", "/reports/edge-1/60.json")[0] == 403
    finally:
        link.unlink()


def test_a_device_that_writes_without_end_is_told_to_wait_and_no_other(tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path, requests_per_minute=1, requests_burst=4)
    try:
        loud, quiet, reader = mailbox.certificate("loud"), mailbox.certificate("quiet"), mailbox.reader()
        statuses = [mailbox.ask(loud, "MKCOL", "/reports/loud/")[0] for _time in range(10)]
        assert statuses == [201, *[405] * 4, *[429] * 5]
        assert mailbox.ask(quiet, "MKCOL", "/reports/quiet/")[0] == 201
        assert {mailbox.ask(reader, "GET", "/reports/")[0] for _time in range(10)} == {200}
    finally:
        mailbox.stop()


def test_a_new_device_leaves_a_request_and_fetches_its_certificate(tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path, enrolment=True)
    try:
        reader, request, answer = mailbox.reader(), f"/enroll/{DIGEST}.csr", f"/enroll/{DIGEST}.pem"
        assert mailbox.ask(None, "GET", answer)[0] == 404
        assert mailbox.ask(None, "PUT", request, b"request")[0] == 201
        assert mailbox.ask(None, "PUT", request, b"x" * 20_000)[0] == 413
        for method, path in (
            ("GET", request),
            ("GET", "/enroll/"),
            ("DELETE", request),
            ("PUT", answer),
            ("PUT", "/enroll/x.csr"),
            ("MKCOL", "/reports/edge-1/"),
            ("MKCOL", "/reports//"),
            ("PUT", "/reports//1.json.part"),
            ("GET", "/reports/"),
        ):
            assert mailbox.ask(None, method, path, b"x" if method == "PUT" else None)[0] == 403
        listed = json.loads(mailbox.ask(reader, "GET", "/enroll/")[1])
        assert [entry["name"] for entry in listed] == [f"{DIGEST}.csr"]
        assert mailbox.ask(reader, "GET", request) == (200, b"request")
        assert mailbox.ask(reader, "PUT", answer, b"certificate")[0] == 201
        assert mailbox.ask(reader, "DELETE", request)[0] == 204
        assert mailbox.ask(None, "GET", answer) == (200, b"certificate")
    finally:
        mailbox.stop()
