# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ONNX files as the controller reads them: what devices would refuse is refused before a byte is sent."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_errors
from releases import make_release, publish, variant_entry

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import IncompatibleError, ManifestError
from ansible_collections.edgeml.fleet.plugins.module_utils._device.facts import has_locale
from ansible_collections.edgeml.fleet.plugins.module_utils._release.onnx_check import (
    IR_VERSIONS,
    OPSETS,
    first_runtime,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._release.onnx_file import OnnxFile, Operator, read_onnx
from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository
from ansible_collections.edgeml.fleet.plugins.module_utils._release.variant_choice import choose_variant

ABSENT_LOCALE = "tlh_QO.UTF-8"


def graph(nodes: list[onnx.NodeProto], outputs: list[onnx.ValueInfoProto], shape: Any = ("N", 2)) -> onnx.GraphProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    return helper.make_graph(nodes, "graph", [x], outputs)


def tensor(name: str, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["N", 2])


def model(body: onnx.GraphProto | None = None, opset: int = 17, ir_version: int = 8, **more: Any) -> onnx.ModelProto:
    body = body or graph([helper.make_node("Add", ["x", "x"], ["y"])], [tensor("y")])
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version, **more)


def zipmap(labels: Any = ("a", "b")) -> onnx.GraphProto:
    name = "classlabels_int64s" if isinstance(labels[0], int) else "classlabels_strings"
    key = TensorProto.INT64 if isinstance(labels[0], int) else TensorProto.STRING
    attributes: dict[str, Any] = {name: list(labels)}
    node = helper.make_node("ZipMap", ["x"], ["scores"], domain="ai.onnx.ml", **attributes)
    value = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    kind = helper.make_sequence_type_proto(helper.make_map_type_proto(key, value))
    return graph([node], [helper.make_value_info("scores", kind)])


def normalizer(**attributes: Any) -> onnx.GraphProto:
    texts = helper.make_tensor_value_info("x", TensorProto.STRING, ["N"])
    lower = helper.make_tensor_value_info("y", TensorProto.STRING, ["N"])
    return helper.make_graph([helper.make_node("StringNormalizer", ["x"], ["y"], **attributes)], "g", [texts], [lower])


def read(tmp_path: Path, proto: onnx.ModelProto) -> OnnxFile:
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return read_onnx(str(path))


def verify(tmp_path: Path, proto: onnx.ModelProto, minimum: str = "1.17.0", **variant: Any) -> None:
    """Publish and verify a release of the model, as every rollout does."""
    files = {"model.onnx": proto.SerializeToString(), "ops.so": b"\x7fELF"}
    entry = variant_entry(files, runtime={"name": "onnxruntime", "minimum": minimum}, **variant)
    publish(make_release(files=files, variants=[entry]), tmp_path)
    repository = Repository(str(tmp_path))
    repository.verify(repository.release("digits", "1.0.0"))


# ---- reading ----


def test_what_the_file_says_is_what_the_library_reads(tmp_path: Path) -> None:
    inner = helper.make_graph([helper.make_node("Neg", ["x"], ["n"])], "then", [], [tensor("n")])
    other = helper.make_graph([helper.make_node("Fancy", ["x"], ["n"], domain="own")], "else", [], [tensor("n")])
    branch = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=other)
    body = graph([helper.make_node("Fold", ["x"], ["c"], domain="mine"), branch], [tensor("y")], shape=None)
    function = helper.make_function(
        "mine", "Fold", ["a"], ["b"], [helper.make_node("Gelu", ["a"], ["b"], domain="com.microsoft")], []
    )
    proto = model(body, opset=18, ir_version=9, functions=[function])
    proto.opset_import.append(helper.make_opsetid("own", 3))
    found = read(tmp_path, proto)
    assert (found.ir_version, found.opsets) == (9, {"": 18, "own": 3})
    assert found.types == {"x": "tensor", "y": "tensor"}
    assert (found.inputs_of_any_rank, found.sizes) == ({"x"}, {})
    assert read(tmp_path, model()).sizes == {"x": (-1, 2)}
    assert found.operators == {
        *(Operator("", "If"), Operator("", "Neg"), Operator("own", "Fancy"), Operator("com.microsoft", "Gelu")),
    }


@pytest.mark.parametrize("labels", [["no", "yes", "maybe"], [0, 1, 2], [-1, 7, 1 << 62]], ids=str)
def test_the_labels_of_zipmap_come_in_the_order_of_its_scores(tmp_path: Path, labels: list[Any]) -> None:
    found = read(tmp_path, model(zipmap(labels)))
    assert found.class_labels == {"scores": labels}
    assert found.types["scores"] == "sequence"


def test_packed_numbers_are_numbers(tmp_path: Path) -> None:
    """Other writers of protocol buffers pack them."""
    content = model(zipmap([1, 2])).SerializeToString()
    plain, packed = b"\x40\x01\x40\x02", b"\x42\x02\x01\x02"
    assert content.count(plain) == 1
    path = tmp_path / "model.onnx"
    path.write_bytes(content.replace(plain, packed))
    assert read_onnx(str(path)).class_labels == {"scores": [1, 2]}


@given(st.binary(max_size=300))
def test_any_bytes_are_a_model_or_a_value_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(content)
    try:
        read_onnx(str(path))
    except ValueError:
        return


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_damaged_model_is_a_model_or_a_value_error(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int
) -> None:
    content = bytearray(model(zipmap()).SerializeToString())
    content[place % len(content)] = byte
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(content)
    try:
        read_onnx(str(path))
    except ValueError:
        return


# ---- refusals ----


@pytest.mark.parametrize(
    ("proto", "minimum", "message"),
    [
        (
            model(ir_version=10),
            "1.17.0",
            "IR version 10 needs ONNX Runtime 1.18.1; the manifest promises 1.17.0: set runtime.minimum to 1.18.1, or",
        ),
        (model(ir_version=10), "1.17.0", "or export the model with IR version 9"),
        (model(opset=21), "1.17.0", "opset 21 needs ONNX Runtime 1.18.1; the manifest promises 1.17.0"),
        (model(opset=22), "1.18", "or export the model with opset 21"),
        (model(opset=99), "1.32.0", "opset 99 is newer than 28, which is the newest that ONNX Runtime 1.32.0 loads"),
        (
            model(graph([helper.make_node("Fancy", ["x"], ["y"], domain="own.ops")], [tensor("y")])),
            "1.17.0",
            "expected operators of ONNX Runtime; found own.ops:Fancy. Put the shared library that has them among",
        ),
        (
            model(
                graph(
                    [helper.make_node("SequenceConstruct", ["x"], ["s"])],
                    [helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)],
                )
            ),
            "1.17.0",
            "s: expected a tensor, which the protocol can carry; found a sequence",
        ),
        (
            model(zipmap([b"caf\xe9", b"tea"])),
            "1.17.0",
            "scores: expected class labels in UTF-8, because it is a dictionary of them; found others. Export",
        ),
        (
            model(normalizer(case_change_action="LOWER")),
            "1.17.0",
            "its StringNormalizer needs the locale en_US.UTF-8 on the device: name it in the variant's locales",
        ),
        (model(normalizer(stopwords=["a"], locale="de_DE")), "1.17.0", "needs the locale de_DE on the device"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_what_devices_would_refuse_is_refused_with_the_remedy(
    tmp_path: Path, proto: onnx.ModelProto, minimum: str, message: str
) -> None:
    with pytest.raises(ManifestError, match=re.escape(message)) as caught:
        verify(tmp_path, proto, minimum)
    assert str(caught.value).startswith("digits 1.0.0: variant onnx-fp32: model.onnx: ")


@pytest.mark.parametrize(
    ("proto", "variant"),
    [
        (model(), {}),
        (model(ir_version=3, opset=7), {"minimum": "1.0"}),
        (model(ir_version=10, opset=21), {"minimum": "1.18"}),
        (model(opset=99), {"minimum": "1.33.0"}),
        (model(zipmap()), {}),
        (model(graph([helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")], [tensor("y")])), {}),
        (
            model(graph([helper.make_node("Fancy", ["x"], ["y"], domain="own")], [tensor("y")])),
            {"libraries": ["ops.so"]},
        ),
        (model(normalizer(case_change_action="LOWER")), {"locales": ["en_US.UTF-8"]}),
        (model(normalizer(case_change_action="LOWER", locale="C.UTF-8")), {}),
        (model(normalizer(is_case_sensitive=1, stopwords=["a"])), {}),
    ],
)
def test_what_devices_take_is_taken(tmp_path: Path, proto: onnx.ModelProto, variant: dict[str, Any]) -> None:
    verify(tmp_path, proto, **variant)


def test_a_file_in_another_form_says_nothing(tmp_path: Path) -> None:
    files = {"model.ort": b"\0\0\0\0ORTM", "other.onnx": b"no model"}
    publish(make_release(files=files), tmp_path)
    repository = Repository(str(tmp_path))
    assert repository.verify(repository.release("digits", "1.0.0")) == 16


def test_the_first_runtime_is_the_oldest_that_loads_a_version() -> None:
    assert [first_runtime({8: "1.15", 10: "1.18"}, number) for number in (7, 9, 10, 11)] == [
        *("1.15", "1.18", "1.18", None),
    ]


@pytest.mark.parametrize(("table", "field"), [(OPSETS, "opset"), (IR_VERSIONS, "ir_version")])
def test_the_newest_version_in_a_table_is_the_newest_that_its_runtime_loads(table: dict[int, str], field: str) -> None:
    newest = max(table)
    assert table[newest] == onnxruntime.__version__, "tools/onnxruntime_versions.py prints the tables anew"

    def loads(number: int) -> bool:
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 4
        proto = model(opset=number) if field == "opset" else model(ir_version=number)
        try:
            onnxruntime.InferenceSession(proto.SerializeToString(), settings, providers=["CPUExecutionProvider"])
        except runtime_errors.Fail:
            return False
        return True

    assert (loads(newest), loads(newest + 1)) == (True, False)


# ---- on the device ----


def test_a_device_without_the_locale_does_not_take_the_variant() -> None:
    device = {"architecture": "x86_64", "memory_bytes": 1 << 30}
    files = {"model.onnx": b"model"}
    entries = [variant_entry(files, "lower", locales=[ABSENT_LOCALE]), variant_entry(files, "plain")]
    release = make_release(files=files, variants=entries).release
    assert choose_variant(release, device, 0, has_locale).name == "plain"
    assert choose_variant(release, device, 0, lambda name: name == ABSENT_LOCALE).name == "lower"
    with pytest.raises(IncompatibleError, match=f"needs the locale {ABSENT_LOCALE}; the device does not have it"):
        choose_variant(make_release(files=files, variants=entries[:1]).release, device, 0, has_locale)


def test_asking_for_a_locale_changes_none() -> None:
    assert (has_locale("C"), has_locale(ABSENT_LOCALE), has_locale("POSIX")) == (True, False, True)
