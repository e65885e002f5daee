# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Bills of materials in CycloneDX's form (1.6, JSON), of models and of images."""

from __future__ import annotations

import json
import uuid
from typing import Any, Iterable, Mapping, Sequence

_NAMESPACE = uuid.UUID("6f0f4f0e-6f2b-5d1c-9f43-5f0d2f6f7a11")


def library(purl: str, name: str, version: str, **more: Any) -> dict[str, Any]:
    """A component that is a library, by its package URL."""
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl, **more}


def file_component(path: str, sha256: str) -> dict[str, Any]:
    """A component that is a file."""
    return {"type": "file", "bom-ref": f"file:{sha256}", "name": path, "hashes": [sha256_hash(sha256)]}


def sha256_hash(sha256: str) -> dict[str, str]:
    """A digest of a component."""
    return {"alg": "SHA-256", "content": sha256}


def bill(
    subject: Mapping[str, Any],
    components: Sequence[Mapping[str, Any]],
    depends_on: Iterable[str],
    *,
    identity: Any,
    created: str | None,
) -> dict[str, Any]:
    """The bill of materials of ``subject``, a component with a ``bom-ref``, which has all ``components``.

    It depends on those components whose references are ``depends_on``. The serial number follows from ``identity``, so
    that the same thing has the same bill. ``created`` is a time in UTC, or unknown.
    """
    times = {} if created is None else {"timestamp": created}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, json.dumps(identity, sort_keys=True))}",
        "version": 1,
        "metadata": {**times, "component": dict(subject)},
        "components": [dict(component) for component in components],
        "dependencies": [{"ref": subject["bom-ref"], "dependsOn": list(depends_on)}],
    }
