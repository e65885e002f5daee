# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The commands of ``edgeml-publish`` that make keys and sign. Each returns its exit code, and raises EdgemlError.

0: done, or nothing to do. 1: of ``status``, something needs attention. 3: signed, and more signatures are needed.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import write_whole
from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table
from ansible_collections.edgeml.fleet.plugins.module_utils._common.words import counted
from ansible_collections.edgeml.fleet.plugins.module_utils._trust.metadata import OFFLINE, ONLINE, TrustError, now_utc
from ansible_collections.edgeml.fleet.plugins.module_utils._trust.roots import is_development

from . import keys
from .fleets import fleet_rows, propose_fleet
from .keys import Passphrases, PrivateKey, key_name
from .request import REQUEST_BYTES_MAX, Request
from .signing import RoleKeys, SigningRepository

DONE, ATTENTION, INCOMPLETE = 0, 1, 3
DEVELOPMENT = "DEVELOPMENT KEY: one key signs everything. Good for trying, not for devices that matter: docs/signing.md"
HOLDERS = 3
_NEXT_KEY, _INTO_FORCE = "--key FILE", "--repository DIRECTORY --online-key FILE"


def _passphrases(options: argparse.Namespace) -> Passphrases:
    return Passphrases(file=options.passphrase_file)


def new(options: argparse.Namespace) -> int:
    """Make somebody's own key."""
    key = keys.generate(options.name)
    passphrase = None if options.online else _passphrases(options).read(options.name, new=True)
    path = keys.write(key, options.keys, passphrase)
    print(f"{path}: keep it, and a copy elsewhere\n{keys.public_path(path)}: hand this to who sets the repository up")
    return DONE


def init(options: argparse.Namespace) -> int:
    """Have a repository signed from now on."""
    repository = SigningRepository(options.repository)
    if os.path.commonpath([repository.path, options.keys]) == repository.path:
        raise TrustError(f"--keys: expected a directory outside of {repository.path}, which others read")
    if repository.is_signed:
        raise TrustError(f"{repository.metadata}: the repository has keys already. Change them with: rotate")
    try:
        os.makedirs(repository.path, exist_ok=True)
    except OSError as error:
        raise TrustError(f"{repository.path}: the repository cannot be made: {error.strerror}") from error
    holders: dict[str, RoleKeys] = {}
    own: list[PrivateKey] = []
    if options.dev:
        online = _own_key("dev", options, encrypted=False)
        holders = {role: RoleKeys((online.public,), 1) for role in (*OFFLINE, *ONLINE)}
        own = [online]
    else:
        for role in OFFLINE:
            given = [keys.read_public(path) for path in getattr(options, f"{role}_key")]
            threshold = getattr(options, f"{role}_threshold")
            if not given:
                made = [_own_key(f"{role}-{number}", options) for number in range(1, HOLDERS + 1)]
                own += made
                given = [key.public for key in made]
            holders[role] = RoleKeys(tuple(given), threshold)
        online = _own_key("online", options, encrypted=False)
        holders.update({role: RoleKeys((online.public,), 1) for role in ONLINE})
    request = repository.begin(holders)
    for key in own:
        request.sign(key)
    return _finish(request, repository, [online], options, pinned=os.path.join(options.keys, "root.json"))


def _own_key(name: str, options: argparse.Namespace, *, encrypted: bool = True) -> PrivateKey:
    """The key ``name`` of the directory of keys; made if it is not there."""
    path = os.path.join(options.keys, f"{name}.pem")
    passphrases = _passphrases(options)
    if os.path.exists(path):
        return keys.read_private(path, passphrases)
    key = keys.generate(name)
    keys.write(key, options.keys, passphrases.read(name, new=True) if encrypted else None)
    return key


def sign(options: argparse.Namespace) -> int:
    """Sign what the repository holds, or a request."""
    repository = SigningRepository(options.repository) if options.repository else None
    if options.request and os.path.exists(options.request):
        request: Request | None = _read_request(options.request)
    elif repository is None:
        raise TrustError("expected --repository, or --request with a file that somebody gave you")
    else:
        request = repository.propose_targets()
    if request is None:
        print("nothing to sign: everything that the repository holds is signed")
        return DONE
    return _finish(request, repository, _private(options.online_key, options), options)


def rotate(options: argparse.Namespace) -> int:
    """Change who may sign, or sign the root for another year."""
    repository = SigningRepository(options.repository)
    if options.request and os.path.exists(options.request):
        raise TrustError(f"{options.request}: there is a request already. Go on with: edgeml-publish sign --request")
    if not options.role and (options.add or options.remove or options.threshold):
        raise TrustError("expected --role with --add, --remove and --threshold")
    changed: dict[str, RoleKeys] = {}
    root = repository.root().signed
    for role in ONLINE if options.role == "online" else filter(None, [options.role]):
        found = {keys.key_name(root.keys[keyid]): root.keys[keyid] for keyid in root.roles[role].keyids}
        unknown = [name for name in options.remove if name not in found]
        if unknown:
            raise TrustError(f"--remove: expected one of {', '.join(sorted(found))}; found {', '.join(unknown)}")
        kept = [key for name, key in found.items() if name not in options.remove]
        added = [keys.read_public(path) for path in options.add]
        changed[role] = RoleKeys((*kept, *added), options.threshold or root.roles[role].threshold)
    return _finish(repository.propose_root(changed), repository, _private(options.online_key, options), options)


def fleet(options: argparse.Namespace) -> int:
    """Say which online key may write the desired state of a fleet."""
    repository = SigningRepository(options.repository)
    added = [keys.read_public(path) for path in options.add]
    request = propose_fleet(repository, options.fleet, added, options.remove)
    return _finish(request, repository, _private(options.online_key, options), options)


def _finish(
    request: Request,
    repository: SigningRepository | None,
    online: Sequence[PrivateKey],
    options: argparse.Namespace,
    pinned: str | None = None,
) -> int:
    """Sign with the keys that are given; bring it into force if that is enough, else write it for the next person."""
    print("\n".join(request.summary()))
    if repository is not None and repository.is_signed and request.is_made(repository.state().targets.signed):
        print(f"{repository.path}: nothing to do: this is in force")
        return DONE
    own = _private(getattr(options, "key", []), options)
    for key in own:
        print(f"{key.name} signs {' and '.join(request.sign(key))}")
    missing = request.missing()
    if missing or repository is None:
        path = options.request or "signing-request.json"
        write_whole(path, request.to_json())
        for line in missing or ["all signatures are there: whoever looks after the repository brings it into force"]:
            print(line)
        print(f"next: edgeml-publish sign --request {path} {_NEXT_KEY if missing else _INTO_FORCE}")
        return INCOMPLETE
    # A key for trying signs for every role.
    everywhere = [key for key in own if any(key.id in request.effective.roles[role].keyids for role in ONLINE)]
    repository.complete(request, [*online, *everywhere])
    if options.request and os.path.exists(options.request):
        os.unlink(options.request)
    root = repository.root()
    print(f"{repository.path}: signed; root {root.signed.version}, targets {repository.state().targets.signed.version}")
    if pinned:
        write_whole(pinned, root.to_bytes().decode())
        print(f"on each controller: model_repository_root: <a copy of {pinned}>")
    if is_development(root.signed):
        print(DEVELOPMENT)
    return DONE


def renew(options: argparse.Namespace) -> int:
    """Sign snapshot and timestamp anew when that is due."""
    repository = SigningRepository(options.repository)
    for line in repository.renew(_private(options.online_key, options)):
        print(line)
        if is_development(repository.root().signed):
            print(DEVELOPMENT)
    return DONE


def status(options: argparse.Namespace) -> int:
    """Show who signed, until when, and what has to be done."""
    repository = SigningRepository(options.repository)
    found = repository.status()
    fleets = fleet_rows(repository.state(), now_utc())
    print("\n".join(text_table([*found.rows, *fleets])))
    root = repository.root().signed
    for role in OFFLINE:
        holders = sorted((key_name(root.keys[key_id]), key_id[:8]) for key_id in root.roles[role].keyids)
        print(f"keys of {role}: {', '.join(f'{name} ({key_id})' for name, key_id in holders)}")
    print(f"signed: {counted(found.releases, 'release')}")
    for release in found.withdrawn:
        print(f"withdrawn: {release.model} {release.version}: {release.withdrawn}")
    if found.development:
        print(DEVELOPMENT)
    for line in found.problems:
        print(line, file=sys.stderr)
    return ATTENTION if found.problems else DONE


def _private(paths: Sequence[str], options: argparse.Namespace) -> list[PrivateKey]:
    passphrases = _passphrases(options)
    return [keys.read_private(path, passphrases) for path in paths]


def _read_request(path: str) -> Request:
    with open(path, encoding="utf-8", errors="replace") as file:
        return Request.from_json(file.read(REQUEST_BYTES_MAX), path)
