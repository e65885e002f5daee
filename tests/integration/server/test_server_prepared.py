# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prepared models: what the runtime makes of a model is tested beside it, and the server loads it if it is right."""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnx_models
import pytest
import tflite_models
from edgeml_device._device.facts import processor_id
from edgeml_device._device.prepared import PreparedModel, prepared_pipeline
from edgeml_server.common.errors import ModelError
from edgeml_server.models.backend import BackendOptions, Form
from edgeml_server.models.backend_onnx import OnnxBackend
from edgeml_server.tools import prepare as prepare_tool
from networks import FILE, Network
from releases import make_pipeline
from server_process import Device, plus_input

ONE = BackendOptions(threads=1)
FORMS = [Form(FILE, {"optimised": "yes", "prepacking": "no"}), Form(FILE, {"optimised": "yes"})]


@pytest.fixture(scope="module")
def network() -> Network:
    return Network(5)


def publish(device: Device, network: Network, number: int) -> None:
    made = network.release(number)
    golden = json.loads(made.blobs[made.document["golden"]["sha256"]])
    device.publish(network.name, f"1.{number}.0", network.content(number), golden)


def directory(device: Device, number: int) -> str:
    return device.store.version(Network.name, f"1.{number}.0").directory


def keep(device: Device, number: int, network: Network, content: int, form: Form, runtime: str | None = None) -> None:
    """Have what is made of ``content``, a version's number, as the prepared model of version ``number``."""
    version = device.store.version(Network.name, f"1.{number}.0")
    source = device.directory / "source.onnx"
    source.write_bytes(network.content(content))
    with device.store.work_directory() as work:
        make(source, work, form)
        files = device.store.adopt_prepared(work, sorted(os.listdir(work)))
    entrypoint = next(file.path for file in files if file.path.endswith(FILE))
    made = PreparedModel(runtime or OnnxBackend.runtime, processor_id(), entrypoint, form.settings, files)
    device.store.keep_prepared(version, {"prepared": made.document}, files)


def make(source: Path, directory: str, wanted: Form) -> None:
    """Have what a form of the model ``source`` needs in ``directory``."""
    assert any(form == wanted for form in OnnxBackend.forms(str(source), directory, ONE))


def assert_serves(device: Device, network: Network, number: int) -> None:
    reply = device.post(f"/v2/models/{Network.name}/infer", network.request).json()
    assert reply["model_version"] == f"1.{number}.0"
    np.testing.assert_allclose(reply["outputs"][0]["data"], network.answer(number), rtol=1e-3, atol=1e-4)


def memory_kb(pid: int, kind: str) -> int:
    """The memory of a process in kB that the kernel names so, such as what no file stands behind."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:"))


def mapped(device: Device) -> set[str]:
    """The names of the files of weights that the server has mapped."""
    paths = [line.split(maxsplit=5)[-1] for line in Path(f"/proc/{device.pid}/maps").read_text().splitlines()]
    return {Path(path).name for path in paths if ".data" in path}


# ---- the server ----


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_prepared_form_serves_and_is_mapped(device: Device, network: Network, form: Form) -> None:
    publish(device, network, 1)
    keep(device, 1, network, 1, form)
    device.start()
    assert "prepared=True" in device.log.wait_for_text("info model loaded")
    assert_serves(device, network, 1)
    assert mapped(device) == {f"{FILE}.data"}


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_versions_with_the_same_weights_have_them_in_memory_once(device: Device, form: Form) -> None:
    """Also the copies that the runtime packs: they are saved with the weights."""
    network = Network(20)
    for number in (1, 2):
        publish(device, network, number)
        keep(device, number, network, number, form)
    weights = [next(Path(directory(device, number)).glob("prepared-*/*.data")) for number in (1, 2)]
    assert weights[0].samefile(weights[1])
    device.activate(Network.name, "1.1.0")
    device.start()
    assert_serves(device, network, 1)
    before = {kind: memory_kb(device.pid, kind) for kind in ("Pss", "Anonymous")}
    path = f"/v2/repository/models/{Network.name}/shadow"
    assert device.post(path, {"version": "1.2.0"}, local=True).status == 200
    for kind, one in before.items():
        # A second copy has 20 MiB.
        assert memory_kb(device.pid, kind) < one + 10240, kind


def test_a_part_of_a_pipeline_is_prepared_for_itself_and_served_so(device: Device, network: Network) -> None:
    made = network.release(1)
    golden = made.blobs[made.document["golden"]["sha256"]]
    models = {name: network.content(1) for name in ("first", "second")}
    device.publish_release(make_pipeline("1.0.0", "both", models, {"first": golden, "second": golden}))
    version = device.store.version("both", "1.0.0")
    with device.store.work_directory() as work:
        # Whichever form is quickest here: what is asked is that the part is found, and no other.
        found = prepare_tool.prepare(version.directory, work, ONE, 1, "second")
        assert found["published"]["load_cpu_seconds"] > 0
        with pytest.raises(ModelError, match="part: expected one of 'first', 'second'; found ''"):
            prepare_tool.prepare(version.directory, work, ONE, 1)
    with device.store.work_directory() as work:
        source = device.directory / "source.onnx"
        source.write_bytes(network.content(1))
        make(source, work, FORMS[0])
        files = device.store.adopt_prepared(work, sorted(os.listdir(work)))
    entrypoint = next(file.path for file in files if file.path.endswith(FILE))
    part = PreparedModel(OnnxBackend.runtime, processor_id(), entrypoint, FORMS[0].settings, files)
    device.store.keep_prepared(version, {"prepared": prepared_pipeline({"second": part}).document}, files)
    device.start()
    assert "prepared=True" in device.log.wait_for_text("info model loaded")
    assert mapped(device) == {f"{FILE}.data"}
    for name in models:
        reply = device.post(f"/v2/models/both/{name}/infer", network.request).json()
        np.testing.assert_allclose(reply["outputs"][0]["data"], network.answer(1), rtol=1e-3, atol=1e-4)


def test_without_one_the_releases_file_serves(device: Device, network: Network) -> None:
    publish(device, network, 1)
    device.start()
    assert "prepared=False" in device.log.wait_for_text("info model loaded")
    assert_serves(device, network, 1)


@pytest.mark.parametrize("runtime", [None, "onnxruntime 1.0.0"])
def test_one_that_fails_the_golden_test_or_is_for_another_runtime_is_not_used(
    device: Device, network: Network, runtime: str | None
) -> None:
    publish(device, network, 1)
    keep(device, 1, network, 2, FORMS[0], **({"runtime": runtime} if runtime else {}))
    device.start()
    if runtime is None:
        assert "golden test: output" in device.log.wait_for_text("warning prepared model not used")
    assert "prepared=False" in device.log.wait_for_text("info model loaded")
    assert_serves(device, network, 1)


def test_one_that_cannot_be_loaded_is_not_used(device: Device, network: Network) -> None:
    publish(device, network, 1)
    keep(device, 1, network, 1, FORMS[0])
    prepared = device.store.prepared(device.store.version(Network.name, "1.1.0"))
    assert prepared is not None
    graph = Path(directory(device, 1), prepared.entrypoint)
    size = graph.stat().st_size
    graph.chmod(0o600)
    graph.write_bytes(b"?" * size)
    device.start()
    device.log.wait_for_text("warning prepared model not used")
    assert_serves(device, network, 1)


def test_what_is_mapped_outlives_its_removal_and_a_swap_leaves_it(device: Device, network: Network) -> None:
    publish(device, network, 1)
    keep(device, 1, network, 1, FORMS[0])
    device.start()
    device.store.drop_prepared(Network.name, "1.1.0")
    assert_serves(device, network, 1)
    publish(device, network, 2)
    keep(device, 2, network, 2, FORMS[0])
    assert device.load(Network.name).status == 200
    assert_serves(device, network, 2)
    device.activate(Network.name, "1.1.0")
    assert device.load(Network.name).status == 200
    assert_serves(device, network, 1)


# ---- the tool ----


@pytest.fixture
def take_any(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long what is measured takes here, a form counts as no slower."""
    monkeypatch.setattr(prepare_tool, "LATENCY_RATIO_MAX", 1e9)
    monkeypatch.setattr(prepare_tool, "LOAD_RATIO_MAX", 1e9)


@pytest.mark.parametrize("batch_rows", [1, 8])
def test_the_tool_tests_forms_and_leaves_the_files(
    device: Device, network: Network, tmp_path: Path, take_any: None, batch_rows: int
) -> None:
    publish(device, network, 1)
    output = tmp_path / "output"
    output.mkdir()
    result = prepare_tool.prepare(directory(device, 1), str(output), ONE, batch_rows)
    assert (result["entrypoint"], result["files"]) == (FILE, [FILE, f"{FILE}.data"])
    assert result["runtime"] == OnnxBackend.runtime
    assert result["settings"] in [form.settings for form in FORMS]
    assert result["load_cpu_seconds"] > 0
    assert result["latency_ratio"] > 0
    backend = OnnxBackend(str(output / FILE), BackendOptions(1, result["settings"]))
    (given,) = network.request["inputs"]
    inputs = {"x": np.array(given["data"], np.float32).reshape(given["shape"])}
    np.testing.assert_allclose(backend.run(inputs, ["y"])[0].ravel(), network.answer(1), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("limit", ["LATENCY_RATIO_MAX", "LOAD_RATIO_MAX"])
def test_a_form_that_is_slower_is_not_chosen(
    device: Device, network: Network, tmp_path: Path, take_any: None, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(prepare_tool, limit, 0.0)
    publish(device, network, 1)
    output = tmp_path / "output"
    output.mkdir()
    result = prepare_tool.prepare(directory(device, 1), str(output), ONE, 1)
    assert "settings" not in result
    assert [form["settings"] for form in result["forms"]] == [form.settings for form in (*FORMS, FORMS[1])]


def test_a_form_with_other_answers_is_not_chosen(
    device: Device, network: Network, tmp_path: Path, take_any: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(device, network, 1)
    output = tmp_path / "output"
    output.mkdir()
    (output / "wrong.onnx").write_bytes(network.content(2))
    monkeypatch.setattr(OnnxBackend, "forms", lambda *_arguments: iter([Form("wrong.onnx", {})]))
    result = prepare_tool.prepare(directory(device, 1), str(output), ONE, 1)
    assert "golden test: output 'y'" in result["forms"][0]["error"]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Have writes beyond ``size`` bytes of a file fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_packed_copies_are_saved_where_there_is_room_for_them(network: Network, tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(network.content(1))
    size = path.stat().st_size
    found = []
    for limit in (3 * size, size + size // 2):
        with files_of_at_most(limit):
            for form in OnnxBackend.forms(str(path), str(tmp_path), ONE):
                OnnxBackend(str(tmp_path / form.entrypoint), BackendOptions(1, form.settings)).close()
                found.append((form, round((tmp_path / f"{FILE}.data").stat().st_size / size)))
    assert found == [(FORMS[0], 1), (FORMS[1], 2), (FORMS[1], 1), (FORMS[0], 1), (FORMS[1], 1)]


def test_what_the_runtime_cannot_read_again_is_packed_at_each_load(device: Device, tmp_path: Path) -> None:
    """ONNX Runtime 1.32 saves an empty buffer of an int8 convolution, and reads beyond the file's end for it."""
    path = tmp_path / "quantised.onnx"
    path.write_bytes(onnx_models.quantised_convolution())
    forms = OnnxBackend.forms(str(path), str(tmp_path), ONE)
    OnnxBackend(str(tmp_path / FILE), BackendOptions(1, next(forms).settings)).close()
    with pytest.raises(ModelError, match="Deserialize tensor"):
        OnnxBackend(str(tmp_path / FILE), BackendOptions(1, next(forms).settings))
    (last,) = forms
    OnnxBackend(str(tmp_path / FILE), BackendOptions(1, last.settings)).close()


def test_a_model_that_was_published_with_external_weights_has_forms_too(
    network: Network, tmp_path: Path, take_any: None
) -> None:
    model = onnx.load_from_string(network.content(1))
    path = tmp_path / "external" / FILE
    path.parent.mkdir()
    onnx.save(model, str(path), save_as_external_data=True, location="weights.bin")
    output = tmp_path / "output"
    output.mkdir()
    for form in OnnxBackend.forms(str(path), str(output), ONE):
        (path.parent / "weights.bin").rename(path.parent / "away.bin")
        OnnxBackend(str(output / form.entrypoint), BackendOptions(1, form.settings)).close()
        (path.parent / "away.bin").rename(path.parent / "weights.bin")


def test_too_little_memory_is_said(
    device: Device, network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare_tool, "_MEMORY_TIMES", 1 << 40)
    publish(device, network, 1)
    with pytest.raises(ModelError, match=r"bytes of memory; .* are left"):
        prepare_tool.prepare(directory(device, 1), str(tmp_path), ONE, 1)


def test_litert_without_its_default_delegate(device: Device, tmp_path: Path, take_any: None) -> None:
    content = (tflite_models.DIRECTORY / "plus_one.tflite").read_bytes()
    golden = {
        "inputs": [plus_input([1, 2])],
        "outputs": [{"name": "sum", "datatype": "FP32", "shape": [1, 2], "data": [2, 3]}],
        "tolerance": {"absolute": 1e-4, "relative": 1e-3},
    }
    device.publish("plus", "1.0.0", content, golden, "tflite")
    result = prepare_tool.prepare(device.store.version("plus", "1.0.0").directory, str(tmp_path), ONE, 1)
    assert (result["settings"], result["files"], result["entrypoint"]) == ({"delegate": "none"}, [], "")
