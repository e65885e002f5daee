# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""A device's certificate: whether one that came is its own, and whether it is time for another one."""

from __future__ import annotations

import contextlib
import datetime
from typing import Any

from .request import EnrolmentError, fingerprint, subject_name

with contextlib.suppress(ImportError):
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec

# How much of its life a certificate has behind it when another one is asked for.
RENEWED_AT = 2 / 3


def read_certificate(content: bytes, authorities: bytes, name: str, digest: str) -> x509.Certificate:
    """Read a certificate of the device ``name`` and of the key with the fingerprint ``digest``, signed by an authority.

    Its time is not looked at: a device without a clock has to take it. Raises EnrolmentError.
    """
    try:
        certificate = x509.load_pem_x509_certificate(content)
        issuers = x509.load_pem_x509_certificates(authorities)
    except ValueError as error:
        raise EnrolmentError(f"the certificate: expected one in PEM, and its authority; {error}") from error
    if subject_name(certificate.subject) != name:
        raise EnrolmentError(f"the certificate: expected one of {name}; found {certificate.subject.rfc4514_string()}")
    if fingerprint(certificate.public_key()) != digest:
        raise EnrolmentError("the certificate: it is of another key")
    if not any(is_issued_by(certificate, issuer) for issuer in issuers):
        raise EnrolmentError("the certificate: none of the authorities signed it")
    return certificate


def is_due(certificate: x509.Certificate, now: datetime.datetime) -> bool:
    """Whether two thirds of the certificate's life are over."""
    begin, end = valid_from(certificate), valid_until(certificate)
    return now >= begin + (end - begin) * RENEWED_AT


def valid_from(certificate: x509.Certificate) -> datetime.datetime:
    """The time from which it is valid, in UTC."""
    return _time(certificate, "not_valid_before")


def valid_until(certificate: x509.Certificate) -> datetime.datetime:
    """The time until which it is valid, in UTC."""
    return _time(certificate, "not_valid_after")


def read_crls(content: bytes) -> list[x509.CertificateRevocationList]:
    """The revocation lists of a text in PEM, which may have several. Raises ValueError."""
    begin = b"-----BEGIN X509 CRL-----"
    return [x509.load_pem_x509_crl(begin + part) for part in content.split(begin)[1:]]


def _time(certificate: Any, name: str) -> datetime.datetime:
    # The name without "_utc" is that of cryptography before version 42.
    found: datetime.datetime | None = getattr(certificate, f"{name}_utc", None)
    return found or getattr(certificate, name).replace(tzinfo=datetime.timezone.utc)


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether an authority with an ECDSA key signed the certificate."""
    key, algorithm = issuer.public_key(), certificate.signature_hash_algorithm
    if certificate.issuer != issuer.subject or not isinstance(key, ec.EllipticCurvePublicKey) or algorithm is None:
        return False
    try:
        key.verify(certificate.signature, certificate.tbs_certificate_bytes, ec.ECDSA(algorithm))
    except InvalidSignature:
        return False
    return True
