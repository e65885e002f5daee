# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The strategy for an image of the server: it is loaded into the engine, and a container of it takes over.

The service's unit runs one container. Where another image is to serve, the unit of the bridge starts a container of it
beside that one; it takes over the listening sockets when it has loaded all that serves. The service's container then
ends, and starts anew, of the new image; it takes over from the bridge. No connection is refused meanwhile. What
does not become ready leaves the one before it serving.
"""

from __future__ import annotations

import os
import time
from typing import Any, Collection, Iterator

from .._common.errors import EdgemlError, IncompatibleError, IntegrityError, ServerError, StoreError
from .._release.image import Image, read_image
from .._release.release import Variant
from .client import Server
from .engine import Engine
from .metrics import measure_server
from .runner import RELEASE_IMAGE, ROLE_IMAGE, Runner, read_image_file, use_role_image, write_image
from .runner import Image as ServiceImage
from .runner import read_image as read_service_image
from .runtime import Runtime, image_runtime
from .state import State
from .store import Store
from .systemd import systemctl, unit_property
from .version import Version
from .whole_server import WholeServerStrategy

# The old container answers what is open; the new one loads all models.
_START_SECONDS = 600.0
_INTERVAL_SECONDS = 0.2
# How often a server is asked before it counts as one that cannot give way.
_LOOKS = 3


class ImageStrategy(WholeServerStrategy):
    """The image of the device's server. ``server`` is where that answers, ``unit`` what runs it."""

    def __init__(self, server: Server, unit: str, store: Store, runner: Runner) -> None:
        super().__init__(server)
        self._unit = unit
        self._store = store
        self._runner = runner
        self._engine = Engine(runner.engine)

    def silence(self, _address: str) -> str:
        return f"{self._runner.engine}: the container engine does not answer"

    def answers(self) -> bool:
        return self._engine.answers()

    def refuse(self, variant: Variant, headroom_percent: int) -> None:
        """Raise IncompatibleError where the service runs in no container, ServerError where the engine does not answer,
        and StoreError where it has no room for the layers that it lacks."""
        if not self._runner.engine:
            raise IncompatibleError(
                f"this device runs the service without a container (runner {self._runner.name}), and can use no image: "
                "set inference_service_runner"
            )
        if not self._engine.answers():
            raise ServerError(self.silence(self._runner.engine))
        known = self._engine.known_layers()
        lacking = sum(file.size for file in variant.files if f"sha256:{file.sha256}" not in known)
        required, free = self._engine.needed_bytes(lacking), self._engine.free_bytes()
        if required > free * (100 - headroom_percent) // 100:
            raise StoreError(
                f"{self._runner.engine}: the image needs {required} bytes in the engine's store, unpacked and on its "
                f"way; {free} are free, of which {headroom_percent}% stay free"
            )

    def stage(self, version: Version) -> Runtime | None:
        """Have the engine hold the image. Raises ServerError, IntegrityError."""
        return image_runtime(self._runner, _service_image(self._bring(version)))

    def follow(self, model: str, active: str | None) -> None:
        """Have the service start from the active version's image; without one, from that which the role brought."""
        if active is None:
            use_role_image(self._store.root)
            return
        wanted = _service_image(self._image(model, active))
        if read_image_file(self._store.root, RELEASE_IMAGE) != wanted:
            write_image(self._store.root, wanted)

    def notify(self, model: str, active: str | None) -> None:
        self.follow(model, active)
        if active is not None:
            self._bring(self._store.version(model, active))
        wanted = read_service_image(self._store.root)
        if wanted is None or self._serves(wanted.reference):
            return
        bridge = self._unit.replace(".service", "-bridge.service")
        # The starts of swaps are no failures, which systemd would count them as and start the service no more.
        systemctl("reset-failed", "--", self._unit)
        if unit_property(self._unit, "ActiveState") == "active":
            # A restart loses requests: a busy device may only be slow to answer.
            if any(self._server.has_started() for _look in range(_LOOKS)):
                self._start_bridge(bridge)
            else:
                systemctl("restart", "--", self._unit)
        self._start(wanted.reference)

    def is_ready(self, model: str, version: str, held: Collection[str]) -> bool:
        self._server.require_started()
        return self._running() == self._image(model, version).reference

    def live(self, model: str, state: State, held: Collection[str]) -> str | None:
        if not self._server.has_started():
            return None
        try:
            running = self._running()
        except ServerError:
            # Whoever serves was started by an engine that answered.
            return state.active
        for version in held:
            try:
                if self._image(model, version).reference == running:
                    return version
            except (EdgemlError, OSError):
                continue
        return None

    def measured(self, model: str, *versions: str) -> list[dict[str, Any]]:
        try:
            live = self.live(model, State(), versions)
            text = self._server.metrics()
        except EdgemlError:
            return [{} for _version in versions]
        # Another container counts from 0.
        return [measure_server(text if version == live else "") for version in versions]

    def tidy(self, model: str) -> None:
        """Remove from the engine the images that the store no longer has."""
        kept = set(self._references(model))
        for name in (RELEASE_IMAGE, ROLE_IMAGE):
            image = read_image_file(self._store.root, name)
            if image is not None:
                kept.add(image.reference)
        for reference in self._engine.references():
            if reference not in kept:
                self._engine.remove_image(reference)

    # ---- the parts ----

    def _image(self, model: str, version: str) -> Image:
        found = self._store.version(model, version)
        return read_image(found.chosen, found.directory)

    def _references(self, model: str) -> Iterator[str]:
        for version in self._store.versions(model):
            try:
                yield self._image(model, version).reference
            except (EdgemlError, OSError):
                continue

    def _bring(self, version: Version) -> Image:
        """Have the engine hold a version's image. Raises IntegrityError where it then has another one."""
        image = read_image(version.chosen, version.directory)
        if self._engine.layers(image.reference) == image.diff_ids:
            return image
        names = {file.sha256: file.path for file in version.chosen.files}
        known = self._engine.known_layers()
        self._engine.load(image, lambda sha256: os.path.join(version.directory, names[sha256]), known)
        found = self._engine.layers(image.reference)
        if found != image.diff_ids:
            raise IntegrityError(
                f"{self._runner.engine}: {image.reference}: expected the layers of {version.model} {version.version}; "
                f"found {'no image' if found is None else 'others'}"
            )
        return image

    def _running(self) -> str | None:
        """The image that serves: while one container takes over from another, that of the later one."""
        wanted = read_service_image(self._store.root)
        running = [self._engine.running_image(name) for name in (self._runner.container, self._runner.bridge)]
        if wanted is not None and wanted.reference in running:
            return wanted.reference
        return next((reference for reference in running if reference is not None), None)

    def _serves(self, reference: str) -> bool:
        return (
            self._engine.running_image(self._runner.container) == reference
            and self._engine.running_image(self._runner.bridge) is None
            and self._server.has_started()
        )

    def _start_bridge(self, unit: str) -> None:
        try:
            systemctl("start", "--", unit)
        except ServerError as error:
            systemctl("stop", "--", unit)
            raise ServerError(f"a container of the new image did not become ready: {error}") from error

    def _start(self, reference: str) -> None:
        """Wait until the service's own container runs the image; the one before answers what is open, and ends."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            # It ends nobody: what runs already is left alone.
            systemctl("start", "--", self._unit)
            if self._serves(reference):
                return
            if time.monotonic() > deadline:
                raise ServerError(f"{self._unit}: it does not run {reference} after {_START_SECONDS:.0f} s")
            time.sleep(_INTERVAL_SECONDS)


def _service_image(image: Image) -> ServiceImage:
    return ServiceImage(image.reference, image.runtimes)
