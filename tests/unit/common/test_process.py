# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Other programs: what they said, how they ended, and that none of what they started is left."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import IO

import pytest
from edgeml_device._common.errors import ServerError
from edgeml_device._common.process import CommandError, Ended, Process, ProcessGroup, TookTooLongError, run_command

GUARD_SECONDS = 60


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def is_gone(process: int) -> bool:
    """Whether a process ends, within a time that no machine needs."""
    for _attempt in range(GUARD_SECONDS * 20):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        if "\nState:\tZ" in Path(f"/proc/{process}/status").read_text():
            return True
        time.sleep(0.05)
    return False


def test_how_a_command_ended_and_what_it_said() -> None:
    ended = run_command(shell("echo said; echo 'what\nfor' >&2; printf '\\377'; exit 3"), GUARD_SECONDS)
    assert ended == Ended(3, "said\n\ufffd", "what\nfor\n")
    assert ended.reason == "what; for"
    assert run_command(shell("kill -TERM $$"), GUARD_SECONDS).code == -15


@pytest.mark.parametrize(
    ("ended", "reason"),
    [
        (Ended(1, "out\n", ""), "out"),
        (Ended(1, "out", "1\n2\n3\n4\n"), "2; 3; 4"),
        (Ended(4, "", " \n"), "it ended with code 4 and said nothing"),
    ],
)
def test_the_reason_is_what_it_said_last(ended: Ended, reason: str) -> None:
    assert ended.reason == reason


def test_arguments_are_no_words_of_a_shell() -> None:
    assert run_command(["printf", "%s", "$HOME; `id`"], GUARD_SECONDS).stdout == "$HOME; `id`"


def test_there_is_nothing_to_read_and_the_environment_is_the_one_that_was_given() -> None:
    assert run_command(["cat"], GUARD_SECONDS) == Ended(0, "", "")
    assert run_command(["/usr/bin/env"], GUARD_SECONDS, env={"ONE": "1"}).stdout == "ONE=1\n"


def test_after_its_time_it_and_what_it_has_started_are_ended(tmp_path: Path) -> None:
    noted = tmp_path / "process"
    with pytest.raises(TookTooLongError, match=r"^slow: no result after 1 s$"):
        run_command(shell(f"sleep 600 & echo $! > {noted}; wait"), 1, shown="slow")
    assert is_gone(int(noted.read_text()))


def test_what_a_command_leaves_running_is_ended_with_it(tmp_path: Path) -> None:
    noted = tmp_path / "process"
    run_command(shell(f"sleep 600 >/dev/null 2>&1 & echo $! > {noted}"), GUARD_SECONDS)
    assert is_gone(int(noted.read_text()))


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(CommandError, match=r"^/nowhere/program now: .*No such file or directory"):
        run_command(["/nowhere/program", "now"], GUARD_SECONDS)
    assert issubclass(CommandError, ServerError)


def test_a_command_prints_where_its_parent_does(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(shell("echo out; echo error >&2"), GUARD_SECONDS, prints=True) == Ended(0, "", "")
    assert capfd.readouterr() == ("out\n", "error\n")


def test_a_command_reads_what_is_written_while_its_output_is_read() -> None:
    # More than pipes hold, both ways.
    content = b"0123456789abcde\n" * 65536

    def write(pipe: IO[bytes]) -> None:
        pipe.write(content)

    assert run_command(["cat"], GUARD_SECONDS, write=write).stdout.encode() == content


def test_a_command_that_gives_up_says_why() -> None:
    def write(pipe: IO[bytes]) -> None:
        for _number in range(1024):
            pipe.write(bytes(1 << 16))

    assert run_command(shell("exec <&-; echo full >&2; exit 1"), GUARD_SECONDS, write=write) == Ended(1, "", "full\n")


def test_a_command_never_takes_half_of_its_input_for_all_of_it(tmp_path: Path) -> None:
    def write(pipe: IO[bytes]) -> None:
        pipe.write(b"half")
        pipe.flush()
        (tmp_path / "missing").read_bytes()

    with pytest.raises(FileNotFoundError, match="missing"):
        run_command(shell(f"cat; touch {tmp_path}/loaded"), GUARD_SECONDS, write=write)
    assert not (tmp_path / "loaded").exists()


def test_a_command_that_reads_nothing_is_ended_too() -> None:
    def write(pipe: IO[bytes]) -> None:
        pipe.write(bytes(1 << 22))

    with pytest.raises(TookTooLongError, match="no result after 1 s"):
        run_command(["sleep", "600"], 1, write=write)


def test_a_process_may_outlive_the_wait_for_it() -> None:
    process = Process(["sleep", "600"])
    assert not process.ends_within(0.1)
    process.kill()
    assert process.ends_within(GUARD_SECONDS)


def test_the_end_of_the_block_ends_a_group() -> None:
    with ProcessGroup(shell("sleep 600 & echo $!; wait")) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
    assert process.returncode == -9
    assert is_gone(child)
