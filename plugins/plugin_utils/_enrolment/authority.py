# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The fleet's authority: a key on the controller that signs the certificates of devices and of readers.

Its directory has ``ca.pem``, ``ca.key`` and ``devices/<name>.pem``, the certificate that each device was given last;
``devices/<name>.serials`` has the numbers of all that it was given. ``revoked/<name>.pem`` is that of a device for whom
it signs nothing any more; ``crl.pem`` is the list of all that were revoked.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from pathlib import Path

from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import write_whole
from ansible_collections.edgeml.fleet.plugins.module_utils._enrolment.certificate import (
    is_due,
    read_certificate,
    valid_until,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._enrolment.request import (
    EnrolmentError,
    check_name,
    fingerprint,
    read_request,
)

with contextlib.suppress(ImportError):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

READER_UNIT = "edgeml reader"
AUTHORITY_DAYS = 3650
# A controller's clock may be behind a device's, and the other way round.
CLOCK_SKEW = datetime.timedelta(hours=1)
_REVOKED = "revoked"


def is_authority(directory: str) -> bool:
    """Whether there is an authority in a directory."""
    return (Path(directory) / "ca.pem").exists()


def revoked_devices(directory: str) -> list[str]:
    """The names of the devices for whom the authority in a directory signs nothing; none where there is none."""
    return sorted(path.stem for path in (Path(directory) / _REVOKED).glob("*.pem"))


class Authority:
    """An authority in a directory."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)
        self.pem = _read(self._directory / "ca.pem")
        try:
            self._certificate = x509.load_pem_x509_certificate(self.pem)
            key = serialization.load_pem_private_key(_read(self._directory / "ca.key"), None)
        except (ValueError, TypeError) as error:
            raise EnrolmentError(f"{directory}: expected ca.pem and ca.key; {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != self._certificate.public_key():
            raise EnrolmentError(f"{directory}: expected the ECDSA key of ca.pem in ca.key")
        self._key = key

    @classmethod
    def create(cls, directory: str, name: str = "edgeml fleet") -> Authority:
        """Make an authority in a directory that has none. Raises EnrolmentError where there is one."""
        path = Path(directory)
        if (path / "ca.key").exists() or (path / "ca.pem").exists():
            raise EnrolmentError(f"{directory}: there is an authority already, and devices trust it")
        (path / "devices").mkdir(mode=0o700, parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate = _sign(
            key, subject, key.public_key(), subject, AUTHORITY_DAYS, x509.BasicConstraints(ca=True, path_length=0)
        )
        _write_key(path / "ca.key", key)
        write_whole(str(path / "ca.pem"), _pem(certificate))
        return cls(directory)

    def given(self, name: str) -> str:
        """The certificate that the device was given last, in PEM; empty where it was given none."""
        path = self._device(name)
        return path.read_text() if path.exists() else ""

    def devices(self) -> list[str]:
        """The names of the devices that were given certificates."""
        return sorted(path.stem for path in (self._directory / "devices").glob("*.pem"))

    def is_revoked(self, name: str) -> bool:
        """Whether nothing is signed for the device any more."""
        return self._revoked(name).exists()

    def revoke(self, name: str) -> None:
        """Sign nothing for the device any more. Its certificate is kept beside, for whoever asks what it was."""
        path, given = self._revoked(name), self.given(name)
        serials = self._serials(name)
        if serials:
            self._write_crl(serials)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_whole(str(path), given)
        for gone in (self._device(name), self._serials_path(name)):
            gone.unlink(missing_ok=True)

    def allow(self, name: str) -> None:
        """Sign for the device again, when an operator accepts its key anew."""
        self._revoked(name).unlink(missing_ok=True)

    def crl(self) -> str:
        """The revocation list, in PEM; empty where no certificate was revoked."""
        path = self._directory / "crl.pem"
        return path.read_text() if path.exists() else ""

    def _serials(self, name: str) -> set[int]:
        """The numbers of all certificates that a device was given."""
        path, given = self._serials_path(name), self.given(name)
        known = {int(line, 16) for line in path.read_text().split()} if path.exists() else set()
        return known | ({x509.load_pem_x509_certificate(given.encode()).serial_number} if given else set())

    def _write_crl(self, serials: set[int]) -> None:
        """Add certificates to the list. It is valid as long as the authority: it brings no news by itself, and a list
        that had expired would keep all devices out."""
        before = self.crl()
        entries = list(x509.load_pem_x509_crl(before.encode())) if before else []
        now = datetime.datetime.now(datetime.timezone.utc)
        for serial in sorted(serials - {entry.serial_number for entry in entries}):
            entries.append(x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build())
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(now - CLOCK_SKEW)
            .next_update(valid_until(self._certificate))
            .add_extension(x509.CRLNumber(len(entries)), critical=False)
        )
        for entry in entries:
            builder = builder.add_revoked_certificate(entry)
        content = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        write_whole(str(self._directory / "crl.pem"), content.decode("ascii"))

    def is_wanted(self, name: str, digest: str, now: datetime.datetime) -> bool:
        """Whether the device has no certificate of the key with this fingerprint, or an old one."""
        given = self.given(name)
        try:
            return not given or is_due(read_certificate(given.encode(), self.pem, name, digest), now)
        except EnrolmentError:
            # Of another key, or of an authority that was replaced.
            return True

    def sign(self, request: bytes, name: str, digest: str, *, days: int, replace: bool = False) -> str:
        """Sign a certificate of the device ``name`` for the key of a request, and keep it. Returns it in PEM.

        Raises EnrolmentError where the request's key has another fingerprint than ``digest``, which an operator
        accepted, and where the device has a certificate of another key, unless it is to be replaced.
        """
        public_key = read_request(request).public_key()
        if fingerprint(public_key) != digest:
            raise EnrolmentError(f"{name}: expected a request of the key {digest}; found {fingerprint(public_key)}")
        given = self.given(name)
        if given and not replace:
            before = fingerprint(x509.load_pem_x509_certificate(given.encode()).public_key())
            if before != digest:
                raise EnrolmentError(
                    f"{name}: has a certificate of another key, {before}. If the device was flashed anew, accept "
                    "the new key with replace"
                )
        return self._give(public_key, name, days)

    def renew(self, name: str, *, days: int) -> str:
        """Sign another certificate of the key that the device has. Returns it in PEM."""
        return self._give(x509.load_pem_x509_certificate(self.given(name).encode()).public_key(), name, days)

    def issue_reader(self, name: str, *, days: int) -> str:
        """A certificate of a reader of the mailbox, with its key, in PEM."""
        if self._device(name).exists():
            raise EnrolmentError(f"{name}: is a device; a reader needs a name of its own")
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, READER_UNIT),
                x509.NameAttribute(x509.NameOID.COMMON_NAME, check_name(name)),
            ]
        )
        return _pem(self._issue(subject, key.public_key(), days)) + _key_text(key)

    def reader_path(self, name: str) -> Path:
        """Where the certificate of a reader is kept, with its key."""
        return self._directory / f"reader-{check_name(name)}.pem"

    def _give(self, public_key: object, name: str, days: int) -> str:
        if self.reader_path(name).exists():
            raise EnrolmentError(f"{name}: is a reader; a device needs a name of its own")
        if self.is_revoked(name):
            raise EnrolmentError(
                f"{name}: was decommissioned. To have it back: edgeml.fleet.decommission with decommission_undo"
            )
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, check_name(name))])
        certificate = self._issue(subject, public_key, days)
        path = self._device(name)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        # Before it is given, so that each one that was given can be revoked.
        serials = sorted({*self._serials(name), certificate.serial_number})
        write_whole(str(self._serials_path(name)), "".join(f"{serial:x}\n" for serial in serials))
        write_whole(str(path), _pem(certificate))
        return _pem(certificate)

    def _device(self, name: str) -> Path:
        return self._directory / "devices" / f"{check_name(name)}.pem"

    def _serials_path(self, name: str) -> Path:
        return self._directory / "devices" / f"{check_name(name)}.serials"

    def _revoked(self, name: str) -> Path:
        return self._directory / _REVOKED / f"{check_name(name)}.pem"

    def _issue(self, subject: x509.Name, public_key: object, days: int) -> x509.Certificate:
        constraints = x509.BasicConstraints(ca=False, path_length=None)
        return _sign(self._key, self._certificate.subject, public_key, subject, days, constraints)


def _sign(
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    public_key: object,
    subject: x509.Name,
    days: int,
    constraints: x509.BasicConstraints,
) -> x509.Certificate:
    if not isinstance(public_key, ec.EllipticCurvePublicKey):
        raise TypeError(f"public_key: expected a key on an elliptic curve; found {type(public_key).__name__}")
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(constraints, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    if not constraints.ca:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = builder.add_extension(usage, critical=False)
    return builder.sign(key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def _key_text(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode("ascii")


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(_key_text(key))
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise EnrolmentError(f"{path}: no authority here; set enroll_create to make one") from error
