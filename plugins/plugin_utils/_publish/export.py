# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""A release as a directory for other tools, signed in the form of the OpenSSF Model Signing specification."""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
from typing import Any

from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import fsync_directory, write_whole
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import Release
from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository

from .model import PublishError
from .writer import MANIFEST, manifest_bytes


def register(commands: Any) -> None:
    """Add the command ``export``."""
    parser = commands.add_parser("export", help="write a release as a directory for other tools, and sign it")
    parser.add_argument("--repository", required=True, metavar="DIRECTORY", help="the model repository")
    parser.add_argument("--model", required=True, metavar="TEXT", help="name of the model")
    parser.add_argument("--version", required=True, metavar="TEXT", help="the version, or channel:NAME")
    parser.add_argument(
        "--oms", required=True, metavar="DIRECTORY", help="a new directory, with a signature of OpenSSF Model Signing"
    )
    parser.add_argument("--key", required=True, metavar="FILE", help="your private key, from: edgeml-publish keys new")
    parser.add_argument("--passphrase-file", metavar="FILE", help="its passphrase, as for: edgeml-publish sign")
    parser.set_defaults(run=_export)


def _export(parsed: argparse.Namespace) -> int:
    from ansible_collections.edgeml.fleet.plugins.module_utils._trust.metadata import require_packages

    require_packages()
    from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.keys import Passphrases, read_private
    from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.model_signing import SIGNATURE, sign_files

    repository = Repository(parsed.repository)
    release = repository.release(parsed.model, repository.version_of(parsed.model, parsed.version))
    withdrawn = repository.withdrawn(release.model, release.version)
    if withdrawn is not None:
        raise PublishError(f"{release.model} {release.version} is withdrawn: {withdrawn}")
    repository.verify(release)
    key = read_private(parsed.key, Passphrases(file=parsed.passphrase_file))
    directory = os.path.abspath(parsed.oms)
    name = os.path.basename(directory)
    files = write_directory(repository, release, directory)
    # Who reads the directory meanwhile finds no signature.
    write_whole(os.path.join(directory, SIGNATURE), sign_files(name, files, key))
    fsync_directory(directory)
    print(f"{directory}: {release.model} {release.version}, {len(files)} files, signed by {key.name}")
    print(f"verify: model_signing verify key {directory} --signature {directory}/{SIGNATURE} --public_key KEY.pub")
    return 0


def write_directory(repository: Repository, release: Release, directory: str) -> dict[str, str]:
    """Write the manifest and what devices test by, the files of each variant in ``variants/<name>``, and the documents.

    Return the SHA-256 of each file by its path in ``directory``. Raises PublishError if that is there already.
    """
    try:
        os.mkdir(directory)
    except OSError as error:
        raise PublishError(f"{directory}: expected a new directory; {error.strerror}") from error
    content = manifest_bytes(release.document)
    with open(os.path.join(directory, MANIFEST), "xb") as manifest:
        manifest.write(content)
    files = {MANIFEST: hashlib.sha256(content).hexdigest()}
    placed = {file.path: file for part in release.parts.values() for file in part.files}
    placed.update({f"documents/{file.path}": file for file in release.documents.values()})
    for variant in release.variants:
        placed.update({f"variants/{variant.name}/{file.path}": file for file in variant.files})
    for path, file in placed.items():
        target = os.path.join(directory, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copyfile(repository.blob_path(file.sha256), target)
        files[path] = file.sha256
    return files
