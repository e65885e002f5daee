# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Until when what the device trusts, and is trusted by, is valid: its certificates, and the metadata that it pulls by.

The standard library reads no certificate that is not shown by a peer, and a device has nothing else: so the few fields
up to the validity are read here, from DER (RFC 5280, 4.1). Not by ``ssl`` and ``strptime``, whose imports take longer
on a small board than all else that a call does.
"""

from __future__ import annotations

import binascii
import json
import time
from datetime import datetime, timezone
from typing import Mapping

from .._common.records import is_number
from .journal import TIME_FORMAT

# What the roles inference_service and pull_agent write.
CERTIFICATES: Mapping[str, str] = {
    "server_certificate": "/etc/edgeml/tls-certificate.pem",
    "device_certificate": "/etc/edgeml/pull/device.pem",
}
PULL_STATE = "/var/lib/edgeml/pull/state.json"

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_SEQUENCE, _UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x30, 0x17, 0x18, 0xA0


def expiries(certificates: Mapping[str, str], pull_state: str) -> dict[str, float]:
    """Return when each certificate that the device has, and the ``metadata`` that it last followed, end.

    In seconds of the epoch, by name. What the device does not have is left out; what cannot be read is 0: it is of no
    use, and whoever warns of what has expired warns of it.
    """
    found = {}
    for name, path in certificates.items():
        try:
            with open(path, encoding="ascii") as file:
                found[name] = certificate_expiry(file.read())
        except FileNotFoundError:
            continue
        except (OSError, ValueError):
            found[name] = 0.0
    try:
        with open(pull_state, encoding="utf-8") as file:
            expires = json.load(file)["expires"]
        # 0: the device has not followed any metadata yet.
        if is_number(expires) and expires > 0:
            found["metadata"] = float(expires)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return found


def expiry_texts(found: Mapping[str, float]) -> dict[str, str]:
    """Return the times as ISO 8601 in UTC, as reports and modules have them."""
    return {name: time.strftime(TIME_FORMAT, time.gmtime(seconds)) for name, seconds in found.items()}


def certificate_expiry(pem: str) -> float:
    """Return when the first certificate of a text in PEM ends, in seconds of the epoch. Raises ValueError."""
    start, end = pem.find(_BEGIN), pem.find(_END)
    if start < 0 or end < start:
        raise ValueError("expected a certificate in PEM; found none")
    der = binascii.a2b_base64(pem[start + len(_BEGIN) : end])
    _tag, certificate = _element(der, 0)[:2]
    _tag, signed = _element(certificate, 0)[:2]
    tag, _content, at = _element(signed, 0)
    # The serial number is first, or second after the version.
    if tag == _VERSION:
        at = _element(signed, at)[2]
    for _field in ("signature", "issuer"):
        at = _element(signed, at)[2]
    tag, validity, _after = _element(signed, at)
    if tag != _SEQUENCE:
        raise ValueError("expected a certificate; found no validity")
    tag, not_after, _after = _element(validity, _element(validity, 0)[2])
    return _seconds(tag, not_after.decode("ascii"))


def _element(data: bytes, at: int) -> tuple[int, bytes, int]:
    """The tag and the content of the element at ``at``, and where the next one begins."""
    try:
        tag, length, begin = data[at], data[at + 1], at + 2
    except IndexError:
        raise ValueError("expected a certificate; it ends too early") from None
    if length & 0x80:
        size = length & 0x7F
        length, begin = int.from_bytes(data[begin : begin + size], "big"), begin + size
    if begin + length > len(data):
        raise ValueError("expected a certificate; it ends too early")
    return tag, data[begin : begin + length], begin + length


def _seconds(tag: int, text: str) -> float:
    if tag == _UTC_TIME:
        # RFC 5280, 4.1.2.5.1: years from 50 on are those of the last century.
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("expected a certificate; its validity has no time")
    if len(text) != len("20270201123005Z") or not text.endswith("Z"):
        raise ValueError(f"expected a time such as 20270201123005Z; found {text!r}")
    month, day, hour, minute, second = (int(text[at : at + 2]) for at in range(4, 14, 2))
    return datetime(int(text[:4]), month, day, hour, minute, second, tzinfo=timezone.utc).timestamp()
