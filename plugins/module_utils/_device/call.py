# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""``edgeml call``: a request of the controller, done on the device by the code that is installed there.

What starts with it is on the way of every call, so each imports what it needs when it needs it.
"""

from __future__ import annotations

import sys
from typing import Any

from .._common.code import installed_digest
from .._common.errors import ArgumentError
from .request import REQUEST_BYTES_MAX, CollectRequest, InfoRequest, Request, read_call, write_code, write_result


def main() -> int:
    """Answer the request on the standard input. The exit code is 0 whatever the answer is: the answer says it."""
    own = installed_digest()
    text = sys.stdin.buffer.read(REQUEST_BYTES_MAX + 1)
    try:
        call = read_call(text, own)
    except ArgumentError as error:
        _say(write_code(own))
        _say(write_result({"failed": True, "changed": False, "msg": str(error)}))
        return 0
    _say(write_code(own))
    if call.request is not None:
        _say(write_result(answer(call.request, call.check_mode)))
    return 0


def answer(request: Request, check_mode: bool) -> dict[str, Any]:
    """Do what is asked. Returns the module's result; one with ``failed`` and ``msg`` where it failed."""
    if isinstance(request, InfoRequest):
        from .describe import answer_info

        return answer_info(request)
    if isinstance(request, CollectRequest):
        from .collected import answer_collect

        return answer_collect(request, check_mode)
    from .perform import answer_swap

    return answer_swap(request, check_mode)


def _say(line: str) -> None:
    sys.stdout.write(line)
    sys.stdout.flush()
