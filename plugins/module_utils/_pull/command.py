# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The command ``edgeml pull``: look once, and do what there is to do.

What a poll needs that finds nothing is on the way of every poll, so the rest is imported where it is needed.
"""

from __future__ import annotations

import os
import sys
from typing import Sequence

from .._common.errors import EdgemlError
from .backoff import Backoff
from .config import CONFIG, PullConfig, read_config
from .memory import Memory
from .origin import LinkError, is_followed, read_timestamp, timestamp_text

# Its starts of the unit are told from those of people and of the broker's listener, who want to know now.
TIMER = "edgeml-pull.timer"
USAGE = f"usage: edgeml pull [--config FILE] (default: {CONFIG})\n"


def main(arguments: Sequence[str]) -> int:
    """Look once. Exit code: 0 also where nobody can be reached; 1 where something is wrong; 2 for a wrong call."""
    path = CONFIG
    if len(arguments) == 2 and arguments[0] == "--config":
        path = arguments[1]
    elif arguments:
        sys.stderr.write(USAGE)
        return 0 if arguments[0] in ("-h", "--help") else 2
    try:
        return pull(read_config(path))
    except (EdgemlError, OSError) as error:
        sys.stderr.write(f"edgeml: {error}\n")
        return 1


def pull(config: PullConfig) -> int:
    """Look once by a configuration. Raises EdgemlError and OSError."""
    backoff = Backoff(config.runtime)
    if os.environ.get("TRIGGER_UNIT") == TIMER and backoff.skips():
        return 0
    os.makedirs(config.state, mode=0o750, exist_ok=True)
    memory = Memory(config.state)
    with memory.lock() as free:
        if not free:
            sys.stderr.write("edgeml: another poll is at work\n")
            return 0
        return _poll(config, memory, backoff)


def _poll(config: PullConfig, memory: Memory, backoff: Backoff) -> int:
    state, unreachable, refused, code = memory.state(), [], [], None
    for number, source in enumerate(config.sources):
        try:
            location = _location(source, config)
            timestamp = timestamp_text(read_timestamp(location, config))
            if is_followed(timestamp, state):
                backoff.reached()
                is_refused = state.clock != "right"
                if is_refused:
                    sys.stderr.write(f"edgeml: {state.problem}\n")
                return max(int(is_refused), _send(config, memory))
            known = state.stale.get(source)
            if known is not None and known["timestamp"] == timestamp:
                refused.append(str(known["problem"]))
                continue
            code = _act(config, memory, number, location, timestamp)
            break
        except LinkError as error:
            unreachable.append(str(error))
        except EdgemlError as error:
            refused.append(str(error))
    for problem in (*unreachable, *refused):
        sys.stderr.write(f"edgeml: {problem}\n")
    if code is not None or refused:
        backoff.reached()
    else:
        skipped = backoff.failed()
        if skipped:
            sys.stderr.write(f"edgeml: nobody was reached, so the timer leaves out {skipped} of its moments\n")
    if code is None and refused:
        from .agent import Agent

        Agent(config, memory).refuse("; ".join(refused))
    sent = _send(config, memory)
    return 1 if refused else max(code or 0, sent)


def _location(source: str, config: PullConfig) -> str:
    if source.startswith("git+"):
        from .git_source import GitSource

        return GitSource(source, config).directory()
    return source[len("file://") :] if source.startswith("file://") else source


def _act(config: PullConfig, memory: Memory, number: int, location: str, timestamp: str) -> int:
    from .agent import Agent

    others = [source for source in config.sources[number + 1 :] if not source.startswith("git+")]
    agent = Agent(config, memory)
    problem = agent.follow(config.sources[number], location=location, timestamp=timestamp, others=others)
    for line in agent.lines:
        sys.stdout.write(f"{line}\n")
    if problem:
        sys.stderr.write(f"edgeml: {problem}\n")
    return 1 if problem else 0


def _send(config: PullConfig, memory: Memory) -> int:
    if config.mailbox is None or not memory.queued():
        return 0
    from .mailbox import send_reports

    try:
        send_reports(config, memory)
    except LinkError as error:
        sys.stderr.write(f"edgeml: reports are kept until the mailbox answers: {error}\n")
    return 0
