# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Evidence of a rollout: what was planned, judged and done, signed, so that a third party can check who says so.

It is one in-toto statement in a DSSE envelope, beside the report. docs/evidence.md says what is in it, and how it is
verified without this collection.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import write_whole
from ansible_collections.edgeml.fleet.plugins.module_utils._common.records import finite_json

from .rollout import Rollout

if TYPE_CHECKING:
    from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.keys import PrivateKey

PREDICATE_TYPE = "https://github.com/edgeml/fleet/blob/main/docs/evidence.md#rollout-v1"
# No name that the ledger takes for a rollout's.
_SUFFIX = ".intoto.jsonl"


def evidence_path(ledger_path: str) -> str:
    """The file of the evidence of the rollout whose ledger is ``ledger_path``."""
    return f"{os.path.splitext(ledger_path)[0]}{_SUFFIX}"


def evidence_statement(rollout: Rollout) -> dict[str, Any]:
    """The statement about the rollout, and so about the manifest of its release, as JSON's types."""
    from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust import in_toto

    predicate = {name: value for name, value in rollout.to_dict().items() if name != "schema"}
    subject = f"{rollout.model}/{rollout.version}", rollout.digest
    return in_toto.statement([subject], PREDICATE_TYPE, finite_json(predicate))


def read_key(path: str) -> PrivateKey:
    """Read the key that signs evidence. Raises TrustError, which names the file."""
    from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.in_toto import read_signing_key

    return read_signing_key(path)


def write_evidence(rollout: Rollout, path: str, key_path: str) -> None:
    """Put the evidence in place, whole or not at all. Raises TrustError or OSError."""
    key = read_key(key_path)
    from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust import in_toto

    payload = json.dumps(evidence_statement(rollout), allow_nan=False).encode("ascii")
    write_whole(path, json.dumps(in_toto.signed_envelope(payload, key, key.id)) + "\n")
