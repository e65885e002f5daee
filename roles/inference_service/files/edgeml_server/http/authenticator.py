# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Authenticates clients over TCP: checks the header ``Authorization`` against the file of credentials."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
from concurrent.futures import ThreadPoolExecutor

from edgeml_device._common.credentials import Credentials

from edgeml_server.common.errors import UnauthorizedError, UnavailableError

_HEADER_BYTES = 1024
_CHECKS_AT_ONCE = 16
_REJECTIONS_CACHED = 1024


class Authenticator:
    """Checks values of ``Authorization``. A check is slow by design; its result is cached under a keyed hash."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._key = secrets.token_bytes(32)
        self._results: dict[bytes, bool] = {}
        self._rejections = 0
        self._checks: dict[bytes, asyncio.Future[bool]] = {}
        # One thread: guesses of secrets occupy one processor at most.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="credentials")

    async def authenticate(self, header: bytes | None) -> None:
        """Return if ``header`` has a valid credential. Raises UnauthorizedError, UnavailableError."""
        if header is None:
            raise UnauthorizedError("expected the header Authorization, Basic or Bearer; it is missing")
        digest = hashlib.blake2b(header, key=self._key, digest_size=32).digest()
        valid = self._results.get(digest)
        if valid is None:
            valid = await self._check(digest, header)
        if not valid:
            raise UnauthorizedError("Authorization: expected the name and secret, or the secret, of a known credential")

    def close(self) -> None:
        """Finish the checks that were requested, and accept no more."""
        self._pool.shutdown(wait=False)

    async def _check(self, digest: bytes, header: bytes) -> bool:
        credential = _parse(header)
        if credential is None:
            return False
        check = self._checks.get(digest)
        if check is None:
            if len(self._checks) >= _CHECKS_AT_ONCE:
                raise UnavailableError(f"busy: {_CHECKS_AT_ONCE} credentials are being checked; try again")
            check = asyncio.get_running_loop().run_in_executor(self._pool, self._credentials.verify, *credential)
            self._checks[digest] = check
            check.add_done_callback(lambda done: self._store(digest, done))
        # Another request may be waiting for the same check.
        return await asyncio.shield(check)

    def _store(self, digest: bytes, check: asyncio.Future[bool]) -> None:
        del self._checks[digest]
        if check.cancelled() or check.exception() is not None:
            return
        self._rejections += not check.result()
        if self._rejections > _REJECTIONS_CACHED:
            # Guesses must not evict valid credentials.
            self._results = {known: valid for known, valid in self._results.items() if valid}
            self._rejections = 0
        self._results[digest] = check.result()


def _parse(header: bytes) -> tuple[str | None, str] | None:
    """Return the name (None: any) and the secret in a value of ``Authorization``, or None if it has neither."""
    scheme, _space, value = header.partition(b" ")
    try:
        if len(header) > _HEADER_BYTES or not value:
            return None
        if scheme.lower() == b"bearer":
            return None, value.strip().decode("utf-8")
        if scheme.lower() == b"basic":
            name, colon, secret = base64.b64decode(value.strip(), validate=True).decode("utf-8").partition(":")
            return (name, secret) if colon else None
    except ValueError:
        pass
    return None
