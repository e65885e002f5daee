# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""``edgeml mcu``: the microcontrollers behind this device, each with a store of its own.

``edgeml mcu watch`` does for them what ``edgeml recover`` and ``edgeml watch`` do for a model of this device: it
recovers, looks at the trials, and brings a microcontroller that was replaced or was away to what its store says.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any, NamedTuple, Sequence

from .._common.arguments import ArgumentParser
from .._common.errors import EdgemlError, StoreError
from .._common.records import build
from .._common.table import text_table
from .._smp.address import is_port
from .describe import describe_model
from .documents import read_document
from .request import MICROCONTROLLERS
from .smp_strategy import stop_watching
from .state import SMP_STRATEGY, ModelServer
from .store import Store
from .strategies import make_strategy
from .swap import Swap
from .transitions import DEVICE

MICROCONTROLLERS_MAX = 1024
# Whoever holds a store's lock recovers what there is to recover.
_LOCK_SECONDS = 3


class Microcontroller(NamedTuple):
    """One of them: its name in the inventory, the address of its port, its class, and the path of its store."""

    name: str
    port: str
    device_class: str
    store: str


def read_microcontrollers(path: str = MICROCONTROLLERS) -> list[Microcontroller]:
    """The microcontrollers behind this device; none without a configuration. Raises StoreError for a damaged one."""
    document = read_document(path, missing={"microcontrollers": []})
    try:
        items = document["microcontrollers"]
        if not isinstance(items, list) or len(items) > MICROCONTROLLERS_MAX:
            raise ValueError(f"expected a list of at most {MICROCONTROLLERS_MAX}")
        found = [build(Microcontroller, item) for item in items]
        wrong = [item.port for item in found if not is_port(item.port)]
        if wrong:
            raise ValueError(f"port: expected /dev/<path> or udp://<host>:<port>; found {wrong[0]!r}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(
            f"{path}: expected the microcontrollers that the role mcu_gateway describes: {error!r}"
        ) from error
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Exit code: 0 when it is done, 1 when something failed, 2 for a wrong call."""
    options = _parser().parse_args(arguments)
    try:
        result, text = options.run(read_microcontrollers(options.config))
    except (EdgemlError, OSError) as error:
        sys.stderr.write(f"edgeml mcu: {error}\n")
        return 1
    sys.stdout.write((json.dumps(result, sort_keys=True) if options.json else text) + "\n")
    return 1 if result.get("failed") else 0


def status(found: Sequence[Microcontroller]) -> tuple[dict[str, Any], str]:
    """Tell what each microcontroller runs, by its own answer, beside what its store says."""
    entries = [_described(item) for item in found]
    rows = [
        {
            "microcontroller": entry["name"],
            "class": entry["class"],
            "port": entry["port"],
            "answers": "yes" if entry["answers"] else "no",
            "model": model.get("name", "-"),
            "live": model.get("live"),
            "active": model.get("active"),
            "previous": model.get("previous"),
            "trial": f"else {model['trial']['returns_to'] or 'none'}" if model.get("trial") else None,
        }
        for entry in entries
        for model in entry["models"] or [{}]
    ]
    return {"microcontrollers": entries}, "\n".join(text_table(rows)) or "no microcontroller"


def watch(found: Sequence[Microcontroller]) -> tuple[dict[str, Any], str]:
    """Recover, look at the trials, and bring each microcontroller to what its store says; systemd's timer calls this
    until there is nothing left to do."""
    outcomes: dict[str, dict[str, str]] = {}
    errors: list[str] = []
    settled = True
    for item in found:
        try:
            outcomes[item.name], is_settled = _watch(item)
            settled = settled and is_settled
        except (EdgemlError, OSError) as error:
            settled = False
            errors.append(f"{item.name}: {error}")
    if settled:
        _stop_watching(found)
    text = [f"{name}: {model}: {outcome}" for name, models in outcomes.items() for model, outcome in models.items()]
    for problem in errors:
        sys.stderr.write(f"edgeml mcu: {problem}\n")
    return {"microcontrollers": outcomes, "failed": errors}, "\n".join(text) or "nothing to do"


# ---- the parts ----


def _described(item: Microcontroller) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": item.name,
        "class": item.device_class,
        "port": item.port,
        "answers": False,
        "models": [],
    }
    try:
        store = Store(item.store)
        entry["answers"] = make_strategy(_serving(item), store).answers()
        entry["models"] = (
            [describe_model(store, model, item.port) for model in store.models()] if store.exists() else []
        )
    except (EdgemlError, OSError) as error:
        entry["error"] = str(error)
    return entry


def _watch(item: Microcontroller) -> tuple[dict[str, str], bool]:
    """What was done for each model, and whether nothing is left to do."""
    store = Store(item.store)
    outcomes: dict[str, str] = {}
    settled = True
    if not store.exists():
        return outcomes, settled
    with store.lock(_LOCK_SECONDS):
        for model in store.models():
            swap = Swap(store, model, DEVICE, _serving(item))
            swap.recover()
            outcome = swap.check_trial() if swap.state.trial is not None else "no trial"
            swap.notify_if_needed()
            live = swap.live_if_known()
            if live != swap.state.active:
                outcome += f"; it runs {live or 'something unknown, or does not answer'}"
            settled = settled and swap.state.trial is None and live == swap.state.active
            outcomes[model] = outcome
    return outcomes, settled


def _stop_watching(found: Sequence[Microcontroller]) -> None:
    """No more looks, unless a swap began meanwhile: it is busy with its store, or left a trial there."""
    with contextlib.ExitStack() as stack:
        for item in found:
            store = Store(item.store)
            if not store.exists():
                continue
            try:
                stack.enter_context(store.lock(0))
            except StoreError:
                return
            if any(store.state(model).trial is not None for model in store.models()):
                return
        stop_watching()


def _serving(item: Microcontroller) -> ModelServer:
    return ModelServer(strategy=SMP_STRATEGY, server=item.port)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="edgeml mcu", description="The microcontrollers behind this device.")
    parser.add_argument("--config", default=MICROCONTROLLERS, help="where they are described (%(default)s)")
    commands = parser.add_subparsers(title="commands", required=True)
    for name, run in (("status", status), ("watch", watch)):
        command = commands.add_parser(name, help=(run.__doc__ or "").partition(".")[0])
        command.add_argument("--json", action="store_true", help="print JSON")
        command.set_defaults(run=run)
    return parser
