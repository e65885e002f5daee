# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""How a device fetches: what its owner says of sources, limits and times."""

from __future__ import annotations

from typing import NamedTuple, Sequence

from .._common.errors import ArgumentError

SCHEMES = ("http", "https", "file")


class FetchOptions(NamedTuple):
    """How a device fetches by itself: from which ``sources``, in their order.

    ``ca_file`` has the authorities of the servers' certificates, ``certificate_file`` and ``key_file`` the device's own
    certificate, ``token_file`` a bearer token; ``proxy`` is the address of a web proxy. ``bytes_per_second`` (0: no
    limit) slows the sender; ``windows`` are the times in which bytes may flow; ``seconds_max`` is the time for one
    object, ``bytes_max_percent`` how many bytes may come for one, as a percentage of its size.
    """

    sources: Sequence[str] = []
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    token_file: str | None = None
    proxy: str | None = None
    bytes_per_second: int = 0
    windows: Sequence[str] = []
    seconds_max: float = 86400.0
    bytes_max_percent: int = 300

    def check(self) -> None:
        """Raise ArgumentError, which names the option, for a value that is out of its range."""
        # Of a call that fetches nothing, this takes too long on a small board.
        from .._common.window import check as check_windows

        for source in self.sources:
            _check_address("sources", source, SCHEMES)
        if self.proxy is not None:
            _check_address("proxy", self.proxy, ("http",))
        if self.key_file is not None and self.certificate_file is None:
            raise ArgumentError("key_file: expected certificate_file with it; found none")
        for name, least in (("bytes_per_second", 0), ("seconds_max", 1), ("bytes_max_percent", 100)):
            if not getattr(self, name) >= least:
                raise ArgumentError(f"{name}: expected a number from {least}; found {getattr(self, name)!r}")
        check_windows(self.windows)


def _check_address(name: str, address: str, schemes: Sequence[str]) -> None:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(address)
        # The name of a machine in file://stick/models would be left out: three slashes are meant.
        here = parts.scheme == "file" and parts.netloc in ("", "localhost")
        right = parts.scheme in schemes and bool(parts.path if here else parts.hostname and parts.scheme != "file")
        right = right and (parts.port is None or parts.port > 0) and not parts.query and not parts.fragment
    except (ValueError, AttributeError):
        right = False
    if not right or not address.isascii() or not address.isprintable() or " " in address:
        raise ArgumentError(
            f"{name}: expected an address that begins with {':// or '.join(schemes)}://; found {address!r:.200}"
        )
