# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image is a release: published, verified and described as one, and the same image is the same release."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from image_parts import make_image

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ManifestError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.image import (
    check_image,
    parse_image,
    read_image,
    write_archive,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._release.manifest import parse_release
from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository
from ansible_collections.edgeml.fleet.plugins.plugin_utils._image import build
from ansible_collections.edgeml.fleet.plugins.plugin_utils._image.build import BuiltImage, write_layout
from ansible_collections.edgeml.fleet.plugins.plugin_utils._image.debian import ImageError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._image.release import publish_images
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.model import PublishError


def publish(tmp_path: Path, *images: BuiltImage, version: str = "1.0.0") -> tuple[bool, dict[str, Any]]:
    return publish_images(
        images,
        name="edgeml-inference",
        version=version,
        repository=str(tmp_path / "repository"),
        directory=str(tmp_path),
        created=1_790_000_000,
    )


@pytest.fixture
def built(tmp_path: Path) -> BuiltImage:
    """An image whose files of the release are beside its layers."""
    (tmp_path / "aarch64").mkdir()
    return make_image(tmp_path)


def test_an_image_is_published_as_a_release_and_read_again(tmp_path: Path, built: BuiltImage) -> None:
    changed, document = publish(tmp_path, built)
    assert changed
    assert publish(tmp_path, built) == (False, document), "the same image is nothing to do"
    repository = Repository(str(tmp_path / "repository"))
    release = repository.release("edgeml-inference", "1.0.0")
    assert (release.kind, release.variants[0].format) == ("image", "oci")
    assert repository.verify(release) == sum(file.size for file in release.all_files())
    files = {file.path: repository.blob_path(file.sha256) for file in release.variants[0].files}
    image = check_image(release.variants[0], lambda name: Path(files[name]).read_bytes())
    assert image == built.image
    assert image.runtimes == {"onnxruntime": "1.32.0"}
    for path, blob in files.items():
        (tmp_path / path).write_bytes(Path(blob).read_bytes())
    assert read_image(release.variants[0], str(tmp_path)) == image


def test_an_app_that_changed_is_one_layer_and_the_documents(tmp_path: Path, built: BuiltImage) -> None:
    other = make_image(tmp_path, app=b"2", version="1.1.0")
    before, after = ({layer.title: layer.sha256 for layer in each.layers} for each in (built, other))
    assert [title for title in before if before[title] != after[title]] == ["app"]
    assert built.image.reference != other.image.reference
    again = make_image(tmp_path, version="1.0.0")
    assert again.image == built.image, "the same content is the same image"


def test_other_content_under_the_same_version_is_refused(tmp_path: Path, built: BuiltImage) -> None:
    publish(tmp_path, built)
    with pytest.raises(PublishError, match="this version is published with other content"):
        publish(tmp_path, make_image(tmp_path, app=b"2"))


def test_a_bill_of_materials_names_packages_wheels_and_layers(tmp_path: Path, built: BuiltImage) -> None:
    _changed, document = publish(tmp_path, built)
    entry = document["documents"]["bom-arm64"]
    bill = json.loads((tmp_path / "repository" / "blobs" / "sha256" / entry["sha256"]).read_bytes())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["type"] == "container"
    assert bill["metadata"]["timestamp"] == document["created"] == "2026-09-21T14:13:20Z"
    purls = [component["purl"] for component in bill["components"] if "purl" in component]
    assert purls == [
        "pkg:deb/debian/zlib1g@1%3A1.2.13%2Bx?arch=arm64&distro=bookworm",
        "pkg:pypi/onnxruntime@1.32.0",
    ]
    layers = [item["hashes"][0]["content"] for item in bill["components"] if item["type"] == "file"]
    assert layers == [layer.sha256 for layer in built.layers]
    assert bill["dependencies"][0]["dependsOn"] == [component["bom-ref"] for component in bill["components"]]


def test_an_archive_is_an_oci_layout_that_docker_reads_as_well(built: BuiltImage) -> None:
    first, second, small = io.BytesIO(), io.BytesIO(), io.BytesIO()
    for target in (first, second):
        write_archive(target, built.image, built.layer_path)
    assert first.getvalue() == second.getvalue()
    first.seek(0)
    with tarfile.open(fileobj=first) as archive:
        contents = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    index, docker = json.loads(contents["index.json"]), json.loads(contents["manifest.json"])
    (manifest,) = index["manifests"]
    described = json.loads(contents[f"blobs/sha256/{manifest['digest'][7:]}"])
    assert [f"blobs/sha256/{layer['digest'][7:]}" for layer in described["layers"]] == docker[0]["Layers"]
    assert docker[0]["Config"] == f"blobs/sha256/{described['config']['digest'][7:]}"
    assert docker[0]["RepoTags"] == [built.image.reference] == [f"localhost/edgeml-inference:{manifest['digest'][7:]}"]
    assert all(layer in contents for layer in docker[0]["Layers"])
    held = built.layers[0].sha256
    write_archive(small, built.image, built.layer_path, left_out=[held])
    small.seek(0)
    with tarfile.open(fileobj=small) as archive:
        assert set(contents) - set(archive.getnames()) == {f"blobs/sha256/{held}"}


def test_a_layout_is_for_other_tools(tmp_path: Path, built: BuiltImage) -> None:
    write_layout(built, str(tmp_path / "layout"))
    write_layout(built, str(tmp_path / "layout"))
    index = json.loads((tmp_path / "layout" / "index.json").read_text())
    blobs = tmp_path / "layout" / "blobs" / "sha256"
    assert (blobs / index["manifests"][0]["digest"][7:]).read_bytes() == built.image.manifest
    assert {path.name for path in blobs.iterdir()} >= {layer.sha256 for layer in built.layers}


def test_an_image_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "SIZE_MAX", 1000)
    with pytest.raises(ImageError, match=r"an image of at most 1000 bytes; found \d+: environment \d+"):
        make_image(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest, config: (b"{", config), "expected an image's manifest and configuration"),
        (lambda manifest, config: (manifest, config + b" "), "config.digest: expected sha256:"),
        (lambda manifest, config: (manifest.replace(b"v1.tar", b"v1.tar+gzip"), config), "expected application/vnd"),
        (lambda manifest, config: (manifest.replace(b'"layers":[', b'"layers":[],"x":['), config), "not compressed"),
    ],
)
def test_documents_that_are_not_of_one_image_are_refused(built: BuiltImage, change: Any, message: str) -> None:
    manifest, config = change(built.image.manifest, built.image.config)
    with pytest.raises(ManifestError, match=message):
        parse_image(manifest, config, "here")


def test_a_release_whose_documents_are_not_of_its_files_is_refused(tmp_path: Path, built: BuiltImage) -> None:
    _changed, document = publish(tmp_path, built)
    repository = Repository(str(tmp_path / "repository"))

    def changed(**variant: Any) -> dict[str, Any]:
        return {**document, "variants": [{**document["variants"][0], **variant}]}

    with pytest.raises(ManifestError, match="architectures: expected arm64, which its configuration has; found x86_64"):
        repository.verify(parse_release(changed(architectures=["x86_64"])))
    files = document["variants"][0]["files"]
    with pytest.raises(ManifestError, match="files: expected the layer"):
        repository.verify(parse_release(changed(files=files[:-1])))
    with pytest.raises(ManifestError, match=r"files: expected config.json; found none"):
        repository.verify(parse_release(changed(files=[files[0], *files[2:]])))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "driver"}, "kind: expected model, image or packages; found 'driver'"),
        ({"kind": None}, r"variants\[0\].format: expected a model's format; found oci"),
        ({"golden": {"path": "golden.json", "size": 1, "sha256": "0" * 64}}, "golden: expected none in a release of"),
    ],
)
def test_a_kind_is_held_to_what_it_has(
    tmp_path: Path, built: BuiltImage, changes: dict[str, Any], message: str
) -> None:
    _changed, document = publish(tmp_path, built)
    with pytest.raises(ManifestError, match=message):
        parse_release({**document, **changes})


def test_an_images_entrypoint_is_its_manifest(tmp_path: Path, built: BuiltImage) -> None:
    _changed, document = publish(tmp_path, built)
    variant = {**document["variants"][0], "entrypoint": "config.json"}
    with pytest.raises(ManifestError, match=r"variants\[0\].entrypoint: expected manifest.json; found config.json"):
        parse_release({**document, "variants": [variant]})
    with pytest.raises(ManifestError, match=r"variants\[0\].format: expected oci; found onnx"):
        parse_release({**document, "variants": [{**document["variants"][0], "format": "onnx"}]})
