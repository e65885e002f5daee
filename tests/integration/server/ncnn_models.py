# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Small ncnn models: the text of their graph, and their weights."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

GRAPH, WEIGHTS = "model.param", "model.bin"


def files(layers: Sequence[str], weights: bytes = bytes(4), tensors: int = 2) -> Mapping[str, bytes]:
    """The two files of a model, neither of them empty: ncnn reads no more weights than its layers have."""
    text = "\n".join(["7767517", f"{len(layers)} {tensors}", *layers, ""])
    return {GRAPH: text.encode(), WEIGHTS: weights}


def plus(addend: float) -> Mapping[str, bytes]:
    """``sum`` = ``x`` + ``addend``, [N, 2]."""
    return files(["Input x 0 1 x 0=2", f"BinaryOp add 1 1 x sum 0=0 1=1 2={addend}"])


def weighted(rows: Sequence[Sequence[float]], bias: Sequence[float]) -> Mapping[str, bytes]:
    """``y`` = ``rows`` times ``x``, plus ``bias``."""
    numbers = [number for row in rows for number in row]
    layers = [
        f"Input x 0 1 x 0={len(rows[0])}",
        f"InnerProduct product 1 1 x y 0={len(rows)} 1=1 2={len(numbers)}",
    ]
    # Four bytes say that the weights are 32-bit floats. The bias is always that.
    return files(layers, struct.pack(f"<4x{len(numbers)}f{len(bias)}f", *numbers, *bias))


def channels() -> Mapping[str, bytes]:
    """``largest``: of each of three channels of 3x5 numbers the largest, [N, 3]."""
    return files(["Input image 0 1 image 0=5 1=3 2=3", "Pooling most 1 1 image largest 0=0 4=1"])


def two_inputs() -> Mapping[str, bytes]:
    """``sum`` = ``a`` + ``b``, and ``product``: both [N, 2, 3]."""
    layers = [
        "Input a 0 1 a 0=3 1=2",
        "Input b 0 1 b 0=3 1=2",
        "Split a_twice 1 2 a a1 a2",
        "Split b_twice 1 2 b b1 b2",
        "BinaryOp add 2 1 a1 b1 sum 0=0",
        "BinaryOp times 2 1 a2 b2 product 0=2",
    ]
    return files(layers, tensors=8)
