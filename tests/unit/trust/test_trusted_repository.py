# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whom the controller trusts, and what it reads of a repository then."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from links import PYTHON_PATH
from releases import make_release, publish, sha256
from signed import Signed, served

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError, ManifestError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.delta_index import Delta, index_document
from ansible_collections.edgeml.fleet.plugins.module_utils._trust.metadata import TrustError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.repository import (
    Trust,
    _proxy,
    open_repository,
    read_from,
)

FILE = make_release("1.0.0").release.all_files()[0]


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    return Signed(tmp_path / "repository")


@pytest.fixture
def trust(signed: Signed, tmp_path: Path) -> Trust:
    """What the signed repository's controller trusts."""
    (tmp_path / "root.json").write_bytes(signed.root)
    return Trust(root=str(tmp_path / "root.json"), state=str(tmp_path / "state"))


def test_variables_say_whom_to_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ops")
    variables = {"model_repository_root": "{{ where }}/root.json", "model_repository_state": "~/state"}
    read = read_from(variables, lambda value: value.replace("{{ where }}", "/etc"))
    assert Trust.from_variables(read) == Trust(root="/etc/root.json", state="/home/ops/state")
    assert Trust.from_variables({"model_repository_unsigned": "yes"}.get) == Trust(unsigned=True)
    assert Trust.from_variables({"model_repository_unsigned": "false", "model_repository_root": ""}.get) == Trust()
    assert Trust.from_variables(dict[str, Any]().get) == Trust()


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"model_repository_root": 1}, "model_repository_root: expected a path; found 1"),
        (
            {"model_repository_unsigned": "perhaps"},
            "model_repository_unsigned: expected true or false; found 'perhaps'",
        ),
        ({"model_repository_unsigned": True, "model_repository_root": "/r"}, "expected one of them"),
    ],
)
def test_variables_that_are_wrong(variables: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Trust.from_variables(variables.get)


def test_nobody_is_trusted_by_default(signed: Signed) -> None:
    with pytest.raises(TrustError, match="model_repository_root is not set") as caught:
        open_repository(str(signed.path), Trust())
    assert caught.value.kind == "unsigned"


def test_what_comes_over_a_network_has_to_be_signed() -> None:
    with pytest.raises(TrustError, match="expected a path"):
        open_repository("https://models.example", Trust(unsigned=True))


def test_a_root_that_is_not_there(signed: Signed, tmp_path: Path) -> None:
    with pytest.raises(TrustError, match=r"none\.json: model_repository_root: expected a .*keys init.* No such file"):
        open_repository(str(signed.path), Trust(root=str(tmp_path / "none.json")))


def test_a_root_that_is_none(signed: Signed, trust: Trust) -> None:
    for content in (
        b"",
        b"{}",
        b"[]",
        b"-----BEGIN PUBLIC KEY-----",
        (signed.directory / "timestamp.json").read_bytes(),
    ):
        Path(trust.root).write_bytes(content)
        with pytest.raises(TrustError, match=f"{trust.root}: model_repository_root: expected a copy of the") as caught:
            open_repository(str(signed.path), trust)
        assert caught.value.kind == "invalid"


def test_a_controller_without_tuf(signed: Signed, trust: Trust, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tuf" else real(name))
    with pytest.raises(TrustError, match=r"/python.*missing tuf\. Install the collection's requirements\.txt"):
        open_repository(str(signed.path), trust)


def test_every_file_can_be_imported_without_what_signs() -> None:
    """As Ansible's sanity tests want it of what is in plugins/."""
    program = """
import importlib, pkgutil, sys
sys.modules.update(dict.fromkeys(("tuf", "securesystemslib", "cryptography")))
package = importlib.import_module("ansible_collections.edgeml.fleet.plugins.plugin_utils._trust")
for module in pkgutil.iter_modules(package.__path__):
    importlib.import_module(f"{package.__name__}.{module.name}")
"""
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "PYTHONPATH": str(PYTHON_PATH)})


def test_a_repository_that_nobody_has_signed(tmp_path: Path, trust: Trust) -> None:
    publish(make_release("1.0.0"), tmp_path / "other")
    with pytest.raises(TrustError, match="Is the repository signed") as caught:
        open_repository(str(tmp_path / "other"), trust).release("digits", "1.0.0")
    assert caught.value.kind == "missing"


def test_a_release_that_is_not_signed_yet(signed: Signed, trust: Trust) -> None:
    signed.add("2.0.0")
    with pytest.raises(TrustError, match=r"digits 2\.0\.0 is not signed; signed of digits: 1\.0\.0\.") as caught:
        open_repository(str(signed.path), trust).release("digits", "2.0.0")
    assert caught.value.kind == "unsigned"


def test_a_misspelt_model_is_told_which_models_are_signed(signed: Signed, trust: Trust) -> None:
    with pytest.raises(TrustError, match=r"digts 1\.0\.0 is not signed; signed models: digits\. Correct the name"):
        open_repository(str(signed.path), trust).release("digts", "1.0.0")


def test_a_state_that_cannot_be_kept(signed: Signed, trust: Trust, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(TrustError, match="cannot be kept") as caught:
        open_repository(str(signed.path), trust).release("digits", "1.0.0")
    assert caught.value.kind == "state"


def test_an_unsigned_repository_is_read_as_it_is(tmp_path: Path) -> None:
    publish(make_release("1.0.0"), tmp_path)
    repository = open_repository(str(tmp_path), Trust(unsigned=True))
    release = repository.release("digits", "1.0.0")
    assert release == make_release("1.0.0").release
    assert repository.unavailable(release.all_files()) == {}
    repository.bring(release.all_files())
    os.unlink(repository.blob_path(FILE.sha256))
    assert repository.unavailable(release.all_files()) == {FILE.sha256: repository.blob_path(FILE.sha256)}


def test_a_withdrawn_release_of_an_unsigned_repository(tmp_path: Path) -> None:
    publish(make_release("1.0.0"), tmp_path)
    withdrawn = tmp_path / "digits/1.0.0/withdrawn.json"
    withdrawn.write_text('{"reason": "bad labels"}')
    repository = open_repository(str(tmp_path), Trust(unsigned=True))
    with pytest.raises(TrustError, match=r"digits 1\.0\.0 is withdrawn: bad labels") as caught:
        repository.release("digits", "1.0.0")
    assert caught.value.kind == "withdrawn"
    for text in ("", "{}", "[]", '{"reason": 1}'):
        withdrawn.write_text(text)
        with pytest.raises(ManifestError, match=r"withdrawn\.json"):
            repository.release("digits", "1.0.0")


def test_blobs_of_a_web_server_are_brought_once_and_forgotten_when_nobody_asks(signed: Signed, trust: Trust) -> None:
    with served(signed.path) as url:
        repository = open_repository(url, trust)
        release = repository.release("digits", "1.0.0")
        assert repository.unavailable(release.all_files()) == {}
        assert repository.verify(release) == FILE.size
        old = Path(repository.blob_path("0" * 64))
        old.write_bytes(b"of a release that nobody wants any more")
        month_ago = time.time() - 31 * 86_400
        os.utime(old, (month_ago, month_ago))
        os.utime(repository.blob_path(FILE.sha256), (month_ago, month_ago))
        (signed.path / "blobs/sha256" / FILE.sha256).unlink()
        repository.bring(release.all_files())
        assert [path.name for path in old.parent.iterdir()] == [FILE.sha256]
        os.unlink(repository.blob_path(FILE.sha256))
        with pytest.raises(TrustError) as caught:
            repository.bring(release.all_files())
        assert caught.value.kind == "missing"
        # What would be gone on with next time, and has nothing yet.
        assert [(path.suffix, path.stat().st_size) for path in old.parent.iterdir()] == [(".part", 0)]


def put_delta(signed: Signed, delta: bytes, index: bytes | None = None) -> Delta:
    """Have the repository say that there is a delta of its blob."""
    named = Delta(sha256(delta), len(delta), ("ab" * 32,))
    directory = signed.path / "deltas" / FILE.sha256
    directory.mkdir(parents=True, exist_ok=True)
    (directory / named.sha256).write_bytes(delta)
    (directory / "index.json").write_bytes(index or json.dumps(index_document([named])).encode())
    return named


def test_deltas_of_a_web_server_are_brought_once(signed: Signed, trust: Trust) -> None:
    with served(signed.path) as url:
        repository = open_repository(url, trust)
        named = put_delta(signed, b"d" * (FILE.size - 1))
        assert repository.deltas(FILE) == [named]
        repository.bring_delta(FILE, named)
        shutil.rmtree(signed.path / "deltas")
        assert repository.deltas(FILE) == [named]
        repository.bring_delta(FILE, named)
        path = Path(repository.delta_path(FILE, named))
        assert path.read_bytes() == b"d" * (FILE.size - 1)
        old = path.with_name("0" * 64)
        old.write_bytes(b"")
        for name in (old, path.with_name("index.json")):
            os.utime(name, (time.time() - 31 * 86_400,) * 2)
        repository.bring_delta(FILE, named)
        assert not old.exists()
        assert repository.deltas(FILE) == [], "the index is asked for anew, and there is none any more"


@pytest.mark.parametrize("index", [b"{", b"\xff" * 99, b" " * (1 << 19)], ids=["damaged", "no text", "too large"])
def test_a_wrong_index_of_a_web_server_is_none(signed: Signed, trust: Trust, index: bytes) -> None:
    with served(signed.path) as url:
        put_delta(signed, b"d", index)
        assert open_repository(url, trust).deltas(FILE) == []


def test_a_delta_with_another_content_than_its_name_is_not_kept(signed: Signed, trust: Trust) -> None:
    with served(signed.path) as url:
        repository = open_repository(url, trust)
        named = put_delta(signed, b"d" * 9)
        (signed.path / "deltas" / FILE.sha256 / named.sha256).write_bytes(b"e" * 9)
        assert repository.deltas(FILE) == [named]
        with pytest.raises(TrustError):
            repository.bring_delta(FILE, named)
        assert not Path(repository.delta_path(FILE, named)).exists()


def test_a_path_and_an_address_have_states_of_their_own(signed: Signed, trust: Trust, tmp_path: Path) -> None:
    with served(signed.path) as url:
        for location in (str(signed.path), url, f"{url}/"):
            open_repository(location, trust).release("digits", "1.0.0")
    assert len(list((tmp_path / "state").iterdir())) == 2


def test_metadata_with_a_custom_field_of_another_kind(signed: Signed, trust: Trust) -> None:
    now = signed.signing.state().targets.signed
    now.version += 1
    now.targets["digits/1.0.0/manifest.json"].unrecognized_fields["custom"] = {"withdrawn": True}
    signed.forge(now, signed.holders.targets[:2], signed.holders.online)
    with pytest.raises(TrustError, match="expected a text 'digest'"):
        open_repository(str(signed.path), trust).release("digits", "1.0.0")


def test_a_root_that_expires_soon_is_named(tmp_path: Path) -> None:
    from signed import days_ago

    signed = Signed(tmp_path / "repository", clock=days_ago(100))
    signed.signing._now = days_ago(0)
    signed.signing.renew([signed.holders.online])
    (tmp_path / "root.json").write_bytes(signed.root)
    repository = open_repository(
        str(signed.path), Trust(root=str(tmp_path / "root.json"), state=str(tmp_path / "state"))
    )
    repository.release("digits", "1.0.0")
    (warning,) = repository.warnings
    assert "targets expires in 79 days" in warning or "targets expires in 80 days" in warning


def test_damaged_metadata_cannot_be_signed_over(signed: Signed) -> None:
    snapshot = signed.directory / "1.snapshot.json"
    content = json.loads(snapshot.read_text())
    (signed.directory / "timestamp.json").write_text("{")
    with pytest.raises(TrustError, match=r"timestamp\.json: expected signed metadata"):
        signed.signing.state()
    (signed.directory / "timestamp.json").write_text(json.dumps(content))
    with pytest.raises(TrustError, match=r"timestamp\.json: expected timestamp; found snapshot"):
        signed.signing.state()


def test_a_download_that_breaks_off_goes_on_from_there(tmp_path: Path) -> None:
    """By the next try, and by the next run: blocks that were verified do not come again."""
    content = bytes(range(256)) * (5 << 12)
    made = make_release("1.0.0", files={"model.onnx": content})
    signed = Signed(tmp_path / "repository", versions=())
    publish(made, signed.path)
    signed.release()
    (tmp_path / "root.json").write_bytes(signed.root)
    file = made.release.all_files()[0]
    starts: list[int] = []

    def cutting(handler: Any) -> None:
        """Give what is asked for, and break off 1.5 MiB later; the second connection gives nothing at all."""
        start = int(handler.headers["Range"].removeprefix("bytes=").split("-")[0])
        starts.append(start)
        if len(starts) == 2:
            handler.send_error(404)
            return
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        handler.wfile.write(content[start : start + (3 << 19)])
        handler.close_connection = True

    trust = Trust(root=str(tmp_path / "root.json"), state=str(tmp_path / "state"))
    with served(signed.path, {f"/blobs/sha256/{file.sha256}": cutting}) as url:
        repository = open_repository(url, trust)
        with pytest.raises(TrustError) as caught:
            repository.bring([file])
        assert caught.value.kind == "missing"
        open_repository(url, trust).bring([file])
    assert Path(repository.blob_path(file.sha256)).read_bytes() == content
    asked = [starts[0], *starts[2:]]
    assert asked[0] == 0
    assert all(later >= earlier + (1 << 20) for earlier, later in itertools.pairwise(asked)), asked


def test_the_environment_names_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "models.example")
    assert _proxy("http://other.example/models") == "http://proxy.example:3128"
    assert _proxy("http://models.example/models") is None


def test_small_files_that_nobody_signs_come_from_a_directory_or_by_their_names(signed: Signed, trust: Trust) -> None:
    directory = signed.path / "profiles/pi-4%202gb"
    directory.mkdir(parents=True)
    (directory / "digits.json").write_bytes(b"one")
    (directory / "other.json").write_bytes(b"two")
    here = open_repository(str(signed.path), trust)
    assert [*here.hints("profiles/pi-4%202gb", "digits.json").values()] == [b"one", b"two"]
    assert here.hints("profiles/none", "digits.json") == {}
    with served(signed.path) as address:
        there = open_repository(address, trust)
        found = there.hints("profiles/pi-4%202gb", "digits.json")
        assert found == {f"{address}: profiles/pi-4%202gb/digits.json": b"one"}
        assert there.hints("profiles/none", "digits.json") == {}
