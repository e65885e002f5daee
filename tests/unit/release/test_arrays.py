# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Arrays in files: what NumPy writes is read with the same values, and all else is refused in words."""

from __future__ import annotations

import io
import re
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from ansible_collections.edgeml.fleet.plugins.module_utils._release import arrays
from ansible_collections.edgeml.fleet.plugins.module_utils._release.arrays import (
    Array,
    ArrayError,
    ListArray,
    all_values,
    read_npz,
    unpacked,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._release.datatypes import NUMBERS, TEXT

SAVERS: tuple[Callable[..., None], ...] = (np.savez, np.savez_compressed)
HEADER_MAX = 1 << 16
LENGTH_AT = 8
"""Where a .npy file of format 1 has the length of its header."""


def npy(array: Any) -> bytes:
    """The array as NumPy writes it in format 1."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array), version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def with_header(header: str, data: bytes = b"", version: int = 1) -> bytes:
    """A .npy file with this text as its header."""
    encoded = header.encode()
    return (
        b"\x93NUMPY" + bytes((version, 0)) + struct.pack("<H" if version == 1 else "<I", len(encoded)) + encoded + data
    )


def with_type(descr: str, shape: str = "(2,)", data: bytes = b"", fortran: str = "False") -> bytes:
    return with_header(f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}}}", data)


def archived(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> str:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return str(path)


def one(path: Path, content: bytes) -> Array:
    """The array that is read from an archive with this member only."""
    return read_npz(archived(path / "x.npz", {"x.npy": content}))["x"]


# ---- what NumPy writes ----


@pytest.mark.parametrize("save", SAVERS)
@pytest.mark.parametrize("datatype", NUMBERS)
def test_numbers_are_what_numpy_wrote(tmp_path: Path, save: Callable[..., None], datatype: str) -> None:
    letters = NUMBERS[datatype][0]
    wanted = (np.arange(24).reshape(4, 3, 2) % 5).astype(letters)
    save(tmp_path / "x.npz", x=wanted)
    array = read_npz(str(tmp_path / "x.npz"))["x"]
    assert (array.name, array.datatype, array.shape) == ("x", datatype, (4, 3, 2))
    assert (array.rows, array.row_values, array.row_bytes) == (4, 6, 6 * wanted.itemsize)
    assert all_values(array) == wanted.ravel().tolist()


@given(
    save=st.sampled_from(SAVERS),
    wanted=st.sampled_from([letters for letters, _code in NUMBERS.values()]).flatmap(
        lambda letters: st_numpy.arrays(
            np.dtype(letters), st_numpy.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
        )
    ),
)
def test_any_numbers_and_shapes_come_back_bit_by_bit(save: Callable[..., None], wanted: np.ndarray[Any, Any]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        save(f"{directory}/x.npz", x=wanted)
        array = read_npz(f"{directory}/x.npz")["x"]
        with array.open() as reader:
            assert reader.read(array.rows) == wanted.tobytes()
    assert array.shape == wanted.shape
    assert array.rows * array.row_values == wanted.size


@given(
    save=st.sampled_from(SAVERS),
    texts=st.lists(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5), min_size=1, max_size=6
    ),
)
def test_texts_are_what_numpy_wrote(save: Callable[..., None], texts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        save(f"{directory}/x.npz", wide=np.array(texts), narrow=np.array([text.encode() for text in texts]))
        found = read_npz(f"{directory}/x.npz")
        for array in found.values():
            assert (array.datatype, array.shape, array.row_bytes) == (TEXT, (len(texts),), 32)
            assert all_values(array) == texts


@pytest.mark.parametrize("save", SAVERS)
def test_rows_are_read_in_order_and_from_the_first_one_each_time(tmp_path: Path, save: Callable[..., None]) -> None:
    wanted = np.arange(20, dtype="<i4").reshape(5, 4)
    save(tmp_path / "x.npz", first=wanted, second=wanted * 2)
    found = read_npz(str(tmp_path / "x.npz"))
    assert list(found) == ["first", "second"]
    for _time in range(2):
        with found["first"].open() as one_reader, found["second"].open() as other_reader:
            assert one_reader.read(2) == wanted[:2].tobytes()
            assert other_reader.read(1) == (wanted[:1] * 2).tobytes()
            assert one_reader.read(3) == wanted[2:].tobytes()
            with pytest.raises(ArrayError, match=r"^first: expected 16 bytes more; found 0$"):
                one_reader.read(1)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_each_format_of_numpy_is_read(tmp_path: Path, version: tuple[int, int]) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.array([1.5, -2.5]), version=version)
    assert all_values(one(tmp_path, stream.getvalue())) == [1.5, -2.5]


def test_a_single_axis_has_no_order(tmp_path: Path) -> None:
    data = struct.pack("<2f", 1, 2)
    assert all_values(one(tmp_path, with_type("'<f4'", data=data, fortran="True"))) == [1, 2]


@pytest.mark.parametrize("save", SAVERS)
def test_an_array_of_no_axis_has_one_row(tmp_path: Path, save: Callable[..., None]) -> None:
    save(tmp_path / "x.npz", x=np.array("settings"))
    array = read_npz(str(tmp_path / "x.npz"))["x"]
    assert (array.shape, array.rows, array.row_values) == ((), 1, 1)
    assert all_values(array) == ["settings"]


# ---- lists ----


def test_a_list_is_read_by_rows() -> None:
    array = ListArray("x", "INT32", [3, 2], [1, 2, 3, 4, 5, 6])
    assert (array.rows, array.row_values, array.row_bytes) == (3, 2, 8)
    with array.open() as reader:
        assert (reader.read(1), reader.read(2), reader.read(1)) == ([1, 2], [3, 4, 5, 6], [])
    assert all_values(array) == [1, 2, 3, 4, 5, 6]


# ---- raw bytes ----


@pytest.mark.parametrize("datatype", NUMBERS)
def test_raw_bytes_are_whole_little_endian_values(datatype: str) -> None:
    values = np.array([0, 1, 1, 0]).astype(NUMBERS[datatype][0])
    assert unpacked(values.tobytes(), datatype) == values.tolist()
    assert unpacked(b"", datatype) == []
    if values.itemsize > 1:
        with pytest.raises(
            ArrayError,
            match=f"^expected whole values of {values.itemsize} bytes; found {values.nbytes - 1} bytes$",
        ):
            unpacked(values.tobytes()[:-1], datatype)


@given(st.lists(st.binary(max_size=20)))
def test_raw_texts_have_their_lengths_before_them(texts: list[bytes]) -> None:
    data = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    assert unpacked(data, TEXT) == [text.decode("utf-8", "surrogateescape") for text in texts]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\1\0\0", "expected a length before each text; found too few bytes"),
        (b"\1\0\0\0a\1", "expected a length before each text; found too few bytes"),
        (b"\3\0\0\0ab", "expected a text of 3 bytes; found 2"),
        (b"\xff\xff\xff\xffab", "expected a text of 4294967295 bytes; found 2"),
    ],
)
def test_raw_texts_that_end_early_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(ArrayError, match=f"^{re.escape(message)}$"):
        unpacked(data, TEXT)


# ---- refusals: the type, the order, the shape ----

NO_OBJECTS = ". Objects need pickle, which can run code; save texts as numpy.array(texts, dtype=str)"

NO_OBJECTS = ". Objects need pickle, which can run code; save texts as numpy.array(texts, dtype=str)"


@pytest.mark.parametrize(
    ("descr", "message"),
    [
        ("'|O'", f"found type '|O'{NO_OBJECTS}"),
        ("'>f4'", "found type '>f4'. Save it in little-endian order: array.astype(array.dtype.newbyteorder('<'))"),
        ("'<c8'", "found type '<c8'"),
        ("'<M8[s]'", "found type '<M8[s]'"),
        ("'=f4'", "found type '=f4'"),
        ("''", "found type ''"),
        ("'<'", "found type '<'"),
        ("'<U0'", "found type '<U0'"),
        ("'<U'", "found type '<U'"),
        ("'<U-1'", "found type '<U-1'"),
        ("'<U65537'", "found type '<U65537'"),
        ("'<U\N{SUPERSCRIPT TWO}'", "found type '<U\N{SUPERSCRIPT TWO}'"),
        (f"'<U{'9' * 5000}'", f"found type '<U{'9' * 77}"),
        ("[('a', '<f4')]", "found type [('a', '<f4')]"),
        ("None", "found type None"),
        ("4", "found type 4"),
    ],
    ids=lambda text: text[:20],
)
def test_a_type_that_is_none_of_the_protocols_is_refused(tmp_path: Path, descr: str, message: str) -> None:
    with pytest.raises(ArrayError) as caught:
        one(tmp_path, with_type(descr))
    assert str(caught.value) == f"x: expected numbers, booleans or texts; {message}"


def test_what_numpy_pickles_or_writes_in_another_order_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    for array, message in (
        (np.array(["a", None], dtype=object), "Objects need pickle"),
        (np.array([1, 2], dtype=">i4"), "Save it in little-endian order"),
        (np.array([1j]), "found type '<c16'"),
        (np.array([(1, 2)], dtype=[("a", "<i4"), ("b", "<i4")]), r"found type \[\('a', '<i4'\), \('b', '<i4'\)\]"),
        (np.asfortranarray([[1, 2], [3, 4]]), "found Fortran order. Save numpy.ascontiguousarray"),
    ):
        np.savez(path, x=array)
        with pytest.raises(ArrayError, match=f"^x: expected .*{message}"):
            read_npz(str(path))


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ("[2]", "[2]"),
        ("2", "2"),
        ("None", "None"),
        ("(-1,)", "(-1,)"),
        ("(2.0,)", "(2.0,)"),
        ("(True,)", "(True,)"),
        (f"({(1 << 40) + 1},)", f"({(1 << 40) + 1},)"),
        (f"({'1, ' * 33})", str((1,) * 33)[:80]),
    ],
)
def test_a_shape_that_is_none_is_refused(tmp_path: Path, shape: str, found: str) -> None:
    with pytest.raises(ArrayError) as caught:
        one(tmp_path, with_type("'<f4'", shape))
    assert str(caught.value) == f"x: expected a shape; found {found}"


@pytest.mark.parametrize("fortran", ["True", "1", "None"])
def test_another_order_than_cs_is_refused(tmp_path: Path, fortran: str) -> None:
    content = with_type("'<f4'", "(1, 1)", b"\0" * 4, fortran)
    with pytest.raises(ArrayError, match=r"^x: expected C order; found Fortran order\. Save numpy\.ascontiguousarray"):
        one(tmp_path, content)


@pytest.mark.parametrize("change", [-4, -1, 1, 4])
def test_more_or_fewer_bytes_than_the_shape_needs_are_refused(tmp_path: Path, change: int) -> None:
    content = npy(np.array([1, 2], dtype="<i4"))
    changed = content[:change] if change < 0 else content + b"\0" * change
    with pytest.raises(
        ArrayError, match=rf"^x: expected {len(content)} bytes for shape \[2\]; found {len(content) + change}$"
    ):
        one(tmp_path, changed)


def test_a_shape_far_beyond_the_file_is_refused_without_its_memory(tmp_path: Path) -> None:
    with pytest.raises(ArrayError, match=r"^x: expected \d{25} bytes for shape \[1099511627776, 1099511627776\]"):
        one(tmp_path, with_type("'<i8'", f"({1 << 40}, {1 << 40})"))


def test_a_row_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "ROW_BYTES_MAX", 64)
    assert one(tmp_path, npy(np.zeros((9, 8), dtype="<f8"))).row_bytes == 64
    with pytest.raises(ArrayError, match=r"^x: expected rows of at most 64 bytes; found 72$"):
        one(tmp_path, npy(np.zeros((1, 9), dtype="<f8")))


# ---- refusals: the header ----


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUM", b"\x93NUMPX\1\0", b"\x93NUMPY\0\0", b"\x93NUMPY\4\0", b"PK\3\4text"]
)
def test_what_is_no_array_of_numpy_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ArrayError, match=r"^x: expected an array in NumPy's format 1, 2 or 3; found none$"):
        one(tmp_path, content)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("", "expected NumPy's header; "),
        ("{", "expected NumPy's header; "),
        ("{'descr': print(1)}", "expected NumPy's header; malformed node"),
        ("{[]: 1}", "expected NumPy's header; unhashable type"),
        ("[1]", "expected NumPy's header; found list$"),
        ("None", "expected NumPy's header; found NoneType$"),
        ("{}", "expected numbers, booleans or texts; found type None$"),
        ("{'descr': '<f4'}", "expected a shape; found None$"),
    ],
)
def test_a_header_that_says_something_else_is_refused(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(ArrayError, match=f"^x: {message}"):
        one(tmp_path, with_header(header))


def test_a_header_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArrayError, match=r"^x: expected NumPy's header; 'utf-8' codec can't decode"):
        one(tmp_path, b"\x93NUMPY\1\0\2\0\xff\xff")


def test_a_header_has_a_greatest_length(tmp_path: Path) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': (0,){' ' * HEADER_MAX}"
    assert one(tmp_path, with_header(header[: HEADER_MAX - 1] + "}", version=2)).shape == (0,)
    with pytest.raises(ArrayError, match=f"^x: expected a header of at most {HEADER_MAX} bytes; found 65537$"):
        one(tmp_path, with_header(header[:HEADER_MAX] + "}", version=2))


@pytest.mark.parametrize("kept", [LENGTH_AT, LENGTH_AT + 1])
def test_a_header_without_its_length_is_damage(tmp_path: Path, kept: int) -> None:
    with pytest.raises(ArrayError, match=r"^x\.npy: damaged: unpack requires a buffer of 2 bytes$"):
        one(tmp_path, npy([1])[:kept])


# ---- refusals: texts ----


@pytest.mark.parametrize(
    ("descr", "data", "message"),
    [
        ("'|S2'", b"ok\xff\xff", "'utf-8' codec can't decode"),
        ("'<U1'", struct.pack("<2I", ord("a"), 0x110000), "'utf-32-le' codec can't decode"),
    ],
)
def test_bytes_that_are_no_text_are_refused(tmp_path: Path, descr: str, data: bytes, message: str) -> None:
    array = one(tmp_path, with_type(descr, data=data))
    with pytest.raises(ArrayError, match=f"^x: expected texts: {message}"):
        all_values(array)


# ---- refusals: the archive ----


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    for content in (b"", b"PK", npy([1])):
        path.write_bytes(content)
        with pytest.raises(ArrayError, match=r"^expected a \.npz file; File is not a zip file$"):
            read_npz(str(path))


def test_a_missing_file_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_npz(str(tmp_path / "x.npz"))


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ({}, "none"),
        ({"x.npy": npy([1]), "notes.txt": b"text"}, "notes.txt"),
        ({"a": b"", "b": b"", "c": b"", "d": b""}, "a, b, c"),
    ],
)
def test_an_archive_of_something_else_is_refused(tmp_path: Path, members: dict[str, bytes], found: str) -> None:
    with pytest.raises(ArrayError, match=rf"^expected arrays \(\.npy\) only; found {found}$"):
        read_npz(archived(tmp_path / "x.npz", members))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_packing_that_numpy_does_not_write_is_refused(tmp_path: Path, method: int) -> None:
    path = archived(tmp_path / "x.npz", {"x.npy": npy([1])}, method)
    with pytest.raises(
        ArrayError, match=rf"^x\.npy: expected numpy\.savez's packing or savez_compressed's; found {method}$"
    ):
        read_npz(path)


def test_an_encrypted_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    content = bytearray(Path(archived(path, {"x.npy": npy([1])})).read_bytes())
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(ArrayError, match=r"^x\.npy: damaged: File 'x\.npy' is encrypted, password required"):
        read_npz(str(path))


def test_an_array_that_has_left_the_archive_is_refused(tmp_path: Path) -> None:
    array = one(tmp_path, npy([1]))
    archived(tmp_path / "x.npz", {"y.npy": npy([1])})
    with pytest.raises(ArrayError, match=r"^x\.npy: damaged: .*There is no item named 'x\.npy' in the archive"):
        all_values(array)


def test_a_wrong_checksum_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, x=np.arange(2000, dtype="<i8"))
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<q", 1234), struct.pack("<q", 4321), 1))
    with pytest.raises(ArrayError, match=r"^x\.npy: damaged: Bad CRC-32 for file 'x\.npy'$"):
        all_values(read_npz(str(path))["x"])


def test_damaged_compression_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.arange(200_000, dtype="<i4"))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = b"\xff" * 64
    path.write_bytes(content)
    with pytest.raises(ArrayError, match=r"^x\.npy: damaged: (Error -3 while decompressing data|Bad CRC-32)"):
        all_values(read_npz(str(path))["x"])


@given(save=st.sampled_from(SAVERS), data=st.data())
def test_a_cut_or_changed_file_gives_values_or_a_refusal(save: Callable[..., None], data: st.DataObject) -> None:
    """Whatever a byte becomes: no other exception, and never wrong values in an array that is read to its end."""
    stream = io.BytesIO()
    wanted = {"numbers": np.arange(30, dtype="<i4").reshape(10, 3), "texts": np.array(["yes", "no"])}
    save(stream, **wanted)
    content = bytearray(stream.getvalue())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[at:]
    else:
        content[at] ^= data.draw(st.integers(1, 255))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "x.npz"
        path.write_bytes(content)
        try:
            found = {name: all_values(array) for name, array in read_npz(str(path)).items()}
        except (ArrayError, OSError):
            return
    for name, values in found.items():
        if name in wanted:
            assert values == wanted[name].ravel().tolist()
