# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Samples as arrays of other types than the model's inputs."""

from __future__ import annotations

import numpy as np
import pytest

from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.samples import Samples, SamplesError, fitted

TEXT = [{"name": "text", "datatype": "BYTES", "shape": [-1]}]


def texts(*values: str | bytes) -> Samples:
    return Samples("samples.npz", {"text": np.array(values)}, None, {}, {})


def test_texts_may_be_arrays_of_bytes() -> None:
    words = ["caf\u00e9", "t\u00fcr", ""]
    fit = fitted(texts(*[word.encode("utf-8") for word in words]), TEXT).inputs["text"]
    assert fit.dtype.kind == "U"
    assert fit.tolist() == fitted(texts(*words), TEXT).inputs["text"].tolist() == words


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(SamplesError, match=r"samples\.npz: text: expected texts in UTF-8: .*0xff"):
        fitted(texts(b"\xff\xd8"), TEXT)
