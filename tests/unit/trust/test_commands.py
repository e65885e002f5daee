# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The commands that make keys and sign, as people run them one after another."""

from __future__ import annotations

import argparse
import stat
from pathlib import Path

import pytest
from releases import make_release, publish

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ManifestError
from ansible_collections.edgeml.fleet.plugins.module_utils._trust import metadata
from ansible_collections.edgeml.fleet.plugins.module_utils._trust.client import Client
from ansible_collections.edgeml.fleet.plugins.module_utils._trust.metadata import TrustError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish import repository_commands
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.garbage_collection import collect
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.promotion import promote
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust import cli, keys
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.keys import KeyFileError, Passphrases
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.repository import Trust, open_repository

PASSPHRASE = "correct horse battery"


def run(*arguments: object) -> int:
    """Run a command as edgeml-publish does."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    cli.register(commands)
    repository_commands.register(commands)
    options = parser.parse_args([str(argument) for argument in arguments])
    code: int = options.run(options)
    return code


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a release that nobody has signed, and a passphrase in the environment."""
    monkeypatch.setenv("EDGEML_PASSPHRASE", PASSPHRASE)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "repository"
    publish(make_release("1.0.0"), path)
    return path


def believed(repository: Path, directory: Path) -> list[str]:
    """What a client believes that pins the root that was written beside the keys."""
    root = (directory / "root.json").read_bytes()
    return [release.version for release in Client(str(repository), root, str(directory / "state")).releases()]


def test_one_person_at_one_desk(repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = tmp_path / "keys"
    assert run("keys", "init", "--repository", repository, "--keys", held) == 0
    assert believed(repository, held) == ["1.0.0"]
    assert sorted(path.name for path in held.glob("*.pem")) == [
        *("online.pem", "root-1.pem", "root-2.pem", "root-3.pem"),
        *("targets-1.pem", "targets-2.pem", "targets-3.pem"),
    ]
    for path in held.glob("*.pem"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert (b"ENCRYPTED" in path.read_bytes()) == (path.name != "online.pem")
    publish(make_release("2.0.0"), repository)
    signers = ("--key", held / "targets-1.pem", "--key", held / "targets-3.pem", "--online-key", held / "online.pem")
    assert run("sign", "--repository", repository, *signers) == 0
    assert believed(repository, held) == ["1.0.0", "2.0.0"]
    assert run("sign", "--repository", repository, *signers) == 0
    assert "nothing to sign" in capsys.readouterr().out
    assert run("renew", "--repository", repository) == 0
    assert capsys.readouterr().out == ""
    assert run("status", "--repository", repository) == 0
    assert "DEVELOPMENT" not in capsys.readouterr().out


def test_people_with_keys_of_their_own(repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each has a private key at home; what goes round is public keys, and the request."""
    people = ("ann", "bob", "cy", "dee")
    for name in people:
        assert run("keys", "new", name, "--keys", tmp_path / name) == 0
    public: list[object] = []
    for name in people[:3]:
        file = tmp_path / name / f"{name}.pub"
        public += ["--root-key", file, "--targets-key", file]
    online = tmp_path / "online"
    assert run("keys", "init", "--repository", repository, "--keys", online, *public, "--request", "first.json") == 3
    assert not (repository / "metadata").exists()
    assert run("sign", "--request", "first.json", "--key", tmp_path / "ann/ann.pem") == 3
    assert capsys.readouterr().out.endswith("next: edgeml-publish sign --request first.json --key FILE\n")
    assert run("sign", "--request", "first.json", "--key", tmp_path / "cy/cy.pem") == 3
    into_force = "next: edgeml-publish sign --request first.json --repository DIRECTORY --online-key FILE\n"
    assert capsys.readouterr().out.endswith(into_force)
    bring = ("--repository", repository, "--online-key", online / "online.pem")
    assert run("sign", "--request", "first.json", *bring) == 0
    assert not Path("first.json").exists()
    (online / "root.json").write_bytes((repository / "metadata/1.root.json").read_bytes())
    assert believed(repository, online) == ["1.0.0"]
    # Bob leaves, Dee comes; Ann and Cy sign for it.
    change = ("--role", "targets", "--remove", "bob", "--add", tmp_path / "dee/dee.pub", "--request", "second.json")
    assert run("rotate", "--repository", repository, *change, "--key", tmp_path / "ann/ann.pem") == 3
    assert "can sign: bob, cy" in capsys.readouterr().out
    assert run("sign", "--request", "second.json", *bring, "--key", tmp_path / "cy/cy.pem") == 0
    publish(make_release("2.0.0"), repository)
    with pytest.raises(TrustError, match="key bob: it may sign nothing"):
        run("sign", *bring, "--key", tmp_path / "bob/bob.pem")
    assert run("sign", *bring, "--key", tmp_path / "dee/dee.pem", "--key", tmp_path / "ann/ann.pem") == 0
    assert believed(repository, online) == ["1.0.0", "2.0.0"]
    # The root for another year.
    signers = ("--key", tmp_path / "ann/ann.pem", "--key", tmp_path / "bob/bob.pem")
    assert run("rotate", "--repository", repository, *signers) == 0
    assert believed(repository, online) == ["1.0.0", "2.0.0"]


def test_a_request_that_was_completed_is_nothing_to_do(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = tmp_path / "keys"
    assert run("keys", "init", "--repository", repository, "--keys", held) == 0
    own = ["--key", held / "targets-1.pem", "--key", held / "targets-2.pem"]
    online = ["--repository", repository, "--online-key", held / "online.pem"]

    def request(version: str) -> Path:
        publish(make_release(version), repository)
        path = tmp_path / f"{version}.json"
        assert run("sign", "--repository", repository, "--request", path) == 3
        assert run("sign", "--request", path, *own) == 3
        return path

    first = request("1.1.0")
    copy = tmp_path / "copy.json"
    copy.write_bytes(first.read_bytes())
    assert run("sign", "--request", first, *online) == 0
    assert run("sign", "--request", request("1.2.0"), *online) == 0
    capsys.readouterr()
    # As a pipeline that is run again has it: the request is old, and what it asked for is there.
    before = (repository / "metadata/timestamp.json").read_bytes()
    assert run("sign", "--request", copy, *online) == 0
    assert "nothing to do: this is in force" in capsys.readouterr().out
    assert (repository / "metadata/timestamp.json").read_bytes() == before
    assert believed(repository, held) == ["1.0.0", "1.1.0", "1.2.0"]
    # Not so where the release was withdrawn since: then the old request would bring it back.
    assert (
        run("withdraw", "--repository", repository, "--model", "digits", "--version", "1.1.0", "--reason", "bad") == 0
    )
    assert run("sign", "--repository", repository, *own, *online[2:]) == 0
    with pytest.raises(TrustError, match="has changed since the request was made"):
        run("sign", "--request", copy, *online)


def test_a_development_key_says_so_everywhere(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGEML_PASSPHRASE")
    monkeypatch.setattr("builtins.input", lambda: pytest.fail("a question"))
    held = tmp_path / "keys"
    dev = held / "dev.pem"
    for arguments in (
        ("keys", "init", "--dev", "--repository", repository, "--keys", held),
        ("rotate", "--repository", repository, "--key", dev),
        ("status", "--repository", repository),
    ):
        assert run(*arguments) == 0
        assert "DEVELOPMENT KEY" in capsys.readouterr().out, arguments
    publish(make_release("2.0.0"), repository)
    assert run("sign", "--repository", repository, "--key", dev) == 0
    assert "DEVELOPMENT KEY" in capsys.readouterr().out
    client = Client(str(repository), (held / "root.json").read_bytes(), str(tmp_path / "state"))
    client.refresh()
    assert "DEVELOPMENT KEY" in client.warnings[0]


def test_keys_come_before_the_first_release(tmp_path: Path) -> None:
    repository, held = tmp_path / "srv" / "models", tmp_path / "keys"
    assert run("keys", "init", "--dev", "--repository", repository, "--keys", held) == 0
    publish(make_release("1.0.0"), repository)
    assert run("sign", "--repository", repository, "--key", held / "dev.pem") == 0
    assert believed(repository, held) == ["1.0.0"]


def test_a_withdrawn_release_is_named(repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = tmp_path / "keys"
    assert run("keys", "init", "--dev", "--repository", repository, "--keys", held) == 0
    release = ("--model", "digits", "--version", "1.0.0")
    assert run("withdraw", "--repository", repository, *release, "--reason", "bad labels") == 0
    assert "next: edgeml-publish sign" in capsys.readouterr().out
    assert run("status", "--repository", repository) == 1
    assert run("sign", "--repository", repository, "--key", held / "dev.pem", "--online-key", held / "dev.pem") == 0
    capsys.readouterr()
    assert run("status", "--repository", repository) == 0
    said = capsys.readouterr().out
    assert "withdrawn: digits 1.0.0: bad labels" in said
    assert f"keys of root: dev ({keys.read_public(str(held / 'dev.pub')).keyid[:8]})" in said
    trust = Trust(root=str(held / "root.json"), state=str(tmp_path / "state"))
    assert open_repository(str(repository), trust).withdrawn_releases() == {"digits": {"1.0.0": "bad labels"}}
    assert run("withdraw", "--repository", repository, *release, "--undo") == 0
    assert "digits 1.0.0 is published, and not withdrawn\nnext: edgeml-publish sign" in capsys.readouterr().out
    assert run("sign", "--repository", repository, "--key", held / "dev.pem", "--online-key", held / "dev.pem") == 0
    assert open_repository(str(repository), trust).withdrawn_releases() == {}


def test_a_channel_is_in_force_once_it_is_signed(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = tmp_path / "keys"
    signing = ("sign", "--repository", repository, "--key", held / "dev.pem")
    publish(make_release("1.1.0"), repository)
    assert run("keys", "init", "--dev", "--repository", repository, "--keys", held) == 0
    promote(str(repository), "digits", "production", version="1.0.0", source=None)
    assert run("status", "--repository", repository) == 1
    assert "* digits: channel production: 1.0.0, before nothing" in capsys.readouterr().err
    assert run(*signing) == 0
    believing = Trust(root=str(held / "root.json"), state=str(tmp_path / "state"))
    assert open_repository(str(repository), believing).version_of("digits", "channel:production") == "1.0.0"

    promote(str(repository), "digits", "production", version="1.1.0", source=None)
    assert open_repository(str(repository), believing).version_of("digits", "channel:production") == "1.0.0"
    # So gc keeps both: the one that is in force, and the one that will be.
    publish(make_release("1.2.0", created="2026-11-02T00:00:00Z"), repository)
    kept = collect(str(repository), keep_last=1, blob_age_seconds=0).kept
    assert kept["digits", "1.0.0"] == ["channel production, as it is signed"]
    assert kept["digits", "1.1.0"] == ["channel production"]
    capsys.readouterr()
    assert run(*signing) == 0
    assert "* digits: channel production: 1.1.0, before 1.0.0" in capsys.readouterr().out
    assert open_repository(str(repository), believing).version_of("digits", "channel:production") == "1.1.0"
    with pytest.raises(ManifestError, match=r"digits has no channel beta; it has production\. Set it with"):
        open_repository(str(repository), believing).version_of("digits", "channel:beta")

    # What a channel stands for has to be there, and one channel stands for one version.
    (repository / "digits" / "1.1.0" / "manifest.json").unlink()
    with pytest.raises(TrustError, match=r"digits: channel production: 1\.1\.0 is not in the repository"):
        run(*signing)
    both = [metadata.SignedRelease("digits", version, "d", None, ("production",)) for version in ("1.0.0", "1.1.0")]
    with pytest.raises(TrustError, match=r"channel production: expected one version; found 1\.0\.0 and 1\.1\.0"):
        metadata.channels_of(both, "digits")


def test_a_withdrawn_release_on_a_channel_is_refused(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    promote(str(repository), "digits", "production", version="1.0.0", source=None)
    release = ("--model", "digits", "--version", "1.0.0")
    assert run("withdraw", "--repository", repository, *release, "--reason", "bad labels") == 0
    assert "channel production stands for it" in capsys.readouterr().out
    reasons = {"digits": {"1.0.0": "bad labels"}}
    assert open_repository(str(repository), Trust(unsigned=True)).withdrawn_releases() == reasons
    found = open_repository(str(repository), Trust(unsigned=True))
    with pytest.raises(TrustError, match=r"digits 1\.0\.0 is withdrawn: bad labels"):
        found.release("digits", found.version_of("digits", "channel:production"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("keys", "init", "--keys", "repository/keys"), "expected a directory outside of"),
        (("keys", "init", "--keys", "keys", "--targets-threshold", "3"), "from 1 to 2 for 3 keys; found 3"),
        (("renew",), "expected signed metadata; the repository has none"),
        (("status",), "edgeml-publish keys init"),
    ],
)
def test_what_is_refused(repository: Path, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(TrustError, match=message):
        run(*arguments, "--repository", repository)
    assert not (repository / "metadata").exists()


def test_what_a_rotation_refuses(repository: Path, tmp_path: Path) -> None:
    held = tmp_path / "keys"
    assert run("keys", "init", "--repository", repository, "--keys", held) == 0
    with pytest.raises(TrustError, match="expected one of targets-1, targets-2, targets-3; found bob"):
        run("rotate", "--repository", repository, "--role", "targets", "--remove", "bob")
    with pytest.raises(TrustError, match="expected --role"):
        run("rotate", "--repository", repository, "--remove", "bob")
    with pytest.raises(TrustError, match="from 1 to 1 for 2 keys; found 2"):
        run("rotate", "--repository", repository, "--role", "targets", "--remove", "targets-1")
    with pytest.raises(TrustError, match="the repository has keys already"):
        run("keys", "init", "--repository", repository, "--keys", held)


# ---- keys ----


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    keys.write(keys.generate("ann"), str(tmp_path), PASSPHRASE)
    before = (tmp_path / "ann.pem").read_bytes()
    with pytest.raises(KeyFileError, match="it stays"):
        keys.write(keys.generate("ann"), str(tmp_path), PASSPHRASE)
    assert (tmp_path / "ann.pem").read_bytes() == before


def test_where_passphrases_come_from(tmp_path: Path) -> None:
    answers = iter(["asked for it twice", "asked for it twice", "one thing is typed", "another is typed"])
    environment = {"EDGEML_PASSPHRASE_ANN_B": "of this key alone", "EDGEML_PASSPHRASE": ""}
    file = tmp_path / "passphrase"
    file.write_text("what the file says\n")
    asking = Passphrases(environment=environment, prompt=lambda _text: next(answers), can_ask=lambda: True)
    assert asking.read("ann-b") == "of this key alone"
    assert asking.read("bob", new=True) == "asked for it twice"
    with pytest.raises(KeyFileError, match="have to be the same"):
        asking.read("bob", new=True)
    assert Passphrases(str(file), environment).read("bob", new=True) == "what the file says"
    with pytest.raises(KeyFileError, match="EDGEML_PASSPHRASE_BOB"):
        Passphrases(environment={}, can_ask=lambda: False).read("bob")
    with pytest.raises(KeyFileError, match="at least 12 characters; found 5"):
        Passphrases(environment={"EDGEML_PASSPHRASE": "short"}).read("bob", new=True)
    with pytest.raises(KeyFileError, match="expected the passphrase of the key bob"):
        Passphrases(str(tmp_path / "none"), {}).read("bob")


def test_a_key_that_cannot_be_read(tmp_path: Path) -> None:
    right = Passphrases(environment={"EDGEML_PASSPHRASE": PASSPHRASE})
    wrong = Passphrases(environment={"EDGEML_PASSPHRASE": "something else"})
    path = keys.write(keys.generate("ann"), str(tmp_path), PASSPHRASE)
    assert keys.read_private(path, right).id == keys.read_public(keys.public_path(path)).keyid
    with pytest.raises(KeyFileError, match="expected a private key in PEM and its passphrase"):
        keys.read_private(path, wrong)
    with pytest.raises(KeyFileError, match="No such file"):
        keys.read_private(str(tmp_path / "none.pem"), right)
    with pytest.raises(KeyFileError, match="expected a public key in PEM"):
        keys.read_public(path)
    with pytest.raises(KeyFileError, match="key name"):
        keys.generate("../ann")


def test_another_kind_of_key_is_refused(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    other = ec.generate_private_key(ec.SECP384R1())
    (tmp_path / "a.pem").write_bytes(
        other.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (tmp_path / "a.pub").write_bytes(
        other.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(KeyFileError, match="on the curve P-256"):
        keys.read_private(str(tmp_path / "a.pem"), Passphrases())
    with pytest.raises(KeyFileError, match="on the curve P-256"):
        keys.read_public(str(tmp_path / "a.pub"))
