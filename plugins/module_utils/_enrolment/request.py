# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""A device's key, and the request for a certificate of it.

A key is made once, on the device, and never leaves it. The *fingerprint*, the SHA-256 of the public key, is what an
operator accepts, and the name of the request.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re

from .._common.errors import EdgemlError
from .._common.files import DurableTree

with contextlib.suppress(ImportError):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

REQUEST_BYTES_MAX = 16 << 10
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class EnrolmentError(EdgemlError):
    """A key, a request or a certificate that cannot be used; the text says which, and why."""


def check_name(name: str) -> str:
    """Return a device's name. Raises EnrolmentError for one that no directory of a mailbox can have."""
    if not _NAME.fullmatch(name):
        raise EnrolmentError(
            f"the device's name: expected at most 64 letters, digits, dots, hyphens and underscores; found {name!r:.80}"
        )
    return name


def have_key(path: str) -> ec.EllipticCurvePrivateKey:
    """Read the device's key; make it where there is none. Raises EnrolmentError for a file that is no such key."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        return _make_key(path)
    try:
        key = serialization.load_pem_private_key(content, None)
    except (ValueError, TypeError) as error:
        raise EnrolmentError(f"{path}: expected the device's key; {error}. Move it away to have another one") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise EnrolmentError(f"{path}: expected an ECDSA key on P-256. Move it away to have another one")
    return key


def _make_key(path: str) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    content = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    DurableTree(os.path.dirname(path)).replace(path, content, 0o600)
    return key


def fingerprint(public_key: object) -> str:
    """The SHA-256 of a public key, in hexadecimal."""
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or public_key.curve.name != "secp256r1":
        raise EnrolmentError("the public key: expected ECDSA on P-256")
    encoded = public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).hexdigest()


def make_request(key: ec.EllipticCurvePrivateKey, name: str) -> bytes:
    """A request for a certificate of the device ``name``, in PEM: PKCS #10, signed by the key itself."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, check_name(name))])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def read_request(content: bytes) -> x509.CertificateSigningRequest:
    """Read a request, which is signed by its own key and names one device. Raises EnrolmentError."""
    if len(content) > REQUEST_BYTES_MAX:
        raise EnrolmentError(f"the request: expected at most {REQUEST_BYTES_MAX} bytes; found more")
    try:
        request = x509.load_pem_x509_csr(content)
        if not request.is_signature_valid:
            raise ValueError("it is not signed by its own key")
    except ValueError as error:
        raise EnrolmentError(f"the request: expected one in PEM; {error}") from error
    fingerprint(request.public_key())
    subject_name(request.subject)
    return request


def subject_name(subject: x509.Name) -> str:
    """The device that a subject names. Raises EnrolmentError where there is more than a name in it."""
    parts = list(subject)
    if len(parts) != 1 or parts[0].oid != x509.NameOID.COMMON_NAME or not isinstance(parts[0].value, str):
        raise EnrolmentError(
            f"the subject: expected CN=<device> and nothing else; found {subject.rfc4514_string()!r:.80}"
        )
    return check_name(parts[0].value)
