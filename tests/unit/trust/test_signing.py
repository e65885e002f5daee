# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signing: what is asked for, what is refused, and that a kill or a client in the middle never sees a half."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from releases import make_release, publish
from signed import Counting, Holders, Signed, days_ago

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError, IntegrityError
from ansible_collections.edgeml.fleet.plugins.module_utils._trust import metadata
from ansible_collections.edgeml.fleet.plugins.module_utils._trust.metadata import TrustError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust import keys
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.request import Request
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.signing import RoleKeys, SigningRepository


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    """A signed repository with one release."""
    return Signed(tmp_path / "repository")


def versions(signed: Signed, state: Path) -> list[str]:
    """What a client sees."""
    return [release.version for release in signed.client(state).releases()]


def test_a_client_follows_releases(signed: Signed, tmp_path: Path) -> None:
    assert versions(signed, tmp_path / "state") == ["1.0.0"]
    signed.release("1.1.0", "2.0.0")
    assert versions(signed, tmp_path / "state") == ["1.0.0", "1.1.0", "2.0.0"]
    assert versions(signed, tmp_path / "another") == ["1.0.0", "1.1.0", "2.0.0"]


def test_nothing_is_signed_twice(signed: Signed) -> None:
    assert signed.signing.propose_targets() is None


def test_targets_are_signed_again_after_half_of_their_life(tmp_path: Path) -> None:
    signed = Signed(tmp_path / "repository", clock=days_ago(91))
    signed.signing._now = metadata.now_utc
    request = signed.signing.propose_targets()
    assert request
    assert request.summary() == [f"targets: version 2, until {days(180):%Y-%m-%d}, 1 release"]


def days(number: int) -> datetime.datetime:
    return metadata.now_utc() + datetime.timedelta(days=number)


def test_a_damaged_release_is_not_signed(signed: Signed) -> None:
    made = make_release("2.0.0")
    publish(made, signed.path)
    digest = next(iter(made.blobs))
    (signed.path / "blobs/sha256" / digest).write_bytes(b"other")
    with pytest.raises(IntegrityError, match=digest):
        signed.signing.propose_targets()


def test_a_release_that_was_replaced_is_not_signed(signed: Signed) -> None:
    other = make_release("1.0.0", files={"model.onnx": b"other"})
    (signed.path / "digits/1.0.0/manifest.json").write_text(json.dumps(other.document))
    with pytest.raises(TrustError, match="A release never changes: publish another version"):
        signed.signing.propose_targets()


@pytest.mark.parametrize("model", ["metadata", "blobs", "-x"])
def test_a_name_that_no_release_can_have_is_not_signed(signed: Signed, model: str) -> None:
    path = signed.path / model / "1.0.0/manifest.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    with pytest.raises(TrustError, match="cannot name a release"):
        signed.signing.propose_targets()


def test_a_signature_is_for_what_the_signer_reads(signed: Signed) -> None:
    signed.add("2.0.0")
    (signed.path / "digits/1.0.0/withdrawn.json").write_text('{"reason": "bad labels"}')
    request = signed.signing.propose_targets()
    assert request
    digest = make_release("2.0.0").release.digest
    assert request.summary()[1:] == ["  - digits 1.0.0 withdrawn: bad labels", f"  + digits 2.0.0 sha256:{digest}"]
    signed.signing.complete(signed.sign(request, *signed.holders.targets[:2]), [signed.holders.online])
    (signed.path / "digits/1.0.0/withdrawn.json").unlink()
    (signed.path / "digits/2.0.0/manifest.json").unlink()
    request = signed.signing.propose_targets()
    assert request
    assert request.summary()[1:] == ["  + digits 1.0.0 no longer withdrawn", "  - digits 2.0.0 removed"]


def test_people_sign_one_after_another_from_a_file(signed: Signed, tmp_path: Path) -> None:
    signed.add("2.0.0")
    first, second, _third = signed.holders.targets
    request = signed.signing.propose_targets()
    assert request
    assert request.sign(first) == ["targets"]
    assert request.missing() == ["targets: 1 of 2 signatures that the root asks for; can sign: targets-2, targets-3"]
    # The same person again is not another one.
    request.sign(first)
    assert len(request.missing()) == 1
    carried = Request.from_json(request.to_json(), "request.json")
    assert carried.summary() == request.summary()
    carried.sign(second)
    assert carried.missing() == []
    signed.signing.complete(Request.from_json(carried.to_json(), "request.json"), [signed.holders.online])
    assert versions(signed, tmp_path / "state") == ["1.0.0", "2.0.0"]


def test_too_few_signatures_bring_nothing_into_force(signed: Signed) -> None:
    signed.add("2.0.0")
    request = signed.sign(signed.signing.propose_targets(), signed.holders.targets[0])
    before = contents(signed.directory)
    with pytest.raises(TrustError, match="not signed by enough keys: targets: 1 of 2"):
        signed.signing.complete(request, [signed.holders.online])
    signed.sign(request, signed.holders.targets[1])
    with pytest.raises(TrustError, match="expected the online key online; found none"):
        signed.signing.complete(request, [])
    assert contents(signed.directory) == before


def test_a_request_that_somebody_changed_is_refused(signed: Signed) -> None:
    signed.add("2.0.0")
    request = signed.sign(signed.signing.propose_targets(), *signed.holders.targets[:2])
    changed = json.loads(request.to_json())
    changed["targets"]["signed"]["targets"]["digits/2.0.0/manifest.json"]["custom"]["digest"] = "0" * 64
    with pytest.raises(TrustError, match="targets: 0 of 2 signatures"):
        signed.signing.complete(Request.from_json(json.dumps(changed), "request.json"), [signed.holders.online])


def test_a_request_with_a_root_of_its_own_is_refused(signed: Signed, tmp_path: Path) -> None:
    """Who makes a request cannot say in it who may sign."""
    signed.add("2.0.0")
    other = Signed(tmp_path / "other")
    request = signed.signing.propose_targets()
    assert request
    request.current = other.signing.root()
    signed.sign(request, *other.holders.targets[:2])
    with pytest.raises(TrustError, match="has changed since the request was made") as caught:
        signed.signing.complete(request, [signed.holders.online])
    assert caught.value.kind == "stale"


def test_a_request_that_came_too_late_is_refused(signed: Signed) -> None:
    signed.add("2.0.0")
    late = signed.sign(signed.signing.propose_targets(), *signed.holders.targets[:2])
    signed.release("3.0.0")
    with pytest.raises(TrustError, match="Make another request"):
        signed.signing.complete(late, [signed.holders.online])


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", '{"format": "edgeml-signing-request-1"}', '{"format": "edgeml-signing-request-1", "root": 1}'],
)
def test_a_file_that_is_no_request(text: str) -> None:
    with pytest.raises(TrustError, match=r"^request\.json: "):
        Request.from_json(text, "request.json")


def test_a_stranger_may_sign_nothing(signed: Signed) -> None:
    signed.add("2.0.0")
    request = signed.signing.propose_targets()
    assert request
    with pytest.raises(TrustError, match="key stranger: it may sign nothing of this"):
        request.sign(keys.generate("stranger"))


@pytest.mark.parametrize(("number", "threshold"), [(1, 1), (2, 2), (3, 3), (3, 0), (3, 4)])
def test_a_lost_key_must_not_end_all_publishing(tmp_path: Path, number: int, threshold: int) -> None:
    holders = Holders()
    roles = {**holders.roles(), "targets": RoleKeys(holders.roles()["targets"].keys[:number], threshold)}
    tmp_path.joinpath("repository").mkdir()
    with pytest.raises(TrustError, match="targets: expected a threshold"):
        SigningRepository(str(tmp_path / "repository")).begin(roles)


def test_a_key_is_replaced_by_those_who_hold_the_root(signed: Signed, tmp_path: Path) -> None:
    first, second, third = signed.holders.targets
    fourth = keys.generate("targets-4")
    state = tmp_path / "state"
    assert versions(signed, state) == ["1.0.0"]
    signed.rotate("targets", second, third, fourth, threshold=2, also=(second, third))
    assert versions(signed, state) == ["1.0.0"]
    signed.add("2.0.0")
    request = signed.signing.propose_targets()
    assert request
    with pytest.raises(TrustError, match="key targets-1: it may sign nothing"):
        request.sign(first)
    signed.signing.complete(signed.sign(request, third, fourth), [signed.holders.online])
    assert versions(signed, state) == ["1.0.0", "2.0.0"]


def test_a_lost_online_key_is_replaced(signed: Signed, tmp_path: Path) -> None:
    new = keys.generate("online-2")
    request = signed.signing.propose_root(dict.fromkeys(("snapshot", "timestamp"), RoleKeys((new.public,), 1)))
    signed.signing.complete(signed.sign(request, *signed.holders.root[:2]), [new])
    assert versions(signed, tmp_path / "state") == ["1.0.0"]
    signed.signing._now = days_ago(-5)
    with pytest.raises(TrustError, match="expected the online key online-2; found online"):
        signed.signing.renew([signed.holders.online])


def test_who_was_away_for_years_follows_every_root(tmp_path: Path) -> None:
    """Each root on the way has expired; the newest has not, and every key was replaced."""
    signed = Signed(tmp_path / "repository", clock=days_ago(1400))
    for number, ago in enumerate((1100, 800, 500, 200, 0), start=2):
        signed.signing._now = days_ago(ago)
        new = [keys.generate(f"root-{number}-{which}") for which in (1, 2, 3)]
        signed.rotate("root", *new, threshold=2)
        signed.holders.root = new
    request = signed.signing.propose_targets()
    signed.signing.complete(signed.sign(request, *signed.holders.targets[:2]), [signed.holders.online])
    assert versions(signed, tmp_path / "state") == ["1.0.0"]


# ---- renewal ----


def test_renewal_is_quiet_until_it_is_due(signed: Signed, tmp_path: Path) -> None:
    before = contents(signed.directory)
    assert signed.signing.renew([]) == []
    assert contents(signed.directory) == before
    signed.signing._now = days_ago(-4)
    assert len(signed.signing.renew([signed.holders.online])) == 1
    signed.signing._now = metadata.now_utc
    assert signed.signing.status().problems == []
    assert versions(signed, tmp_path / "state") == ["1.0.0"]


def test_renewals_and_signing_overlap(signed: Signed, tmp_path: Path) -> None:
    """Four processes at once, each of which has something to do: one after another, and nothing is lost."""
    signed.add("2.0.0")
    request = signed.sign(signed.signing.propose_targets(), *signed.holders.targets[:2])
    later = SigningRepository(str(signed.path), now=days_ago(-5))
    work: list[Callable[[], Any]] = [
        *(lambda: later.renew([signed.holders.online]) for _number in range(3)),
        lambda: signed.signing.complete(request, [signed.holders.online]),
    ]
    children = [in_child(task) for task in work]
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
    assert versions(signed, tmp_path / "state") == ["1.0.0", "2.0.0"]
    # One renewal, and one more if the new release was signed, by a clock that is five days behind, after the first.
    assert signed.signing.state().timestamp.signed.version in (3, 4)


def test_superseded_metadata_goes_after_a_day(signed: Signed) -> None:
    for version in ("2.0.0", "3.0.0"):
        signed.release(version)
    (signed.directory / ".left-by-a-kill").write_text("x")
    names = sorted(contents(signed.directory))
    assert len(names) == 9
    yesterday = time.time() - 90_000
    for name in names:
        os.utime(signed.directory / name, (yesterday, yesterday))
    signed.release("4.0.0")
    assert sorted(contents(signed.directory)) == ["1.root.json", "4.snapshot.json", "4.targets.json", "timestamp.json"]


# ---- kills, and clients in the middle ----


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def in_child(task: Callable[[], Any], killed_at: int | None = None) -> int:
    """Run ``task`` in a process of its own, and kill it before its n-th call that changes a file."""
    child = os.fork()
    if child:
        return child
    try:
        if killed_at is not None:
            count = 0
            for name in ("open", "rename", "replace", "fsync", "mkdir", "chmod", "unlink", "rmdir"):
                real = getattr(os, name)

                def counted(*args: Any, real: Any = real, **options: Any) -> Any:
                    nonlocal count
                    count += 1
                    if count == killed_at:
                        os._exit(77)
                    return real(*args, **options)

                setattr(os, name, counted)
        task()
        os._exit(0)
    except BaseException:
        os._exit(1)


@contextlib.contextmanager
def suppressed(kind: str) -> Iterator[None]:
    """Let a refusal of this kind pass."""
    try:
        yield
    except TrustError as error:
        if error.kind != kind:
            raise


def killed_at_each_write(task: Callable[[], Any], check: Callable[[], None], again: Callable[[], None]) -> int:
    """Kill ``task`` at each of its writes; return how many there are."""
    for number in range(1, 200):
        code = os.waitstatus_to_exitcode(os.waitpid(in_child(task, number), 0)[1])
        check()
        again()
        if code == 0:
            return number - 1
        assert code == 77
    raise AssertionError("it never came to its end")


@pytest.mark.parametrize("change", ["release", "renew", "rotate root", "rotate targets", "rotate online"])
def test_killed_at_every_write(tmp_path: Path, change: str) -> None:
    """The repository is the old one or the new one, for every client, and the same call again ends the change."""
    made = Signed(tmp_path / "made")
    copies = iter(range(1000))
    online = [made.holders.online]
    if change == "release":
        made.add("2.0.0")
        request = made.sign(made.signing.propose_targets(), *made.holders.targets[:2])
    elif change.startswith("rotate"):
        role = change.split()[1]
        new = [keys.generate(f"new-{number}") for number in (1, 2, 3)]
        roles = ("snapshot", "timestamp") if role == "online" else (role,)
        changed = RoleKeys(
            tuple(key.public for key in new[: 1 if role == "online" else 3]), 1 if role == "online" else 2
        )
        request = made.signing.propose_root(dict.fromkeys(roles, changed))
        made.sign(request, *made.holders.root[:2], *(new[:2] if role == "root" else ()))
        made.sign(request, *(made.holders.targets[:2] + new[:2] if role == "targets" else ()))
        online += new[:1] if role == "online" else []

    def work(repository: SigningRepository) -> None:
        if change == "renew":
            repository.renew(online)
        else:
            repository.complete(request, online)

    allowed = (["1.0.0"], ["1.0.0", "2.0.0"]) if change == "release" else (["1.0.0"],)
    present = Signed.__new__(Signed)

    def fresh() -> SigningRepository:
        if vars(present):
            shutil.rmtree(present.path)
        vars(present).update(vars(made), path=tmp_path / f"copy-{next(copies)}")
        shutil.copytree(made.path, present.path)
        present.signing = SigningRepository(str(present.path), now=days_ago(-5 if change == "renew" else 0))
        state = tmp_path / "known"
        shutil.rmtree(state, ignore_errors=True)
        assert versions(present, state) == ["1.0.0"]
        return present.signing

    def check() -> None:
        assert versions(present, tmp_path / "known") in allowed
        assert versions(present, tmp_path / f"unknown-{present.path.name}") in allowed

    def again() -> None:
        # It may have been done when the kill came.
        with suppressed("stale"):
            work(present.signing)
        assert versions(present, tmp_path / "known") == allowed[-1]
        fresh()

    fresh()
    writes = killed_at_each_write(lambda: work(present.signing), check, again)
    assert writes >= {"rotate root": 4, "renew": 8}.get(change, 12)


def test_the_first_signing_is_killed_at_every_write(tmp_path: Path) -> None:
    path = tmp_path / "repository"
    path.mkdir()
    publish(make_release("1.0.0"), path)
    holders, signing = Holders(), SigningRepository(str(path))
    request = signing.begin(holders.roles())
    for key in (*holders.root[:2], *holders.targets[:2]):
        request.sign(key)

    def check() -> None:
        if signing.is_signed:
            signing.state()

    def again() -> None:
        if not signing.is_signed:
            signing.complete(request, [holders.online])
        signing.state()
        shutil.rmtree(signing.metadata)

    assert killed_at_each_write(lambda: signing.complete(request, [holders.online]), check, again) >= 12


def test_a_rotation_without_the_old_key_is_ended_by_the_same_call(signed: Signed, tmp_path: Path) -> None:
    """A lost key cannot sign over to the new one: a kill between two writes leaves what no client believes."""
    new = keys.generate("online-2")
    request = signed.signing.propose_root(dict.fromkeys(("snapshot", "timestamp"), RoleKeys((new.public,), 1)))
    signed.sign(request, *signed.holders.root[:2])
    real = os.replace

    def refuse(source: str, target: str) -> None:
        if target.endswith("timestamp.json"):
            raise OSError(28, "No space left on device", target)
        real(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        with pytest.raises(TrustError, match="cannot be written: No space left"):
            signed.signing.complete(request, [new])
    with pytest.raises(TrustError, match="timestamp was signed by 0/1 keys"):
        versions(signed, tmp_path / "state")
    signed.signing.complete(request, [new])
    assert versions(signed, tmp_path / "state") == ["1.0.0"]


@pytest.mark.parametrize("change", ["release", "rotate targets", "rotate online"])
def test_a_client_in_the_middle_sees_one_state(tmp_path: Path, change: str) -> None:
    """Before any of its reads the repository changes, and the client reads the old state or the new one, whole."""
    for read in range(1, 6):
        signed = Signed(tmp_path / f"repository-{read}")

        def change_now(number: int, signed: Signed = signed, read: int = read) -> None:
            if number != read:
                return
            if change == "release":
                signed.release("2.0.0")
            elif change == "rotate targets":
                first, second, third = signed.holders.targets
                new = keys.generate("targets-4")
                signed.rotate("targets", second, third, new, threshold=2, also=(first, second, third))
            else:
                signed.rotate("online", keys.generate("online-2"), threshold=1)

        counting = Counting(str(signed.path), change_now)
        client = signed.client(tmp_path / f"state-{read}", fetcher=counting)
        content, _release = client.manifest("digits", "1.0.0")
        assert json.loads(content) == make_release("1.0.0").document
        assert len(counting.urls) >= 5


# ---- status ----


def test_status_of_a_repository_in_order(tmp_path: Path) -> None:
    now = metadata.now_utc()
    status = Signed(tmp_path / "repository", clock=lambda: now).signing.status()
    assert [(row["role"], row["keys"], row["signed_by"], row["days_left"], row["state"]) for row in status.rows] == [
        ("root", "2 of 3", "root-1, root-2", 365, "valid"),
        ("targets", "2 of 3", "targets-1, targets-2", 180, "valid"),
        ("snapshot", "1 of 1", "online", 14, "valid"),
        ("timestamp", "1 of 1", "online", 14, "valid"),
    ]
    assert (status.problems, status.withdrawn, status.releases, status.development) == ([], [], 1, False)


@pytest.mark.parametrize(
    ("ago", "states"),
    [
        (8, ["valid", "valid", "renew now", "renew now"]),
        (15, ["valid", "valid", "expired", "expired"]),
        (91, ["valid", "renew now", "expired", "expired"]),
        (183, ["renew now", "expired", "expired", "expired"]),
        (366, ["expired"] * 4),
    ],
)
def test_status_alarms_at_half_of_a_life(tmp_path: Path, ago: int, states: list[str]) -> None:
    signed = Signed(tmp_path / "repository", clock=days_ago(ago))
    status = SigningRepository(str(signed.path)).status()
    assert [row["state"].split(":")[0] for row in status.rows] == states
    assert len(status.problems) == len([state for state in states if state != "valid"])


def test_status_names_what_is_not_signed_and_what_is_withdrawn(signed: Signed) -> None:
    signed.add("2.0.0")
    (signed.path / "digits/1.0.0/withdrawn.json").write_text('{"reason": "bad labels"}')
    (problem, other) = signed.signing.status().problems
    assert problem.startswith("not signed yet: - digits 1.0.0 withdrawn: bad labels. Run: edgeml-publish sign")
    assert "not signed yet: + digits 2.0.0 sha256:" in other
    signed.signing.complete(
        signed.sign(signed.signing.propose_targets(), *signed.holders.targets[:2]), [signed.holders.online]
    )
    status = signed.signing.status()
    assert status.problems == []
    assert [(release.version, release.withdrawn) for release in status.withdrawn] == [("1.0.0", "bad labels")]


def test_status_of_a_repository_that_is_not_signed(tmp_path: Path) -> None:
    with pytest.raises(TrustError, match="edgeml-publish keys init") as caught:
        SigningRepository(str(tmp_path)).status()
    assert caught.value.kind == "unsigned"


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EdgemlError, match="expected a model repository; No such file"):
        SigningRepository(str(tmp_path / "none")).renew([])
