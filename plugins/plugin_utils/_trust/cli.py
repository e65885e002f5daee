# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The part of ``edgeml-publish`` that makes keys and signs. Each command returns its exit code.

0: done, or nothing to do. 1: of ``status``, something needs attention. 2: refused, with the reason. 3: signed, and more
signatures are needed.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import write_whole
from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table

from . import keys
from .keys import Passphrases, PrivateKey
from .metadata import OFFLINE, ONLINE, TrustError
from .request import REQUEST_BYTES_MAX, Request
from .roots import is_development
from .signing import RoleKeys, SigningRepository

DONE, ATTENTION, REFUSED, INCOMPLETE = 0, 1, 2, 3
DEVELOPMENT = "DEVELOPMENT KEY: one key signs everything. Good for trying, not for devices that matter: docs/signing.md"
HOLDERS = 3
THRESHOLD = 2


def add_commands(commands: Any) -> None:
    """Add the commands to ``commands``, the subparsers of a program. ``options.run(options)`` runs the one chosen."""
    group = commands.add_parser("keys", help="make the keys that sign releases")
    actions = group.add_subparsers(required=True, metavar="COMMAND")

    new = actions.add_parser(
        "new", help="make a key of your own, to hand its public part to who sets the repository up"
    )
    new.add_argument("name", metavar="NAME")
    _add_keys(new)
    _add_passphrase(new)
    new.set_defaults(run=_guarded(_new))

    init = actions.add_parser("init", help="have a repository signed from now on")
    _add_repository(init)
    _add_keys(init)
    _add_passphrase(init)
    init.add_argument("--dev", action="store_true", help="one key without a passphrase for everything; for trying only")
    for role in OFFLINE:
        init.add_argument(
            f"--{role}-key", action="append", default=[], metavar="FILE", help=f"somebody's public key for {role}"
        )
        init.add_argument(f"--{role}-threshold", type=int, default=THRESHOLD, metavar="N", help="default: %(default)s")
    _add_request(init)
    init.set_defaults(run=_guarded(_init))

    sign = commands.add_parser("sign", help="sign what the repository holds, or what a request asks for")
    _add_repository(sign, required=False)
    _add_signing(sign)
    sign.set_defaults(run=_guarded(_sign))

    renew = commands.add_parser("renew", help="sign snapshot and timestamp anew when that is due; for cron")
    _add_repository(renew)
    _add_online(renew)
    _add_passphrase(renew)
    renew.set_defaults(run=_guarded(_renew))

    rotate = commands.add_parser("rotate", help="change who may sign, or sign the root for another year")
    _add_repository(rotate)
    rotate.add_argument("--role", choices=[*OFFLINE, "online"], help="whose keys to change")
    rotate.add_argument("--add", action="append", default=[], metavar="FILE", help="a public key")
    rotate.add_argument("--remove", action="append", default=[], metavar="NAME", help="the name of a key")
    rotate.add_argument("--threshold", type=int, metavar="N", help="how many have to sign; default: as many as now")
    _add_signing(rotate)
    rotate.set_defaults(run=_guarded(_rotate))

    status = commands.add_parser("status", help="show who signed, until when, and what has to be done")
    _add_repository(status)
    status.set_defaults(run=_guarded(_status))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the commands by itself."""
    parser = argparse.ArgumentParser(prog="edgeml-publish", description="Make keys and sign releases.")
    add_commands(parser.add_subparsers(required=True, metavar="COMMAND"))
    options = parser.parse_args(arguments)
    code: int = options.run(options)
    return code


def _add_repository(parser: argparse.ArgumentParser, required: bool = True) -> None:
    parser.add_argument("--repository", required=required, metavar="DIRECTORY", help="the model repository")


def _add_keys(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keys",
        default="~/.config/edgeml/keys",
        metavar="DIRECTORY",
        type=_path,
        help="where keys are written; never in the repository (default: %(default)s)",
    )


def _add_passphrase(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--passphrase-file",
        metavar="FILE",
        help="the passphrase, where neither EDGEML_PASSPHRASE_<KEY> nor EDGEML_PASSPHRASE is set; else you are asked",
    )


def _add_online(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--online-key", action="append", default=[], metavar="FILE", help="the key of snapshot and timestamp"
    )


def _add_request(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--request", metavar="FILE", help="where to write what others have to sign (default: signing-request.json)"
    )


def _add_signing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--key", action="append", default=[], metavar="FILE", help="your private key; may be repeated")
    parser.add_argument("--request", metavar="FILE", help="the file that goes from one holder of a key to the next")
    _add_online(parser)
    _add_passphrase(parser)


def _path(text: str) -> str:
    return os.path.abspath(os.path.expanduser(text))


def _guarded(command: Any) -> Any:
    def run(options: argparse.Namespace) -> int:
        try:
            code: int = command(options)
            return code
        except (EdgemlError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return REFUSED

    return run


def _passphrases(options: argparse.Namespace) -> Passphrases:
    return Passphrases(file=options.passphrase_file)


def _new(options: argparse.Namespace) -> int:
    key = keys.generate(options.name)
    path = keys.write(key, options.keys, _passphrases(options).read(options.name, new=True))
    print(f"{path}: keep it, and a copy elsewhere\n{keys.public_path(path)}: hand this to who sets the repository up")
    return DONE


def _init(options: argparse.Namespace) -> int:
    repository = SigningRepository(options.repository)
    if os.path.commonpath([repository.path, options.keys]) == repository.path:
        raise TrustError(f"--keys: expected a directory outside of {repository.path}, which others read")
    if repository.is_signed:
        raise TrustError(f"{repository.metadata}: the repository has keys already. Change them with: rotate")
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


def _sign(options: argparse.Namespace) -> int:
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


def _rotate(options: argparse.Namespace) -> int:
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


def _finish(
    request: Request,
    repository: SigningRepository | None,
    online: Sequence[PrivateKey],
    options: argparse.Namespace,
    pinned: str | None = None,
) -> int:
    """Sign with the keys that are given; bring it into force if that is enough, else write it for the next person."""
    print("\n".join(request.summary()))
    for key in _private(getattr(options, "key", []), options):
        print(f"{key.name} signs {' and '.join(request.sign(key))}")
    missing = request.missing()
    if missing or repository is None:
        path = options.request or "signing-request.json"
        write_whole(path, request.to_json())
        for line in missing or ["all signatures are there: bring it into force with --repository and --online-key"]:
            print(line)
        print(f"next: edgeml-publish sign --request {path}" + (" --key FILE" if missing else ""))
        return INCOMPLETE
    repository.complete(request, online)
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


def _renew(options: argparse.Namespace) -> int:
    repository = SigningRepository(options.repository)
    for line in repository.renew(_private(options.online_key, options)):
        print(line)
        if is_development(repository.root().signed):
            print(DEVELOPMENT)
    return DONE


def _status(options: argparse.Namespace) -> int:
    status = SigningRepository(options.repository).status()
    print("\n".join(text_table(status.rows)))
    print(f"{status.releases} releases are signed")
    for release in status.withdrawn:
        print(f"withdrawn: {release.model} {release.version}: {release.withdrawn}")
    if status.development:
        print(DEVELOPMENT)
    for line in status.problems:
        print(line, file=sys.stderr)
    return ATTENTION if status.problems else DONE


def _private(paths: Sequence[str], options: argparse.Namespace) -> list[PrivateKey]:
    passphrases = _passphrases(options)
    return [keys.read_private(path, passphrases) for path in paths]


def _read_request(path: str) -> Request:
    with open(path, encoding="utf-8", errors="replace") as file:
        return Request.from_json(file.read(REQUEST_BYTES_MAX), path)


if __name__ == "__main__":
    sys.exit(main())
