# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``tls_problems``."""

from __future__ import annotations

import datetime
import os
import re
import ssl
import tempfile
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
except ImportError as error:
    IMPORT_ERROR: ImportError | None = error
else:
    IMPORT_ERROR = None

DOCUMENTATION = r"""
name: tls_problems
short_description: Find what makes a certificate and its key unusable
version_added: 0.1.0
author: The edgeml.fleet authors (@edgeml)
description:
  - Reads certificates and key on the controller, before a device gets them.
  - Loads them with OpenSSL as the server does, and finds what OpenSSL ignores silently, such as a PEM block that does
    not begin on a line of its own.
  - Finds text that is not PEM, a key that is encrypted, refused or another certificate's, certificates in the wrong
    order, that have expired or are not valid yet, and authorities of clients of which none is valid.
  - It does not check whether clients trust the certificate, nor by which name they reach the device.
options:
  _input:
    description: The server's certificate, and those between it and its authority, as a text in PEM.
    type: str
    required: true
  key:
    description: Its key, as a text in PEM.
    type: str
    required: true
  client_ca:
    description: The authorities of client certificates, as a text in PEM.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Refuse a certificate that would not work
  ansible.builtin.assert:
    that: certificate | edgeml.fleet.tls_problems(key) == []
"""

RETURN = r"""
_value:
  description: The problems, each a sentence; empty if there are none. They quote nothing of the key.
  type: list
  elements: str
"""


_MARKER = re.compile("-----(BEGIN|END) [A-Z0-9 ]+-----")


def tls_problems(certificate: str, key: str, client_ca: str = "") -> list[str]:
    """Return what keeps ``certificate`` with ``key`` from being used, and ``client_ca`` from letting anybody in."""
    if IMPORT_ERROR is not None:
        raise AnsibleFilterError("tls_problems needs cryptography, which ansible-core brings") from IMPORT_ERROR
    problems = _form_problems("the certificate", certificate) + _form_problems("the key", key)
    chain, public_key = [], None
    try:
        chain = x509.load_pem_x509_certificates(certificate.encode())
    except ValueError as error:
        problems.append(f"the certificate is not PEM: {error}")
    try:
        public_key = _public(serialization.load_pem_private_key(key.encode(), password=None).public_key())
    except TypeError:
        problems.append("the key is encrypted")
    except ValueError:
        problems.append("the key is not PEM, or of an unknown kind")
    if chain and public_key is not None and _public(chain[0].public_key()) != public_key:
        problems.append(f"the key is not that of the first certificate, which is of {_name(chain[0])}")
    problems += [
        f"after the certificate of {_name(issued)} comes that of {_name(other)}, expected that of its issuer, "
        f"{issued.issuer.rfc4514_string()}"
        for issued, other in zip(chain, chain[1:])
        if issued.issuer != other.subject
    ]
    problems += [problem for problem in map(_invalid_now, chain) if problem]
    if client_ca:
        problems += _client_problems(client_ca)
    # What is wrong in a way that has no name above.
    return problems or _refusals(certificate, key, client_ca)


def _form_problems(what: str, text: str) -> list[str]:
    """The PEM lines that OpenSSL passes over, with all that they enclose."""
    return [
        f"{what}: line {number} has to begin with {_MARKER.search(line)[0]}, and nothing else may be on it"  # type: ignore[index]
        for number, line in enumerate(text.splitlines(), 1)
        if _MARKER.search(line) and not _MARKER.fullmatch(line.rstrip())
    ]


def _refusals(certificate: str, key: str, client_ca: str) -> list[str]:
    """What OpenSSL says to files with these texts, loaded as the server loads them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # What Debian's and Ubuntu's OpenSSL ask for by default, whatever the controller's does.
    context.set_ciphers("DEFAULT:@SECLEVEL=2")
    # Readable by this user alone, and gone at the end.
    with tempfile.TemporaryDirectory() as directory:
        paths = [os.path.join(directory, name) for name in ("certificate", "key")]
        for path, text in zip(paths, (certificate, key)):
            with open(path, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.write(text)
        try:
            context.load_cert_chain(*paths)
        except (OSError, ValueError) as error:
            return [f"OpenSSL refuses the certificate with the key: {getattr(error, 'reason', None) or error}"]
    if client_ca:
        try:
            context.load_verify_locations(cadata=client_ca)
        except (OSError, ValueError) as error:
            return [f"OpenSSL refuses the clients' authorities: {getattr(error, 'reason', None) or error}"]
    return []


def _client_problems(client_ca: str) -> list[str]:
    form = _form_problems("the clients' authorities", client_ca)
    try:
        authorities = x509.load_pem_x509_certificates(client_ca.encode())
    except ValueError as error:
        return [*form, f"the clients' authorities are not PEM: {error}"]
    if form:
        return form
    # One that has expired may stay beside its successor.
    invalid = [problem for problem in map(_invalid_now, authorities) if problem]
    return invalid if len(invalid) == len(authorities) else []


def _invalid_now(certificate: x509.Certificate) -> str | None:
    now = datetime.datetime.now(datetime.timezone.utc)
    # The names without "_utc" are those of cryptography before version 42.
    begin, end = (
        getattr(certificate, f"{name}_utc", None) or getattr(certificate, name).replace(tzinfo=datetime.timezone.utc)
        for name in ("not_valid_before", "not_valid_after")
    )
    if now > end:
        return f"the certificate of {_name(certificate)} expired at {end:%Y-%m-%d %H:%M:%S} UTC"
    if now < begin:
        return f"the certificate of {_name(certificate)} is not valid before {begin:%Y-%m-%d %H:%M:%S} UTC"
    return None


def _public(key: Any) -> bytes:
    encoded: bytes = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return encoded


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or f"serial number {certificate.serial_number}"


class FilterModule:
    """The filter for Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name the filter."""
        return {"tls_problems": tls_problems}
