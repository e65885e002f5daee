# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""How the service runs on this device: which runner the role set up, and for one with a container engine, its image."""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
from typing import Mapping, NamedTuple, Sequence

from .._common.configuration import parse_record, read_json
from .._common.errors import ArgumentError, StoreError
from .._common.files import DurableTree, remove_file

RUNNER = "/etc/edgeml/runner.json"
# In the store: the image of the release that is active, and the one that the role brought, which serves without one.
RELEASE_IMAGE = "image.json"
ROLE_IMAGE = "role-image.json"
ENVIRONMENT = "/run/edgeml-container.env"
_REFERENCE = re.compile(r"[a-z0-9]+([._/-][a-z0-9]+)*:[0-9a-f]{64}")
_SIZE = re.compile(r"([0-9]+)([KMGT]?)")
_PERCENTAGE = re.compile(r"([0-9]{1,3})%")
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_MODE = 0o640
# CAP_SYS_ADMIN of linux/capability.h.
_SYS_ADMIN = 21
_BY_SYSTEMD = ("systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--")


class Runner(NamedTuple):
    """How the service runs. ``engine`` is the path of a container engine's command, and empty for a runner without one.

    ``user`` is the service's user and its group; ``python`` and ``code`` are where the image has the server's Python
    and code, empty for a runner without an image, ``mounts`` the device's directories that the container has at the
    same paths, ``memory_max`` the service's limit in systemd's notation, and ``container`` the name of its container.
    """

    name: str = "native"
    engine: str = ""
    user: str = "edgeml"
    python: str = ""
    code: str = ""
    mounts: Sequence[str] = ()
    memory_max: str = ""
    container: str = "edgeml-inference"

    @property
    def bridge(self) -> str:
        """The name of the container that serves while an image is swapped."""
        return f"{self.container}-bridge"


class Image(NamedTuple):
    """An image of the server in the engine: its name, of which the tag is the digest of its manifest, and the versions
    of the runtimes in it, by package name."""

    reference: str
    runtimes: Mapping[str, str] = {}


def read_runner(path: str = RUNNER) -> Runner:
    """Return what the role wrote; without that file, the service runs natively. Raises ArgumentError."""
    if not os.path.exists(path):
        return Runner()
    runner: Runner = parse_record(Runner, read_json(path, "the service's runner"), lambda _runner: None, path)
    return runner


def read_image(store: str) -> Image | None:
    """Return the image that the service starts from, by the files in the directory ``store``: that of the release that
    is active, or else the one that the role brought; None without both. Raises ArgumentError."""
    release = read_image_file(store, RELEASE_IMAGE)
    return read_image_file(store, ROLE_IMAGE) if release is None else release


def read_image_file(store: str, name: str) -> Image | None:
    """Return the image that RELEASE_IMAGE or ROLE_IMAGE names; None without that file. Raises ArgumentError."""
    path = os.path.join(store, name)
    if not os.path.exists(path):
        return None
    image: Image = parse_record(Image, read_json(path, "the service's image"), _check_image, path)
    return image


def write_image(store: str, image: Image, name: str = RELEASE_IMAGE) -> None:
    """Have the service start from this image from now on; the change is whole or none. Hold the store's lock."""
    _check_image(image)
    content = json.dumps(image._asdict(), sort_keys=True).encode("ascii") + b"\n"
    DurableTree(store).replace(os.path.join(store, name), content, _MODE)


def use_role_image(store: str) -> None:
    """Have the service start from the image that the role brought, where it brought one. Hold the store's lock."""
    path = os.path.join(store, RELEASE_IMAGE)
    if os.path.exists(path) and os.path.exists(os.path.join(store, ROLE_IMAGE)):
        remove_file(path)


def container_environment(runner: Runner, image: Image | None, memory: int, joins: bool) -> str:
    """What the service's unit needs to know of this device, which has so many bytes of ``memory``, as lines of a
    systemd environment file. ``joins``: the server takes over from the bridge.

    Raises StoreError where there is no image yet.
    """
    if image is None:
        raise StoreError(
            "no image of the server is here yet: set inference_service_image, or roll out a release of kind image"
        )
    limit = memory_bytes(runner.memory_max, memory)
    return (
        f"EDGEML_IMAGE={image.reference}\nEDGEML_USER={container_user(runner.user)}\nEDGEML_MEMORY_BYTES={limit}\n"
        f"EDGEML_JOIN={'--join' if joins else ''}\n"
    )


def is_podman(engine: str) -> bool:
    """Whether a container engine's command is Podman's; else it is Docker's."""
    return os.path.basename(engine).startswith("podman")


def engine_program(engine: str, status: str = "/proc/self/status") -> list[str]:
    """How an engine's command is started.

    Podman has no daemon that works for it, and cannot open its store in the sandbox of a unit, such as the one that
    looks at trials: there systemd starts it outside. Such a sandbox is known by what ``status`` says that this process
    and its own can never get (``CapBnd`` of proc(5)): CAP_SYS_ADMIN, which root's have elsewhere.
    """
    if is_podman(engine):
        with open(status, encoding="ascii", errors="replace") as file:
            bounds = [int(line.split()[1], 16) for line in file if line.startswith("CapBnd:")]
        if any(not bound >> _SYS_ADMIN & 1 for bound in bounds):
            return [*_BY_SYSTEMD, engine]
    return [engine]


def container_user(name: str) -> str:
    """A user and the group of its name by their numbers on this device: an image knows no names. Raises StoreError."""
    try:
        return f"{pwd.getpwnam(name).pw_uid}:{grp.getgrnam(name).gr_gid}"
    except KeyError as error:
        raise StoreError(f"no user {name} on this device: the role edgeml.fleet.provision makes it") from error


def memory_bytes(limit: str, total: int) -> int:
    """Bytes of a limit in systemd's notation (``512M``, ``60%``) on a machine that has ``total`` bytes.

    Raises ArgumentError for another notation.
    """
    size, percentage = _SIZE.fullmatch(limit), _PERCENTAGE.fullmatch(limit)
    if size is not None:
        return int(size.group(1)) << _UNITS[size.group(2)]
    if percentage is not None:
        return total * int(percentage.group(1)) // 100
    raise ArgumentError(
        f"inference_service_memory_max: expected a size such as 512M or a share such as 60%; found {limit!r}"
    )


def _check_image(image: Image) -> None:
    if _REFERENCE.fullmatch(image.reference) is None:
        raise TypeError(
            f"reference: expected a name and a tag of 64 hexadecimal digits; found {image.reference!r:.200}"
        )
