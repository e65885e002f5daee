# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Label feedback: true labels, known after the reply, against what the model said. Live accuracy, in short."""

from __future__ import annotations

from collections import deque
from typing import Any

from edgeml_server.common.errors import InvalidRequestError
from edgeml_server.common.tensors import shown

from .collector import InputCollector
from .metrics import Metrics
from .prediction_log import Labelled, PredictionLog

RECENT_LABELS = 500


class Feedback:
    """Takes labels, in the thread that has the prediction log."""

    def __init__(self, metrics: Metrics, collector: InputCollector) -> None:
        self._metrics = metrics
        self._collector = collector
        self._recent: dict[tuple[str, str], deque[bool]] = {}

    def take(self, prediction_log: PredictionLog, name: str, model: str, document: Any) -> dict[str, Any]:
        """Note the label in ``document`` and return the reply. Raises RequestError.

        ``name`` is what answered, ``model`` what is counted: of a pipeline the part and the whole.
        """
        if not isinstance(document, dict) or set(document) != {"id", "label"} or not isinstance(document["id"], str):
            raise InvalidRequestError(f"expected an object with id (a text) and label; found {shown(document)}")
        labelled = prediction_log.label(name, document["id"], document["label"])
        self._count(model, labelled)
        self._collector.labelled(name, labelled)
        return {"id": document["id"], "model_name": name, "model_version": labelled.version, **_judgement(labelled)}

    def _count(self, model: str, labelled: Labelled) -> None:
        labels = (model, labelled.version)
        if labelled.version not in self._metrics.versions(model):
            # Labels come late; a version that serves no more has no series.
            self._recent.pop(labels, None)
            return
        for error in labelled.absolute_errors:
            self._metrics.label_error.labels(*labels).observe(error)
        if not labelled.right and not labelled.wrong:
            return
        self._metrics.labels.labels(*labels, "right").inc(labelled.right)
        self._metrics.labels.labels(*labels, "wrong").inc(labelled.wrong)
        recent = self._recent.setdefault(labels, deque(maxlen=RECENT_LABELS))
        recent.extend([True] * labelled.right + [False] * labelled.wrong)
        self._metrics.accuracy.labels(*labels).set(sum(recent) / len(recent))


def _judgement(labelled: Labelled) -> dict[str, Any]:
    if labelled.absolute_errors:
        return {"absolute_errors": list(labelled.absolute_errors)}
    return {"right": labelled.right, "wrong": labelled.wrong}
