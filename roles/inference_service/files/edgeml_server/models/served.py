# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One loaded version, and who uses it."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Callable

from edgeml_device._device.version import Version
from edgeml_device._release.release import WHOLE

from edgeml_server.common.errors import InvalidRequestError, NotFoundError
from edgeml_server.common.memory import trim_heap

from .loading import LoadedModel

# How long a client of a pipeline may take between its requests to two parts, during a swap.
PIPELINE_PAUSE_SECONDS = 1.0
_POLL_SECONDS = 0.05


def full_name(model: str, part: str) -> str:
    """Return the name under which a part is served: ``model/part``."""
    return f"{model}/{part}" if part else model


class ServedModel:
    """One loaded version, with all of its parts. A caller that uses one holds a lease; ``retire`` frees them after the
    last one."""

    def __init__(self, version: Version, parts: Mapping[str, LoadedModel], on_free: Callable[[], None]) -> None:
        self._on_free = on_free
        self.name = version.model
        self.version = version.version
        self.variant = version.variant
        self.digest = version.digest
        self.parts = parts
        self.load_seconds = sum(part.seconds for part in parts.values())
        self.prepared = any(part.prepared for part in parts.values())
        self._lock = threading.Lock()
        self._leases = 0
        self._retired = False
        self._used = time.monotonic()
        self._idle = threading.Event()
        self._idle.set()

    @property
    def is_pipeline(self) -> bool:
        """Whether it has several models, each with a name of its own."""
        return WHOLE not in self.parts

    def part(self, name: str) -> LoadedModel:
        """Return the model of that name, of a version of one model the one named ``WHOLE``. Raises RequestError."""
        part = self.parts.get(name)
        if part is not None:
            return part
        if self.is_pipeline:
            known = ", ".join(full_name(self.name, other) for other in self.parts)
            if name == WHOLE:
                raise InvalidRequestError(f"model {self.name!r} is a pipeline: expected one of its parts, {known}")
            raise NotFoundError(f"model {full_name(self.name, name)!r} is not served; {known} are")
        raise NotFoundError(f"no such URL: model {self.name!r} has no parts; found the part {name!r}")

    def is_same(self, version: Version) -> bool:
        """Whether this is the same release and variant."""
        return (self.version, self.variant, self.digest) == (version.version, version.variant, version.digest)

    def lease(self) -> None:
        """Keep the model loaded until ``release`` is called."""
        with self._lock:
            self._leases += 1
            self._idle.clear()

    def release(self) -> None:
        """End a lease. The end of the last lease frees a model that was retired while in use."""
        with self._lock:
            self._leases -= 1
            self._used = time.monotonic()
            if self._leases:
                return
            self._idle.set()
            retired = self._retired
        if retired:
            # Freeing takes long; the last lease may end in the event loop.
            threading.Thread(target=self._free, name="free").start()

    def lease_retiring(self) -> bool:
        """Keep a version that another one has replaced loaded for one more request. Return whether it still is."""
        with self._lock:
            if not self._retired:
                self._leases += 1
                self._idle.clear()
            return not self._retired

    def retire(self, seconds: float) -> bool:
        """Free the model after its leases. Return whether they ended in time.

        A pipeline stays for those that began with it, and ask its other parts by its version, until nobody has asked
        for ``PIPELINE_PAUSE_SECONDS``.
        """
        deadline = time.monotonic() + seconds
        self._idle.wait(seconds)
        while self.is_pipeline and time.monotonic() < min(deadline, self._used + PIPELINE_PAUSE_SECONDS):
            time.sleep(_POLL_SECONDS)
            self._idle.wait(max(0.0, deadline - time.monotonic()))
        with self._lock:
            self._retired = True
            in_use = self._leases > 0
        if not in_use:
            self._free()
        return not in_use

    def _free(self) -> None:
        for part in self.parts.values():
            part.backend.close()
        trim_heap()
        self._on_free()
