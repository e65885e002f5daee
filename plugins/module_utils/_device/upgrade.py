# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The proof of a new runtime, before it is installed: every model that serves passes its smoke test with it.

Called by the installer: ``python3 -m edgeml_device._device.upgrade PYTHON APP VENV_NAME APP_NAME``, with the Python and
the code that are to be installed, and the names that they will have. Exit code 1 with the reason when they must not be.
"""

from __future__ import annotations

import sys
from typing import Any, Iterator, Mapping, Sequence

from .._common.errors import CandidateError, EdgemlError, StoreError
from .preparation import note_smoke_test, prepare
from .request import STORE
from .runtime import Runtime, installed_runtime
from .smoke_test import SmokeTest
from .state import State
from .store import Store
from .transitions import DEVICE, Transitions
from .upgrade_trial import UpgradeTrial
from .version import Version
from .way_back import is_tested


def main(arguments: Sequence[str] | None = None) -> int:
    """Prove a runtime. Exit code: 0 if it may be installed, 1 if it may not be."""
    python, app, *names = sys.argv[1:] if arguments is None else arguments
    store = Store(STORE)
    try:
        if store.exists():
            with store.lock():
                trial = UpgradeTrial(store)
                trial.refuse_failed(" ".join(names))
                trial.note(" ".join(names), prove_runtime(store, Runtime(" ".join(names), python, app)))
    except (EdgemlError, OSError) as error:
        sys.stderr.write(f"edgeml: {error}\n")
        return 1
    return 0


def prove_runtime(store: Store, runtime: Runtime) -> list[tuple[str, str]]:
    """Smoke-test what serves with ``runtime``, and have it prepared for it. Hold the lock.

    Returns the models that serve now and passed, with their versions. Raises CandidateError for a version that serves
    now and would not with it. What does not serve as it is, is no reason against a runtime: it may be the remedy.
    """
    passed = []
    for model in store.models():
        served = Transitions(store, model, DEVICE)
        if served.serving.strategy != "load":
            continue
        live = served.live_if_known()
        for name in _needed(served.state):
            try:
                version = store.version(model, name)
                with SmokeTest(version, runtime) as test:
                    result = test.result()
            except (CandidateError, StoreError) as error:
                if live == name:
                    raise CandidateError(
                        f"the new runtime is not installed, because a model that serves fails with it: {error}. "
                        f"Live now, with the runtime before: {model} {live}"
                    ) from error
                continue
            _keep(store, version, result, runtime)
            if live == name:
                passed.append((model, name))
    return passed


def renew(store: Store) -> list[tuple[str, str]]:
    """Test and prepare again what serves, and what a trial returns to, where the last test was by another accelerator's
    software, in another power mode or with another runtime: an engine fits one of each. Hold the lock.

    Returns the models with their versions that were tested. Raises CandidateError with all that failed: what serves
    goes on, and its next load compiles its model.
    """
    runtime = installed_runtime()
    renewed: list[tuple[str, str]] = []
    problems: list[str] = []
    for model in store.models() if runtime is not None else ():
        served = Transitions(store, model, DEVICE)
        for name in _needed(served.state) if served.serving.strategy == "load" else ():
            try:
                version = store.version(model, name)
                if is_tested(store, model, name) is not False:
                    continue
                with SmokeTest(version, runtime) as test:
                    result = test.result()
            except (CandidateError, StoreError) as error:
                problems.append(str(error))
                continue
            _keep(store, version, result, runtime)
            renewed.append((model, name))
    if problems:
        raise CandidateError("; ".join(problems))
    return renewed


def _keep(store: Store, version: Version, result: Mapping[str, Any] | None, runtime: Runtime | None) -> None:
    """Keep the result of a smoke test, and have the version prepared for its runtime."""
    if result is not None:
        note_smoke_test(store, version, result)
        prepare(store, version, runtime)


def _needed(state: State) -> Iterator[str]:
    """The active version, and the one that a trial returns to."""
    names = [state.active, state.trial.active if state.trial is not None else None]
    return iter(dict.fromkeys(name for name in names if name is not None))


if __name__ == "__main__":
    raise SystemExit(main())
