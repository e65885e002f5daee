# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Whether devices can run a variant's ONNX file, by what it says of itself: found out before a byte is sent."""

from __future__ import annotations

import re
from typing import Iterator

from .._common.errors import ManifestError
from .onnx_file import ML_DOMAIN, TENSOR, OnnxFile, labels_beyond_utf8, read_onnx
from .release import Variant

FORMAT, RUNTIME = "onnx", "onnxruntime"
# The first ONNX Runtime that loads an IR version, or an opset of the standard operators, found by trying 18 versions:
# tools/onnxruntime_versions.py prints these tables.
IR_VERSIONS = {8: "1.15.1", 9: "1.15.1", 10: "1.18.1", 11: "1.23.2", 12: "1.24.1", 13: "1.24.1", 14: "1.32.0"}
OPSETS = {
    19: "1.15.1", 20: "1.17.3", 21: "1.18.1", 22: "1.21.1", 23: "1.23.2", 24: "1.24.1", 25: "1.24.1", 26: "1.25.0",
    27: "1.32.0", 28: "1.32.0",
}  # fmt: skip
# Those whose operators ONNX Runtime's wheels have.
_DOMAINS = frozenset({"", ML_DOMAIN, "com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc"})
_SHOWN_MAX = 5


def check_onnx(variant: Variant, entrypoint: str, path: str) -> None:
    """Check the file ``entrypoint`` of a variant, which is at ``path``.

    Raises ManifestError, which says what devices would refuse, and what to do; OSError for a file that cannot be read.
    A file in another form than ONNX's own, such as ONNX Runtime's, says nothing, and is not checked.
    """
    if variant.format != FORMAT or variant.runtime != RUNTIME:
        return
    try:
        found = read_onnx(path)
    except ValueError:
        return
    reason = next(_reasons_against(found, variant), None)
    if reason is not None:
        raise ManifestError(f"variant {variant.name}: {entrypoint}: {reason}")


def first_runtime(table: dict[int, str], number: int) -> str | None:
    """The first runtime that loads this version; None if none that is known does."""
    return next((version for known, version in sorted(table.items()) if known >= number), None)


def _reasons_against(found: OnnxFile, variant: Variant) -> Iterator[str]:
    yield from _too_new("IR version", found.ir_version, IR_VERSIONS, variant)
    yield from _too_new("opset", found.opsets.get("", 0), OPSETS, variant)
    unknown = sorted(str(operator) for operator in found.operators if operator.domain not in _DOMAINS)
    if unknown and not variant.libraries:
        yield (
            f"expected operators of ONNX Runtime; found {', '.join(unknown[:_SHOWN_MAX])}. Put the shared library that "
            f"has them among the variant's files and name it in its libraries, or export the model without them"
        )
    for name, kind in sorted(found.types.items()):
        if kind != TENSOR and name not in found.class_labels:
            yield (
                f"{name}: expected a tensor, which the protocol can carry; found a {kind}. Export the model with a "
                f"tensor instead (scikit-learn's and LightGBM's converters: the option zipmap=False)"
            )
    for name in labels_beyond_utf8(found):
        yield (
            f"{name}: expected class labels in UTF-8, because it is a dictionary of them; found others. Export the "
            f"model with labels in UTF-8, or with a tensor instead (the option zipmap=False)"
        )
    missing = sorted(found.locales - set(variant.locales))
    if missing:
        yield (
            f"its StringNormalizer needs the locale {missing[0]} on the device: name it in the variant's locales, so "
            f"that a device without it does not take the variant, or export it with the locale C.UTF-8, which all have"
        )


def _too_new(what: str, number: int, table: dict[int, str], variant: Variant) -> Iterator[str]:
    """Runtimes of one minor version load the same; what all known ones load is no reason."""
    if number <= min(table):
        return
    first = first_runtime(table, number)
    if first is None:
        newest = max(table)
        if _minor(variant.runtime_minimum) <= _minor(table[newest]):
            yield (
                f"{what} {number} is newer than {newest}, which is the newest that ONNX Runtime {table[newest]} loads: "
                f"export the model with an older one"
            )
    elif _minor(variant.runtime_minimum) < _minor(first):
        promised = variant.runtime_minimum
        older = max((each for each in table if _minor(table[each]) <= _minor(promised)), default=min(table))
        yield (
            f"{what} {number} needs ONNX Runtime {first}; the manifest promises {promised}: set runtime.minimum to "
            f"{first}, or export the model with {what} {older}"
        )


def _minor(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"[0-9]+", version)[:2])
