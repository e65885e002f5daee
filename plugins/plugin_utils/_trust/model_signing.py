# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Signatures of the OpenSSF Model Signing specification 1.0: a Sigstore bundle around a statement that lists files."""

from __future__ import annotations

import contextlib
import hashlib
import json
from typing import Mapping

from .in_toto import signed_envelope, statement
from .keys import PrivateKey

with contextlib.suppress(ImportError):
    from cryptography.hazmat.primitives import serialization

# What its tools look for, and leave out of what is signed.
SIGNATURE = "model.sig"
_BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PREDICATE_TYPE = "https://model_signing/signature/v1.0"


def sign_files(name: str, files: Mapping[str, str], key: PrivateKey) -> str:
    """Return the text of the signature of a directory: ``files`` has the SHA-256 of each file by its path in it."""
    payload = json.dumps(_statement(name, files)).encode()
    public = key.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    bundle = {
        "mediaType": _BUNDLE_TYPE,
        "verificationMaterial": {"publicKey": {"hint": hashlib.sha256(public).hexdigest()}, "tlogEntries": []},
        "dsseEnvelope": signed_envelope(payload, key),
    }
    return json.dumps(bundle) + "\n"


def _statement(name: str, files: Mapping[str, str]) -> dict[str, object]:
    """The in-toto statement: its one subject's digest is over the digests of all files, in the order of their paths."""
    ordered = sorted(files.items())
    root = hashlib.sha256(b"".join(bytes.fromhex(digest) for _path, digest in ordered))
    predicate = {
        "serialization": {
            "method": "files",
            "hash_type": "sha256",
            "allow_symlinks": False,
            "ignore_paths": [SIGNATURE],
        },
        "resources": [{"name": path, "algorithm": "sha256", "digest": digest} for path, digest in ordered],
    }
    return statement([(name, root.hexdigest())], _PREDICATE_TYPE, predicate)
