# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small inference server for devices: Open Inference Protocol (REST) over TCP and a Unix socket.

::

    config.py            /etc/edgeml/server.json, checked
    server.py            the process: sockets, start, drain, exit
    http_protocol.py     HTTP: the parsers, and what they refuse; uvicorn_parts.py is what is used of uvicorn
    connections.py       how many connections there may be, and how slow
    tls.py, guard.py     who is let in over TCP
    app.py               HTTP: routes, limits, replies, metrics
    repository.py        the models that are served; loading, swapping and freeing them
    loading.py           a model file as something that answers: loaded, tested, warmed up
    golden.py            the test that a model passes before it serves
    smoke.py             the same in a process of its own, for a version that does not serve yet
    inference.py         one inference: request bytes to reply bytes
    tensors.py           the protocol's tensors as NumPy arrays and back
    backend.py           what a model runtime must offer; backend_onnx.py is ONNX Runtime, backend_litert.py LiteRT
    batching.py          requests that wait run together
    executor.py          the bounded pool in which inferences run
    systemd.py           readiness, status and watchdog
    observer.py          what is noted of a request after its reply, beside the request path
    prediction_log.py    requests and answers in a bounded SQLite file; prediction_export.py writes them as text
    drift.py             live rows against the release's reference; drift_reference.py makes one
    feedback.py          true labels against predictions
    shadow.py            a candidate that answers copies of requests
    metrics.py, log.py, json_codec.py, memory.py, errors.py
"""

from __future__ import annotations

__version__ = "0.1.0"
