# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How one authority follows another: each step, each interruption of it, and what cannot follow."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.edgeml.fleet.plugins.module_utils._enrolment.certificate import is_issued_by, read_crls
from ansible_collections.edgeml.fleet.plugins.module_utils._enrolment.request import (
    EnrolmentError,
    fingerprint,
    make_request,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._enrolment import authority as authority_module
from ansible_collections.edgeml.fleet.plugins.plugin_utils._enrolment import succession as succession_module
from ansible_collections.edgeml.fleet.plugins.plugin_utils._enrolment.authority import Authority
from ansible_collections.edgeml.fleet.plugins.plugin_utils._enrolment.succession import (
    Bundle,
    Succession,
    fingerprint_of,
)

NOW = datetime.datetime.now(datetime.UTC)
STEPS: tuple[Callable[[Succession], None], ...] = (
    lambda succession: succession.begin(Bundle.make() if succession.new is None else None),
    Succession.switch,
    Succession.finish,
)


class PowerCutError(BaseException):
    """The controller ends here."""


@pytest.fixture
def directory(tmp_path: Path) -> str:
    path = str(tmp_path / "authority")
    authority = Authority.create(path)
    enrol(authority, "edge-0")
    authority.revoke("edge-0")
    return path


def enrol(authority: Authority, name: str) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    request, digest = make_request(key, name), fingerprint(key.public_key())
    return x509.load_pem_x509_certificate(authority.sign(request, name, digest, days=30, replace=True).encode())


def bundle_file(path: Path, **changes: Any) -> str:
    """A file as an operator has it, of a good authority but for ``changes``."""
    key = changes.get("key") or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, changes.get("name", "site root"))])
    signer = changes.get("signer") or key
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(changes.get("begin", NOW - datetime.timedelta(days=1)))
        .not_valid_after(changes.get("end", NOW + datetime.timedelta(days=3650)))
        .add_extension(x509.BasicConstraints(ca=changes.get("ca", True), path_length=None), critical=True)
        .add_extension(usage(changes.get("signs", True)), critical=True)
        .sign(signer, hashes.SHA256())
    )
    private = (changes.get("other") or key).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + private)
    return str(path)


def usage(signs: bool) -> x509.KeyUsage:
    """What the key of an authority may do."""
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    more = {"key_cert_sign": True, "crl_sign": signs, "encipher_only": False, "decipher_only": False}
    return x509.KeyUsage(**dict.fromkeys(names, False), **more)


def test_both_are_believed_then_the_new_one_signs_then_it_is_alone(directory: str) -> None:
    first = Succession(directory)
    old = first.old
    assert (first.new, first.switched) == (None, False)
    first.begin(Bundle.make())
    new = first.new
    assert new is not None
    assert first.authority.certificates == [old, new]
    assert is_issued_by(enrol(Authority(directory), "edge-1"), old)
    second = Succession(directory)
    second.switch()
    assert (second.old, second.new, second.switched) == (old, new, True)
    assert is_issued_by(enrol(Authority(directory), "edge-2"), new)
    assert (second.was_given_by_old("edge-1"), second.was_given_by_old("edge-2")) == (True, False)
    third = Succession(directory)
    third.finish()
    assert Authority(directory).certificates == [new]
    assert third.was_retired(fingerprint_of(old)[:8])
    assert sorted(path.name for path in Path(directory).glob("*.key")) == ["ca.key"]


def test_there_is_a_revocation_list_of_each_authority_that_is_believed(directory: str) -> None:
    """OpenSSL refuses everybody whose authority has no list, where there is one at all."""
    succession = Succession(directory)
    before = {entry.serial_number for crl in read_crls(Authority(directory).crl().encode()) for entry in crl}
    succession.begin(Bundle.make())
    enrol(Authority(directory), "edge-1")
    Authority(directory).revoke("edge-1")
    lists = read_crls(Authority(directory).crl().encode())
    assert [crl.issuer for crl in lists] == [certificate.subject for certificate in succession.authority.certificates]
    serials = [{entry.serial_number for entry in crl} for crl in lists]
    assert serials[0] == serials[1] > before
    for crl, certificate in zip(lists, succession.authority.certificates, strict=True):
        key = certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert crl.is_signature_valid(key)
    succession.switch()
    succession.finish()
    assert [crl.issuer for crl in read_crls(Authority(directory).crl().encode())] == [succession.old.subject]


def run_to(directory: str, cut: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run all steps, and end before the write number ``cut``. Returns whether that came."""
    writes = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def write(*args: Any) -> Any:
            nonlocal writes
            writes += 1
            if writes == cut:
                raise PowerCutError
            return real(*args)

        return write

    with monkeypatch.context() as patch:
        for module, name in (
            (succession_module, "write_whole"),
            (succession_module, "write_key"),
            (authority_module, "write_whole"),
        ):
            patch.setattr(module, name, counted(getattr(module, name)))
        patch.setattr(os, "replace", counted(os.replace))
        try:
            for step in STEPS:
                step(Succession(directory))
        except PowerCutError:
            return True
    return False


def test_each_interruption_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut, came = 0, True
    while came:
        cut += 1
        directory = str(tmp_path / str(cut))
        authority = Authority.create(directory)
        old = authority.certificates[0]
        enrol(authority, "edge-0")
        authority.revoke("edge-0")
        came = run_to(directory, cut, monkeypatch)
        # Somebody can be enrolled whatever happened.
        assert enrol(Authority(directory), "edge-1")
        if Succession(directory).old == old:
            assert not run_to(directory, 0, monkeypatch)
        else:
            Succession(directory).finish()
        found = Succession(directory)
        assert found.was_retired(fingerprint_of(old))
        assert (found.new, len(found.authority.certificates), found.old == old) == (None, 1, False)
        assert [crl.issuer for crl in read_crls(found.authority.crl().encode())] == [found.old.subject]
        assert not (Path(directory) / "next.key").exists()
    assert cut > 6


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"name": "edgeml fleet"}, "expected another name than CN=edgeml fleet, which the old one has"),
        ({"other": ec.generate_private_key(ec.SECP256R1())}, "the key is not that of the certificate"),
        ({"signer": ec.generate_private_key(ec.SECP256R1())}, "expected a root, which is signed by its own key"),
        ({"ca": False}, r"expected the certificate of an authority \(CA:TRUE\)"),
        ({"signs": False}, "expected a key that may sign certificates and revocation lists"),
        ({"begin": NOW + datetime.timedelta(days=9)}, "it is not valid before"),
        ({"end": NOW + datetime.timedelta(days=364)}, "expected one that is valid for 365 days and more"),
        ({"key": ec.generate_private_key(ec.SECP384R1())}, "expected an ECDSA key on P-256"),
    ],
)
def test_what_cannot_follow_is_refused(directory: str, tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    path = bundle_file(tmp_path / "new.pem", **changes)
    with pytest.raises(EnrolmentError, match=problem):
        Bundle.read(path, Succession(directory).old, NOW)


def test_what_is_no_bundle_is_refused(directory: str, tmp_path: Path) -> None:
    path = tmp_path / "new.pem"
    path.write_text("something else\n")
    with pytest.raises(EnrolmentError, match=r"new.pem: expected a certificate and its key in PEM"):
        Bundle.read(str(path), Succession(directory).old, NOW)


def test_an_operators_authority_follows(directory: str, tmp_path: Path) -> None:
    succession = Succession(directory)
    succession.begin(Bundle.read(bundle_file(tmp_path / "new.pem"), succession.old, NOW))
    succession.switch()
    issued = enrol(Authority(directory), "edge-1")
    assert succession.new is not None
    issued.verify_directly_issued_by(succession.new)
    assert issued.not_valid_after_utc <= succession.new.not_valid_after_utc


def test_a_directory_that_somebody_changed_by_hand(directory: str) -> None:
    succession = Succession(directory)
    succession.begin(Bundle.make())
    (Path(directory) / "next.key").unlink()
    with pytest.raises(EnrolmentError, match=r"next.key: expected the key of the newer authority; found none"):
        Succession(directory)
    ca = Path(directory) / "ca.pem"
    (Path(directory) / "next.key").unlink(missing_ok=True)
    ca.write_bytes(ca.read_bytes() * 2)
    with pytest.raises(EnrolmentError, match="expected at most two authorities; found 4"):
        Succession(directory)
