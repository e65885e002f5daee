# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The text file ``.param`` of an ncnn model: its graph. The weights are in a file ``.bin`` beside it.

ncnn itself checks no input's size: it computes with what lies behind the last value. So the sizes that the layers
``Input`` state decide what a server takes. https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure
"""

from __future__ import annotations

import os
from typing import Mapping, NamedTuple, Sequence

SUFFIX, WEIGHTS_SUFFIX = ".param", ".bin"
MAGIC = "7767517"
# What a layer Input calls its sizes, from the outermost to the innermost: channels, depth, height, width.
_SIZES = ("2", "11", "1", "0")
_CHANNELS = "2"


class NcnnLayer(NamedTuple):
    """A line of the graph. ``parameters`` has a layer's settings by their numbers, as they are written."""

    kind: str
    name: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    parameters: Mapping[str, str]

    def __str__(self) -> str:
        counts = [str(len(self.inputs)), str(len(self.outputs))]
        settings = [f"{key}={value}" for key, value in self.parameters.items()]
        return " ".join([self.kind, self.name, *counts, *self.inputs, *self.outputs, *settings])


class NcnnFile(NamedTuple):
    """The layers of a model, in the order in which they run."""

    layers: Sequence[NcnnLayer]

    @property
    def inputs(self) -> Mapping[str, Sequence[int]]:
        """The shape of one sample of each input; empty where the file does not say it."""
        return {layer.outputs[0]: _shape(layer) for layer in self.layers if layer.kind == "Input" and layer.outputs}

    def with_inputs(self, shapes: Mapping[str, Sequence[int]]) -> NcnnFile:
        """The model with these shapes of one sample, of one to four sizes, stated in its inputs."""
        layers = []
        for layer in self.layers:
            if layer.kind == "Input" and layer.outputs[0] in shapes:
                layer = layer._replace(parameters=_sizes(shapes[layer.outputs[0]]))
            layers.append(layer)
        return NcnnFile(layers)

    def renamed(self, names: Mapping[str, str]) -> NcnnFile:
        """The model with other names for some of its tensors."""
        return NcnnFile(
            [
                layer._replace(
                    inputs=[names.get(name, name) for name in layer.inputs],
                    outputs=[names.get(name, name) for name in layer.outputs],
                )
                for layer in self.layers
            ]
        )

    def __str__(self) -> str:
        tensors = {name for layer in self.layers for name in [*layer.inputs, *layer.outputs]}
        return "\n".join([MAGIC, f"{len(self.layers)} {len(tensors)}", *map(str, self.layers), ""])


def parse_ncnn(text: str) -> NcnnFile:
    """Read the content of a ``.param`` file. Raises ValueError, which names the line."""
    lines = [line.split() for line in text.splitlines()]
    if not lines or lines[0] != [MAGIC]:
        raise ValueError(f"line 1: expected {MAGIC}, with which ncnn's text files begin")
    layers = []
    for number, words in enumerate(lines[2:], 3):
        if not words:
            continue
        try:
            kind, name, count_in, count_out = words[0], words[1], int(words[2]), int(words[3])
            names, rest = words[4 : 4 + count_in + count_out], words[4 + count_in + count_out :]
            if min(count_in, count_out) < 0 or len(names) != count_in + count_out:
                raise ValueError("too few names")
            parameters = dict(_setting(word) for word in rest)
        except (ValueError, IndexError) as error:
            raise ValueError(f"line {number}: expected a layer: TYPE NAME INPUTS OUTPUTS …; {error}") from error
        layers.append(NcnnLayer(kind, name, names[:count_in], names[count_in:], parameters))
    return NcnnFile(layers)


def read_ncnn(path: str) -> NcnnFile:
    """Read a ``.param`` file. Raises ValueError and OSError."""
    with open(path, encoding="utf-8") as file:
        return parse_ncnn(file.read())


def weights_of(path: str) -> str:
    """The file with the weights of the model whose graph is at ``path``."""
    return os.path.splitext(path)[0] + WEIGHTS_SUFFIX


def _setting(word: str) -> tuple[str, str]:
    key, separator, value = word.partition("=")
    if not separator:
        raise ValueError(f"found {word!r} instead of NUMBER=VALUE")
    return key, value


def _shape(layer: NcnnLayer) -> Sequence[int]:
    sizes = [int(layer.parameters.get(key, "0")) for key in _SIZES]
    return tuple(size for size in sizes if size > 0)


def _sizes(shape: Sequence[int]) -> Mapping[str, str]:
    """The parameters that state a shape: ``w``, ``h w``, ``c h w`` or ``c d h w``."""
    if not 1 <= len(shape) <= len(_SIZES):
        raise ValueError(f"expected one to {len(_SIZES)} sizes of a sample; found {list(shape)}")
    inner = {1: ("0",), 2: ("1", "0"), 3: (_CHANNELS, "1", "0"), 4: _SIZES}[len(shape)]
    return {key: str(size) for key, size in sorted(zip(inner, shape), key=lambda item: int(item[0]))}
