# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Attacks on a model repository: each is refused, and its message names it. python-tuf's client is the judge."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from releases import make_release, sha256
from signed import Answer, Signed, days_ago, served
from tuf.api.metadata import TargetFile, Targets

from ansible_collections.edgeml.fleet.plugins.module_utils._trust.client import Bounds, Client, Fetcher
from ansible_collections.edgeml.fleet.plugins.module_utils._trust.metadata import TARGETS_BYTES_MAX, TrustError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust import keys
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.repository import Trust, open_repository


@pytest.fixture(params=["path", "http"])
def repository(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Signed, str]]:
    """A signed repository and its location: whatever its files are, both ways end the same."""
    made = Signed(tmp_path / "repository")
    if request.param == "path":
        yield made, str(made.path)
    else:
        with served(made.path) as url:
            yield made, url


def refused(client: Client, kind: str, *texts: str) -> None:
    """The client does not believe what it reads."""
    with pytest.raises(TrustError) as caught:
        client.manifest("digits", "1.0.0")
    assert caught.value.kind == kind, caught.value
    for text in (client.location, *texts):
        assert text in str(caught.value)


def new_targets(signed: Signed, **targets: TargetFile) -> Targets:
    """The targets of the repository with others beside, in the version that is due."""
    now = signed.signing.state().targets.signed
    return Targets(version=now.version + 1, expires=now.expires, targets={**now.targets, **targets})


def test_what_is_signed_is_believed(repository: tuple[Signed, str], tmp_path: Path) -> None:
    signed, location = repository
    content, release = signed.client(tmp_path / "state", location).manifest("digits", "1.0.0")
    assert json.loads(content) == make_release("1.0.0").document
    assert release.digest == make_release("1.0.0").release.digest


def test_arbitrary_file(repository: tuple[Signed, str], tmp_path: Path) -> None:
    signed, location = repository
    other = make_release("1.0.0", files={"model.onnx": b"evil"})
    (signed.path / "digits/1.0.0/manifest.json").write_text(json.dumps(other.document))
    refused(signed.client(tmp_path / "state", location), "mismatch", "arbitrary file")


def test_arbitrary_blob(tmp_path: Path) -> None:
    signed = Signed(tmp_path / "repository")
    (digest, content), *_others = make_release("1.0.0").blobs.items()
    (signed.path / "blobs/sha256" / digest).write_bytes(b"x" * len(content))
    (tmp_path / "root.json").write_bytes(signed.root)
    with served(signed.path) as url:
        opened = open_repository(url, Trust(root=str(tmp_path / "root.json"), state=str(tmp_path / "state")))
        release = opened.release("digits", "1.0.0")
        with pytest.raises(TrustError, match=f"expected SHA-256 {digest}; found {sha256(b'x' * len(content))}"):
            opened.verify(release)
    # Nothing of it is kept, and nothing has its name.
    (part,) = Path(opened.root, "blobs/sha256").iterdir()
    assert (part.name, part.read_bytes()) == (f"{digest}.part", b"")


def test_rollback_of_everything(repository: tuple[Signed, str], tmp_path: Path) -> None:
    signed, location = repository
    before = signed.copy(tmp_path / "before")
    signed.release("2.0.0")
    signed.client(tmp_path / "state", location).refresh()
    signed.bring_back(before)
    refused(signed.client(tmp_path / "state", location), "rollback", "timestamp version 1 must be >= 2")
    # Who never saw the newer state cannot know: that is what expiry is for.
    signed.client(tmp_path / "another", location).refresh()


@pytest.mark.parametrize("role", ["snapshot", "targets"])
def test_rollback_by_who_holds_the_online_key(repository: tuple[Signed, str], tmp_path: Path, role: str) -> None:
    signed, location = repository
    before = signed.copy(tmp_path / "before")
    signed.release("2.0.0")
    signed.client(tmp_path / "state", location).refresh()
    if role == "snapshot":
        signed.bring_back(before, "1.snapshot.json")
        signed.forge(None, [], signed.holders.online, snapshot=1)
    else:
        signed.bring_back(before, "1.targets.json")
        old = json.loads((before / "1.targets.json").read_text())
        signed.forge(Targets.from_dict(old["signed"]), signed.holders.targets[:2], signed.holders.online)
    refused(signed.client(tmp_path / "state", location), "rollback", f"{role}")


@pytest.mark.parametrize(("days", "role"), [(15, "timestamp"), (181, "targets"), (366, "root")])
def test_freeze(tmp_path: Path, days: int, role: str) -> None:
    """A mirror that goes on showing what was true once is noticed when that has expired."""
    signed = Signed(tmp_path / "repository", clock=days_ago(days))
    if role == "targets":
        # The online roles are renewed; nobody has signed what they name.
        signed.signing._now = days_ago(0)
        signed.signing.renew([signed.holders.online])
    refused(signed.client(tmp_path / "state"), "expired", role, "is expired", "freeze")


def test_mix_and_match_of_snapshot(repository: tuple[Signed, str], tmp_path: Path) -> None:
    signed, location = repository
    before = signed.copy(tmp_path / "before")
    signed.release("2.0.0")
    old = (before / "1.snapshot.json").read_bytes()
    # A signature has 70 to 72 bytes.
    longer = len(old) > (signed.directory / "2.snapshot.json").stat().st_size
    (signed.directory / "2.snapshot.json").write_bytes(old)
    kind, text = ("too_long", "a file of another state") if longer else ("mismatch", "files of different states mixed")
    refused(signed.client(tmp_path / "state", location), kind, text)


def test_mix_and_match_of_targets(repository: tuple[Signed, str], tmp_path: Path) -> None:
    signed, location = repository
    before = signed.copy(tmp_path / "before")
    signed.release("2.0.0")
    (signed.directory / "2.targets.json").write_bytes((before / "1.targets.json").read_bytes())
    refused(signed.client(tmp_path / "state", location), "mismatch", "files of different states mixed")


@pytest.mark.parametrize("name", ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"])
def test_endless_data(tmp_path: Path, name: str) -> None:
    signed = Signed(tmp_path / "repository")
    sent = []

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _number in itertools.count():
            handler.wfile.write(b" " * 65536)
            sent.append(65536)

    with served(signed.path, {f"/metadata/{name}": endless}) as url:
        refused(signed.client(tmp_path / "state", url), "too_long", "endless data")
    assert sum(sent) < 16 << 20


def test_oversize_metadata(repository: tuple[Signed, str], tmp_path: Path) -> None:
    """As long as its own reference says, and longer than anything that is needed."""
    signed, location = repository
    with (signed.directory / "timestamp.json").open("r+b") as file:
        file.truncate(1 << 40)
    refused(signed.client(tmp_path / "state", location), "too_long", "maximum allowed length of 16384")


def test_oversize_metadata_that_is_signed(repository: tuple[Signed, str], tmp_path: Path) -> None:
    signed, location = repository
    targets = new_targets(signed)
    targets.unrecognized_fields["x-ballast"] = "x" * TARGETS_BYTES_MAX
    signed.forge(targets, signed.holders.targets[:2], signed.holders.online)
    refused(signed.client(tmp_path / "state", location), "too_long", "longer than it may be")


@pytest.mark.parametrize("role", ["online", "targets"])
def test_wrong_key(repository: tuple[Signed, str], tmp_path: Path, role: str) -> None:
    signed, location = repository
    strangers = [keys.generate(f"stranger-{number}") for number in (1, 2)]
    if role == "online":
        signed.forge(None, [], strangers[0])
    else:
        signed.forge(new_targets(signed), strangers, signed.holders.online)
    refused(signed.client(tmp_path / "state", location), "signature", "too few of the trusted keys", "signed by 0/")


def test_another_repository_in_its_place(repository: tuple[Signed, str], tmp_path: Path) -> None:
    other, location = repository
    trusted = Signed(tmp_path / "trusted")
    client = Client(location, trusted.root, str(tmp_path / "state"))
    refused(client, "signature", "model_repository_root is another repository's, or somebody has put another")
    ids = [sorted(key.public.keyid[:8] for key in signed.holders.root) for signed in (other, trusted)]
    refused(client, "signature", f"has the keys {', '.join(ids[0])}, and the pinned root has {', '.join(ids[1])}")


def test_one_of_two_keys(repository: tuple[Signed, str], tmp_path: Path) -> None:
    signed, location = repository
    signed.forge(new_targets(signed), signed.holders.targets[:1], signed.holders.online)
    refused(signed.client(tmp_path / "state", location), "signature", "targets was signed by 1/2 keys")


def test_one_of_two_keys_of_the_root(repository: tuple[Signed, str], tmp_path: Path) -> None:
    """Who has stolen one key cannot make a root of their own, whoever else signs it."""
    signed, location = repository
    thieves = [signed.holders.root[0], keys.generate("thief-1"), keys.generate("thief-2")]
    roles = {"root": signed.holders.roles()["root"]._replace(keys=tuple(key.public for key in thieves))}
    document = signed.signing.propose_root(roles).root
    assert document is not None
    for key in thieves:
        document.sign(key.signer, append=True)
    (signed.directory / "2.root.json").write_bytes(document.to_bytes())
    refused(signed.client(tmp_path / "state", location), "signature", "root was signed by 1/2 keys")


def test_a_key_that_was_rotated_out_signs_targets(repository: tuple[Signed, str], tmp_path: Path) -> None:
    signed, location = repository
    first, second, third = signed.holders.targets
    fourth = keys.generate("targets-4")
    signed.rotate("targets", second, third, fourth, threshold=2, also=(first, second, third))
    signed.client(tmp_path / "state", location).refresh()
    signed.forge(new_targets(signed), (first, second), signed.holders.online)
    refused(signed.client(tmp_path / "state", location), "signature", "targets was signed by 1/2 keys")


def test_a_key_that_was_rotated_out_signs_online(repository: tuple[Signed, str], tmp_path: Path) -> None:
    signed, location = repository
    stolen = signed.holders.online
    signed.rotate("online", keys.generate("online-2"), threshold=1)
    signed.client(tmp_path / "state", location).refresh()
    signed.forge(None, [], stolen)
    refused(signed.client(tmp_path / "state", location), "signature", "timestamp was signed by 0/1 keys")


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd/manifest.json",
        "digits/../manifest.json",
        "/etc/passwd",
        "digits/1.0.0/other.json",
        "blobs/1/manifest.json",
    ],
)
def test_path_traversal_in_a_target(repository: tuple[Signed, str], tmp_path: Path, name: str) -> None:
    signed, location = repository
    target = TargetFile.from_data(name, b"evil", ["sha256"])
    target.unrecognized_fields["custom"] = {"digest": sha256(b"evil")}
    signed.forge(new_targets(signed, **{name: target}), signed.holders.targets[:2], signed.holders.online)
    client = signed.client(tmp_path / "state", location)
    with pytest.raises(TrustError, match="a file outside of the releases") as caught:
        client.releases()
    assert caught.value.kind == "name"
    assert name in str(caught.value)


@pytest.mark.parametrize(
    "names", [("..", "etc"), ("digits", ".."), ("a/b", "1"), ("digits", "1/../../x"), ("metadata", "1")]
)
def test_path_traversal_in_what_is_asked_for(tmp_path: Path, names: tuple[str, str]) -> None:
    signed = Signed(tmp_path / "repository")
    with pytest.raises(TrustError) as caught:
        signed.client(tmp_path / "state").manifest(*names)
    assert caught.value.kind == "name"


def test_a_manifest_of_another_release(tmp_path: Path) -> None:
    """Signed, and not what its name says."""
    signed = Signed(tmp_path / "repository", versions=("1.0.0", "2.0.0"))
    content = (signed.path / "digits/2.0.0/manifest.json").read_bytes()
    (signed.path / "digits/1.0.0/manifest.json").write_bytes(content)
    target = TargetFile.from_data("digits/1.0.0/manifest.json", content, ["sha256"])
    target.unrecognized_fields["custom"] = {"digest": make_release("2.0.0").release.digest}
    forged = new_targets(signed, **{target.path: target})
    signed.forge(forged, signed.holders.targets[:2], signed.holders.online)
    (tmp_path / "root.json").write_bytes(signed.root)
    opened = open_repository(str(signed.path), Trust(root=str(tmp_path / "root.json"), state=str(tmp_path / "state")))
    with pytest.raises(TrustError, match=r"expected digits 1\.0\.0 .* found digits 2\.0\.0") as caught:
        opened.release("digits", "1.0.0")
    assert caught.value.kind == "mismatch"


def drip(handler: BaseHTTPRequestHandler) -> None:
    """A byte now and then, for ever."""
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.02)


def drip_headers(handler: BaseHTTPRequestHandler) -> None:
    """An answer that begins for ever."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    drip_in(handler)


def drip_in(handler: BaseHTTPRequestHandler) -> None:
    while True:
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.02)


def silence(handler: BaseHTTPRequestHandler) -> None:
    """No answer, until the client has gone."""
    handler.rfile.read()


@pytest.mark.parametrize("answer", [drip, drip_headers, silence])
def test_slow_retrieval(tmp_path: Path, answer: Answer) -> None:
    signed = Signed(tmp_path / "repository")
    bounds = Bounds(begin_seconds=0.3, bytes_per_second_min=1000)
    with served(signed.path, {"/metadata/timestamp.json": answer}) as url:
        client = signed.client(tmp_path / "state", url, Fetcher(url, bounds=bounds))
        refused(client, "slow", "slow retrieval")


def test_decompression_bomb(tmp_path: Path) -> None:
    """What is packed was not asked for; a gigabyte is never unpacked."""
    signed = Signed(tmp_path / "repository")
    bomb = gzip.compress(b" " * (8 << 20))
    assert len(bomb) < 16384

    def packed(handler: BaseHTTPRequestHandler) -> None:
        assert handler.headers["Accept-Encoding"] == "identity"
        handler.send_response(200)
        handler.send_header("Content-Encoding", "gzip")
        handler.send_header("Content-Length", str(len(bomb)))
        handler.end_headers()
        handler.wfile.write(bomb)

    with served(signed.path, {"/metadata/timestamp.json": packed}) as url:
        refused(signed.client(tmp_path / "state", url), "unreachable", "expected no Content-Encoding; found 'gzip'")


def test_captive_portal(tmp_path: Path) -> None:
    """A page with status 200 in the place of every file is no newer root, and nothing else either."""
    signed = Signed(tmp_path / "repository")

    def page(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b"<html>Please log in</html>")

    with served(signed.path, {"/metadata/2.root.json": page, "/metadata/timestamp.json": page}) as url:
        refused(signed.client(tmp_path / "state", url), "invalid", "breaks its format")


def test_a_connection_that_ends_too_early(tmp_path: Path) -> None:
    signed = Signed(tmp_path / "repository")

    def cut(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"{")

    with served(signed.path, {"/metadata/timestamp.json": cut}) as url:
        refused(signed.client(tmp_path / "state", url), "unreachable", "999 bytes too early")


def test_a_redirection_to_a_file_of_the_controller(tmp_path: Path) -> None:
    signed = Signed(tmp_path / "repository")

    def elsewhere(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", f"file://{signed.directory}/timestamp.json")
        handler.end_headers()

    with served(signed.path, {"/metadata/timestamp.json": elsewhere}) as url:
        refused(signed.client(tmp_path / "state", url), "unreachable")


def moved(handler: BaseHTTPRequestHandler) -> None:
    """The same place again, for ever."""
    handler.send_response(302)
    handler.send_header("Location", handler.path)
    handler.end_headers()


def test_a_redirection_without_end(tmp_path: Path) -> None:
    signed = Signed(tmp_path / "repository")
    with served(signed.path, {"/metadata/timestamp.json": moved}) as url:
        refused(signed.client(tmp_path / "state", url), "unreachable", "expected at most 5 redirects")


def test_a_redirection_within_the_server_is_followed(tmp_path: Path) -> None:
    signed = Signed(tmp_path / "repository")
    (signed.path / "elsewhere.json").write_bytes((signed.directory / "timestamp.json").read_bytes())

    def elsewhere(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "/elsewhere.json")
        handler.end_headers()

    with served(signed.path, {"/metadata/timestamp.json": elsewhere}) as url:
        signed.client(tmp_path / "state", url).refresh()


def test_a_pipe_in_the_place_of_a_file(tmp_path: Path) -> None:
    signed = Signed(tmp_path / "repository")
    (signed.directory / "timestamp.json").unlink()
    os.mkfifo(signed.directory / "timestamp.json")
    refused(signed.client(tmp_path / "state"), "unreachable", "expected a regular file")


def test_a_copy_that_is_not_complete(repository: tuple[Signed, str], tmp_path: Path) -> None:
    signed, location = repository
    (signed.directory / "1.targets.json").unlink()
    refused(signed.client(tmp_path / "state", location), "missing", "1.targets.json", "its copy complete")


def test_nobody_answers(tmp_path: Path) -> None:
    signed = Signed(tmp_path / "repository")
    with served(signed.path) as url:
        pass
    refused(signed.client(tmp_path / "state", url), "unreachable", "Connection refused")


def test_a_withdrawn_release(repository: tuple[Signed, str], tmp_path: Path) -> None:
    signed, location = repository
    (signed.path / "digits/1.0.0/withdrawn.json").write_text('{"reason": "labels were permuted"}')
    signed.release("2.0.0")
    client = signed.client(tmp_path / "state", location)
    refused(client, "withdrawn", "digits 1.0.0 is withdrawn: labels were permuted")
    assert client.manifest("digits", "2.0.0")[1].withdrawn is None
    told = client.withdrawals("digits")
    assert told.releases == {"1.0.0": "labels were permuted"}
    signed.release("3.0.0")
    later = signed.client(tmp_path / "state", location).withdrawals("digits")
    assert (later.number, later.root) == (told.number + 1, told.root)
