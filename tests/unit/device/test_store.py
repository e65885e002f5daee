# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The store: only whole, right bytes become visible, and what is active stays."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from links import PYTHON_PATH
from releases import NO_DOCUMENTS, activate, file_entry, make_release, put, sha256, variant_entry

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import (
    IntegrityError,
    ManifestError,
    StoreError,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._device.state import State
from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import RESERVE_BYTES, Store

CONTENT = b"0123456789abcdef" * 4096
# Larger than what is copied at once.
LARGE = bytes(random.Random(1).randbytes((1 << 20) + 12345))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    root = tmp_path / "store"
    root.mkdir()
    return Store(str(root))


def tree(store: Store) -> list[str]:
    """All files below the store's root, without its lock."""
    root = Path(store.root)
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.name != "lock")


def journal(store: Store) -> Path:
    return Path(store.root, "models", "digits", "journal.jsonl")


def state_file(store: Store) -> Path:
    return Path(store.root, "models", "digits", "state.json")


# ---- an empty store ----


def test_an_empty_store_holds_nothing(store: Store) -> None:
    assert store.models() == []
    assert store.state("digits") == State(None, None)
    assert store.versions("digits") == []
    assert store.journal("digits").history() == []
    assert store.activation("digits") is None
    assert store.prunable("digits", 0, []) == []
    assert tree(store) == []


def test_an_absent_version_is_named_with_those_that_are_held(store: Store) -> None:
    with pytest.raises(StoreError, match=r"does not hold digits 1\.0\.0; it holds none"):
        store.version("digits", "1.0.0")
    put(store, make_release("1.1.0"))
    put(store, make_release("1.2.0"))
    with pytest.raises(StoreError, match=r"does not hold digits 1\.0\.0; it holds 1.1.0, 1.2.0"):
        store.version("digits", "1.0.0")


@pytest.mark.parametrize("name", ["../x", "-rf", "a/b", "", "x" * 10_240, "a\n", ".."])
def test_a_bad_name_never_becomes_a_path(store: Store, name: str) -> None:
    for call in (
        lambda: store.state(name),
        lambda: store.versions(name),
        lambda: store.version(name, "1.0.0"),
        lambda: store.version("digits", name),
        lambda: store.journal(name).history(),
        lambda: store.remove("digits", name),
        lambda: store.transition(name, State("1.0.0"), {}),
    ):
        with pytest.raises(ManifestError, match="expected 1 to 64 of the characters"):
            call()
    assert tree(store) == []


# ---- what becomes visible ----


@pytest.mark.parametrize("content", [CONTENT, LARGE, b"x"], ids=["small", "several chunks", "one byte"])
def test_right_bytes_become_a_blob(store: Store, content: bytes) -> None:
    file = make_release(files={"m": content}).release.variants[0].files[0]
    assert store.blobs.missing([file]) == [file]
    store.blobs.add(file, io.BytesIO(content), "here")
    assert store.blobs.missing([file]) == []
    assert Path(store.root, "blobs", "sha256", sha256(content)).read_bytes() == content
    assert tree(store) == [f"blobs/sha256/{sha256(content)}"]


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (CONTENT[:-1], "expected 65536 bytes; found 65535"),
        (CONTENT[:1], "expected 65536 bytes; found 1"),
        (b"", "expected 65536 bytes; found 0"),
        (CONTENT + b"x", "expected 65536 bytes; found more"),
        (CONTENT * 100, "expected 65536 bytes; found more"),
        (flipped(CONTENT, 0), f"m: expected SHA-256 {sha256(CONTENT)}; found {sha256(flipped(CONTENT, 0))}"),
        (flipped(CONTENT, len(CONTENT) * 8 - 1), "m: expected SHA-256"),
        (b"\0" * len(CONTENT), "m: expected SHA-256"),
    ],
    ids=["truncated", "one byte left", "empty", "grown", "much grown", "first bit", "last bit", "zeros"],
)
def test_wrong_bytes_never_become_visible(store: Store, wrong: bytes, message: str) -> None:
    file = make_release(files={"m": CONTENT}).release.variants[0].files[0]
    with pytest.raises(IntegrityError, match=f"^here: {message}"):
        store.blobs.add(file, io.BytesIO(wrong), "here")
    assert tree(store) == []
    assert store.blobs.missing([file]) == [file]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=1, max_size=64), st.binary(max_size=80))
def test_only_the_promised_bytes_become_visible(store: Store, promised: bytes, actual: bytes) -> None:
    file = make_release(files={"m": promised}).release.variants[0].files[0]
    if actual == promised:
        return
    with pytest.raises(IntegrityError):
        store.blobs.add(file, io.BytesIO(actual), "here")
    assert tree(store) == []


class BrokenSource(io.BytesIO):
    """Gives some bytes, then fails like a disk that is broken."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() > 0:
            raise OSError(5, "Input/output error")
        return super().read(10)


def test_a_source_that_breaks_off_leaves_nothing(store: Store) -> None:
    file = make_release(files={"m": CONTENT}).release.variants[0].files[0]
    with pytest.raises(OSError, match="Input/output error"):
        store.blobs.add(file, BrokenSource(CONTENT), "here")
    assert tree(store) == []


def test_a_source_that_never_ends_is_read_no_further_than_promised(store: Store) -> None:
    file = make_release(files={"m": CONTENT}).release.variants[0].files[0]
    with open("/dev/zero", "rb") as zeros, pytest.raises(IntegrityError, match="found more"):
        store.blobs.add(file, zeros, "/dev/zero")


def test_an_interrupted_write_is_cleaned(store: Store) -> None:
    staging = Path(store.root, "staging")
    (staging / "digits@1.0.0").mkdir(parents=True)
    (staging / "digits@1.0.0" / "model.onnx").write_bytes(b"half")
    (staging / "0123").write_bytes(b"half")
    store.clean_staging()
    assert tree(store) == []


def test_a_release_installs_over_what_an_interrupted_write_left(store: Store) -> None:
    made = make_release(files={"m": CONTENT})
    staging = Path(store.root, "staging")
    (staging / "digits@1.0.0").mkdir(parents=True)
    (staging / "digits@1.0.0" / "m").write_bytes(b"half")
    (staging / sha256(CONTENT)).write_bytes(b"half, and longer than what comes" * len(CONTENT))
    put(store, made)
    store.version("digits", "1.0.0").verify()


# ---- versions ----


def test_a_version_is_a_directory_that_a_person_can_read(store: Store) -> None:
    made = make_release(golden=b"golden", probe=b"probe", files={"model.onnx": CONTENT, "extra.bin": b"extra"})
    put(store, made)
    version = store.version("digits", "1.0.0")
    assert sorted(os.listdir(version.directory)) == [
        "extra.bin",
        "golden.json",
        "model.onnx",
        "probe.json",
        "version.json",
    ]
    assert (version.model, version.version, version.variant, version.format) == (
        "digits",
        "1.0.0",
        "onnx-fp32",
        "onnx",
    )
    assert version.digest == made.release.digest
    assert Path(version.entrypoint_path).read_bytes() == CONTENT
    assert version.probe is not None
    assert version.probe.model == "digits"
    assert Path(version.probe.path).read_bytes() == b"probe"
    assert version.probe.golden is not None
    assert Path(version.probe.golden).read_bytes() == b"golden"
    assert store.models() == [], "a model without a state is none that serves"


def test_a_version_may_have_neither_golden_nor_probe(store: Store) -> None:
    put(store, make_release())
    version = store.version("digits", "1.0.0")
    assert version.probe is None


def test_versions_share_blobs(store: Store) -> None:
    put(store, make_release("1.0.0", probe=CONTENT))
    put(store, make_release("1.1.0", probe=CONTENT))
    probes = [store.version("digits", version).probe for version in ("1.0.0", "1.1.0")]
    assert len({os.stat(probe.path).st_ino for probe in probes if probe}) == 1


def test_installing_again_changes_nothing(store: Store) -> None:
    made = make_release()
    put(store, made)
    inode = os.stat(store.version("digits", "1.0.0").directory).st_ino
    assert store.install(made.release, made.release.variants[0]) is False
    assert os.stat(store.version("digits", "1.0.0").directory).st_ino == inode


def test_a_release_is_immutable(store: Store) -> None:
    put(store, make_release(files={"m": b"first"}))
    second = make_release(files={"m": b"second"})
    with pytest.raises(StoreError, match=r"A release is immutable: publish the change as a new version") as caught:
        put(store, second)
    assert second.release.digest in str(caught.value)
    assert Path(store.version("digits", "1.0.0").entrypoint_path).read_bytes() == b"first"


def test_a_held_version_keeps_its_variant(store: Store) -> None:
    # Whatever another call prefers: the version may be serving.
    made = make_release(files={"m": CONTENT})
    made.document["variants"].append(variant_entry({"m": CONTENT}, name="second"))
    put(store, made)
    activate(store, "digits", "1.0.0")
    assert store.install(made.release, made.release.variants[1]) is False
    assert store.version("digits", "1.0.0").variant == "onnx-fp32"


def test_an_install_without_its_blobs_is_invisible(store: Store) -> None:
    made = make_release()
    with pytest.raises(OSError, match="No such file"):
        store.install(made.release, made.release.variants[0])
    assert store.versions("digits") == []


def damage_truncate(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1])


def damage_grow(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(path.read_bytes() + b"x")


def damage_flip(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(flipped(path.read_bytes(), 77))


@pytest.mark.parametrize(
    ("damage", "message", "size_tells"),
    [
        (damage_truncate, "expected 65536 bytes; found 65535", True),
        (damage_grow, "expected 65536 bytes; found 65537", True),
        (Path.unlink, "expected 65536 bytes; the file is missing", True),
        (damage_flip, f"expected SHA-256 {sha256(CONTENT)}; found ", False),
    ],
    ids=["truncated", "grown", "missing", "bit-flipped"],
)
def test_a_damaged_version_is_found(store: Store, damage: Any, message: str, size_tells: bool) -> None:
    put(store, make_release(files={"model.onnx": CONTENT}))
    version = store.version("digits", "1.0.0")
    version.check_sizes()
    version.verify()
    damage(Path(version.entrypoint_path))
    with pytest.raises(IntegrityError, match=f"^{version.entrypoint_path}: {message}"):
        version.verify()
    if size_tells:
        with pytest.raises(IntegrityError, match=f"^{version.entrypoint_path}: {message}"):
            version.check_sizes()
    else:
        version.check_sizes()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "damaged"),
        ("{", "damaged"),
        ("\xff", "damaged"),
        ("[" * 100_000, "damaged"),
        ("null", "damaged"),
        ("[]", "damaged"),
        ("{}", "damaged"),
        ('{"variant": "onnx-fp32", "release": {}}', "damaged"),
        ('{"variant": "no such", "release": RELEASE}', "damaged"),
        ('{"variant": [], "release": RELEASE}', "damaged"),
        ('{"release": RELEASE}', "damaged"),
        ('{"variant": "onnx-fp32", "release": OTHER}', "expected digits 1.0.0; found digits 2.0.0"),
    ],
)
def test_a_damaged_record_of_a_version_is_named(store: Store, text: str, message: str) -> None:
    made = make_release()
    put(store, made)
    path = Path(store.root, "models/digits/versions/1.0.0/version.json")
    path.chmod(0o600)
    text = text.replace("RELEASE", json.dumps(made.document)).replace(
        "OTHER", json.dumps(make_release("2.0.0").document)
    )
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(StoreError, match=f"^{path}: {message}") as caught:
        store.version("digits", "1.0.0")
    assert len(str(caught.value)) < 500


def test_a_missing_record_of_a_version_is_named(store: Store) -> None:
    put(store, make_release())
    path = Path(store.root, "models/digits/versions/1.0.0/version.json")
    path.unlink()
    with pytest.raises(StoreError, match=f"^{path}: missing"):
        store.version("digits", "1.0.0")


# ---- the state and its journal ----


def test_activating_records_the_transition(store: Store) -> None:
    put(store, make_release("1.0.0"))
    put(store, make_release("1.1.0"))
    activate(store, "digits", "1.0.0", rollout_id="a")
    activate(store, "digits", "1.1.0", "1.0.0", rollout_id="b")
    assert store.models() == ["digits"]
    assert store.state("digits") == State("1.1.0", "1.0.0")
    first, second = store.journal("digits").history()
    assert (first["from"], first["to"], first["rollout_id"]) == (None, "1.0.0", "a")
    assert (second["from"], second["to"], second["rollout_id"]) == ("1.0.0", "1.1.0", "b")
    assert first["time"] <= second["time"] <= time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    assert store.activation("digits") == second


def test_the_activation_of_a_version_that_came_back_is_its_own(store: Store) -> None:
    activate(store, "digits", "1.0.0", rollout_id="a")
    activate(store, "digits", "1.1.0", "1.0.0", rollout_id="b")
    store.transition("digits", State("1.0.0", "1.1.0"), {"event": "revert", "from": "1.1.0", "to": "1.0.0"})
    activation = store.activation("digits")
    assert activation is not None
    assert activation["rollout_id"] == "a"


def test_several_models_live_side_by_side(store: Store) -> None:
    put(store, make_release("1.0.0", model="digits", probe=CONTENT))
    put(store, make_release("7", model="faces", probe=CONTENT))
    activate(store, "digits", "1.0.0")
    activate(store, "faces", "7")
    assert store.models() == ["digits", "faces"]
    activate(store, "faces", None)
    put(store, make_release("8", model="faces"))
    for version in store.prunable("faces", 0, []):
        store.remove("faces", version)
    assert store.versions("faces") == []
    store.version("digits", "1.0.0").verify()


DAMAGED_STATES = [
    *NO_DOCUMENTS,
    '{"schema": 2, "active": null, "previous": null}',
    '{"schema": 1, "active": null}',
    '{"schema": 1, "active": "../x", "previous": null}',
    '{"schema": 1, "active": 7, "previous": null}',
    '{"schema": 1, "active": null, "previous": ["1.0.0"]}',
    "\xff\xff",
]


@pytest.mark.parametrize("text", DAMAGED_STATES, ids=lambda text: repr(text)[:30])
def test_a_damaged_state_is_named(store: Store, text: str) -> None:
    activate(store, "digits", "1.0.0")
    state_file(store).write_bytes(text.encode("latin-1"))
    with pytest.raises(StoreError, match=f"^{state_file(store)}: (damaged|expected schema 1; found 2)"):
        store.state("digits")


def test_a_line_that_a_power_cut_tore_is_passed_over(store: Store) -> None:
    activate(store, "digits", "1.0.0")
    with journal(store).open("ab") as file:
        file.write(b'{"event": "activate", "fr')
    assert [entry["to"] for entry in store.journal("digits").history()] == ["1.0.0"]
    activate(store, "digits", "1.1.0", "1.0.0")
    assert [entry["to"] for entry in store.journal("digits").history()] == ["1.0.0", "1.1.0"]
    assert store.activation("digits") == store.journal("digits").history()[-1]


@pytest.mark.parametrize("line", ["3", "[]", "null", '"x"', "\0" * 100, "\xff", "", "[" * 100_000, "{}"])
def test_a_damaged_line_of_the_journal_hides_no_other(store: Store, line: str) -> None:
    activate(store, "digits", "1.0.0")
    with journal(store).open("ab") as file:
        file.write(line.encode("latin-1") + b"\n")
    activate(store, "digits", "1.1.0", "1.0.0")
    assert [entry["to"] for entry in store.journal("digits").history() if entry] == ["1.0.0", "1.1.0"]
    activation = store.activation("digits")
    assert activation is not None
    assert activation["to"] == "1.1.0"


def test_a_line_of_the_journal_holds_any_text(store: Store) -> None:
    why = 'quotes " and \n newlines, é, \u2028'
    activate(store, "digits", "1.0.0", why=why)
    activate(store, "digits", "1.1.0", "1.0.0", why=why)
    assert [entry["why"] for entry in store.journal("digits").history()] == [why, why]


def test_a_long_journal_is_read_from_its_end(store: Store) -> None:
    events = [{"event": "activate", "to": f"{number}", "why": "y" * (number % 977)} for number in range(2000)]
    for event in events[:3]:
        store.transition("digits", State(event["to"]), event)
    with Path(store.root, "models/digits/journal.jsonl").open("a") as journal:
        journal.writelines(json.dumps(event) + "\n" for event in events[3:])
    store.update("digits", State("7"))
    assert [entry["to"] for entry in store.journal("digits").history()] == [event["to"] for event in events]
    assert (store.journal("digits").last_transition() or {})["to"] == "1999"
    assert (store.activation("digits") or {})["to"] == "7"


# ---- removing ----


@pytest.mark.parametrize(("active", "previous"), [("1.0.0", None), (None, "1.0.0"), ("1.1.0", "1.0.0")])
def test_the_active_and_the_previous_version_are_never_removed(
    store: Store, active: str | None, previous: str | None
) -> None:
    put(store, make_release("1.0.0"))
    activate(store, "digits", active, previous)
    with pytest.raises(StoreError, match=r"digits 1.0.0 is the (active|previous) version on this device"):
        store.remove("digits", "1.0.0")
    store.version("digits", "1.0.0").verify()


def test_removing_takes_the_blobs_that_no_other_version_uses(store: Store) -> None:
    put(store, make_release("1.0.0", files={"m": b"only here"}, probe=CONTENT))
    put(store, make_release("1.1.0", files={"m": b"other"}, probe=CONTENT))
    store.remove("digits", "1.0.0")
    assert store.versions("digits") == ["1.1.0"]
    store.version("digits", "1.1.0").verify()
    assert sorted(os.listdir(Path(store.root, "blobs", "sha256"))) == sorted([sha256(b"other"), sha256(CONTENT)])


def make_old(store: Store, version: str, age: int) -> None:
    directory = store.version("digits", version).directory
    os.utime(directory, (1_000_000_000 - age, 1_000_000_000 - age))


@pytest.mark.parametrize("keep", [0, 1, 2, 5])
def test_the_oldest_versions_that_nobody_needs_are_surplus(store: Store, keep: int) -> None:
    for age, version in enumerate(["5", "4", "3", "2", "1"]):
        put(store, make_release(version))
        make_old(store, version, age)
    others = ["5", "4", "2"]
    assert store.prunable("digits", keep, ["1", "3", None]) == others[keep:]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from("abcdef"), unique=True), st.data(), st.integers(0, 3))
def test_removing_the_surplus_leaves_what_is_needed_whole(
    tmp_path_factory: pytest.TempPathFactory, versions: list[str], data: st.DataObject, keep: int
) -> None:
    store = Store(str(tmp_path_factory.mktemp("store")))
    for version in versions:
        put(store, make_release(version))
    choice = st.sampled_from([None, *versions])
    state = State(data.draw(choice), data.draw(choice))
    store.transition("digits", state, {})
    needed = {version for version in (state.active, state.previous) if version}
    for version in store.prunable("digits", keep, needed):
        store.remove("digits", version)
    held = set(store.versions("digits"))
    assert needed <= held
    assert len(held - needed) == min(keep, len(set(versions) - needed))
    for version in held:
        store.version("digits", version).verify()


def test_removing_for_a_release_leaves_the_blobs_that_it_needs(store: Store) -> None:
    # The plan counted on them: they are not sent again.
    put(store, make_release("1.0.0", files={"m": CONTENT}))
    coming = make_release("1.1.0", files={"m": CONTENT}).release
    files = coming.files(coming.variants[0])
    assert store.blobs.missing(files) == []
    store.remove("digits", "1.0.0", needed=files)
    assert store.blobs.missing(files) == []
    store.install(coming, coming.variants[0])
    store.version("digits", "1.1.0").verify()


# ---- modes ----

GROUP = 12345


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to a group that it is not in")
def test_the_group_reads_everything_and_others_nothing(store: Store) -> None:
    os.chown(store.root, -1, GROUP)
    os.chmod(store.root, 0o750)
    old = os.umask(0o077)
    try:
        put(store, make_release("1.0.0", probe=CONTENT))
        activate(store, "digits", "1.0.0")
        activate(store, "digits", "1.0.0")
    finally:
        os.umask(old)
    for path in Path(store.root).rglob("*"):
        if path.name == "staging" or path.parent.name == "staging":
            continue
        status = path.stat()
        mode = stat.S_IMODE(status.st_mode)
        assert status.st_gid == GROUP, path
        if path.is_dir():
            assert mode == 0o750, path
        elif path.name in ("state.json", "journal.jsonl"):
            assert mode == 0o640, path
        else:
            assert mode == 0o440, path


# ---- the lock ----

HOLD_LOCK = """
import sys
from edgeml_device._device.store import Store
with Store(sys.argv[1]).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def start_holder(store: Store) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_LOCK, store.root],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(PYTHON_PATH)},
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_a_second_process_waits_for_the_lock_and_then_says_why_it_gave_up(store: Store) -> None:
    with start_holder(store) as holder:
        with pytest.raises(StoreError, match=r"another swap has held the store's lock for 0.2 s"), store.lock(0.2):
            pass
        assert holder.stdin is not None
        holder.stdin.close()
        with store.lock(30):
            pass


def test_a_killed_process_lets_the_lock_go(store: Store) -> None:
    with start_holder(store) as holder:
        holder.kill()
        holder.wait()
        with store.lock(0), pytest.raises(StoreError, match="lock"), store.lock(0):
            pass


def test_bytes_are_set_aside_for_a_way_back_and_kept_while_there_is_room(store: Store) -> None:
    for _switch in range(2):
        store.reserve_space()
        assert [(name, Path(store.root, name).stat().st_size) for name in tree(store)] == [("reserve", RESERVE_BYTES)]
        store.use_reserve()
    assert tree(store) == ["reserve"]


def test_the_lock_needs_a_store(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "nowhere"))
    message = r"nowhere: no store here; the role edgeml\.fleet\.provision makes it"
    with pytest.raises(StoreError, match=message), store.lock():
        pass


# ---- kills ----

# Swaps from release to release, and kills itself at its POINT-th call that takes a path; tests/faults has the other
# calls. For 0 it does one swap of each, and prints how many such calls there were.
SWAPS = """
import io, itertools, json, os, signal, sys
from edgeml_device._release.manifest import parse_release
from edgeml_device._device.state import State
from edgeml_device._device.store import Store
store = Store(sys.argv[1])
releases = json.load(open(sys.argv[2]))
point = int(sys.argv[3])
calls = itertools.count(1)
def count(event, arguments):
    if event == "open" or event.startswith("os."):
        if next(calls) == point:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(count)
for number in itertools.count() if point else range(len(releases)):
    document, blobs = releases[number % len(releases)]
    release = parse_release(document)
    variant = release.variants[0]
    with store.lock():
        before = store.state("digits")
        if release.version == before.active:
            continue
        store.clean_staging()
        for version in store.prunable("digits", 0, [release.version, before.active, before.previous]):
            store.remove("digits", version, needed=release.files(variant))
        for file in store.blobs.missing(release.files(variant)):
            store.blobs.add(file, io.BytesIO(blobs[file.sha256].encode()), "test")
        store.install(release, variant)
        store.version("digits", release.version).verify()
        store.transition("digits", State(release.version, before.active), {"event": "activate", "to": release.version})
print(next(calls) - 1)
"""
KILLS = 30


def test_a_killed_swap_leaves_a_store_whose_active_version_is_whole(store: Store, tmp_path: Path) -> None:
    shared = b"shared by all" * 1000
    made = [make_release(f"{number}", probe=shared) for number in range(4)]
    script = tmp_path / "swaps.py"
    script.write_text(SWAPS)
    releases = tmp_path / "releases.json"
    releases.write_text(
        json.dumps([[item.document, {key: blob.decode() for key, blob in item.blobs.items()}] for item in made])
    )

    def swap(root: str, point: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(script), root, str(releases), str(point)],
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(PYTHON_PATH)},
        )

    unharmed = tmp_path / "unharmed"
    unharmed.mkdir()
    calls = int(swap(str(unharmed), 0).stdout)
    assert calls > 10 * len(made)
    points = random.Random(7)
    transitions = 0
    for _ in range(KILLS):
        assert swap(store.root, points.randint(1, calls)).returncode == -signal.SIGKILL
        state = store.state("digits")
        for version in store.versions("digits"):
            store.version("digits", version).verify()
        assert {state.active, state.previous} - {None} <= set(store.versions("digits"))
        transitions += state.active is not None
        blobs = Path(store.root, "blobs", "sha256")
        for blob in blobs.iterdir() if blobs.is_dir() else ():
            assert sha256(blob.read_bytes()) == blob.name
    assert transitions > KILLS / 2, "too few swaps were done for the kills to mean anything"
    assert len(store.journal("digits").history()) > KILLS / 2


def test_file_entries_of_these_tests_are_right() -> None:
    assert file_entry("m", b"x")["sha256"] == "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"


# ---- what somebody else put there ----


@pytest.mark.parametrize("name", [".trash", "lost found", "-rf", "é", "x" * 65])
def test_what_is_named_like_no_version_is_none(store: Store, name: str) -> None:
    put(store, make_release("1.0.0"))
    activate(store, "digits", "1.0.0")
    for directory in ("models", "models/digits/versions"):
        Path(store.root, directory, name).mkdir()
    assert store.models() == ["digits"]
    assert store.versions("digits") == ["1.0.0"]
    assert store.prunable("digits", 0, []) == ["1.0.0"]
    (file,) = store.version("digits", "1.0.0").files
    store.relink([file])


def outside(tmp_path: Path, content: bytes) -> Path:
    """A file that is not the store's, with the right bytes: for now."""
    path = tmp_path / "outside"
    path.write_bytes(content)
    return path


def test_a_blob_that_is_a_link_is_none(store: Store, tmp_path: Path) -> None:
    made = make_release()
    (file,) = made.release.all_files()
    (content,) = made.blobs.values()
    blob = Path(store.root, "blobs", "sha256", file.sha256)
    blob.parent.mkdir(parents=True)
    for target in (outside(tmp_path, content), tmp_path / "nowhere"):
        blob.symlink_to(target)
        assert store.blobs.missing([file]) == [file]
        put(store, made)
        assert not blob.is_symlink()
        store.remove("digits", "1.0.0")
    assert (tmp_path / "outside").read_bytes() == content
    for target in (outside(tmp_path, content), tmp_path / "nowhere"):
        blob.symlink_to(target)
        store.blobs.remove_unused()
        assert not blob.is_symlink()
    assert (tmp_path / "outside").read_bytes() == content


def test_a_file_of_a_version_that_is_a_link_is_damaged_and_healed(store: Store, tmp_path: Path) -> None:
    made = make_release()
    put(store, made)
    version = store.version("digits", "1.0.0")
    (file,) = version.files
    (content,) = made.blobs.values()
    path = Path(version.directory, file.path)
    blob = Path(store.root, "blobs", "sha256", file.sha256)
    for target in (outside(tmp_path, content), blob, tmp_path / "nowhere"):
        path.unlink()
        path.symlink_to(target)
        assert version.damaged() == [file]
        for check in (version.check_sizes, version.verify):
            with pytest.raises(
                IntegrityError, match=f"^{path}: expected a file of {file.size} bytes; found none, but a"
            ):
                check()
        store.blobs.add(file, io.BytesIO(content), "here")
        store.relink([file])
        version.verify()
        assert path.samefile(blob)
        assert not path.is_symlink()


def test_a_link_in_place_of_the_state_is_replaced_and_not_followed(store: Store, tmp_path: Path) -> None:
    put(store, make_release("1.0.0"))
    activate(store, "digits", "1.0.0")
    shadow = outside(tmp_path, state_file(store).read_bytes())
    state_file(store).unlink()
    state_file(store).symlink_to(shadow)
    before = shadow.read_bytes()
    activate(store, "digits", None, "1.0.0")
    assert shadow.read_bytes() == before
    assert not state_file(store).is_symlink()
    assert store.state("digits").previous == "1.0.0"


def test_a_store_may_be_a_link_to_another_disk(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "store").symlink_to(tmp_path / "disk")
    store = Store(str(tmp_path / "store"))
    with store.lock():
        put(store, make_release("1.0.0"))
        activate(store, "digits", "1.0.0")
    assert store.models() == ["digits"]
    assert store.versions("digits") == ["1.0.0"]


def test_removing_a_version_that_is_a_link_leaves_what_it_leads_to(store: Store, tmp_path: Path) -> None:
    put(store, make_release("1.0.0"))
    kept = tmp_path / "kept"
    directory = Path(store.root, "models", "digits", "versions", "1.0.0")
    directory.rename(kept)
    directory.symlink_to(kept)
    store.remove("digits", "1.0.0")
    assert sorted(path.name for path in kept.iterdir()) == ["model.onnx", "version.json"]
    store.clean_staging()
    assert store.versions("digits") == []
    assert (kept / "version.json").exists()


# ---- a store that was copied ----


def copied_without_links(store: Store) -> Store:
    """A copy in which each file is one of its own, as ``cp -r`` makes it."""
    copy = f"{store.root}-copy"
    shutil.copytree(store.root, copy, symlinks=True)
    return Store(copy)


def test_a_store_that_was_copied_without_its_hard_links_gets_them_back(store: Store) -> None:
    for name in ("1.0.0", "1.1.0", "1.2.0"):
        put(store, make_release(name, files={"model.onnx": name.encode() * 9000, "labels.txt": b"one"}))
    activate(store, "digits", "1.2.0", "1.1.0")
    held = store.blobs.held()
    store = copied_without_links(store)
    store.remove_unused()
    assert store.blobs.held() == held
    for name in store.versions("digits"):
        version = store.version("digits", name)
        version.verify()
    assert are_one(store)
    store.remove("digits", "1.0.0")
    assert len(store.blobs.held()) == len(held) - 1


def put_apart(path: str, content: bytes) -> None:
    """Put a file of its own in place of one that has several names."""
    Path(path).unlink()
    Path(path).write_bytes(content)


def are_one(store: Store) -> bool:
    """Whether each file of each version is its blob, by another name."""
    versions = [store.version("digits", name) for name in store.versions("digits")]
    return all(os.path.samefile(item.path(file), store.blobs.path(file)) for item in versions for file in item.files)


def test_a_right_blob_takes_the_place_of_what_is_damaged_in_a_version(store: Store) -> None:
    put(store, make_release(files={"model.onnx": CONTENT}))
    store = copied_without_links(store)
    version = store.version("digits", "1.0.0")
    put_apart(version.path(version.files[0]), CONTENT[:-1] + b"!")
    store.remove_unused()
    version.verify()
    assert are_one(store)


@pytest.mark.parametrize("damaged", [CONTENT[:-1] + b"!", CONTENT[:-1]])
def test_what_is_damaged_in_a_version_becomes_no_blob(store: Store, damaged: bytes) -> None:
    put(store, make_release(files={"model.onnx": CONTENT}))
    version = store.version("digits", "1.0.0")
    (file,) = version.files
    put_apart(version.path(file), damaged)
    os.chmod(store.blobs.path(file), 0o600)
    Path(store.blobs.path(file)).write_bytes(b"?" * len(CONTENT))
    store.remove_unused()
    assert store.blobs.held() == []
    assert Path(version.path(file)).read_bytes() == damaged


def test_a_blob_that_is_lost_is_linked_again_whatever_links_its_versions_have(store: Store) -> None:
    for name in ("1.0.0", "1.1.0"):
        put(store, make_release(name, files={"model.onnx": CONTENT}))
    (file,) = store.version("digits", "1.0.0").files
    os.unlink(store.blobs.path(file))
    store.remove_unused()
    assert are_one(store)


def test_a_blob_that_came_before_a_swap_failed_heals_what_was_damaged(store: Store) -> None:
    for name in ("1.0.0", "1.1.0"):
        put(store, make_release(name, files={"model.onnx": CONTENT}))
    (file,) = store.version("digits", "1.0.0").files
    os.chmod(store.blobs.path(file), 0o600)
    os.truncate(store.blobs.path(file), 5)
    # The file came, and the one behind it was wrong: nothing was linked.
    store.blobs.add(file, io.BytesIO(CONTENT), "test")
    store.remove_unused()
    assert are_one(store)
