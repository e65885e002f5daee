# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What each wave of a rotation changes at a place, and whether the next wave may begin.

Three waves: everybody believes the old authority and the new one; certificates of the new one replace those of the old
one; the old one is believed no more. What is there decides what is to do, so a wave that was interrupted goes on.
"""

from __future__ import annotations

import contextlib
import enum
from dataclasses import dataclass, field
from typing import Any, Collection, Iterable, Mapping, NamedTuple, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._enrolment.certificate import (
    is_issued_by,
    read_crls,
    valid_until,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._enrolment.request import EnrolmentError

from .succession import name_of

with contextlib.suppress(ImportError):
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization


class Wave(enum.Enum):
    """The waves, in their order."""

    AUTHORITY = "authority"
    LEAVES = "leaves"
    RETIRE = "retire"


class Authorities(NamedTuple):
    """The authority that is replaced, the one that replaces it (None in check mode, before it is made), and the
    revocation lists of those that are believed, in PEM; empty: there are none."""

    old: x509.Certificate
    new: x509.Certificate | None
    revocations: str = ""


@dataclass(frozen=True)
class Change:
    """What is done at a place: ``files`` by their paths, with ``leaf`` another certificate of a new key. Without both,
    an earlier change was interrupted, and the service is told again. ``notes``: each change before and after."""

    files: dict[str, str] = field(default_factory=dict)
    leaf: bool = False
    notes: tuple[tuple[str, str], ...] = ()


class PlaceState:
    """A place as a machine described it. Raises EnrolmentError for texts that cannot be read."""

    def __init__(self, described: Mapping[str, Any]) -> None:
        self.name = str(described["name"])
        self._changing = bool(described["changing"])
        self._key_fits = bool(described["key_fits"])
        try:
            text = str(described["certificate"]).encode()
            self.certificate = x509.load_pem_x509_certificate(text) if text else None
            self._believed = {
                str(path): x509.load_pem_x509_certificates(str(content).encode())
                for path, content in described["authorities"].items()
            }
            self._revocations = {
                str(path): read_crls(str(content).encode()) for path, content in described["revocations"].items()
            }
        except ValueError as error:
            raise EnrolmentError(f"{self.name}: expected certificates in PEM; {error}") from error

    def concerns(self, old: x509.Certificate) -> bool:
        """Whether anything here is of the old authority."""
        return self.is_leaf_of(old) or any(old in believed for believed in self._believed.values())

    def is_leaf_of(self, authority: x509.Certificate) -> bool:
        """Whether the certificate here is of an authority."""
        return self.certificate is not None and is_issued_by(self.certificate, authority)

    def change(self, wave: Wave, authorities: Authorities) -> Change | None:
        """What the wave does here; None where there is nothing to do."""
        found = self._leaf_change(authorities) if wave is Wave.LEAVES else self._trust_change(wave, authorities)
        return found or (Change(notes=(("changing", "taken by the service"),)) if self._changing else None)

    def _leaf_change(self, authorities: Authorities) -> Change | None:
        certificate = self.certificate
        if certificate is None or not (self.is_leaf_of(authorities.old) or (self._changing and not self._key_fits)):
            return None
        before = (
            f"{certificate.subject.rfc4514_string()} of {name_of(authorities.old)}, until {valid_until(certificate):%F}"
        )
        return Change(leaf=True, notes=((before, f"another key, of {_new_name(authorities)}"),))

    def _trust_change(self, wave: Wave, authorities: Authorities) -> Change | None:
        files, notes = {}, []
        for path, believed in self._believed.items():
            after = _believed_after(wave, believed, authorities)
            if after is not None:
                files[path] = "".join(map(_pem, after))
                names = [" and ".join(map(name_of, side)) for side in (believed, after)]
                if wave is Wave.AUTHORITY and authorities.new is None:
                    names[1] += f" and {_new_name(authorities)}"
                notes.append((f"{path}: {names[0]}", f"{path}: {names[1]}"))
        wanted = {crl.issuer for crl in read_crls(authorities.revocations.encode())}
        for path, crls in self._revocations.items():
            issuers = {crl.issuer for crl in crls}
            if wanted and issuers & {authorities.old.subject, *wanted} and issuers != wanted:
                files[path] = authorities.revocations
                notes.append((f"{path}: {_names(issuers)}", f"{path}: {_names(wanted)}"))
        return Change(files, notes=tuple(notes)) if files else None


def _believed_after(
    wave: Wave, believed: Sequence[x509.Certificate], authorities: Authorities
) -> list[x509.Certificate] | None:
    """The authorities that a file has after a wave; None where that is what it has."""
    old, new = authorities.old, authorities.new
    if old not in believed:
        return None
    if wave is Wave.AUTHORITY:
        return None if new in believed else [*believed, *([new] if new is not None else [])]
    after = [authority for authority in believed if authority != old]
    # A file without any would let in everybody, or nobody: an earlier wave has not been here.
    return after if new in after or (new is None) else None


def is_after(wave: Wave, places: Iterable[PlaceState], authorities: Authorities) -> bool:
    """Whether a machine has nothing left to do of a wave."""
    return all(place.change(wave, authorities) is None for place in places)


class Host(NamedTuple):
    """A device or a server: what it said, or why it said nothing. ``places`` is None where it did not answer."""

    name: str
    is_server: bool
    places: Sequence[PlaceState] | None
    problem: str = ""


@dataclass(frozen=True)
class Permission:
    """Whether a wave may begin: ``held_by`` names what it waits for. ``servers``: whether they take part in it."""

    held_by: tuple[str, ...] = ()
    servers: bool = True

    @property
    def granted(self) -> bool:
        """Whether it may begin."""
        return not self.held_by


def permit(
    wave: Wave,
    hosts: Sequence[Host],
    authorities: Authorities,
    certified: Collection[str] = (),
    given_up: Collection[str] = (),
) -> Permission:
    """Whether a wave may begin. ``certified`` are the names that the authority has given certificates to, which may be
    of devices that the inventory has not; nobody waits for those of ``given_up``.

    Raises EnrolmentError where a machine that answers is not where the wave before should have brought it.
    """
    behind = [host.problem for host in hosts if host.problem]
    for host in hosts:
        if host.places is not None:
            for before in list(Wave)[: list(Wave).index(wave)]:
                # A server's own certificate may wait for devices that are away; the last wave then waits as well.
                if before is Wave.LEAVES and host.is_server:
                    continue
                if not is_after(before, host.places, authorities):
                    behind.append(f"{host.name}: is not after the wave {before.value}")
    if behind:
        raise EnrolmentError(f"the wave {wave.value} cannot begin: {'; '.join(behind)}")
    names = {host.name for host in hosts}
    away = [host for host in hosts if host.places is None and host.name not in given_up]
    missing = sorted(set(certified).difference(names, given_up))
    held = [f"{host.name} (away)" for host in away] + [f"{name} (not in the inventory)" for name in missing]
    if wave is Wave.LEAVES:
        # Only a server holds it back; then all are named that the rotation waits for.
        return Permission(tuple(held) if any(host.is_server for host in away) else (), servers=not held)
    if wave is Wave.RETIRE:
        held += [
            f"{host.name} (its certificate waits)"
            for host in hosts
            if host.places is not None and host.is_server and not is_after(Wave.LEAVES, host.places, authorities)
        ]
        return Permission(tuple(held))
    return Permission()


def _new_name(authorities: Authorities) -> str:
    return "a new authority" if authorities.new is None else name_of(authorities.new)


def _names(names: Iterable[x509.Name]) -> str:
    return "revocations of " + ", ".join(sorted(name.rfc4514_string() for name in names))


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")
