# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Publish what train.py wrote as releases in a model repository of static files.

Writes <repository>/blobs/sha256/<digest> and <repository>/digits/<version>/manifest.json. The same input gives the
same bytes; a release that was published before with other content is refused, because releases are immutable.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

MODEL = "digits"
CREATED = "2026-11-01T00:00:00Z"


class PublishError(Exception):
    """The release exists with other content."""


def file_entry(name: str, content: bytes) -> dict[str, Any]:
    """A file's entry in the manifest."""
    return {"path": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def publish(source: Path, version: str, repository: Path, created: str) -> Path:
    """Publish one release and return its manifest's path; raises PublishError if it exists with other content."""
    release = json.loads((source / version / "release.json").read_text(encoding="utf-8"))
    model = (source / version / "model.onnx").read_bytes()
    golden = (source / version / "golden.json").read_bytes()
    probe = (source / "probe.json").read_bytes()
    manifest = {
        "schema": 1,
        "model": MODEL,
        "version": version,
        "created": created,
        "description": release["description"],
        "variants": [
            {
                "name": "onnx-fp32",
                "format": "onnx",
                "architectures": ["aarch64", "x86_64"],
                "runtime": {"name": "onnxruntime", "minimum": "1.17.0"},
                "memory_bytes": 16 * 1024 * 1024,
                "entrypoint": "model.onnx",
                "files": [file_entry("model.onnx", model)],
            }
        ],
        "golden": file_entry("golden.json", golden),
        "probe": file_entry("probe.json", probe),
    }
    text = (json.dumps(manifest, indent=2) + "\n").encode()
    path = repository / MODEL / version / "manifest.json"
    if path.exists() and path.read_bytes() != text:
        raise PublishError(
            f"{path}: {MODEL} {version} is published with other content, and releases are immutable; "
            "publish another version, or into another repository"
        )
    for content in (model, golden, probe):
        write(repository / "blobs" / "sha256" / hashlib.sha256(content).hexdigest(), content)
    write(path, text)  # last: a manifest never names a blob that is not there
    return path


def write(path: Path, content: bytes) -> None:
    """Write a file, making its directory when it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def main() -> int:
    """Publish every release in the source directory; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="directory that train.py wrote")
    parser.add_argument("repository", type=Path, help="model repository to publish into")
    parser.add_argument("--created", default=CREATED, help="time of publication, UTC (default: %(default)s)")
    options = parser.parse_args()
    try:
        for release in sorted(options.source.glob("*/release.json")):
            print(publish(options.source, release.parent.name, options.repository, options.created))
    except PublishError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
