# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Statements about files and releases in the form of in-toto, signed as DSSE envelopes that other tools verify."""

from __future__ import annotations

import base64
import contextlib
from typing import TYPE_CHECKING, Any, Iterable, Mapping

from ansible_collections.edgeml.fleet.plugins.module_utils._common.dsse import pre_authentication_encoding
from ansible_collections.edgeml.fleet.plugins.module_utils._trust.metadata import require_packages

with contextlib.suppress(ImportError):
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
if TYPE_CHECKING:
    from .keys import PrivateKey

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"


def statement(subjects: Iterable[tuple[str, str]], predicate_type: str, predicate: Mapping[str, Any]) -> dict[str, Any]:
    """A statement about ``subjects``, each a name and its SHA-256."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in subjects],
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }


def read_signing_key(path: str) -> PrivateKey:
    """Read the key that signs statements in a run where nobody can be asked for a passphrase. Raises TrustError."""
    require_packages()
    from .keys import Passphrases, read_private

    return read_private(path, Passphrases(can_ask=lambda: False))


def signed_envelope(payload: bytes, key: PrivateKey, key_id: str = "") -> dict[str, Any]:
    """The envelope of a statement's bytes, as JSON's types. ``key_id`` helps to find the key, and proves nothing."""
    signature = key.private.sign(pre_authentication_encoding(PAYLOAD_TYPE, payload), ec.ECDSA(hashes.SHA256()))
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": key_id}],
    }


def verified_payload(envelope: Mapping[str, Any], public_key: bytes) -> bytes:
    """The statement's bytes of an envelope that the key in PEM signed. Raises ValueError for any other."""
    try:
        payload, signature = (
            base64.b64decode(text, validate=True) for text in (envelope["payload"], envelope["signatures"][0]["sig"])
        )
        key = load_pem_public_key(public_key)
        if envelope["payloadType"] != PAYLOAD_TYPE or not isinstance(key, ec.EllipticCurvePublicKey):
            raise ValueError(f"expected {PAYLOAD_TYPE}, signed by an ECDSA key")
        key.verify(signature, pre_authentication_encoding(PAYLOAD_TYPE, payload), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise ValueError("another key signed it") from error
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"expected an envelope; {error!r}") from error
    return payload
