# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``tls_problems``."""

from __future__ import annotations

import datetime
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
short_description: What keeps a certificate and its key from being used
version_added: 0.1.0
author: The edgeml.fleet authors (@edgeml)
description:
  - Reads certificates and key on the controller, before a device gets them.
  - Finds what is not PEM, a key that is encrypted or another certificate's, certificates that have expired or are not
    valid yet, and authorities of clients of which none is valid.
  - Whether clients trust the certificate, and by which name they reach the device, is not looked at.
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
    description: The authorities of clients, as a text in PEM.
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


def tls_problems(certificate: str, key: str, client_ca: str = "") -> list[str]:
    """Return what keeps ``certificate`` with ``key`` from being used, and ``client_ca`` from letting anybody in."""
    if IMPORT_ERROR is not None:
        raise AnsibleFilterError("tls_problems needs cryptography, which ansible-core brings") from IMPORT_ERROR
    problems, chain, public_key = [], [], None
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
    problems += [problem for problem in map(_invalid_now, chain) if problem]
    if client_ca:
        problems += _client_problems(client_ca)
    return problems


def _client_problems(client_ca: str) -> list[str]:
    try:
        authorities = x509.load_pem_x509_certificates(client_ca.encode())
    except ValueError as error:
        return [f"the clients' authorities are not PEM: {error}"]
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
