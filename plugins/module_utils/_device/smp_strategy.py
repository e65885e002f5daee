# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The strategy for a microcontroller behind this device: its bootloader switches, tries, and goes back.

An image is brought into the slot that is not active, and tried at the next reset. One that is not confirmed is left at
the reset after that, also where this device is gone. So a trial ends well by a confirmation, and a crash of the
microcontroller during its trial is its end. What the microcontroller says of its slots is the truth: this only ever
compares it with the store, and brings it nearer.
"""

from __future__ import annotations

import contextlib
from typing import Any, Collection, Iterator

from .._common.errors import CandidateError, EdgemlError, IncompatibleError, ServerDownError, ServerError
from .._release.mcu_image import McuImageError, parse_image
from .._release.release import MCU_IMAGES, Variant
from .._smp.client import ANSWER_SECONDS, BOOT_SECONDS, Info, SlotImage, SmpClient
from .._smp.ports import open_port
from . import systemd
from .port_model import PortModel, check_golden, read_golden
from .runtime import Runtime
from .serving import Strategy
from .state import SWITCHING, Record, State
from .store import Store
from .trial import Reading
from .version import Version

# What runs a model on a microcontroller is its firmware, as a variant's runtime names it.
FIRMWARE = "mcu-firmware"
# Looks at the microcontrollers behind this device, as long as there is something to do.
TIMER = "edgeml-mcu.timer"
_MODEL_IMAGE = MCU_IMAGES["mcu-model"]


class SmpStrategy(Strategy):
    """The microcontroller at the port ``address``, whose releases are in ``store``: one store for each."""

    def __init__(self, store: Store, address: str) -> None:
        self._store = store
        self._address = address
        self.server = PortModel(self._session, self._active)

    # ---- what it is ----

    def device(self) -> dict[str, Any]:
        try:
            with self._session() as client:
                info = client.info()
        except ServerError as error:
            raise ServerDownError(str(error)) from error
        name, _space, version = info.runtime.partition(" ")
        return {
            "architecture": info.device_class,
            "memory_bytes": info.arena,
            "memory_available_bytes": info.arena,
            "cpu_count": 1,
            "python_version": "",
            "board": info.device_class,
            "runtimes": {FIRMWARE: info.firmware, **({name: version} if name and version else {})},
            "security_counter": info.security_counter,
            "flash": {"written_bytes": info.written, "erased_sectors": info.erased},
        }

    def silence(self, address: str) -> str:
        return f"{address}: the microcontroller does not answer"

    def answers(self) -> bool:
        try:
            with self._session() as client:
                return client.is_there()
        except ServerError:
            return False

    def start_watching(self) -> None:
        if systemd.has_unit_file(TIMER):
            systemd.systemctl("start", TIMER)

    # ---- what it may run ----

    def refuse(self, variant: Variant, headroom_percent: int) -> None:
        """Raise IncompatibleError for what its bootloader or its firmware would refuse, and ServerError while another
        image of it is on trial: a reset would end that."""
        boot = variant.boot
        if boot is None:
            raise IncompatibleError(
                f"variant {variant.name}: expected the format {' or '.join(MCU_IMAGES)} for a microcontroller; found "
                f"{variant.format}"
            )
        with self._session() as client:
            info, images = client.info(), client.images()
        number = MCU_IMAGES[variant.format]
        missing = sorted(set(boot.operators) - set(info.operators))
        if missing:
            raise IncompatibleError(
                f"variant {variant.name}: needs operators that the firmware {info.firmware} lacks: {', '.join(missing)}"
            )
        running = _running(images, number)
        counter = info.model_counter if number == _MODEL_IMAGE else info.security_counter
        if boot.security_counter < counter:
            raise IncompatibleError(
                f"variant {variant.name}: has the security counter {boot.security_counter}; the microcontroller has "
                f"{counter}, and its bootloader refuses a lower one"
            )
        tried = [image for image in images if image.active and not image.confirmed and image.image != number]
        if tried and (running is None or running.hash.hex() != boot.hash):
            raise ServerError(
                f"{self._address}: image {tried[0].image} ({tried[0].version}) is on trial, which a reset would end: "
                "try again when it is committed"
            )

    def stage(self, version: Version) -> Runtime | None:
        """Raise CandidateError unless the file is the image that the release says."""
        boot = version.chosen.boot
        try:
            with open(version.entrypoint_path, "rb") as file:
                image = parse_image(file.read())
        except (OSError, McuImageError) as error:
            raise CandidateError(f"{version.entrypoint_path}: {error}") from error
        found = (image.hash.hex(), str(image.version), image.security_counter or 0)
        wanted = (boot.hash, boot.version, boot.security_counter) if boot else None
        if found != wanted:
            raise CandidateError(
                f"{version.entrypoint_path}: expected hash, version and counter {wanted}; found {found}"
            )
        return None

    # ---- what it runs ----

    def notify(self, model: str, active: str | None) -> None:
        trial = self._store.state(model).trial
        with self._session() as client:
            if active is None:
                self._leave(client, model)
                return
            version = self._store.version(model, active)
            self._run(client, version)
            if trial is None:
                self._confirm(client, version)
            elif trial.phase == SWITCHING:
                self._check(client, version)

    def confirm(self, model: str, version: str) -> None:
        with self._session() as client:
            self._confirm(client, self._store.version(model, version))

    def is_ready(self, model: str, version: str, held: Collection[str]) -> bool:
        with self._session() as client:
            return self._serves(client, self._store.version(model, version))

    def live(self, model: str, state: State, held: Collection[str]) -> str | None:
        try:
            with self._session() as client:
                images, info = client.images(), client.info()
        except ServerError:
            return None
        for name in held:
            with contextlib.suppress(EdgemlError, OSError):
                version = self._store.version(model, name)
                running = _running(images, _number(version))
                if running is not None and running.hash.hex() == _hash(version) and _is_loaded(version, info):
                    return name
        return None

    def reading(self, model: str, version: str, held: Collection[str]) -> Reading:
        try:
            with self._session() as client:
                found = self._store.version(model, version)
                running = _running(client.images(), _number(found))
                if self._serves(client, found):
                    return Reading(True, True, _record(client.info()))
                why = f"it runs {running.version}" if running else "it runs nothing"
                return Reading(True, False, None, f"the microcontroller went back: {why}")
        except ServerError:
            return Reading(answers=False, ready=None, record=None)

    def record(self, model: str, version: str | None) -> Record | None:
        try:
            with self._session() as client:
                return _record(client.info())
        except ServerError:
            return None

    def measured(self, model: str, *versions: str) -> list[dict[str, Any]]:
        live = self.live(model, State(), versions)
        found = self.record(model, live)
        if found is None or found.restarts is None:
            return [{} for _version in versions]
        counts = {name: getattr(found, name) for name in ("requests", "errors", "timed", "latency_seconds_sum")}
        serving = {"requests": counts, "restarts": found.restarts}
        # The microcontroller counts its starts for good; the one that begins with a version is no restart of it.
        others = {"restarts": found.restarts + 1}
        return [serving if version == live else others for version in versions]

    # ---- the parts ----

    @contextlib.contextmanager
    def _session(self) -> Iterator[SmpClient]:
        with open_port(self._address) as port:
            yield SmpClient(port, self._address, ANSWER_SECONDS)

    def _active(self, model: str) -> Version | None:
        active = self._store.state(model).active
        return self._store.version(model, active) if active is not None else None

    def _serves(self, client: SmpClient, version: Version) -> bool:
        running = _running(client.images(), _number(version))
        return running is not None and running.hash.hex() == _hash(version) and _is_loaded(version, client.info())

    def _run(self, client: SmpClient, version: Version) -> None:
        """Have a version run, on trial unless it is confirmed already. Raises ServerError where it does not."""
        number, wanted = _number(version), bytes.fromhex(_hash(version))
        if self._serves(client, version):
            # What was to be tried at the next reset, and was left, is not tried.
            if any(image.pending for image in client.images() if image.image == number and not image.active):
                client.erase(number)
            return
        running = _running(client.images(), number)
        if running is not None and not running.confirmed and running.hash != wanted:
            # It is on trial, and a reset goes back from it: perhaps to the wanted one.
            client.restart(BOOT_SECONDS)
            if self._serves(client, version):
                return
        if not any(image.hash == wanted and image.bootable for image in client.images() if image.image == number):
            with open(version.entrypoint_path, "rb") as file:
                client.upload(number, file.read())
        client.test(wanted)
        client.restart(BOOT_SECONDS)
        if not self._serves(client, version):
            info, running = client.info(), _running(client.images(), number)
            why = (info.model_error if number == _MODEL_IMAGE else info.error) or "its bootloader refused it"
            raise ServerError(
                f"{self._address}: {version.model} {version.version} does not run after a reset: {why}. It runs "
                f"{running.version if running else 'nothing'}"
            )

    def _confirm(self, client: SmpClient, version: Version) -> None:
        """Have the running version stay."""
        running = _running(client.images(), _number(version))
        if running is None or running.hash.hex() != _hash(version):
            raise ServerError(
                f"{self._address}: {version.model} {version.version} does not run, and cannot be confirmed"
            )
        if not running.confirmed:
            client.confirm(running.hash)

    def _check(self, client: SmpClient, version: Version) -> None:
        """Ask the golden inputs: those of the version, and of a firmware those of the model that it runs as well."""
        for found in [version] if _number(version) == _MODEL_IMAGE else [version, *self._models()]:
            golden = read_golden(found)
            if golden is not None and (found is version or self._serves(client, found)):
                check_golden(client, golden, found.chosen.latency_seconds_max)

    def _models(self) -> list[Version]:
        """The active models of this microcontroller."""
        found = [self._active(name) for name in self._store.models()]
        return [version for version in found if version is not None and version.format == "mcu-model"]

    def _leave(self, client: SmpClient, model: str) -> None:
        """Go back from a version before which there was none in the store: to what the microcontroller had then."""
        held = [self._store.version(model, name) for name in self._store.versions(model)]
        known = {_hash(version): _number(version) for version in held}
        images = client.images()
        for image in images:
            if image.active and known.get(image.hash.hex()) == image.image:
                if image.confirmed:
                    other = [each for each in images if each.image == image.image and each.bootable and not each.active]
                    if not other:
                        raise ServerError(
                            f"{self._address}: image {image.image} ({image.version}) is confirmed, and there is none "
                            "to go back to"
                        )
                    client.test(other[0].hash)
                client.restart(BOOT_SECONDS)
                running = _running(client.images(), image.image)
                if running is not None and not running.confirmed:
                    client.confirm(running.hash)


def stop_watching() -> None:
    """No more looks until the next switch. Hold the lock of each store: a swap that waits for it starts them again."""
    if systemd.has_unit_file(TIMER):
        systemd.systemctl("stop", "--no-block", TIMER)


def _number(version: Version) -> int:
    """Which of the bootloader's images a version is. Raises IncompatibleError for one that is none."""
    if version.format not in MCU_IMAGES:
        raise IncompatibleError(
            f"{version.model} {version.version}: expected {' or '.join(MCU_IMAGES)}; found {version.format}"
        )
    return MCU_IMAGES[version.format]


def _hash(version: Version) -> str:
    boot = version.chosen.boot
    return boot.hash if boot is not None else ""


def _running(images: Collection[SlotImage], number: int) -> SlotImage | None:
    return next((image for image in images if image.image == number and image.active), None)


def _is_loaded(version: Version, info: Info) -> bool:
    """Whether a model is loaded, and not only in its slot."""
    return _number(version) != _MODEL_IMAGE or info.model_loaded


def _record(info: Info) -> Record:
    return Record(
        requests=info.inferences + info.errors,
        errors=info.errors,
        timed=info.inferences,
        latency_seconds_sum=info.busy_us / 1e6,
        restarts=info.resets,
    )
