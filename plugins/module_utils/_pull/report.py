# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""A report: what a device did and measured, signed by its own key. Pure, but for the signature.

::

    {"payload": "<base64 of JSON>", "certificate": "<PEM>", "signature": "<base64>"}

What is signed is the payload with its type and length before it (DSSE's pre-authentication encoding).
"""

from __future__ import annotations

import base64
import json
from typing import Any, Mapping, NamedTuple

from .._common.dsse import pre_authentication_encoding
from .._common.errors import ArgumentError
from .._common.records import as_document, build

SCHEMA = 1
REPORT_BYTES_MAX = 1 << 20
PAYLOAD_TYPE = "application/vnd.edgeml.report+json"


class Report(NamedTuple):
    """What a device says of a model after it acted on version ``desired_version`` of the desired state.

    ``sequence`` counts its reports. ``question`` is the number of the question that it answers, 0 for none. ``begun``:
    the device has only begun with what it is to do. ``state`` and ``version`` are what it was to do. ``result`` is what
    ``model_swap`` returns, ``info`` what ``model_info`` returns, ``problem`` why the device cannot follow; each None
    where there is none. ``written_at`` is the time by the device's clock, in ISO 8601.
    """

    device: str
    fleet: str
    sequence: int
    written_at: str
    desired_version: int = 0
    model: str = ""
    question: int = 0
    begun: bool = False
    state: str = ""
    version: str = ""
    result: Mapping[str, Any] | None = None
    info: Mapping[str, Any] | None = None
    problem: str | None = None

    @property
    def is_observation(self) -> bool:
        """Whether it can be left out where there is no room: it tells of no swap."""
        return self.result is None


class Envelope(NamedTuple):
    """A report as it came: nothing of it is believed yet."""

    payload: bytes
    certificate: bytes
    signature: bytes


def report_payload(report: Report) -> bytes:
    """The bytes that are signed of a report."""
    document = {"schema": SCHEMA, **as_document(report)}
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii")


def read_report(payload: bytes) -> Report:
    """Read a report. Raises ArgumentError for anything that no device of this version writes."""
    try:
        document = json.loads(payload.decode("utf-8"))
        if not isinstance(document, dict) or document.pop("schema", None) != SCHEMA:
            raise TypeError(f"expected a report of the schema {SCHEMA}")
        report: Report = build(Report, document, finite=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise ArgumentError(f"the report: {error}") from error
    return report


def signed_bytes(payload: bytes) -> bytes:
    """What the signature of a payload is of."""
    return pre_authentication_encoding(PAYLOAD_TYPE, payload)


def write_envelope(envelope: Envelope) -> bytes:
    """An envelope as it is sent."""
    document = {
        "payload": base64.b64encode(envelope.payload).decode("ascii"),
        "certificate": envelope.certificate.decode("ascii"),
        "signature": base64.b64encode(envelope.signature).decode("ascii"),
    }
    return (json.dumps(document, sort_keys=True) + "\n").encode("ascii")


def read_envelope(content: bytes) -> Envelope:
    """Read an envelope. Raises ArgumentError."""
    try:
        if len(content) > REPORT_BYTES_MAX:
            raise ValueError(f"expected at most {REPORT_BYTES_MAX} bytes; found more")
        document = json.loads(content.decode("utf-8"))
        payload, certificate, signature = (document[name] for name in ("payload", "certificate", "signature"))
        return Envelope(
            base64.b64decode(payload, validate=True),
            certificate.encode("ascii"),
            base64.b64decode(signature, validate=True),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ArgumentError(f"the report: expected an envelope; {error}") from error


def sign_report(report: Report, certificate_file: str, key_file: str) -> bytes:
    """The envelope of a report, signed. Raises ArgumentError where the device's key or certificate cannot be used."""
    # Needs its time on a small board, and is no part of the standard library.
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    path = certificate_file
    try:
        with open(path, "rb") as file:
            certificate = file.read()
        path = key_file
        with open(path, "rb") as file:
            key = serialization.load_pem_private_key(file.read(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("expected an ECDSA key")
    except (OSError, ValueError, TypeError) as error:
        raise ArgumentError(
            f"{path}: expected the device's own key and certificate; {error}. Enrol it again"
        ) from error
    payload = report_payload(report)
    return write_envelope(Envelope(payload, certificate, key.sign(signed_bytes(payload), ec.ECDSA(hashes.SHA256()))))
