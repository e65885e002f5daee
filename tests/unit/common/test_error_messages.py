# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors as people read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import StoreError, message_of


def test_a_file_comes_first_and_no_number(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Errno 2") as caught:
        (tmp_path / "absent").read_bytes()
    assert message_of(caught.value) == f"{tmp_path}/absent: No such file or directory"


@pytest.mark.parametrize("error", [StoreError("no room"), OSError("as it is"), OSError(5, "Input/output error")])
def test_what_names_no_file_stays_as_it_is(error: Exception) -> None:
    assert message_of(error) == str(error)
