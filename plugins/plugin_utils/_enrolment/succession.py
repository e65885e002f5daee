# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""How one authority follows another in its directory: both are believed, then the new one signs, then it is alone.

``ca.pem`` says how far it is, and each step is one rename of it: the old one, then old and new, new and old, the new
one. Each step can be repeated after an interruption. ``retired/`` has the certificates of those that were replaced.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from pathlib import Path

from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import write_whole
from ansible_collections.edgeml.fleet.plugins.module_utils._enrolment.certificate import (
    is_issued_by,
    valid_from,
    valid_until,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._enrolment.request import EnrolmentError

from .authority import NEXT_KEY, Authority, self_signed, write_key

with contextlib.suppress(ImportError):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

_RETIRED = "retired"
# What an authority has to live on, or the next rotation would be due at once.
_DAYS_MIN = 365


class Bundle:
    """A new authority: its certificate and its key."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate = certificate
        self.key = key

    @classmethod
    def make(cls) -> Bundle:
        """One that nobody has seen before. Its name is its own: OpenSSL looks an authority and its list up by names."""
        key = ec.generate_private_key(ec.SECP256R1())
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()
        return cls(self_signed(key, f"edgeml fleet {identifier[:8]}"), key)

    @classmethod
    def read(cls, path: str, before: x509.Certificate, now: datetime.datetime) -> Bundle:
        """One that an operator has, a file in PEM with the certificate and its key, to follow ``before``.

        Raises EnrolmentError for one by which devices or servers would refuse each other.
        """
        content = Path(path).read_bytes()
        try:
            certificates = x509.load_pem_x509_certificates(content)
            key = serialization.load_pem_private_key(content, None)
        except (ValueError, TypeError) as error:
            raise EnrolmentError(f"{path}: expected a certificate and its key in PEM; {error}") from error
        certificate = certificates[0]
        problems = [] if len(certificates) == 1 else [f"expected one certificate; found {len(certificates)}"]
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
            problems.append("expected an ECDSA key on P-256")
        elif key.public_key() != certificate.public_key():
            problems.append("the key is not that of the certificate")
        problems += _problems(certificate, before, now)
        if problems or not isinstance(key, ec.EllipticCurvePrivateKey):
            raise EnrolmentError(f"{path}: it cannot follow {name_of(before)}: {'; '.join(problems)}")
        return cls(certificate, key)


def _problems(certificate: x509.Certificate, before: x509.Certificate, now: datetime.datetime) -> list[str]:
    """What is wrong with the certificate of an authority that is to follow another one."""
    found = []
    if certificate.subject == before.subject:
        found.append(f"expected another name than {before.subject.rfc4514_string()}, which the old one has")
    if certificate.public_key() == before.public_key():
        found.append("expected another key than that of the old one")
    if not is_issued_by(certificate, certificate):
        found.append("expected a root, which is signed by its own key")
    try:
        is_authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_authority = False
    if not is_authority:
        found.append("expected the certificate of an authority (CA:TRUE)")
    with contextlib.suppress(x509.ExtensionNotFound):
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        if not (usage.key_cert_sign and usage.crl_sign):
            found.append("expected a key that may sign certificates and revocation lists")
    begin, end = valid_from(certificate), valid_until(certificate)
    if begin > now:
        found.append(f"it is not valid before {begin:%Y-%m-%d %H:%M:%S} UTC")
    if end < now + datetime.timedelta(days=_DAYS_MIN):
        found.append(f"expected one that is valid for {_DAYS_MIN} days and more; it ends at {end:%Y-%m-%d}")
    return found


class Succession:
    """The authorities of a directory. ``old`` is the one that is to go, ``new`` the one that stays; ``new`` is None
    where none follows, and then ``old`` is the one that there is. Raises EnrolmentError."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)
        self._read()

    def _read(self) -> None:
        self.authority = Authority(str(self._directory))
        certificates = self.authority.certificates
        self.old, self.new = certificates[0], None
        if len(certificates) > 2:
            raise EnrolmentError(
                f"{self._directory}/ca.pem: expected at most two authorities; found {len(certificates)}"
            )
        if len(certificates) == 2:
            next_key = self._directory / NEXT_KEY
            if not next_key.exists():
                raise EnrolmentError(f"{next_key}: expected the key of the newer authority; found none")
            key = serialization.load_pem_private_key(next_key.read_bytes(), None)
            is_new = [certificate.public_key() == key.public_key() for certificate in certificates]
            if sum(is_new) != 1:
                raise EnrolmentError(f"{next_key}: expected the key of one of the authorities in ca.pem")
            self.new, self.old = certificates[is_new.index(True)], certificates[is_new.index(False)]

    @property
    def switched(self) -> bool:
        """Whether the new authority signs."""
        return self.new is not None and self.authority.certificates[0] == self.new

    def was_given_by_old(self, name: str) -> bool:
        """Whether the last certificate of a device is of the authority that is to go."""
        given = self.authority.given(name)
        return bool(given) and is_issued_by(x509.load_pem_x509_certificate(given.encode()), self.old)

    def was_retired(self, replaced: str) -> bool:
        """Whether an authority was replaced, by the beginning of its fingerprint."""
        return any(path.stem.startswith(replaced) for path in (self._directory / _RETIRED).glob("*.pem"))

    def begin(self, bundle: Bundle | None) -> None:
        """Have everybody who reads ``ca.pem`` believe both. ``bundle`` is None where that was begun before."""
        if bundle is None:
            self.authority.write_crl()
            return
        next_key = self._directory / NEXT_KEY
        # Of a beginning that was interrupted: nobody has seen its certificate.
        next_key.unlink(missing_ok=True)
        write_key(next_key, bundle.key)
        self._write(self.old, bundle.certificate)
        self.authority.write_crl()

    def switch(self) -> None:
        """Have the new authority sign."""
        if self.new is not None and not self.switched:
            self._write(self.new, self.old)

    def finish(self) -> None:
        """Believe the new authority alone, and remove the key of the old one."""
        if self.new is not None:
            retired = self._directory / _RETIRED
            retired.mkdir(mode=0o700, exist_ok=True)
            write_whole(str(retired / f"{fingerprint_of(self.old)}.pem"), _pem(self.old))
            self._write(self.new)
        self.authority.write_crl()
        next_key = self._directory / NEXT_KEY
        if next_key.exists():
            key = serialization.load_pem_private_key(next_key.read_bytes(), None)
            if key.public_key() == self.old.public_key():
                os.replace(next_key, self._directory / "ca.key")

    def _write(self, *certificates: x509.Certificate) -> None:
        write_whole(str(self._directory / "ca.pem"), "".join(map(_pem, certificates)))
        self._read()


def fingerprint_of(certificate: x509.Certificate) -> str:
    """The SHA-256 of a certificate, in hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def name_of(certificate: x509.Certificate) -> str:
    """An authority as messages name it."""
    return f"{certificate.subject.rfc4514_string()} ({fingerprint_of(certificate)[:12]})"


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")
