# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""LiteRT's interpreters are made when the model is loaded, not in a request's thread."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from edgeml_server.models import backend_litert
from edgeml_server.models.backend import BackendOptions
from edgeml_server.models.backend_litert import LitertBackend
from links import REPOSITORY

MODELS = REPOSITORY / "tests" / "integration" / "server" / "tflite"
RUNS = 3


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The name of the thread that made each interpreter."""
    threads: list[str] = []
    real = backend_litert._interpreter.Interpreter

    def noted(**options: Any) -> Any:
        threads.append(threading.current_thread().name)
        return real(**options)

    monkeypatch.setattr(backend_litert._interpreter, "Interpreter", noted)
    return threads


def test_as_many_as_may_run_at_once_and_no_more_later(made: list[str]) -> None:
    backend = LitertBackend(str(MODELS / "plus_one.tflite"), BackendOptions(threads=1, runs=RUNS))
    assert len(made) == RUNS
    together = threading.Barrier(RUNS)
    results: list[Any] = []

    def ask() -> None:
        (spec,) = backend.inputs
        together.wait()
        results.append(backend.run({spec.name: np.ones((1, 2), np.float32)}, [backend.outputs[0].name])[0].tolist())

    askers = [threading.Thread(target=ask, name="request") for _run in range(RUNS)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert results == [[[2.0, 2.0]]] * RUNS
    assert made.count("request") == 0


def test_a_model_that_keeps_state_needs_no_more_than_one_beforehand(made: list[str]) -> None:
    LitertBackend(str(MODELS / "running_total.tflite"), BackendOptions(threads=1, runs=RUNS))
    assert len(made) == 1
