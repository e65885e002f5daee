# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The desired state of a fleet in a signed repository: whose key writes it, and what its readers see."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from kills import killed_before_write
from signed import Signed
from tuf.api.metadata import Metadata, TargetFile, Targets

from ansible_collections.edgeml.fleet.plugins.module_utils._release.desired import desired_name, fleet_role
from ansible_collections.edgeml.fleet.plugins.module_utils._trust.metadata import TrustError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust import keys
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.fleets import (
    FleetRepository,
    fleet_keys,
    fleet_rows,
    propose_fleet,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.keys import PrivateKey

NAME = desired_name("hall")


def content(text: str) -> Callable[[int], bytes]:
    return lambda version: f"{version} {text}".encode()


class Fleet:
    """A signed repository with a fleet, and its key."""

    def __init__(self, directory: Path) -> None:
        self.signed = Signed(directory / "repository")
        self.key = keys.generate("controller")
        self.allow(add=[self.key])
        self.repository = FleetRepository(str(self.signed.path), "hall")

    def allow(self, add: list[PrivateKey], remove: tuple[str, ...] = (), fleet: str = "hall") -> None:
        request = propose_fleet(self.signed.signing, fleet, [key.public for key in add], remove)
        self.signed.sign(request, *self.signed.holders.targets[:2])
        self.signed.signing.complete(request, [self.signed.holders.online])

    def publish(self, text: str, expected: int, key: PrivateKey | None = None) -> int:
        online = [self.signed.holders.online]
        return self.repository.publish(content(text), expected=expected, key=key or self.key, online=online)

    def read(self, state: Path, name: str = NAME) -> tuple[bytes, int]:
        return self.signed.client(state).target(name)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def test_a_client_reads_what_the_fleets_key_has_signed_last(fleet: Fleet, tmp_path: Path) -> None:
    assert fleet.publish("first", 0) == 1
    assert fleet.read(tmp_path / "state") == (b"1 first", 1)
    assert fleet.publish("second", 1) == 2
    assert fleet.read(tmp_path / "state") == fleet.read(tmp_path / "new") == (b"2 second", 2)
    assert fleet.repository.published().content == b"2 second"


def test_nothing_is_published_of_a_fleet_that_was_just_allowed_and_of_one_that_is_not_known(
    fleet: Fleet, tmp_path: Path
) -> None:
    for name in (NAME, desired_name("other")):
        with pytest.raises(TrustError, match="nothing was published yet") as refused:
            fleet.read(tmp_path / "state", name)
        assert refused.value.kind == "unsigned"
    assert fleet.repository.published().version == 0


def test_a_release_that_is_signed_later_leaves_the_desired_state_as_it_was(fleet: Fleet, tmp_path: Path) -> None:
    fleet.publish("first", 0)
    fleet.signed.release("2.0.0")
    fleet.signed.signing.renew([fleet.signed.holders.online])
    client = fleet.signed.client(tmp_path / "state")
    assert client.target(NAME) == (b"1 first", 1)
    assert {release.version for release in client.releases()} == {"1.0.0", "2.0.0"}


def test_no_other_fleet_ends_the_search_for_ones_own(fleet: Fleet, tmp_path: Path) -> None:
    """A client of TUF stops at a role that matches and is expired, and after 32 that match: no other fleet's does."""
    for number in range(33):
        fleet.allow([fleet.key], fleet=f"aisle-{number}")
    long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=200)
    neighbour = FleetRepository(str(fleet.signed.path), "aisle-0", now=lambda: long_ago)
    neighbour.publish(content("old"), expected=0, key=fleet.key, online=[fleet.signed.holders.online])
    fleet.publish("first", 0)
    with pytest.raises(TrustError) as refused:
        fleet.read(tmp_path / "state", desired_name("aisle-0"))
    assert refused.value.kind == "expired"
    assert fleet.read(tmp_path / "state") == (b"1 first", 1)


def test_two_controllers_are_told_apart(fleet: Fleet, tmp_path: Path) -> None:
    fleet.publish("first", 0)
    fleet.publish("of the other controller", 1)
    with pytest.raises(TrustError, match=r"expected version 1.*found 2: another controller") as refused:
        fleet.publish("second", 1)
    assert refused.value.kind == "stale"
    assert fleet.read(tmp_path / "state") == (b"2 of the other controller", 2)


@pytest.mark.parametrize("case", ["a stranger's", "one that was removed", "that of another fleet"])
def test_a_key_that_may_not_write_changes_nothing(fleet: Fleet, tmp_path: Path, case: str) -> None:
    fleet.publish("first", 0)
    key = keys.generate("eve")
    if case == "one that was removed":
        key, fleet.key = fleet.key, keys.generate("next")
        fleet.allow([fleet.key], remove=("controller",))
        fleet.publish("again", 1)
    elif case == "that of another fleet":
        fleet.allow([key], fleet="other")
    before = fleet.read(tmp_path / "state")
    with pytest.raises(TrustError, match=f"found {key.name}. Those who sign releases allow one with"):
        fleet.publish("bad", before[1], key)
    assert fleet.read(tmp_path / "state") == before


def test_a_client_refuses_what_another_key_wrote(fleet: Fleet, tmp_path: Path) -> None:
    """Also where the writer of the repository has the online key of its snapshots."""
    fleet.publish("first", 0)
    assert fleet.read(tmp_path / "state")
    now = fleet.signed.signing.state()
    document: Metadata[Targets] = Metadata.from_bytes(now.fleets[fleet_role("hall")].to_bytes())
    document.signed.version = 2
    document.signed.targets = {NAME: TargetFile.from_data(NAME, b"forged", ["sha256"])}
    document.signatures.clear()
    document.sign(keys.generate("eve").signer)
    with fleet.signed.signing.locked():
        fleet.signed.signing.put_fleet(now, fleet_role("hall"), document, [fleet.signed.holders.online])
    for state in ("state", "new"):
        with pytest.raises(TrustError) as refused:
            fleet.read(tmp_path / state)
        assert refused.value.kind == "signature"


def test_a_client_refuses_an_earlier_state_that_is_brought_back(fleet: Fleet, tmp_path: Path) -> None:
    fleet.publish("first", 0)
    old = fleet.signed.copy(tmp_path / "old")
    fleet.publish("second", 1)
    assert fleet.read(tmp_path / "state") == (b"2 second", 2)
    fleet.signed.bring_back(old)
    with pytest.raises(TrustError) as refused:
        fleet.read(tmp_path / "state")
    assert refused.value.kind == "rollback"


@pytest.mark.parametrize("damage", ["changed", "longer", "missing"])
def test_a_client_refuses_a_file_that_is_not_the_one_that_was_signed(fleet: Fleet, tmp_path: Path, damage: str) -> None:
    fleet.publish("first", 0)
    (path,) = (fleet.signed.path / "fleet/hall").iterdir()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(b"9" + path.read_bytes()[1:] + (b" and more" if damage == "longer" else b""))
    with pytest.raises(TrustError) as refused:
        fleet.read(tmp_path / "state")
    assert refused.value.kind == {"changed": "mismatch", "longer": "too_long", "missing": "missing"}[damage]


def test_a_publication_that_is_killed_at_any_write_leaves_the_old_state_or_the_new_one(tmp_path: Path) -> None:
    made = Fleet(tmp_path / "made")
    made.publish("first", 0)
    seen = set()
    for write in range(1, 200):
        path = tmp_path / str(write)
        shutil.copytree(made.signed.path, path)
        repository = FleetRepository(str(path), "hall")

        def publish(repository: FleetRepository = repository) -> None:
            repository.publish(content("second"), expected=1, key=made.key, online=[made.signed.holders.online])

        killed = killed_before_write(write, publish)
        found = made.signed.client(tmp_path / f"state-{write}", str(path)).target(NAME)
        assert found in ((b"1 first", 1), (b"2 second", 2))
        seen.add((killed, found[1]))
        if found[1] == 1:
            publish()
            assert made.signed.client(tmp_path / f"state-{write}", str(path)).target(NAME) == (b"2 second", 2)
        shutil.rmtree(path)
        if not killed:
            break
    assert {(True, 1), (False, 2)} <= seen
    assert write >= 8


def test_what_is_not_in_force_any_more_leaves_after_a_day(fleet: Fleet, tmp_path: Path) -> None:
    fleet.publish("first", 0)
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=2)
    fleet.repository = FleetRepository(str(fleet.signed.path), "hall", now=lambda: later)
    fleet.publish("second", 1)
    assert [path.read_bytes() for path in (fleet.signed.path / "fleet/hall").iterdir()] == [b"2 second"]
    assert [path.name for path in fleet.signed.directory.glob("*.fleet-hall.json")] == ["2.fleet-hall.json"]
    assert fleet.read(tmp_path / "state") == (b"2 second", 2)


def test_who_signs_a_fleet_sees_whose_key_it_is_and_the_status_shows_it(fleet: Fleet) -> None:
    other = keys.generate("second")
    request = propose_fleet(fleet.signed.signing, "hall", [other.public], ["controller"])
    line = "  * fleet-hall: its desired state is written by second, before by controller"
    assert line in request.summary()
    assert set(fleet_keys(fleet.signed.signing.state().targets.signed, "hall")) == {"controller"}
    now = datetime.datetime.now(datetime.UTC)
    (row,) = fleet_rows(fleet.signed.signing.state(), now)
    assert (row["role"], row["state"]) == ("fleet-hall", "nothing published")
    fleet.publish("first", 0)
    (row,) = fleet_rows(fleet.signed.signing.state(), now)
    assert (row["version"], row["signed_by"], row["state"], row["days_left"]) == (1, "controller", "valid", 179)
    fleet.allow([other], remove=("controller",))
    (row,) = fleet_rows(fleet.signed.signing.state(), now)
    assert row["state"].startswith("not signed by a key of the fleet")


@pytest.mark.parametrize(
    ("add", "remove", "message"),
    [((), ("bob",), "expected one of controller; found bob"), ((), ("controller",), "expected at least one key")],
)
def test_a_fleet_without_a_key_is_refused(
    fleet: Fleet, add: tuple[PrivateKey, ...], remove: tuple[str, ...], message: str
) -> None:
    with pytest.raises(TrustError, match=message):
        propose_fleet(fleet.signed.signing, "hall", [key.public for key in add], remove)
