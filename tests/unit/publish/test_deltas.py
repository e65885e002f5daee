# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deltas as they are made: of models whose tensors are found, and of any bytes; and how they come into a repository."""

from __future__ import annotations

import io
import json
import random
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from delta_bytes import header_of
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, external_data_helper, helper, numpy_helper
from releases import Made, make_release, publish, sha256

from ansible_collections.edgeml.fleet.plugins.module_utils._common.hashing import BLOCK_BYTES
from ansible_collections.edgeml.fleet.plugins.module_utils._release import delta_block
from ansible_collections.edgeml.fleet.plugins.module_utils._release import delta_form as form
from ansible_collections.edgeml.fleet.plugins.module_utils._release.delta import apply_delta, made_blocks
from ansible_collections.edgeml.fleet.plugins.module_utils._release.delta_index import Delta, index_path
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import File
from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish import alignment, deltas
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.alignment import SEED_BYTES, Source, align
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.cli import main
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.delta_file import write_delta
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.deltas import (
    add_deltas,
    bytes_to_fetch,
    make_deltas,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.tensors import Tensor, find_tensors

Arrays = Mapping[str, np.ndarray[Any, Any]]
RANDOM = np.random.default_rng(5)


def weights(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return (RANDOM.standard_normal(shape) * 0.05).astype(np.float32)


def tuned(arrays: Arrays, share: float = 0.001) -> Arrays:
    """The arrays after a fine-tune."""
    return {
        name: (values + RANDOM.standard_normal(values.shape) * 0.05 * share).astype(values.dtype)
        for name, values in arrays.items()
    }


LAYERS = {"first": weights(64, 300), "second": weights(300, 200), "third": weights(200, 100)}


def onnx_model(arrays: Arrays) -> onnx.ModelProto:
    """A model with these constants; all of it but its tensors is what exporters write."""
    nodes = [helper.make_node("MatMul", ["x", name], [f"y{name}"], name=f"node/{name}") for name in arrays]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info(f"y{name}", TensorProto.FLOAT, None) for name in arrays],
        [numpy_helper.from_array(values, name) for name, values in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def source_of(path: Path) -> Source:
    return Source(np.frombuffer(path.read_bytes(), np.uint8), find_tensors({path.name: str(path)})[path.name])


def size_of_delta(new: Source, *bases: Source) -> int:
    """The size of a delta, after it was applied."""
    named = [(sha256(base.content.tobytes()), base) for base in bases]
    delta = b"".join(write_delta(new, named))
    held = {name: base.content.tobytes() for name, base in named}
    made = bytearray()
    result = new.content.tobytes()
    file = File("model", len(result), sha256(result))
    apply_delta(io.BytesIO(delta), file, lambda name, _size: io.BytesIO(held[name]), made.extend)
    assert made == result
    return len(delta)


def share(tmp_path: Path, old: onnx.ModelProto, new: onnx.ModelProto) -> float:
    """The size of the delta, as a part of the newer file's."""
    paths = [tmp_path / "old.onnx", tmp_path / "new.onnx"]
    for path, model in zip(paths, (old, new), strict=True):
        onnx.save(model, path)
    return size_of_delta(source_of(paths[1]), source_of(paths[0])) / paths[1].stat().st_size


@given(st.integers(0, 2**32), st.integers(0, 6), st.sampled_from([0, 1, 40, 3000, 40_000]))
def test_any_edit_of_any_bytes_is_made_again(seed: int, edits: int, size: int) -> None:
    """Bytes cut out, put in, moved and changed; repetitions and noise."""
    chosen = random.Random(seed)
    old = bytearray(chosen.randbytes(size) if seed % 2 else b"abcdefgh" * (size // 8))
    new = bytearray(old)
    for _edit in range(edits):
        at, length = chosen.randint(0, len(new)), chosen.randint(0, 200)
        kind = chosen.randrange(4)
        if kind == 0:
            del new[at : at + length]
        elif kind == 1:
            new[at:at] = chosen.randbytes(length)
        elif kind == 2:
            new[at : at + length] = bytes(
                (byte + chosen.choice((0, 1, 255, 7))) % 256 for byte in new[at : at + length]
            )
        else:
            new += old[at : at + length]
    new += b"x"
    size_of_delta(*(Source(np.frombuffer(bytes(content), np.uint8)) for content in (new, old)))


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.sampled_from([1, 2, 4, 8]))
def test_any_tensors_are_made_again(seed: int, width: int) -> None:
    """Tensors at odd places, which overlap blocks and have other sizes than before."""
    chosen = random.Random(seed)
    sources = []
    for _file in range(2):
        content, tensors = bytearray(), []
        for name in chosen.sample("abcde", 3):
            content += chosen.randbytes(chosen.randrange(9))
            length = width * chosen.randrange(16, 900)
            tensors.append(Tensor(name, len(content), len(content) + length, width))
            content += bytes(chosen.choice((0, 1, 255, 128)) for _byte in range(length))
        sources.append(Source(np.frombuffer(bytes(content), np.uint8), tensors))
    size_of_delta(*sources)


def test_a_file_of_several_blocks_whose_elements_are_cut_by_them() -> None:
    old = RANDOM.integers(0, 256, 2 * BLOCK_BYTES + 4097, dtype=np.uint8)
    new = old.copy()
    new[3:].view("<u2")[: BLOCK_BYTES + 2000 : 3] += 1
    tensors = [Tensor("weights", 3, len(old) - 1 - (len(old) - 4) % 4, 4)]
    assert size_of_delta(Source(new, tensors), Source(old, tensors)) < 0.6 * len(new)


def test_a_fine_tuned_model_takes_a_part_of_its_size(tmp_path: Path) -> None:
    old = onnx_model(LAYERS)
    assert share(tmp_path, old, onnx_model({**LAYERS, **tuned({"third": LAYERS["third"]})})) < 0.15
    assert share(tmp_path, old, onnx_model(tuned(LAYERS))) < 0.576
    halves = {name: values.astype(np.float16) for name, values in LAYERS.items()}
    assert share(tmp_path, onnx_model(halves), onnx_model(tuned(halves))) < 0.328


def test_int8_weights_take_little_more_than_what_changed(tmp_path: Path) -> None:
    def quantised(values: Arrays) -> onnx.ModelProto:
        return onnx_model(
            {name: np.clip(np.round(array * 500), -127, 127).astype(np.int8) for name, array in values.items()}
        )

    found = share(tmp_path, quantised(LAYERS), quantised(tuned(LAYERS, 0.01)))
    changed = np.mean([(quantised_ != other).mean() for quantised_, other in _int8_pairs()])
    assert 0.15 < changed < 0.35
    assert found < 0.16


def _int8_pairs() -> list[tuple[Any, Any]]:
    pairs = zip(LAYERS.values(), tuned(LAYERS, 0.01).values(), strict=True)
    return [(np.round(old * 500), np.round(new * 500)) for old, new in pairs]


def test_renamed_moved_and_inserted_tensors_are_copied(tmp_path: Path) -> None:
    old = onnx_model(LAYERS)
    renamed = onnx_model({f"model/{name}/kernel": values for name, values in reversed(LAYERS.items())})
    assert share(tmp_path, old, renamed) < 0.005
    more = weights(10, 10)
    inserted = onnx_model({"first": LAYERS["first"], "new": more, **LAYERS})
    assert share(tmp_path, old, inserted) * len(inserted.SerializeToString()) < more.nbytes + 1500


def test_a_file_whose_last_bytes_alone_changed_costs_a_byte_for_each_block() -> None:
    """What is between two tensors is also the same elsewhere; a copy goes on with what is behind the first."""
    old = b"".join(bytes(100) + RANDOM.integers(0, 256, 400_000, dtype=np.uint8).tobytes() for _tensor in range(8))
    tensors = [Tensor(str(number), 400_100 * number + 100, 400_100 * (number + 1), 4) for number in range(8)]
    sources = [Source(np.frombuffer(content, np.uint8), tensors) for content in (old + b"version 1.0.0", old + b"1.1")]
    assert size_of_delta(sources[1], sources[0]) < form.HEAD.size + 40 + 50


def test_a_tensor_that_was_renamed_and_tuned_is_compared_with_one_of_its_size(tmp_path: Path) -> None:
    renamed = {f"model/{name}": values for name, values in tuned(LAYERS).items()}
    assert share(tmp_path, onnx_model(LAYERS), onnx_model(renamed)) < 0.6


def test_more_classes_leave_the_rows_that_were_there(tmp_path: Path) -> None:
    old, new = weights(500, 100), weights(20, 100)
    grown = np.concatenate([old, new])
    assert share(tmp_path, onnx_model({"head": old}), onnx_model({"head": grown})) < 0.06


def test_external_weights_are_found_in_their_own_file(tmp_path: Path) -> None:
    found = []
    for name, arrays in (("old", LAYERS), ("new", tuned(LAYERS))):
        directory = tmp_path / name
        directory.mkdir()
        model = onnx_model(arrays)
        external_data_helper.convert_model_to_external_data(model, location="weights.bin", size_threshold=0)
        onnx.save(model, directory / "model.onnx")
        files = {path.name: str(path) for path in directory.iterdir()}
        tensors = find_tensors(files)
        assert [tensor.name for tensor in tensors["weights.bin"]] == list(LAYERS)
        content = np.frombuffer((directory / "weights.bin").read_bytes(), np.uint8)
        for tensor in tensors["weights.bin"]:
            assert content[tensor.start : tensor.end].tobytes() == arrays[tensor.name].tobytes()
        found.append(Source(content, tensors["weights.bin"]))
    assert size_of_delta(found[1], found[0]) < 0.576 * len(found[1].content)


def test_constants_of_nodes_and_packed_floats_are_tensors(tmp_path: Path) -> None:
    model = onnx_model({})
    values = weights(100)
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(values)))
    packed = helper.make_tensor("p", TensorProto.FLOAT, [100], values.tolist())
    model.graph.initializer.append(packed)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    content = path.read_bytes()
    found = {
        tensor.name: content[tensor.start : tensor.end] for tensor in find_tensors({"m.onnx": str(path)})["m.onnx"]
    }
    assert found == {"c/value": values.tobytes(), "p": values.tobytes()}


def test_buffers_of_tflite_are_tensors(tmp_path: Path) -> None:
    flatbuffers = pytest.importorskip("flatbuffers")
    from ai_edge_litert import schema_py_generated as schema

    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs, model.buffers, graph.tensors = 3, [graph], [schema.BufferT()], []
    arrays: Arrays = {"kernel": weights(40, 8), "table": RANDOM.integers(-9, 9, 500, dtype=np.int8)}
    for number, (name, values) in enumerate(arrays.items()):
        buffer, tensor = schema.BufferT(), schema.TensorT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        tensor.name, tensor.buffer, tensor.shape = name.encode(), number + 1, list(values.shape)
        tensor.type = schema.TensorType.FLOAT32 if values.dtype == np.float32 else schema.TensorType.INT8
        model.buffers.append(buffer)
        graph.tensors.append(tensor)
    builder = flatbuffers.Builder(1 << 12)
    builder.Finish(model.Pack(builder), b"TFL3")
    path = tmp_path / "model.tflite"
    path.write_bytes(bytes(builder.Output()))
    content = path.read_bytes()
    found = find_tensors({"model.tflite": str(path)})["model.tflite"]
    assert {tensor.name: (content[tensor.start : tensor.end], tensor.width) for tensor in found} == {
        "0/kernel": (arrays["kernel"].tobytes(), 4),
        "0/table": (arrays["table"].tobytes(), 1),
    }


def test_buffers_behind_the_flatbuffer_and_scales_are_tensors(tmp_path: Path) -> None:
    """As ai-edge-quantizer writes weights: the FlatBuffer says where in the file they are."""
    flatbuffers = pytest.importorskip("flatbuffers")
    from ai_edge_litert import schema_py_generated as schema

    model, graph, buffer, tensor = schema.ModelT(), schema.SubGraphT(), schema.BufferT(), schema.TensorT()
    kernel, scales = RANDOM.integers(-9, 9, 500, dtype=np.int8), weights(20)
    buffer.size, tensor.name, tensor.buffer, tensor.type = len(kernel), b"kernel", 1, schema.TensorType.INT8
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale = scales
    model.subgraphs, model.buffers, graph.tensors = [graph], [schema.BufferT(), buffer], [tensor]

    def packed(offset: int) -> bytes:
        buffer.offset = offset
        builder = flatbuffers.Builder(1 << 12)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    content = packed(len(packed(2))) + kernel.tobytes()
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    found = find_tensors({"model.tflite": str(path)})["model.tflite"]
    assert {tensor.name: (content[tensor.start : tensor.end], tensor.width) for tensor in found} == {
        "0/kernel": (kernel.tobytes(), 1),
        "0/kernel/scale": (scales.tobytes(), 4),
    }


@pytest.mark.parametrize("content", [b"", b"\x00" * 30, b"0123TFL3" + b"\xff" * 100, b"\x3a\xff\xff\xff\xff\x0f" * 9])
def test_a_damaged_model_has_no_tensors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert find_tensors({"model.onnx": str(path)}) == {"model.onnx": []}


def test_a_copy_behind_an_insertion_goes_on_where_the_last_one_ended() -> None:
    """Also where its first bytes are elsewhere, too."""
    name, first, second = (RANDOM.integers(0, 256, size, dtype=np.uint8) for size in (40, 100, 100))
    old = Source(np.concatenate([name, first, name, second]))
    inserted = np.frombuffer(b"12", np.uint8)
    new = Source(np.concatenate([inserted, name, first, inserted, name, second]))
    copies = [(span.start, span.length, span.offset) for span in align(new, [old]) if span.base is not None]
    assert copies == [(2, 140, 0), (144, 140, 140)]


def kinds_of(delta: bytes) -> list[list[tuple[int, int]]]:
    """Of each block the pieces: the group (0: a copy) and the length."""
    found: list[list[tuple[int, int]]] = []

    def read(table: bytes | memoryview, start: int) -> list[form.Piece]:
        pieces = read_pieces(table, start)
        found.append([(piece.group, piece.length) for piece in pieces])
        return pieces

    read_pieces = form.read_pieces
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delta_block, "read_pieces", read)
        header = header_of(delta)
        file = File("model.onnx", header.size, header.sha256)
        for _block in made_blocks(io.BytesIO(delta), file, lambda _sha256, size: io.BytesIO(bytes(size))):
            pass
    return found


def test_equal_bytes_here_and_there_between_steps_are_no_pieces() -> None:
    """In a file of an unknown form: what a piece costs, bytes and a device's time, is more than a short copy saves."""
    old = RANDOM.integers(0, 256, 200_000, dtype=np.uint8)
    new = old + (RANDOM.random(len(old)) < 0.06).astype(np.uint8)
    delta = b"".join(write_delta(Source(new), [(sha256(old.tobytes()), Source(old))]))
    assert sum(map(len, kinds_of(delta))) < 100
    assert size_of_delta(Source(new), Source(old)) < 0.06 * len(new)


def test_rows_that_a_fine_tune_left_alone_are_copied(tmp_path: Path) -> None:
    """Among rows that it changed; of int8 weights, too. Where little changed anywhere, nothing is cut for them."""
    whole = RANDOM.integers(0, 256, (64, 2048), dtype=np.uint8)
    dense, sparse = whole.copy(), whole.copy()
    dense[::2] += RANDOM.integers(1, 4, dense[::2].shape, dtype=np.uint8)
    sparse[::2, 7] += 1
    old = Source(whole.ravel(), [Tensor("kernel", 0, whole.size, 1)])
    name = sha256(old.content.tobytes())
    for new, copied in ((dense, 32), (sparse, 0)):
        delta = b"".join(write_delta(Source(new.ravel(), old.tensors), [(name, old)]))
        [pieces] = kinds_of(delta)
        assert [length for group, length in pieces if not group] == [2048] * copied


def test_planes_that_hardly_compress_are_stored() -> None:
    """A device inflates nothing for a tenth of a plane."""
    old = RANDOM.integers(0, 256, (1 << 18, 2), dtype=np.uint8)
    new = old + RANDOM.integers(0, 256, old.shape, dtype=np.uint8) * np.array([1, 0], np.uint8)
    new[::16] = old[::16]
    tensors = [Tensor("kernel", 0, old.size, 2)]
    size = size_of_delta(Source(new.ravel(), tensors), Source(old.ravel(), tensors))
    assert 0.5 * old.size < size < 0.502 * old.size


def packing_of(new: Source, old: Source) -> int:
    delta = b"".join(write_delta(new, [(sha256(old.content.tobytes()), old)]))
    return header_of(delta).packing


def test_what_repeats_from_block_to_block_is_packed_as_one() -> None:
    """As of a forest, which has nothing in common with the one before but the way it is written."""
    old, phrase = (RANDOM.integers(0, 256, BLOCK_BYTES * 2 // 3, dtype=np.uint8) for _file in range(2))
    new = Source(np.concatenate([phrase, phrase]))
    assert packing_of(new, Source(old)) == form.LZMA
    assert size_of_delta(new, Source(old)) < 1.01 * len(phrase)


def test_weights_are_planes(tmp_path: Path) -> None:
    paths = [tmp_path / "old.onnx", tmp_path / "new.onnx"]
    for path, arrays in zip(paths, (LAYERS, tuned(LAYERS)), strict=True):
        onnx.save(onnx_model(arrays), path)
    assert packing_of(source_of(paths[1]), source_of(paths[0])) == form.STORED


def test_names_alone_cost_little_more_than_the_names(tmp_path: Path) -> None:
    many = {f"layer{number}": weights(100) for number in range(50)}
    paths = [tmp_path / "old.onnx", tmp_path / "new.onnx"]
    for path, prefix in zip(paths, ("", "model/"), strict=True):
        onnx.save(onnx_model({prefix + name: values for name, values in many.items()}), path)
    new, old = source_of(paths[1]), source_of(paths[0])
    assert packing_of(new, old) == form.LZMA
    assert size_of_delta(new, old) < 0.04 * len(new.content)


# ---- what building costs ----


def test_a_file_that_is_shuffled_costs_a_bounded_number_of_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snippets of the older file in another order, each too short to be worth a piece."""
    monkeypatch.setattr(alignment, "RUNS_MAX", 200)
    old = RANDOM.integers(0, 256, BLOCK_BYTES, dtype=np.uint8)
    snippets = old.reshape(-1, 32)[RANDOM.permutation(BLOCK_BYTES // 32)].copy()
    snippets[:, 24:] = RANDOM.integers(0, 256, (len(snippets), 8), dtype=np.uint8)
    new = Source(snippets.reshape(-1))
    spans = align(new, [Source(old)])
    assert sum(span.base is not None and span.length >= SEED_BYTES for span in spans) <= 200
    assert [span.start for span in spans[1:]] == [span.start + span.length for span in spans[:-1]]
    assert size_of_delta(new, Source(old)) < len(new.content)


@pytest.mark.parametrize("blocks", [3, 9])
def test_building_needs_the_memory_of_some_blocks_and_places(blocks: int) -> None:
    """The files themselves are mapped: they are not counted, as ``np.memmap`` is not."""
    old = RANDOM.integers(0, 4, blocks * BLOCK_BYTES, dtype=np.uint8)
    new = old.copy()
    new[::7] += 1
    tensors = [Tensor("weights", 0, len(old), 4)]
    tracemalloc.start()
    try:
        for _part in write_delta(Source(new, tensors), [("00" * 32, Source(old, tensors))]):
            pass
        _now, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # What packs needs twelve times its dictionary.
    assert most < 24 * BLOCK_BYTES + 12 * form.PACKING_FILTERS[0]["dict_size"]


def test_places_of_equal_runs_do_not_grow_with_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "PLACES_MAX", 1 << 12)
    old = RANDOM.integers(0, 256, BLOCK_BYTES, dtype=np.uint8)
    new = np.concatenate([RANDOM.integers(0, 256, 1000, dtype=np.uint8), old])
    assert len(alignment.Seeds([Source(old)], everywhere=True)) <= 1 << 12
    assert size_of_delta(Source(new), Source(old)) < 1200


# ---- releases ----


def release_of(version: str, arrays: Arrays) -> Made:
    labels = f"{version}\n".encode() + b"".join(b"class %d\n" % number for number in range(1000))
    return make_release(version, files={"model.onnx": onnx_model(arrays).SerializeToString(), "labels.txt": labels})


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a version, and one after a fine-tune of its last layer."""
    root = tmp_path / "repository"
    publish(release_of("1.0.0", LAYERS), root)
    publish(release_of("1.1.0", {**LAYERS, **tuned({"third": LAYERS["third"]})}), root)
    return root


def delta(repository: Path, *arguments: str) -> int:
    return main(["delta", "--model", "digits", "--repository", str(repository), *arguments])


def test_the_command_adds_deltas_beside_the_blobs(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = json.loads((repository / "digits" / "1.1.0" / "manifest.json").read_text())["variants"][0]["files"]
    file = File(**files[0])
    assert delta(repository, "--from", "1.0.0", "--to", "1.1.0", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["changed"]
    old = sha256((onnx_model(LAYERS)).SerializeToString())
    (entry,) = [entry for entry in said["deltas"] if entry["path"] == "model.onnx" and entry["bases"]]
    assert entry["bases"] == [old]
    assert entry["size"] < 0.2 * file.size
    found = Repository(str(repository)).deltas(file)
    assert [found[0].sha256, found[0].size, list(found[0].bases)] == [entry["sha256"], entry["size"], entry["bases"]]
    path = repository / "deltas" / file.sha256 / entry["sha256"]
    assert sha256(path.read_bytes()) == entry["sha256"]
    assert delta(repository, "--from", "1.0.0", "--to", "1.1.0") == 0
    assert Repository(str(repository)).deltas(file) == found
    assert "model.onnx" in capsys.readouterr().out


def test_a_file_is_compressed_where_that_helps(repository: Path, tmp_path: Path) -> None:
    made = release_of("1.1.0", LAYERS)
    found = make_deltas(made.release, _locate(made, tmp_path), None, str, str(tmp_path))
    (whole,) = [item for item in found if item.file.path == "labels.txt"]
    assert whole.delta.bases == ()
    assert whole.delta.size < 0.3 * whole.file.size
    add_deltas(str(repository), found)
    assert Repository(str(repository)).deltas(whole.file) == [whole.delta]


def test_large_weights_that_hardly_compress_are_not_compressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deltas, "LARGE_BYTES", 1 << 18)
    weights = np.random.default_rng(1).standard_normal(1 << 17).astype(np.float32)
    pruned = np.where(np.abs(weights) > 2, weights, 0)
    files = {"dense.bin": weights.tobytes(), "pruned.bin": pruned.tobytes(), "small.bin": weights[: 1 << 13].tobytes()}
    made = make_release("1.0.0", files=files)
    found = make_deltas(made.release, _locate(made, tmp_path), None, str, str(tmp_path))
    assert sorted(item.file.path for item in found) == ["pruned.bin", "small.bin"]


def test_nothing_is_published_that_is_not_smaller(tmp_path: Path) -> None:
    old, new = (
        make_release(version, files={"model.onnx": random.Random(version).randbytes(50_000)}) for version in "12"
    )
    found = make_deltas(new.release, _locate(new, tmp_path), old.release, _locate(old, tmp_path), str(tmp_path))
    assert found == []
    assert bytes_to_fetch(new.release.all_files(), old.release.all_files(), lambda _file: []) == 50_000


def test_what_a_device_would_fetch_is_the_smallest_form_of_each_file(tmp_path: Path) -> None:
    old, new = release_of("1.0.0", LAYERS), release_of("1.1.0", {**LAYERS, **tuned({"third": LAYERS["third"]})})
    found = make_deltas(new.release, _locate(new, tmp_path), old.release, _locate(old, tmp_path), str(tmp_path))
    files = new.release.all_files()

    def deltas_of(file: File) -> list[Delta]:
        return [item.delta for item in found if item.file.sha256 == file.sha256]

    with_old = bytes_to_fetch(files, old.release.all_files(), deltas_of)
    with_nothing = bytes_to_fetch(files, [], deltas_of)
    assert with_old < 0.2 * with_nothing < sum(file.size for file in files)
    assert bytes_to_fetch(files, files, deltas_of) == 0


def test_a_damaged_index_is_written_anew(repository: Path) -> None:
    files = json.loads((repository / "digits" / "1.1.0" / "manifest.json").read_text())["variants"][0]["files"]
    file = File(**files[0])
    index = repository / index_path(file.sha256)
    index.parent.mkdir(parents=True)
    index.write_text("damaged")
    assert Repository(str(repository)).deltas(file) == []
    assert delta(repository, "--from", "1.0.0", "--to", "1.1.0") == 0
    assert Repository(str(repository)).deltas(file)


def test_versions_that_cannot_be_compared_are_refused(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert delta(repository, "--from", "1.1.0", "--to", "1.1.0") == 2
    assert "expected two versions; found 1.1.0 twice" in capsys.readouterr().err
    assert delta(repository, "--from", "0.1.0", "--to", "1.1.0") == 2
    assert "0.1.0" in capsys.readouterr().err


def _locate(made: Made, directory: Path) -> Any:
    for digest, content in made.blobs.items():
        (directory / digest).write_bytes(content)
    return lambda file: str(directory / file.sha256)
