# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The part of ``edgeml-publish`` that makes keys and signs: its commands and their options."""

from __future__ import annotations

import argparse
import os
from typing import Any, Callable

from ansible_collections.edgeml.fleet.plugins.module_utils._trust.metadata import OFFLINE, require_packages

THRESHOLD = 2


def register(commands: Any) -> None:
    """Add the commands to ``commands``, the subparsers of a program. ``options.run(options)`` runs the one chosen."""
    group = commands.add_parser("keys", help="make the keys that sign releases")
    actions = group.add_subparsers(required=True, metavar="COMMAND")

    new = actions.add_parser(
        "new", help="make a key of your own, to hand its public part to who sets the repository up"
    )
    new.add_argument("name", metavar="NAME")
    _add_keys(new)
    _add_passphrase(new)
    new.add_argument("--online", action="store_true", help="without a passphrase, for a machine that signs by itself")
    new.set_defaults(run=_command("new"))

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
    init.set_defaults(run=_command("init"))

    fleet = actions.add_parser("fleet", help="say which online key may tell a fleet that pulls what to run")
    _add_repository(fleet)
    fleet.add_argument("--fleet", required=True, metavar="NAME")
    fleet.add_argument("--add", action="append", default=[], metavar="FILE", help="a public key")
    fleet.add_argument("--remove", action="append", default=[], metavar="NAME", help="the name of a key")
    _add_signing(fleet)
    fleet.set_defaults(run=_command("fleet"))

    sign = commands.add_parser("sign", help="sign what the repository holds, or what a request asks for")
    _add_repository(sign, required=False)
    _add_signing(sign)
    sign.set_defaults(run=_command("sign"))

    renew = commands.add_parser("renew", help="sign snapshot and timestamp anew when that is due; for cron")
    _add_repository(renew)
    _add_online(renew)
    _add_passphrase(renew)
    renew.set_defaults(run=_command("renew"))

    rotate = commands.add_parser("rotate", help="change who may sign, or sign the root for another year")
    _add_repository(rotate)
    rotate.add_argument("--role", choices=[*OFFLINE, "online"], help="whose keys to change")
    rotate.add_argument("--add", action="append", default=[], metavar="FILE", help="a public key")
    rotate.add_argument("--remove", action="append", default=[], metavar="NAME", help="the name of a key")
    rotate.add_argument("--threshold", type=int, metavar="N", help="how many have to sign; default: as many as now")
    _add_signing(rotate)
    rotate.set_defaults(run=_command("rotate"))

    status = commands.add_parser("status", help="show who signed, until when, and what has to be done")
    _add_repository(status)
    status.set_defaults(run=_command("status"))


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


def _command(name: str) -> Callable[[argparse.Namespace], int]:
    """Return what runs a command; the packages that sign are imported only then."""

    def run(options: argparse.Namespace) -> int:
        require_packages()
        from . import commands

        code: int = getattr(commands, name)(options)
        return code

    return run
