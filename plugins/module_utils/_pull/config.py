# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What a device that pulls is told once: who it is, where it looks, and where it reports. Written by ``pull_agent``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping, NamedTuple, Sequence

if TYPE_CHECKING:
    from .._fetch.options import FetchOptions

from .._common.configuration import parse_record, read_json
from .._common.errors import ArgumentError

CONFIG = "/etc/edgeml/pull.json"
SCHEMES = ("https", "http", "file", "git+https", "git+ssh", "git+file")


class PullConfig(NamedTuple):
    """The configuration of ``edgeml pull``.

    ``device`` is the device's name in the inventory, ``device_class`` its class as rollouts have it, ``fleet`` the
    fleet whose desired state it follows. ``sources`` are addresses of the signed model repository, the first one
    first: ``https://``, ``file://``, or ``git+https://``, ``git+ssh://`` and ``git+file://`` for a git repository,
    whose commits are signed by one of ``allowed_signers``. ``root`` is the pinned ``root.json``. ``certificate`` and
    ``key`` are the device's own, ``ca_file`` has the authorities of the servers. ``mailbox`` is the address that
    reports are put to, None for a device that does not report. ``fetch`` has options of
    ``model_swap``'s ``fetch`` beside its sources. ``state`` is the directory of what the device
    remembers, ``runtime`` one in memory; ``store``, ``server``, ``strategy`` and ``server_unit`` are those of
    ``model_swap``.
    """

    device: str
    device_class: str
    fleet: str
    sources: Sequence[str]
    root: str = "/etc/edgeml/pull/root.json"
    certificate: str = "/etc/edgeml/pull/device.pem"
    key: str = "/etc/edgeml/pull/device.key"
    ca_file: str | None = None
    mailbox: str | None = None
    allowed_signers: str | None = None
    poll_seconds: int = 900
    fetch: Mapping[str, Any] = {}
    state: str = "/var/lib/edgeml/pull"
    runtime: str = "/run/edgeml-pull"
    store: str = "/var/lib/edgeml/store"
    server: str = "/run/edgeml/server.sock"
    strategy: str = "load"
    server_unit: str = "edgeml-inference.service"


def parse_config(document: Any, origin: str) -> PullConfig:
    """Read the configuration from JSON values. Raises ArgumentError, which begins with ``origin``."""
    return parse_record(PullConfig, document, _check, origin)


def _check(config: PullConfig) -> None:
    if not config.sources:
        raise TypeError("sources: expected at least one address; found none")
    for source in config.sources:
        scheme, mark, rest = str(source).partition("://")
        if not isinstance(source, str) or scheme not in SCHEMES or not mark or not rest:
            raise TypeError(f"sources: expected an address with one of {', '.join(SCHEMES)}; found {source!r:.80}")
        if scheme.startswith("git+") and config.allowed_signers is None:
            raise TypeError(f"allowed_signers: expected a file, because {source} is a git repository; found none")
    if config.mailbox is not None and not config.mailbox.startswith(("https://", "http://")):
        raise TypeError(f"mailbox: expected an address with https://; found {config.mailbox!r:.80}")


def read_config(path: str) -> PullConfig:
    """Read the configuration's file. Raises ArgumentError, which names it."""
    return parse_config(read_json(path, "edgeml pull"), path)


def fetch_options(config: PullConfig, sources: Sequence[str] = ()) -> FetchOptions:
    """How a device reaches its ``sources``: for metadata and files alike. Raises ArgumentError for a wrong option."""
    # A poll that finds nothing is spared it.
    from .._fetch.options import FetchOptions

    options = {"ca_file": config.ca_file, **config.fetch, "sources": sources}
    try:
        return FetchOptions(**options)
    except TypeError as error:
        raise ArgumentError(f"fetch: {error}") from error
