# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who is let in over TCP: the header ``Authorization``, checked against the file of credentials."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
from concurrent.futures import ThreadPoolExecutor

from edgeml_device._common.credentials import Credentials

from .errors import UnauthorizedError, UnavailableError

_HEADER_BYTES = 1024
_CHECKS_AT_ONCE = 16
_REMEMBERED = 1024


class Guard:
    """Decides about values of ``Authorization``. A decision takes long and is remembered, by a keyed hash."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._key = secrets.token_bytes(32)
        self._decided: dict[bytes, bool] = {}
        self._refused = 0
        self._checks: dict[bytes, asyncio.Future[bool]] = {}
        # One thread: whoever guesses secrets has one processor to do it with, and inferences have the others.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="credentials")

    async def let_in(self, header: bytes | None) -> None:
        """Return if ``header`` holds a good credential. Raises UnauthorizedError, UnavailableError."""
        if header is None:
            raise UnauthorizedError("expected the header Authorization, Basic or Bearer; it is missing")
        digest = hashlib.blake2b(header, key=self._key, digest_size=32).digest()
        good = self._decided.get(digest)
        if good is None:
            good = await self._decide(digest, header)
        if not good:
            raise UnauthorizedError("Authorization: expected the name and secret, or the secret, of a known credential")

    def close(self) -> None:
        """Decide what was asked for already, and nothing more."""
        self._pool.shutdown(wait=False)

    async def _decide(self, digest: bytes, header: bytes) -> bool:
        found = _parse(header)
        if found is None:
            return False
        check = self._checks.get(digest)
        if check is None:
            if len(self._checks) >= _CHECKS_AT_ONCE:
                raise UnavailableError(f"busy: {_CHECKS_AT_ONCE} credentials are being checked; try again")
            check = asyncio.get_running_loop().run_in_executor(self._pool, self._credentials.verify, *found)
            self._checks[digest] = check
            check.add_done_callback(lambda done: self._remember(digest, done))
        # Another request may wait for the same check.
        return await asyncio.shield(check)

    def _remember(self, digest: bytes, check: asyncio.Future[bool]) -> None:
        del self._checks[digest]
        if check.cancelled() or check.exception() is not None:
            return
        self._refused += not check.result()
        if self._refused > _REMEMBERED:
            # Guesses do not push the good ones out.
            self._decided = {known: good for known, good in self._decided.items() if good}
            self._refused = 0
        self._decided[digest] = check.result()


def _parse(header: bytes) -> tuple[str | None, str] | None:
    """Return the name (None: any) and the secret in a value of ``Authorization``, or None if it is not one."""
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
