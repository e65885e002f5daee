# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``server_image``."""

from __future__ import annotations

import json
import re
import tarfile
from typing import Any, Callable, Mapping, NamedTuple

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: server_image
short_description: Tell what a device notes of the server's image in an archive
version_added: 0.2.0
author: The edgeml.fleet authors (@edgeml)
description:
  - Reads an OCI layout of one image in a tar archive. The image's name has the digest of its manifest as its tag, so
    that one name never means two images.
options:
  _input:
    description: Path of the archive, on the controller.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Show how the image is called
  ansible.builtin.debug:
    msg: "{{ ('edgeml-inference-arm64.tar' | edgeml.fleet.server_image).reference }}"
"""

RETURN = r"""
_value:
  description:
    - C(reference), the image's name and tag, such as C(localhost/edgeml-inference:4f53cda1…).
    - C(runtimes), the versions of the runtimes in it by package name, from its label C(edgeml.runtimes).
  type: dict
"""

NAME = "localhost/edgeml-inference"
LABEL = "edgeml.runtimes"
_DOCUMENT_BYTES_MAX = 1 << 20
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


class ServerImage(NamedTuple):
    """The image of an archive: its name and tag, the versions of its runtimes by package name, and the architecture of
    its programs, as Debian calls it."""

    reference: str
    runtimes: Mapping[str, str]
    architecture: str


def read_server_image(path: str) -> ServerImage:
    """Return the archive's image. Raises AnsibleFilterError for another archive."""
    try:
        with tarfile.open(path) as archive:
            (descriptor,) = _document(archive, "index.json")["manifests"]
            manifest = _document(archive, _blob(descriptor["digest"]))
            config = _document(archive, _blob(manifest["config"]["digest"]))
        runtimes = json.loads(config["config"]["Labels"][LABEL])
        return ServerImage(f"{NAME}:{_hexadecimal(descriptor['digest'])}", runtimes, str(config["architecture"]))
    except (OSError, tarfile.TarError, KeyError, ValueError, TypeError) as error:
        found = f"without {error}" if isinstance(error, KeyError) else error
        raise AnsibleFilterError(
            f"{path}: expected an archive of an OCI layout with one image that has the label {LABEL}; found: {found}"
        ) from error


def server_image(path: str) -> dict[str, Any]:
    """Return what a device notes of the archive's image. Raises AnsibleFilterError for another archive."""
    image = read_server_image(path)
    return {"reference": image.reference, "runtimes": image.runtimes}


def _document(archive: tarfile.TarFile, name: str) -> Any:
    file = archive.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is no file")
    return json.loads(file.read(_DOCUMENT_BYTES_MAX))


def _blob(digest: str) -> str:
    return f"blobs/sha256/{_hexadecimal(digest)}"


def _hexadecimal(digest: str) -> str:
    found = _DIGEST.fullmatch(digest)
    if found is None:
        raise ValueError(f"the digest {digest!r}")
    return found.group(1)


class FilterModule:
    """The filter for Ansible."""

    def filters(self) -> dict[str, Callable[..., dict[str, Any]]]:
        """Name the filter."""
        return {"server_image": server_image}
