# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates of devices: what a device makes and takes, and what the fleet's authority signs."""

from __future__ import annotations

import datetime
import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from device_app import make_app

from ansible_collections.edgeml.fleet.plugins.module_utils._common import pull_packages
from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._enrolment import command
from ansible_collections.edgeml.fleet.plugins.module_utils._enrolment.certificate import (
    is_due,
    read_certificate,
    valid_until,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._enrolment.request import (
    EnrolmentError,
    fingerprint,
    have_key,
    make_request,
    read_request,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._enrolment.authority import Authority
from ansible_collections.edgeml.fleet.plugins.plugin_utils._enrolment.desk import DirectoryDesk
from ansible_collections.edgeml.fleet.plugins.plugin_utils._enrolment.enrolment import Enrolment

NOW = datetime.datetime.now(datetime.UTC)


class Device:
    """A device that runs ``edgeml enroll`` with a stick."""

    def __init__(self, directory: Path, name: str, authority: bytes) -> None:
        self.directory = directory / name
        self.directory.mkdir()
        self.name = name
        (self.directory / "authority.pem").write_bytes(authority)

    def enroll(self, stick: Path, *more: str) -> dict[str, Any]:
        files = [
            word
            for option, file in (
                ("key", "device.key"),
                ("certificate", "device.pem"),
                ("authority", "authority.pem"),
                ("config", "pull.json"),
            )
            for word in (f"--{option}", str(self.directory / file))
        ]
        options = command._parser().parse_args(
            ["--device", self.name, "--directory", str(stick), "--json", *files, *more]
        )
        return command.enroll(options)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(str(tmp_path / "authority"))


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    (tmp_path / "stick").mkdir()
    return tmp_path / "stick"


@pytest.fixture
def device(tmp_path: Path, authority: Authority) -> Device:
    return Device(tmp_path, "edge-1", authority.pem)


def enrolment(tmp_path: Path, *, days: int = 90, check_mode: bool = False, later: int = 0) -> Enrolment:
    now = NOW + datetime.timedelta(days=later)
    return Enrolment(str(tmp_path / "authority"), days=days, check_mode=check_mode, now=now)


def test_a_device_is_enrolled_with_a_stick(tmp_path: Path, device: Device, stick: Path) -> None:
    asked = device.enroll(stick)
    assert (asked["certificate"], asked["is_due"]) == ("", True)
    key = device.directory / "device.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    desk, operator = DirectoryDesk(str(stick)), enrolment(tmp_path)
    assert operator.waiting(desk, set()) == [{"fingerprint": asked["fingerprint"], "device": "edge-1", "problem": ""}]
    assert operator.accept(desk, {"edge-1": asked["fingerprint"].upper()}, False) == [
        {"device": "edge-1", "fingerprint": asked["fingerprint"]}
    ]
    assert desk.waiting() == []
    before = key.read_bytes()
    enrolled = device.enroll(stick)
    assert enrolled["certificate"] == (device.directory / "device.pem").read_text()
    assert not enrolled["is_due"]
    assert key.read_bytes() == before
    # Both once more: nothing to do.
    assert enrolment(tmp_path).accept(desk, {"edge-1": asked["fingerprint"]}, False) == []
    assert device.enroll(stick)["certificate"] == enrolled["certificate"]
    assert desk.waiting() == []


def test_check_mode_signs_nothing(tmp_path: Path, device: Device, stick: Path) -> None:
    asked = device.enroll(stick)
    operator = enrolment(tmp_path, check_mode=True)
    desk = DirectoryDesk(str(stick))
    assert operator.accept(desk, {"edge-1": asked["fingerprint"]}, False) != []
    assert desk.waiting() == [asked["fingerprint"]]
    assert operator.sign_request("edge-1", asked["request"], False)["signed"] != []
    assert Authority(str(tmp_path / "authority")).given("edge-1") == ""


def test_a_key_that_nobody_accepted_gets_nothing(tmp_path: Path, device: Device, stick: Path) -> None:
    device.enroll(stick)
    with pytest.raises(EnrolmentError, match="edge-1: nobody asks for a certificate of the key 0000"):
        enrolment(tmp_path).accept(DirectoryDesk(str(stick)), {"edge-1": "0" * 64}, False)


def test_a_request_under_a_fingerprint_that_is_not_its_own(tmp_path: Path, device: Device, stick: Path) -> None:
    """Whoever writes to the stick puts its request in place of the one that was accepted."""
    accepted = device.enroll(stick)["fingerprint"]
    key = ec.generate_private_key(ec.SECP256R1())
    (stick / f"{accepted}.csr").write_bytes(make_request(key, "edge-1"))
    desk = DirectoryDesk(str(stick))
    assert "another key" in enrolment(tmp_path).waiting(desk, set())[0]["problem"]
    with pytest.raises(EnrolmentError, match=f"edge-1: expected a request of the key {accepted}"):
        enrolment(tmp_path).accept(desk, {"edge-1": accepted}, False)


def test_a_device_that_calls_itself_otherwise(tmp_path: Path, device: Device, stick: Path) -> None:
    accepted = device.enroll(stick)["fingerprint"]
    with pytest.raises(EnrolmentError, match=r"edge-2: the request of the key .* is of the device edge-1"):
        enrolment(tmp_path).accept(DirectoryDesk(str(stick)), {"edge-2": accepted}, False)


def test_another_key_of_a_device_needs_a_word(tmp_path: Path, authority: Authority) -> None:
    first, second = (ec.generate_private_key(ec.SECP256R1()) for _number in range(2))
    request = make_request(second, "edge-1").decode()
    operator = enrolment(tmp_path)
    before = operator.sign_request("edge-1", make_request(first, "edge-1").decode(), False)["certificate"]
    with pytest.raises(EnrolmentError, match="edge-1: has a certificate of another key"):
        operator.sign_request("edge-1", request, False)
    assert authority.given("edge-1") == before
    assert operator.sign_request("edge-1", request, True)["certificate"] != before


def test_old_certificates_are_renewed_of_the_same_key(tmp_path: Path, device: Device, stick: Path) -> None:
    asked = device.enroll(stick)
    desk = DirectoryDesk(str(stick))
    enrolment(tmp_path).accept(desk, {"edge-1": asked["fingerprint"]}, False)
    before = device.enroll(stick)
    assert enrolment(tmp_path, later=59).renew(desk) == []
    assert enrolment(tmp_path, later=61, check_mode=True).renew(desk) != []
    assert [entry["device"] for entry in enrolment(tmp_path, later=61, days=365).renew(desk)] == ["edge-1"]
    # This one still has two thirds of its life, so the device leaves it, unless it is asked to look.
    assert device.enroll(stick)["until"] == before["until"]
    renewed = device.enroll(stick, "--again")
    assert (renewed["fingerprint"], renewed["until"] > before["until"]) == (asked["fingerprint"], True)


def test_what_has_expired_is_not_renewed(tmp_path: Path, device: Device, stick: Path) -> None:
    asked = device.enroll(stick)
    desk = DirectoryDesk(str(stick))
    enrolment(tmp_path).accept(desk, {"edge-1": asked["fingerprint"]}, False)
    assert enrolment(tmp_path, later=91).renew(desk) == []


def test_a_device_takes_only_its_own_certificate(tmp_path: Path, device: Device, stick: Path) -> None:
    asked = device.enroll(stick)
    digest = asked["fingerprint"]
    other = ec.generate_private_key(ec.SECP256R1())
    others = fingerprint(other.public_key())
    stranger = Authority.create(str(tmp_path / "stranger"))
    own = Authority(str(tmp_path / "authority"))
    request = asked["request"].encode()
    for content, problem in (
        ("no certificate", "expected one in PEM"),
        (
            own.sign(make_request(other, "edge-9"), "edge-9", others, days=9),
            "expected one of edge-1",
        ),
        (own.sign(make_request(other, "edge-1"), "edge-1", others, days=9), "of another key"),
        (stranger.sign(request, "edge-1", digest, days=9), "none of the authorities signed it"),
        (own.issue_reader("reader", days=9), "expected CN=<device> and nothing else"),
    ):
        (stick / f"{digest}.pem").write_text(content)
        with pytest.raises(EnrolmentError, match=problem):
            device.enroll(stick)
        assert not (device.directory / "device.pem").exists()


@pytest.mark.parametrize("name", ["", "../edge", "a/b", "edge 1", "-x", "x" * 65, "edge\n"])
def test_names_that_no_device_has(tmp_path: Path, authority: Authority, name: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(EnrolmentError, match="the device's name: expected"):
        make_request(key, name)
    with pytest.raises(EnrolmentError, match="the device's name: expected"):
        authority.sign(make_request(key, "edge-1"), name, fingerprint(key.public_key()), days=9)


def test_keys_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("x")
    with pytest.raises(EnrolmentError, match="expected the device's key"):
        have_key(str(tmp_path / "key"))
    with pytest.raises(EnrolmentError, match="expected ECDSA on P-256"):
        fingerprint(ec.generate_private_key(ec.SECP384R1()).public_key())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "edge-1")])
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(weak, hashes.SHA256())
    with pytest.raises(EnrolmentError, match="expected ECDSA on P-256"):
        read_request(request.public_bytes(Encoding.PEM))


def test_requests_that_are_none() -> None:
    for content in (b"x", b"x" * 20_000):
        with pytest.raises(EnrolmentError, match="the request: expected"):
            read_request(content)


def test_an_authority_is_made_once(tmp_path: Path) -> None:
    assert enrolment(tmp_path, check_mode=True).create()
    assert not (tmp_path / "authority").exists()
    assert enrolment(tmp_path).create()
    assert stat.S_IMODE((tmp_path / "authority/ca.key").stat().st_mode) == 0o600
    assert not enrolment(tmp_path).create()
    with pytest.raises(EnrolmentError, match="there is an authority already"):
        Authority.create(str(tmp_path / "authority"))
    with pytest.raises(EnrolmentError, match="no authority here; set enroll_create"):
        Authority(str(tmp_path / "absent"))
    with pytest.raises(EnrolmentError, match="days: expected 1 to 3650"):
        enrolment(tmp_path, days=0)


def test_a_reader_has_a_certificate_with_its_key(tmp_path: Path, authority: Authority) -> None:
    path = tmp_path / "authority/reader.pem"
    assert enrolment(tmp_path).have_reader("controller", str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not enrolment(tmp_path).have_reader("controller", str(path))
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    assert certificate.subject.rfc4514_string() == "CN=controller,OU=edgeml reader"
    assert valid_until(certificate) > NOW
    assert enrolment(tmp_path, later=61).have_reader("controller", str(path))


def test_no_device_has_the_name_of_a_reader(tmp_path: Path, authority: Authority) -> None:
    """A broker knows clients by these names alone."""
    operator = enrolment(tmp_path)
    operator.have_reader("controller", str(authority.reader_path("controller")))
    request = make_request(ec.generate_private_key(ec.SECP256R1()), "controller").decode()
    with pytest.raises(EnrolmentError, match="controller: is a reader"):
        operator.sign_request("controller", request, False)
    request = make_request(ec.generate_private_key(ec.SECP256R1()), "edge-1").decode()
    operator.sign_request("edge-1", request, False)
    with pytest.raises(EnrolmentError, match="edge-1: is a device"):
        authority.issue_reader("edge-1", days=9)


def test_the_diff_shows_what_a_device_had_and_gets(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    digest, request = fingerprint(key.public_key()), make_request(key, "edge-1").decode()
    for check_mode in (True, False):
        operator = enrolment(tmp_path, check_mode=check_mode)
        operator.create()
        operator.have_reader("controller", str(tmp_path / "authority" / "reader-controller.pem"))
        assert operator.diff() == {
            "before": "",
            "after": "authority: for 3650 days\nreader controller: another key, for 90 days\n",
        }
    operator = enrolment(tmp_path)
    operator.sign_request("edge-1", request, False)
    assert operator.diff() == {"before": "", "after": f"edge-1: key {digest}, for 90 days\n"}
    operator = enrolment(tmp_path)
    operator.sign_request("edge-1", request, False)
    assert operator.diff() == {"before": "", "after": ""}, "nothing is signed again"
    later = enrolment(tmp_path, later=61, check_mode=True)
    until = NOW + datetime.timedelta(days=90)
    later.sign_request("edge-1", request, False)
    assert later.diff()["before"] == f"edge-1: key {digest}, until {until:%Y-%m-%d}\n"


def test_every_certificate_of_a_device_that_is_revoked_is_on_the_list(authority: Authority) -> None:
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("edge-1", "edge-2")}
    requests = {name: make_request(key, name) for name, key in keys.items()}
    digests = {name: fingerprint(key.public_key()) for name, key in keys.items()}
    given = {name: authority.sign(requests[name], name, digests[name], days=90) for name in keys}
    serials = {serial_of(given["edge-1"]), serial_of(authority.renew("edge-1", days=90))}
    assert authority.crl() == ""
    authority.revoke("edge-9")
    assert authority.crl() == "", "it was given none"
    for _time in range(2):
        authority.revoke("edge-1")
        assert {entry.serial_number for entry in x509.load_pem_x509_crl(authority.crl().encode())} == serials
    # Back in service, with another certificate; the old ones stay revoked, and so do those of others.
    authority.allow("edge-1")
    again = authority.sign(requests["edge-1"], "edge-1", digests["edge-1"], days=90)
    authority.revoke("edge-2")
    crl = x509.load_pem_x509_crl(authority.crl().encode())
    assert {entry.serial_number for entry in crl} == {*serials, serial_of(given["edge-2"])}
    assert serial_of(again) not in serials
    own = x509.load_pem_x509_certificate(authority.pem)
    # The type names keys that cannot sign certificates, too; an authority's can.
    assert crl.is_signature_valid(own.public_key())  # type: ignore[arg-type]
    assert crl.next_update_utc == valid_until(own), "a list that had expired would keep all devices out"


def serial_of(certificate: str) -> int:
    """The serial number of a certificate in PEM."""
    return x509.load_pem_x509_certificate(certificate.encode()).serial_number


def test_a_certificate_is_read_whatever_the_clock_says(tmp_path: Path, authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    digest = fingerprint(key.public_key())
    content = authority.sign(make_request(key, "edge-1"), "edge-1", digest, days=90).encode()
    certificate = read_certificate(content, authority.pem, "edge-1", digest)
    for year, due in ((1970, False), (2038, True)):
        assert is_due(certificate, datetime.datetime(year, 1, 1, tzinfo=datetime.UTC)) is due


def test_the_command(tmp_path: Path, authority: Authority, capsys: Any) -> None:
    for name in ("authority.pem", "pull.json"):
        (tmp_path / name).write_bytes(authority.pem if name == "authority.pem" else b'{"device": "edge-7"}')
    files = [
        *("--key", str(tmp_path / "key/device.key"), "--certificate", str(tmp_path / "key/device.pem")),
        *("--authority", str(tmp_path / "authority.pem"), "--config", str(tmp_path / "pull.json"), "--only-request"),
    ]
    assert command.main(files) == 0
    assert capsys.readouterr().out.startswith("edge-7: waits for an operator to accept the fingerprint\n")
    assert command.main([*files, "--json"]) == 0
    request = json.loads(capsys.readouterr().out)["request"]
    certificate = enrolment(tmp_path).sign_request("edge-7", request, False)["certificate"]
    (tmp_path / "key/device.pem").write_text(certificate)
    assert command.main(files) == 0
    assert "enrolled, its certificate is valid until" in capsys.readouterr().out
    (tmp_path / "pull.json").write_text("{")
    assert command.main(files) == 1
    assert "expected JSON" in capsys.readouterr().err
    (tmp_path / "pull.json").unlink()
    assert command.main(files) == 1
    assert "names no device" in capsys.readouterr().err


def test_packages_that_are_not_there_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["before"])
    with pytest.raises(EdgemlError, match=r"pull_agent brings them"):
        pull_packages.use_pull_packages(str(tmp_path / "absent"))
    for _time in range(2):
        pull_packages.use_pull_packages(str(tmp_path))
    assert sys.path == [str(tmp_path), "before"]


@pytest.mark.parametrize("name", ["pull", "enroll", "listen"])
def test_a_command_of_pull_mode_says_what_brings_its_packages(tmp_path: Path, name: str) -> None:
    make_app(tmp_path)
    ended = subprocess.run([tmp_path / "edgeml", name], capture_output=True, text=True, check=False, timeout=300)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        f"edgeml: {pull_packages.PACKAGES}: expected the packages of pull mode; found none. "
        "The role edgeml.fleet.pull_agent brings them\n"
    )
