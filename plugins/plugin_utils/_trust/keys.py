# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Keys: made, kept encrypted, and read with a passphrase. One type: ECDSA on the curve P-256, with SHA-256."""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Mapping

from ansible_collections.edgeml.fleet.plugins.module_utils._trust.metadata import TrustError

with contextlib.suppress(ImportError):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from securesystemslib.signer import CryptoSigner, SSlibKey
if TYPE_CHECKING:
    from tuf.api.metadata import Key

PASSPHRASE_CHARACTERS_MIN = 12
PASSPHRASE_VARIABLE = "EDGEML_PASSPHRASE"
# A key's holder or place, for people; signatures do not depend on it.
NAME_FIELD = "x-edgeml-name"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}\Z")


class KeyFileError(TrustError):
    """A key cannot be made or read; the text names the file, and what to do."""


@dataclass
class Passphrases:
    """Where passphrases come from: the environment, else a file, else a person.

    ``EDGEML_PASSPHRASE_<NAME>`` is for one key, ``EDGEML_PASSPHRASE`` for all of them.
    """

    file: str | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    prompt: Callable[[str], str] = getpass.getpass
    can_ask: Callable[[], bool] = field(default_factory=lambda: sys.stdin.isatty)

    def read(self, name: str, *, new: bool = False) -> str:
        """Return the passphrase of the key ``name``; a ``new`` one is asked for twice. Raises KeyFileError."""
        variable = f"{PASSPHRASE_VARIABLE}_{re.sub('[^A-Za-z0-9]', '_', name).upper()}"
        found = self.environment.get(variable) or self.environment.get(PASSPHRASE_VARIABLE)
        if not found and self.file:
            try:
                with open(self.file, encoding="utf-8") as source:
                    found = source.read().rstrip("\n")
            except (OSError, ValueError) as error:
                raise KeyFileError(f"{self.file}: expected the passphrase of the key {name}; {error}") from error
        if not found:
            if not self.can_ask():
                raise KeyFileError(
                    f"key {name}: its passphrase is asked for at a terminal, and there is none. Set {variable}, or "
                    "name a file with --passphrase-file"
                )
            found = self.prompt(f"Passphrase of the key {name}: ")
            if new and found != self.prompt(f"The same again, for the key {name}: "):
                raise KeyFileError(f"key {name}: both passphrases have to be the same; nothing was written")
        if new and len(found) < PASSPHRASE_CHARACTERS_MIN:
            raise KeyFileError(
                f"key {name}: expected a passphrase of at least {PASSPHRASE_CHARACTERS_MIN} characters; found "
                f"{len(found)}. Take five random words: the file alone must not be enough to guess it"
            )
        return found


@dataclass(frozen=True)
class PrivateKey:
    """A key that signs."""

    name: str
    private: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def signer(self) -> CryptoSigner:
        """What signs metadata with this key."""
        return CryptoSigner(self.private)

    @property
    def public(self) -> SSlibKey:
        """The public part, with the key's name."""
        return _named(SSlibKey.from_crypto(self.private.public_key()), self.name)

    @property
    def id(self) -> str:
        """The key's id, which is a digest of its public part."""
        return str(self.public.keyid)


def key_name(key: Key) -> str:
    """What people call a key; the start of its id where it has no name."""
    return str(key.unrecognized_fields.get(NAME_FIELD) or key.keyid[:8])


def generate(name: str) -> PrivateKey:
    """Make a key. Raises KeyFileError for a name that cannot be a file's."""
    if not _NAME.match(name):
        raise KeyFileError(
            "key name: expected 1 to 64 of the characters A-Z a-z 0-9 _ . @ -, the first a letter or digit; found "
            f"{name!r}"
        )
    return PrivateKey(name, ec.generate_private_key(ec.SECP256R1()))


def write(key: PrivateKey, directory: str, passphrase: str | None) -> str:
    """Write ``<name>.pem``, readable by its owner only, and ``<name>.pub``; return the first one's path.

    Raises KeyFileError if there is one already: a key that is overwritten is lost.
    """
    os.makedirs(directory, mode=0o700, exist_ok=True)
    encryption: Any = (
        serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
    )
    private = key.private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    path = os.path.join(directory, f"{key.name}.pem")
    for target, content, mode in ((path, private, 0o600), (public_path(path), _public_pem(key), 0o644)):
        try:
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        except FileExistsError:
            raise KeyFileError(f"{target}: there is a key already, and it stays. Name another directory") from None
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    return path


def public_path(path: str) -> str:
    """The path of the public part of the key at ``path``."""
    return f"{os.path.splitext(path)[0]}.pub"


def read_private(path: str, passphrases: Passphrases) -> PrivateKey:
    """Read a private key. Its name is the file's. Raises KeyFileError."""
    name = _file_name(path)
    content = _content(path)
    try:
        if b"ENCRYPTED" in content:
            private = serialization.load_pem_private_key(content, passphrases.read(name).encode())
        else:
            private = serialization.load_pem_private_key(content, None)
    except (ValueError, TypeError) as error:
        raise KeyFileError(f"{path}: expected a private key in PEM and its passphrase; {error}") from error
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise KeyFileError(f"{path}: expected an ECDSA key on the curve P-256; found another kind")
    return PrivateKey(name, private)


def read_public(path: str) -> SSlibKey:
    """Read the public part of somebody's key. Its name is the file's. Raises KeyFileError."""
    try:
        public = serialization.load_pem_public_key(_content(path))
    except ValueError as error:
        raise KeyFileError(f"{path}: expected a public key in PEM, such as NAME.pub; {error}") from error
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise KeyFileError(f"{path}: expected an ECDSA key on the curve P-256; found another kind")
    return _named(SSlibKey.from_crypto(public), _file_name(path))


def _named(key: SSlibKey, name: str) -> SSlibKey:
    return SSlibKey(key.keyid, key.keytype, key.scheme, key.keyval, {NAME_FIELD: name})


def _file_name(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(65_536)
    except OSError as error:
        raise KeyFileError(f"{path}: expected a key; {error.strerror}") from error


def _public_pem(key: PrivateKey) -> bytes:
    public: bytes = key.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return public
