# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What each wave of a rotation changes at a place, and when the next one may begin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from ansible_collections.edgeml.fleet.plugins.module_utils._enrolment.request import (
    EnrolmentError,
    fingerprint,
    make_request,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._enrolment.authority import Authority
from ansible_collections.edgeml.fleet.plugins.plugin_utils._enrolment.rotation import (
    Authorities,
    Host,
    PlaceState,
    Wave,
    is_after,
    permit,
)


def pem(*certificates: x509.Certificate) -> str:
    return "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in certificates)


class Fleet:
    """An authority, the one that follows it, and a stranger's; with a certificate of each."""

    def __init__(self, directory: Path) -> None:
        self.made = {name: Authority.create(str(directory / name), name) for name in ("old", "new", "stranger")}
        self.certificates = {name: authority.certificates[0] for name, authority in self.made.items()}
        self.leaves = {name: self._leaf(authority) for name, authority in self.made.items()}
        self.crls = {}
        for name, authority in self.made.items():
            authority.revoke("edge-1")
            self.crls[name] = authority.crl()
        self.authorities = Authorities(self.certificates["old"], self.certificates["new"])

    @staticmethod
    def _leaf(authority: Authority) -> str:
        key = ec.generate_private_key(ec.SECP256R1())
        return authority.sign(make_request(key, "edge-1"), "edge-1", fingerprint(key.public_key()), days=30)

    def believed(self, *names: str) -> str:
        return pem(*(self.certificates[name] for name in names))

    def place(self, leaf: str = "", *believed: str, **changes: Any) -> PlaceState:
        """A place with a certificate, by its authority, and a file with authorities."""
        described = {
            "name": "place",
            "certificate": self.leaves[leaf] if leaf else "",
            "key_fits": True,
            "authorities": {"/ca.pem": self.believed(*believed)} if believed else {},
            "revocations": {},
            "changing": False,
        }
        return PlaceState({**described, **changes})


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    return Fleet(tmp_path_factory.mktemp("authorities"))


@pytest.mark.parametrize(
    ("before", "wave", "after"),
    [
        (("old",), Wave.AUTHORITY, ("old", "new")),
        (("stranger", "old"), Wave.AUTHORITY, ("stranger", "old", "new")),
        (("old", "new"), Wave.AUTHORITY, None),
        (("new",), Wave.AUTHORITY, None),
        (("stranger",), Wave.AUTHORITY, None),
        (("old", "new"), Wave.RETIRE, ("new",)),
        (("stranger", "old", "new"), Wave.RETIRE, ("stranger", "new")),
        (("new",), Wave.RETIRE, None),
        # It would believe nobody.
        (("old",), Wave.RETIRE, None),
        (("old", "new"), Wave.LEAVES, None),
    ],
)
def test_who_is_believed(fleet: Fleet, before: tuple[str, ...], wave: Wave, after: tuple[str, ...] | None) -> None:
    change = fleet.place("new", *before).change(wave, fleet.authorities)
    assert (None if change is None else change.files) == (
        None if after is None else {"/ca.pem": fleet.believed(*after)}
    )


@pytest.mark.parametrize("wave", list(Wave))
@pytest.mark.parametrize("leaf", ["old", "new", "stranger"])
def test_only_a_certificate_of_the_old_authority_is_replaced(fleet: Fleet, wave: Wave, leaf: str) -> None:
    place = fleet.place(leaf)
    change = place.change(wave, fleet.authorities)
    assert (change is not None and change.leaf) == (wave is Wave.LEAVES and leaf == "old")
    assert place.concerns(fleet.certificates["old"]) == (leaf == "old")


def test_a_change_that_was_interrupted_goes_on(fleet: Fleet) -> None:
    told_again = fleet.place("new", "old", "new", changing=True).change(Wave.AUTHORITY, fleet.authorities)
    assert told_again is not None
    assert (told_again.files, told_again.leaf) == ({}, False)
    # The key was in place, and its certificate not yet.
    half = fleet.place("new", changing=True, key_fits=False)
    change = half.change(Wave.LEAVES, fleet.authorities)
    assert change is not None
    assert change.leaf
    assert not is_after(Wave.LEAVES, [half], fleet.authorities)


def test_a_server_with_revocation_lists_gets_one_of_each_authority(fleet: Fleet) -> None:
    """Without it, OpenSSL would refuse everybody of the new one."""
    both = fleet.crls["old"] + fleet.crls["new"]
    authorities = fleet.authorities._replace(revocations=both)
    place = fleet.place("old", "old", "new", revocations={"/crl.pem": fleet.crls["old"]})
    change = place.change(Wave.AUTHORITY, authorities)
    assert change is not None
    assert change.files == {"/crl.pem": both}
    for text in (both, fleet.crls["stranger"]):
        other = fleet.place("old", "old", "new", revocations={"/crl.pem": text})
        assert other.change(Wave.AUTHORITY, authorities) is None
    assert place.change(Wave.AUTHORITY, fleet.authorities) is None


def test_check_mode_names_an_authority_that_is_not_made_yet(fleet: Fleet) -> None:
    authorities = Authorities(fleet.certificates["old"], None)
    notes = [fleet.place("old", "old").change(wave, authorities) for wave in (Wave.AUTHORITY, Wave.LEAVES)]
    assert [change is not None and "a new authority" in change.notes[0][1] for change in notes] == [True, True]


def test_texts_that_are_no_certificates(fleet: Fleet) -> None:
    with pytest.raises(EnrolmentError, match=r"place: expected certificates in PEM"):
        fleet.place(certificate="something else")


class Hosts:
    """Machines in each state of a rotation."""

    def __init__(self, fleet: Fleet) -> None:
        self._states = {
            "untouched": [fleet.place("old", "old")],
            "authority": [fleet.place("old", "old", "new")],
            "leaves": [fleet.place("new", "old", "new")],
            "retired": [fleet.place("new", "new")],
            "away": None,
        }

    def __call__(self, **states: str) -> list[Host]:
        """Machines by their names and states; those whose names begin with ``server`` are servers."""
        return [Host(name, name.startswith("server"), self._states[state]) for name, state in states.items()]


@pytest.fixture(scope="module")
def hosts(fleet: Fleet) -> Hosts:
    return Hosts(fleet)


@pytest.mark.parametrize(
    ("states", "wave", "problem"),
    [
        (
            {"a": "authority", "b": "untouched"},
            Wave.LEAVES,
            "the wave leaves cannot begin: b: is not after the wave authority",
        ),
        ({"a": "authority", "server": "untouched"}, Wave.LEAVES, "server: is not after the wave authority"),
        ({"a": "leaves", "b": "authority"}, Wave.RETIRE, "b: is not after the wave leaves"),
        ({"a": "untouched"}, Wave.RETIRE, "a: is not after the wave authority; a: is not after the wave leaves"),
    ],
)
def test_a_machine_that_answers_and_is_behind_stops_the_rotation(
    fleet: Fleet, hosts: Hosts, states: dict[str, str], wave: Wave, problem: str
) -> None:
    with pytest.raises(EnrolmentError, match=problem):
        permit(wave, hosts(**states), fleet.authorities)


def test_a_machine_whose_task_failed_stops_the_rotation(fleet: Fleet) -> None:
    failed = Host("edge-1", False, None, "edge-1: nginx -t: ended with 1")
    with pytest.raises(EnrolmentError, match="cannot begin: edge-1: nginx -t: ended with 1"):
        permit(Wave.AUTHORITY, [failed], fleet.authorities)


@pytest.mark.parametrize(
    ("states", "wave", "held_by", "servers"),
    [
        ({"a": "untouched", "b": "away"}, Wave.AUTHORITY, (), True),
        ({"a": "authority", "server": "authority"}, Wave.LEAVES, (), True),
        # It could not verify their new certificates.
        ({"a": "authority", "server": "authority", "b": "away"}, Wave.LEAVES, (), False),
        # It would refuse the devices' new certificates.
        ({"a": "authority", "server": "away"}, Wave.LEAVES, ("server (away)",), False),
        (
            {"a": "authority", "b": "away", "server": "away"},
            Wave.LEAVES,
            ("b (away)", "server (away)"),
            False,
        ),
        ({"a": "leaves", "server": "leaves"}, Wave.RETIRE, (), True),
        ({"a": "retired", "b": "leaves", "server": "retired"}, Wave.RETIRE, (), True),
        ({"a": "leaves", "b": "away", "server": "leaves"}, Wave.RETIRE, ("b (away)",), True),
        ({"a": "leaves", "server": "authority"}, Wave.RETIRE, ("server (its certificate waits)",), True),
    ],
)
def test_what_is_away_holds_back(
    fleet: Fleet, hosts: Hosts, states: dict[str, str], wave: Wave, held_by: tuple[str, ...], servers: bool
) -> None:
    permission = permit(wave, hosts(**states), fleet.authorities)
    assert (permission.held_by, permission.servers) == (held_by, servers)
    assert permission.granted == (not held_by)


def test_devices_that_the_inventory_has_not_hold_back_until_they_are_given_up(fleet: Fleet, hosts: Hosts) -> None:
    known = hosts(a="leaves", b="away", server="leaves")
    assert permit(Wave.RETIRE, known, fleet.authorities, ["a", "lost"]).held_by == (
        "b (away)",
        "lost (not in the inventory)",
    )
    assert permit(Wave.RETIRE, known, fleet.authorities, ["a", "lost"], ["b", "lost"]).granted
