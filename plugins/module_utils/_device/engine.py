# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""A container engine on this device, Docker or Podman, by its command: its images, and what runs of them."""

from __future__ import annotations

import json
from typing import BinaryIO, Callable, Collection, cast

from .._common.errors import ServerError
from .._common.files import free_room
from .._common.process import run_command
from .._release.image import NAME, Image, write_archive
from .runner import engine_program, is_podman

# As long as a unit has: a small device that is busy takes minutes.
_ASK_SECONDS = 300
_LOAD_SECONDS = 1800
# Docker unpacks an archive beside its store before it unpacks the layers.
_COPIES = 2


class Engine:
    """The engine whose command is ``command``."""

    def __init__(self, command: str) -> None:
        self.command = command

    def answers(self) -> bool:
        """Whether it answers."""
        try:
            self._ask("ps", "--quiet", "--filter", f"name={NAME}")
        except ServerError:
            return False
        return True

    def layers(self, reference: str) -> list[str] | None:
        """The layers of an image as it lists them, by what they unpack to; None where it has no such image.

        Raises ServerError where it does not answer.
        """
        if reference not in self.references():
            return None
        told: list[str] = json.loads(self._ask("image", "inspect", "--format", "{{json .RootFS.Layers}}", reference))
        return told

    def references(self) -> list[str]:
        """The images of the server that it has. Raises ServerError."""
        return self._ask("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", NAME).split()

    def known_layers(self) -> set[str]:
        """The layers of all images of the server that it has. Raises ServerError."""
        return {layer for reference in self.references() for layer in self.layers(reference) or ()}

    def free_bytes(self) -> int:
        """The free bytes where it keeps images. Raises ServerError."""
        template = "{{.Store.GraphRoot}}" if is_podman(self.command) else "{{.DockerRootDir}}"
        try:
            return free_room(self._ask("info", "--format", template)).bytes
        except OSError as error:
            raise ServerError(f"{self.command}: its images: {error}") from error

    def needed_bytes(self, layer_bytes: int) -> int:
        """How many free bytes it takes to load layers of so many."""
        return _COPIES * layer_bytes

    def load(self, image: Image, layer_path: Callable[[str], str], known: Collection[str]) -> None:
        """Have it load an image. Docker needs no layer that it knows with all those below.

        Raises ServerError, OSError.
        """
        left_out = [] if is_podman(self.command) else _known_first(image, known)
        ended = run_command(
            [*engine_program(self.command), "load"],
            _LOAD_SECONDS,
            write=lambda pipe: write_archive(cast(BinaryIO, pipe), image, layer_path, left_out),
        )
        if ended.code != 0:
            raise ServerError(f"{self.command} load: {ended.reason[-500:]}")

    def running_image(self, container: str) -> str | None:
        """The image that a container runs; None where there is no such container, or it does not run.

        Raises ServerError where the engine does not answer.
        """
        listed = self._ask("ps", "--filter", f"name=^{container}$", "--format", "{{.Names}} {{.Image}}")
        found = dict(line.split(" ", 1) for line in listed.splitlines())
        return found.get(container)

    def remove_image(self, reference: str) -> None:
        """Remove an image. Raises ServerError while something runs of it."""
        self._ask("image", "rm", reference)

    def _ask(self, *arguments: str) -> str:
        shown = f"{self.command} {arguments[0]}"
        ended = run_command([*engine_program(self.command), *arguments], _ASK_SECONDS, shown=shown)
        if ended.code != 0:
            raise ServerError(f"{shown}: {ended.reason[-300:]}")
        return ended.stdout.strip()


def _known_first(image: Image, known: Collection[str]) -> list[str]:
    """The lowest layers that an engine has, up to the first that it lacks: those above one that it lacks are others to
    it."""
    first = []
    for layer in image.layers:
        if f"sha256:{layer.sha256}" not in known:
            break
        first.append(layer.sha256)
    return first
