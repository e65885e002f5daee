# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A new device, the real mailbox and the playbook ``enroll``: from the key that the device makes to its certificate."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from controller import Ansible
from mosquitto import Broker, Peer
from report_mailbox import Mailbox

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.tls import client_context
from ansible_collections.edgeml.fleet.plugins.module_utils._enrolment import command
from ansible_collections.edgeml.fleet.plugins.module_utils._enrolment.request import fingerprint, have_key, make_request
from ansible_collections.edgeml.fleet.plugins.module_utils._pull.report import Report, sign_report
from ansible_collections.edgeml.fleet.plugins.plugin_utils._enrolment.authority import Authority
from ansible_collections.edgeml.fleet.plugins.plugin_utils._pull.reports import ReportError, Verifier


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(str(tmp_path / "authority"))


@pytest.fixture
def mailbox(tmp_path: Path, authority: Authority) -> Iterator[Mailbox]:
    (tmp_path / "mailbox").mkdir()
    made = Mailbox(tmp_path / "mailbox", client_ca=authority.pem, enrolment=True)
    yield made
    made.stop()


def enroll(directory: Path, mailbox: Mailbox, *more: str) -> dict[str, Any]:
    """What the device's command finds out, with the mailbox."""
    options = ["--device", "edge-17", "--mailbox", mailbox.url, "--ca-file", str(mailbox.ca)]
    for option in ("key", "certificate", "authority", "config"):
        options += [f"--{option}", str(directory / option)]
    return command.enroll(command._parser().parse_args([*options, *more]))


def test_a_device_is_enrolled_by_the_mailbox(tmp_path: Path, authority: Authority, mailbox: Mailbox) -> None:
    device = tmp_path / "device"
    device.mkdir()
    (device / "authority").write_bytes(authority.pem)
    asked = enroll(device, mailbox)
    assert asked["certificate"] == ""
    ansible = Ansible(tmp_path, [])
    variables = {
        "enroll_authority": str(tmp_path / "authority"),
        "enroll_source": mailbox.url,
        "enroll_ca_file": str(mailbox.ca),
    }
    shown = ansible.run("edgeml.fleet.enroll", **variables)
    assert shown.code == 0, shown
    (waiting,) = shown.results("Show who waits").values()
    assert asked["fingerprint"] in str(waiting["msg"])
    assert "edge-17" in str(waiting["msg"])
    accepted = {**variables, "enroll_accept": {"edge-17": asked["fingerprint"]}}
    run = ansible.run("edgeml.fleet.enroll", **accepted)
    assert run.code == 0, run
    (result,) = run.results("Sign what is accepted, and renew what is old").values()
    assert (result["changed"], result["waiting"]) == (True, [])
    assert run.custom_stats["enroll_signed"] == ["edge-17"]
    enrolled = enroll(device, mailbox)
    assert enrolled["certificate"].startswith("-----BEGIN CERTIFICATE-----")
    # The mailbox takes its reports from now on.
    both = device / "both"
    both.write_bytes((device / "certificate").read_bytes() + (device / "key").read_bytes())
    assert mailbox.deliver(both, "edge-17", 1, b"{}") == [201, 201, 204]


def test_a_device_whose_certificate_is_revoked_is_refused_by_mailbox_broker_and_controller(
    tmp_path: Path, authority: Authority
) -> None:
    own = {}
    for name in ("edge-1", "edge-2"):
        key = have_key(str(tmp_path / f"{name}.key"))
        request = make_request(key, name)
        digest = fingerprint(key.public_key())
        # It was renewed since, and an older certificate is as good as the newer one.
        first = authority.sign(request, name, digest, days=9)
        authority.renew(name, days=9)
        own[name] = tmp_path / f"{name}.pem"
        own[name].write_text(first + (tmp_path / f"{name}.key").read_text())
    authority.revoke("edge-1")
    crl = authority.crl()

    report = Report("edge-1", "hall", 1, "2026-11-29T00:00:00Z", 1, "digits", 1)
    verifier = Verifier("hall", str(tmp_path / "authority/ca.pem"), str(tmp_path / "authority/crl.pem"))
    for name in own:
        content = sign_report(report._replace(device=name), str(own[name]), str(own[name]))
        if name == "edge-1":
            with pytest.raises(ReportError, match="edge-1: report 1: its certificate was revoked"):
                verifier.verify(content, name, 1)
        else:
            assert verifier.verify(content, name, 1)[0].device == name

    (tmp_path / "closed").mkdir()
    mailbox = Mailbox(tmp_path / "closed", client_ca=authority.pem, tls_crl=crl)
    try:
        assert mailbox.deliver(own["edge-2"], "edge-2", 1, b"{}") == [201, 201, 204]
        assert mailbox.deliver(own["edge-1"], "edge-1", 1, b"{}") == [400, 400, 400]
    finally:
        mailbox.stop()

    (tmp_path / "broker").mkdir()
    broker = Broker(tmp_path / "broker", tls_crl=crl)
    (tmp_path / "broker/client-ca.pem").write_bytes(authority.pem)
    broker.start()
    try:
        Peer(broker, own["edge-2"]).close()
        context = client_context(str(broker.ca), str(own["edge-1"]))
        with (
            socket.create_connection(("127.0.0.1", broker.port), timeout=60) as plain,
            pytest.raises(ssl.SSLError, match=r"(?i)revoked"),
            context.wrap_socket(plain, server_hostname="127.0.0.1") as client,
        ):
            client.recv(1)
    finally:
        broker.stop()


def test_a_mailbox_that_takes_no_requests(tmp_path: Path, authority: Authority) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "authority-file").write_bytes(authority.pem)
    closed = Mailbox(tmp_path / "closed", client_ca=authority.pem)
    try:
        with pytest.raises(EdgemlError, match="Is enrolment open there"):
            enroll(tmp_path, closed, "--authority", str(tmp_path / "authority-file"))
    finally:
        closed.stop()
    with pytest.raises(EdgemlError, match="cannot be reached"):
        enroll(tmp_path, closed, "--authority", str(tmp_path / "authority-file"))
    assert (tmp_path / "key").exists(), "it is kept for the next time"
