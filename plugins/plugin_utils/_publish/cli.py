# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""``edgeml-publish``: the command of the desk."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import sys
from typing import Any, Callable, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError, EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table

from . import delta_command, export, pipeline, repository_commands
from .model import Progress, RefusedError
from .options import ReleaseOptions, read_options
from .signature_due import say_what_is_next
from .words import rows_of

REFUSED = 2
# Subcommands of other packages, where they are there: each module has register(subparsers).
_OTHERS = (
    "ansible_collections.edgeml.fleet.plugins.plugin_utils._image.command",
    "ansible_collections.edgeml.fleet.plugins.plugin_utils._mcu.command",
    "ansible_collections.edgeml.fleet.plugins.plugin_utils._packages.command",
    "ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.cli",
)
Run = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Exit code: 0 published, or nothing to do; 2 refused, with every reason, or a wrong command."""
    parser = argparse.ArgumentParser(
        prog="edgeml-publish", description="Publish releases of models in a model repository."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _register_release(commands)
    pipeline.register(commands)
    repository_commands.register(commands)
    delta_command.register(commands)
    export.register(commands)
    for name in _OTHERS:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not name.startswith(error.name):
                raise
            continue
        module.register(commands)
    parsed = parser.parse_args(arguments)
    run: Run = parsed.run
    try:
        return run(parsed)
    except RefusedError as error:
        return _refused(error.reasons, parsed)
    except EdgemlError as error:
        return _refused([str(error)], parsed)
    except OSError as error:
        return _refused([f"{error.filename or 'a file'}: {error.strerror}"], parsed)


def _refused(reasons: Sequence[str], parsed: argparse.Namespace) -> int:
    if getattr(parsed, "json", False):
        print(json.dumps({"failed": True, "reasons": list(reasons)}))
    for reason in reasons:
        print(f"edgeml-publish: refused: {reason}", file=sys.stderr)
    return REFUSED


def _register_release(commands: Any) -> None:
    parser = commands.add_parser("release", help="convert, prove, measure and publish a model")
    for item in dataclasses.fields(ReleaseOptions):
        _add(parser, item)
    parser.add_argument("--options", metavar="FILE", help="a JSON object with options by name; - is standard input")
    parser.add_argument("--check", action="store_true", help="do all but write the release")
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    parser.set_defaults(run=_release)


def _add(parser: argparse.ArgumentParser, item: dataclasses.Field[Any]) -> None:
    about = item.metadata
    flag = "--" + item.name.replace("_", "-")
    text = about["help"].replace("%", "%%")
    if about["kind"] == "bool":
        text += f" (default: {str(item.default).lower()})"
        parser.add_argument(flag, nargs="?", const="true", choices=("true", "false"), metavar="true|false", help=text)
        return
    default = (
        item.default if item.default_factory is dataclasses.MISSING else ",".join(map(str, item.default_factory()))
    )
    if default not in (None, "", dataclasses.MISSING):
        text += f" (default: {default})"
    metavar = {"path": "PATH", "int": "N", "float": "X", "list": "LIST"}.get(about["kind"], "TEXT")
    parser.add_argument(flag, metavar=metavar, help=text)


def _release(parsed: argparse.Namespace) -> int:
    from .release import publish_release

    options = read_options({**_options_file(parsed.options), **_given(parsed)})
    _check_report(options.report)
    try:
        published = publish_release(options, Progress(), check=parsed.check)
    except RefusedError as error:
        _report(options, {"reasons": error.reasons, "table": error.table, "facts": {}, "notes": []})
        raise
    result = {
        "changed": published.changed,
        "check": parsed.check,
        "manifest": published.document,
        "digest": published.digest,
        "table": list(published.table),
        "lines": text_table(rows_of(published.table)),
        "facts": dict(published.facts),
        "notes": list(published.notes),
        "reasons": [],
    }
    if published.table:
        _report(options, result)
    if parsed.json:
        print(json.dumps(result))
        return 0
    for line in result["lines"]:
        print(line)
    for note in published.notes:
        print(f"note: {note}")
    name = f"{options.model} {options.version}"
    if not published.changed:
        print(f"{name} is published already; nothing changed")
    else:
        print(f"{name} {'would be' if parsed.check else 'is'} published in {options.repository}")
    say_what_is_next(options.repository, changed=published.changed, check=parsed.check)
    return 0


def _check_report(path: str | None) -> None:
    """Raise ArgumentError where no report can be written: before the work, not when the release is published."""
    directory = os.path.dirname(path or "") or "."
    if path is not None and (os.path.isdir(path) or not os.access(directory, os.W_OK)):
        raise ArgumentError(f"report: expected a file in a directory that can be written; found {path}")


def _report(options: ReleaseOptions, result: Mapping[str, Any]) -> None:
    if options.report is not None:
        # Only here: jinja2 is not asked for where no report is.
        from .report import write

        write({"model": options.model, "version": options.version, **result}, options.report)


def _options_file(path: str | None) -> Mapping[str, Any]:
    if path is None:
        return {}
    try:
        if path == "-":
            document = json.load(sys.stdin)
        else:
            with open(path, encoding="utf-8") as file:
                document = json.load(file)
        if not isinstance(document, dict):
            raise ValueError(f"found {type(document).__name__}")
    except (OSError, ValueError) as error:
        raise ArgumentError(f"--options: {path}: expected a JSON object: {error}") from error
    return document


def _given(parsed: argparse.Namespace) -> Mapping[str, Any]:
    names = [item.name for item in dataclasses.fields(ReleaseOptions)]
    return {name: value for name in names if (value := getattr(parsed, name)) is not None}
