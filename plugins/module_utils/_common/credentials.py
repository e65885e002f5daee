# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The file of those who are let in to a device's inference server: each one's name and the hash of its secret.

::

    {"salt": "<hex>", "hashes": {"<name>": "<hex of scrypt(secret, salt)>", ...}}

All secrets of a file have one salt, so that one computation tells whose secret it is.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from typing import Any

from .errors import EdgemlError

SECRET_CHARACTERS_MIN = 16
_SALT_BYTES = 16
_HASH_BYTES = 32
# 16 MiB and some hundredths of a second, on a small board some tenths.
_COST, _BLOCK, _PARALLEL = 1 << 14, 8, 1
_MEMORY_BYTES = 64 << 20


class CredentialsError(EdgemlError):
    """Credentials cannot be used; the text says what was expected and found, and never a secret."""


def hash_secret(secret: str, salt: bytes) -> bytes:
    """Return what is kept of ``secret``. Takes time and memory on purpose."""
    return hashlib.scrypt(
        secret.encode("utf-8"), salt=salt, n=_COST, r=_BLOCK, p=_PARALLEL, maxmem=_MEMORY_BYTES, dklen=_HASH_BYTES
    )


def make_document(credentials: Iterable[Mapping[str, Any]], device: str) -> dict[str, Any]:
    """Return the file's content for ``credentials`` (``name``, ``secret``) on ``device``; the same for the same.

    Raises CredentialsError.
    """
    salt = hashlib.sha256(f"edgeml.fleet credentials of {device}".encode()).digest()[:_SALT_BYTES]
    hashes: dict[str, str] = {}
    for credential in credentials:
        name, secret = credential["name"], credential["secret"]
        if not name or ":" in name or name in hashes:
            raise CredentialsError(f"name: expected texts without a colon, each once; found {name!r}")
        if len(secret) < SECRET_CHARACTERS_MIN:
            raise CredentialsError(
                f"the secret of {name!r}: expected at least {SECRET_CHARACTERS_MIN} characters; found {len(secret)}"
            )
        hashes[name] = hash_secret(secret, salt).hex()
    return {"salt": salt.hex(), "hashes": hashes}


class Credentials:
    """The credentials of one file."""

    def __init__(self, path: str) -> None:
        """Read the file at ``path``. Raises CredentialsError."""
        try:
            with open(path, encoding="utf-8") as file:
                document = json.load(file)
            self._salt = bytes.fromhex(document["salt"])
            self._hashes = {str(name): bytes.fromhex(value) for name, value in document["hashes"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CredentialsError(f"{path}: expected credentials; found {error!r}") from error

    def verify(self, name: str | None, secret: str) -> bool:
        """Whether ``secret`` is that of ``name``, or of anybody if None. Takes as long for who is unknown."""
        found = hash_secret(secret, self._salt)
        matches = [
            hmac.compare_digest(found, expected) and name in (None, known) for known, expected in self._hashes.items()
        ]
        return any(matches)
