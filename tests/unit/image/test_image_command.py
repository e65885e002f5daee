# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``edgeml-publish image``: what is built of prepared packages and wheels is published, archived and described."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from image_parts import make_image, tar_of, write_package

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._image import build
from ansible_collections.edgeml.fleet.plugins.plugin_utils._image.command import source_date
from ansible_collections.edgeml.fleet.plugins.plugin_utils._image.debian import ImageError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._image.publication import ImageOptions, publish_image
from ansible_collections.edgeml.fleet.plugins.plugin_utils._image.wheels import (
    PACKAGES,
    read_app,
    read_wheels,
    wheels_archive,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.cli import main
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.model import PublishError


def test_what_was_built_is_published_and_archived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def build_images(machines: list[str], *, directory: str, **_options: Any) -> list[build.BuiltImage]:
        for machine in machines:
            os.makedirs(os.path.join(directory, machine))
        return [make_image(Path(directory), machine=machine) for machine in machines]

    monkeypatch.setattr(build, "build_images", build_images)
    places = [f"--{name}={tmp_path / name}" for name in ("repository", "archives", "layouts", "cache")]
    command = ["image", "--version=1.0.0", *places]
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["changed"]
    assert [variant["name"] for variant in told["manifest"]["variants"]] == ["linux-arm64", "linux-amd64"]
    assert sorted(path.name for path in (tmp_path / "archives").iterdir()) == [
        "edgeml-inference-1.0.0-amd64.tar",
        "edgeml-inference-1.0.0-arm64.tar",
    ]
    assert main(command) == 0
    assert "was published already, and nothing changed" in capsys.readouterr().out
    assert list((tmp_path / "cache").iterdir()) == [], "what was built is gone"
    # Where this is, people sign.
    (tmp_path / "repository" / "metadata").mkdir()
    command = ["image", "--version=1.1.0", *places]
    for arguments, says in ([*command, "--check"], 0), (command, 1), (command, 0):
        assert main(arguments) == 0
        assert capsys.readouterr().out.count("next: edgeml-publish sign") == says


def test_what_is_asked_for_is_checked_written_once_and_then_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build_images(machines: list[str], *, directory: str, **_options: Any) -> list[build.BuiltImage]:
        os.makedirs(os.path.join(directory, *machines))
        return [make_image(Path(directory), app=app, machine=machine) for machine in machines]

    app = b"1"
    monkeypatch.setattr(build, "build_images", build_images)
    places: dict[str, Any] = {name: str(tmp_path / name) for name in ("repository", "archives", "cache")}
    options = ImageOptions(version="1.0.0", architectures=["aarch64"], **places)

    def changes(check: bool) -> tuple[bool, bool]:
        result = publish_image(options, check=check, say=lambda _text: None)
        return result["changed"], result["published"]

    assert changes(check=True) == (True, True)
    assert not (tmp_path / "repository").exists()
    assert not (tmp_path / "archives").exists()
    assert changes(check=False) == (True, True)
    (archive,) = (tmp_path / "archives").iterdir()
    written = archive.stat().st_mtime_ns
    assert changes(check=True) == changes(check=False) == (False, False)
    assert archive.stat().st_mtime_ns == written
    archive.write_bytes(b"damaged")
    assert changes(check=True) == changes(check=False) == (True, False)
    assert changes(check=False) == (False, False)
    app = b"2"
    for check in (True, False):
        with pytest.raises(PublishError, match="published with other content"):
            changes(check)


def test_a_place_has_to_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["image", "--version=1.0.0"]) == 2
    assert "repository, archives, layouts: expected at least one of them" in capsys.readouterr().err


def test_the_time_of_an_image_is_given_or_it_has_none() -> None:
    assert (source_date(None), source_date(""), source_date("1790000000")) == (None, None, 1_790_000_000)
    with pytest.raises(ArgumentError, match="SOURCE_DATE_EPOCH: expected seconds since 1970; found 'now'"):
        source_date("now")


def test_an_architecture_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="architecture: expected aarch64 or x86_64; found armv7l"):
        build.build_images(["armv7l"], version="1", runtimes=[], directory=str(tmp_path), cache=str(tmp_path))


def test_a_package_that_the_suite_has_not_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(write_package(tmp_path / "one.deb", {}))
    monkeypatch.setattr(build, "download_packages", lambda *_names, **_options: [path])
    with pytest.raises(ImageError, match=r"bookworm: expected the packages base-files, .* for aarch64; found none"):
        build.debian_packages("aarch64", str(tmp_path), "http://127.0.0.1:9")


def test_wheels_come_from_the_roles_archive_and_each_is_by_itself(tmp_path: Path) -> None:
    names = [*PACKAGES, "onnxruntime"]
    files = {}
    for name in names:
        module, info = name.replace("-", "_"), f"{name.replace('-', '_')}-1.0.dist-info"
        files[f"site-packages/{module}/__init__.py"] = b"pass"
        files[f"site-packages/{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode()
        files[f"site-packages/{info}/RECORD"] = f"{module}/__init__.py,,\n{info}/METADATA,,\n../../bin/x,,\n".encode()

    def write(found: dict[str, bytes]) -> None:
        archive.write_bytes(gzip.compress(tar_of(found)))

    archive = Path(wheels_archive("aarch64", names, str(tmp_path)))
    write(files)
    wheels = read_wheels("aarch64", ["onnxruntime"], str(tmp_path))
    assert [(wheel.name, wheel.version) for wheel in wheels] == [(name, "1.0") for name in names]
    assert sorted(wheels[-1].files) == ["onnxruntime-1.0.dist-info/METADATA", "onnxruntime/__init__.py"]
    write({name: content for name, content in files.items() if "uvloop" not in name})
    with pytest.raises(ImageError, match=r"expected the wheels h11, .*, uvloop; found h11"):
        read_wheels("aarch64", ["onnxruntime"], str(tmp_path))


def test_a_wheel_that_is_not_locked_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="runtimes: expected onnxruntime, ai-edge-litert, ncnn; found tvm"):
        read_wheels("aarch64", ["tvm"], str(tmp_path))


def test_the_app_is_the_servers_code_and_the_devices(tmp_path: Path) -> None:
    files = read_app(str(tmp_path))
    assert {path.split("/")[3] for path in files} == {"edgeml_server", "edgeml_device"}
    assert files["opt/edgeml/app/edgeml_server/__main__.py"].mode == 0o644
    assert read_app(str(tmp_path)) == files
