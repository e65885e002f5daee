# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role inference_service brings the server's image to an engine, and leaves no archive, whatever was left there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from controller import Ansible, Run
from links import REPOSITORY
from oci_images import write_image

# Notes what it loads, by what the file has then; an image that it has loaded is there.
ENGINE = """#!/bin/sh
cd "$(dirname "$0")" || exit
case "$1" in
  image) test -e loaded.tar || { echo "Error: No such image: $3" >&2; exit 1; } ;;
  load) test ! -e broken || { echo "no space left on device" >&2; exit 1; }; cp "$3" loaded.tar ;;
esac
"""


@pytest.fixture
def ansible(tmp_path: Path) -> Ansible:
    made = Ansible(tmp_path, [])
    write_image(tmp_path / "image.tar", [], {"onnxruntime": "1.32.0"})
    (tmp_path / "engine").write_text(ENGINE)
    (tmp_path / "engine").chmod(0o755)
    task: dict[str, Any] = {"include_tasks": str(REPOSITORY / "roles" / "inference_service" / "tasks" / "image.yml")}
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [task]}
    (made.directory / "play.yml").write_text(json.dumps([play]))
    return made


def bring(ansible: Ansible, directory: Path, *options: str) -> Run:
    values = {
        "inference_service_image": str(directory / "image.tar"),
        "__inference_service_engine": str(directory / "engine"),
        "__inference_service_archive": str(directory / "sent.tar"),
    }
    return ansible.run("play.yml", *options, **values)


def test_no_archive_is_left(ansible: Ansible, tmp_path: Path) -> None:
    sent, loaded = tmp_path / "sent.tar", tmp_path / "loaded.tar"
    sent.write_bytes(b"a part of another archive")
    (tmp_path / "broken").touch()
    failed = bring(ansible, tmp_path)
    assert "no space left on device" in failed.results("Have the engine load it")["localhost"]["stderr"]
    assert (sent.exists(), loaded.exists()) == (False, False)

    # As a run leaves it that loses its link while the image is sent.
    sent.write_bytes(b"a part of another archive")
    (tmp_path / "broken").unlink()
    done = bring(ansible, tmp_path)
    assert (done.code, done.stats["localhost"]["changed"]) == (0, 2), done
    assert loaded.read_bytes() == (tmp_path / "image.tar").read_bytes()
    assert not sent.exists()

    # And after the engine has loaded it.
    sent.write_bytes(loaded.read_bytes())
    again = bring(ansible, tmp_path)
    assert (again.code, again.stats["localhost"]["changed"]) == (0, 0), again
    assert not sent.exists()
