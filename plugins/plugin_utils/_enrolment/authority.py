# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The fleet's authority: a key on the controller that signs the certificates of devices and of readers.

Its directory has ``ca.pem``, ``ca.key`` and ``devices/<name>.pem``, the certificate that each device was given last;
``devices/<name>.serials`` has the numbers of all that it was given. ``revoked/<name>.pem`` is that of a device for whom
it signs nothing any more; ``crl.pem`` is the list of all that were revoked.

While one authority follows another (``succession.py``), ``ca.pem`` has both, and the first one signs; ``next.key`` is
the key of the newer one, and ``crl.pem`` has a list of each.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from pathlib import Path
from typing import Any, Iterable

from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import write_whole
from ansible_collections.edgeml.fleet.plugins.module_utils._enrolment.certificate import (
    is_due,
    is_issued_by,
    read_certificate,
    read_crls,
    valid_from,
    valid_until,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._enrolment.request import (
    EnrolmentError,
    check_name,
    fingerprint,
    read_request,
    subject_name,
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
NEXT_KEY = "next.key"
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
            self.certificates = x509.load_pem_x509_certificates(self.pem)
            keys = [serialization.load_pem_private_key(_read(self._directory / "ca.key"), None)]
            if (self._directory / NEXT_KEY).exists():
                keys.append(serialization.load_pem_private_key(_read(self._directory / NEXT_KEY), None))
        except (ValueError, TypeError) as error:
            raise EnrolmentError(f"{directory}: expected ca.pem and ca.key; {error}") from error
        self._keys = [key for key in keys if isinstance(key, ec.EllipticCurvePrivateKey)]
        self._certificate = self.certificates[0]
        key = self._key_of(self._certificate)
        if key is None:
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
        write_key(path / "ca.key", key)
        write_whole(str(path / "ca.pem"), _pem(self_signed(key, name)))
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
        """Add certificates to the lists, one of each authority: OpenSSL refuses who is of an authority without a list.

        They are valid as long as the authority: a list brings no news by itself, and one that had expired would keep
        all devices out."""
        entries = {entry.serial_number: entry for crl in read_crls(self.crl().encode()) for entry in crl}
        now = datetime.datetime.now(datetime.timezone.utc)
        for serial in sorted(serials.difference(entries)):
            entries[serial] = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
        lists = ""
        for certificate in self.certificates:
            key = self._key_of(certificate)
            if key is None:
                continue
            builder = (
                x509.CertificateRevocationListBuilder()
                .issuer_name(certificate.subject)
                .last_update(now - CLOCK_SKEW)
                .next_update(valid_until(certificate))
                .add_extension(x509.CRLNumber(len(entries)), critical=False)
            )
            for entry in entries.values():
                builder = builder.add_revoked_certificate(entry)
            lists += builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode("ascii")
        write_whole(str(self._directory / "crl.pem"), lists)

    def write_crl(self) -> None:
        """Have a list of each authority that is believed, where there is a list."""
        issuers = [crl.issuer for crl in read_crls(self.crl().encode())]
        if issuers and issuers != [certificate.subject for certificate in self.certificates]:
            self._write_crl(set())

    def _key_of(self, certificate: x509.Certificate) -> ec.EllipticCurvePrivateKey | None:
        return next((key for key in self._keys if key.public_key() == certificate.public_key()), None)

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

    def reissue(self, before: x509.Certificate, request: bytes) -> str:
        """A certificate for the key of a request, with the names, the uses and the lifetime of the one ``before``.

        A device's certificate is kept, as ``sign`` does. Returns it in PEM. Raises EnrolmentError.
        """
        public_key = read_request(request).public_key()
        days = max(1, (valid_until(before) - valid_from(before)).days)
        uses = [use for use in before.extensions if use.oid == x509.ExtendedKeyUsage.oid]
        client_only = [list(use.value) for use in uses] == [[ExtendedKeyUsageOID.CLIENT_AUTH]]
        if client_only and [part.oid for part in before.subject] == [x509.NameOID.COMMON_NAME]:
            return self._give(public_key, subject_name(before.subject), days)
        kept = (x509.SubjectAlternativeName.oid, x509.ExtendedKeyUsage.oid, x509.KeyUsage.oid)
        extensions = [extension for extension in before.extensions if extension.oid in kept]
        return _pem(_sign(self._key, self._certificate, public_key, before.subject, days, extensions))

    def write_reader(self, name: str, path: str, *, days: int) -> None:
        """Have another certificate of a reader, with another key, in one file."""
        part = f"{path}.part"
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(self.issue_reader(name, days=days))
        os.replace(part, path)

    def readers_of(self, issuer: x509.Certificate) -> dict[str, int]:
        """The readers whose certificates an authority issued, and for how many days."""
        found = {}
        for path in sorted(self._directory.glob("reader-*.pem")):
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
            if is_issued_by(certificate, issuer):
                days = (valid_until(certificate) - valid_from(certificate)).days
                found[path.stem.removeprefix("reader-")] = max(1, days)
        return found

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
        uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        extension = x509.Extension(uses.oid, False, uses)
        return _sign(self._key, self._certificate, public_key, subject, days, [extension])


def self_signed(key: ec.EllipticCurvePrivateKey, name: str) -> x509.Certificate:
    """The certificate of an authority with this key."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = _builder(subject, subject, key.public_key(), AUTHORITY_DAYS, identifier)
    constraints = x509.BasicConstraints(ca=True, path_length=0)
    return builder.add_extension(constraints, critical=True).sign(key, hashes.SHA256())


def _sign(
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate,
    public_key: object,
    subject: x509.Name,
    days: int,
    extensions: Iterable[x509.Extension[Any]],
) -> x509.Certificate:
    """A certificate of no authority, which does not outlive its issuer."""
    # What OpenSSL finds the issuer by.
    try:
        identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = _builder(subject, issuer.subject, public_key, days, identifier, valid_until(issuer))
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    for extension in extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(key, hashes.SHA256())


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: object,
    days: int,
    identifier: x509.SubjectKeyIdentifier,
    latest: datetime.datetime | None = None,
) -> x509.CertificateBuilder:
    if not isinstance(public_key, ec.EllipticCurvePublicKey):
        raise TypeError(f"public_key: expected a key on an elliptic curve; found {type(public_key).__name__}")
    now = datetime.datetime.now(datetime.timezone.utc)
    end = now + datetime.timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(end if latest is None else min(end, latest))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def _key_text(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode("ascii")


def write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """Write a key to a new file that its owner alone reads."""
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
