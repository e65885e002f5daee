# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Those who verify the evidence of a rollout with other software than ours, by what docs/evidence.md says."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import jsonschema
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from links import REPOSITORY
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

PAGE = (REPOSITORY / "docs" / "evidence.md").read_text()
_SCHEMA = json.loads((REPOSITORY / "docs" / "evidence.schema.json").read_text())
# The names of the page's example.
_EVIDENCE = "digits-1.1.0-1.intoto.jsonl"
_KEY = "controller.pub"


def opened(path: Path) -> Any:
    """The statement of an evidence, without a look at its signature."""
    return json.loads(base64.b64decode(json.loads(path.read_text())["payload"]))


def validate(predicate: Any) -> None:
    """Hold a predicate to its schema. Raises ValidationError."""
    jsonschema.Draft202012Validator(_SCHEMA).validate(predicate)


def verify_with_openssl(evidence: Path, public_key: Path) -> str:
    """Run the page's commands, to the letter; return what they print. Raises CalledProcessError."""
    (commands,) = re.findall(r"^```sh\n(.+?)^```", PAGE, re.MULTILINE | re.DOTALL)
    with tempfile.TemporaryDirectory() as directory:
        shutil.copy(evidence, Path(directory) / _EVIDENCE)
        shutil.copy(public_key, Path(directory) / _KEY)
        run = ["bash", "-euo", "pipefail", "-c", commands]
        return subprocess.run(run, cwd=directory, check=True, capture_output=True, text=True).stdout


def verify_with_securesystemslib(evidence: Path, public_key: Path) -> str:
    """Do what the page's example in Python does; return the rollout's state. Raises VerificationError."""
    key = SSlibKey.from_crypto(load_pem_public_key(public_key.read_bytes()))
    envelope = Envelope.from_dict(json.loads(evidence.read_text()))
    envelope.verify([key], threshold=1)
    return str(json.loads(envelope.payload)["predicate"]["state"])
