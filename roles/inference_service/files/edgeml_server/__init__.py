# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An inference server for devices: Open Inference Protocol (REST) over TCP and a Unix socket.

::

    command.py           the command line
    config.py            /etc/edgeml/server.json, checked
    server.py            the process: starts, loads the models, serves, drains, exits
    systemd.py           readiness, status and watchdog
    running_server.py    what a handover needs of a running server

    handover/            a new process takes over from the one that serves: channel.py has the messages between them,
                         predecessor.py and successor.py the two sides

    http/                everything that knows HTTP; imports models/ and observe/
      server.py            the two listeners, and the end of the server
      protocol.py          a connection, with one of two HTTP parsers; connections.py limits connections
      exchange.py          a request as it arrives
      sockets.py, tls.py   the listening sockets and their certificates
      app.py               one request: header, authentication (authenticator.py), endpoint, response
      routes.py            the table of URLs
      forward.py           passes on what only the process that serves now can answer
      framing.py           rejects what two HTTP parsers can read in different ways
      body.py              reading a request's body; limits.py limits its header and its time
      inference.py         the endpoint for inference; metadata.py and repository.py have the others
      messages.py          requests and responses as endpoints see them
      openapi.json         the description of all endpoints
    models/              loading models and running them; of observe/ imports only what repository.py reports to
      repository.py        the models that serve: loading, swapping and freeing them
      loading.py           from a file to a model that is tested (golden.py) and warmed up
      inference.py         from the bytes of a request to the bytes of its response
      time_limit.py        gives up a load that does not end
      classes.py           names of classes, and Triton's classification
      executor.py          the bounded pool of threads for inference; batching.py joins requests that wait,
                           of models whose rows independence.py proves to be independent
      shapes.py            unusual sizes, and whose mistake a failure is
      backend.py           what a runtime must offer; backend_onnx.py is ONNX Runtime, backend_litert.py LiteRT
      onnx_texts.py        texts that are no UTF-8, into ONNX Runtime and out of it
    observe/             what is recorded about requests after their responses; imports neither of the above
      metrics.py           every Prometheus metric; series.py keeps their values, exposition.py writes them
      observer.py          the thread that feeds prediction_log.py and drift.py
      prediction_log.py    requests and responses in a bounded SQLite file; feedback.py compares true labels with them
      answers.py           which output has the answers, and what they are
      drift.py             live rows against the release's reference.py
      shadow.py            a candidate version that answers mirrored requests
      model_observer.py    what models/ reports
    tools/               command lines beside the server: smoke test, drift reference, export of the prediction log
    common/              errors, log, tensors, JSON, memory and HTTP over Unix sockets, which all of the above use
"""

from __future__ import annotations

import os

__version__ = "0.2.0"

# From 1.29 on, ONNX Runtime's wheels for Linux keep an identifier of the device and send telemetry to their vendor, if
# this is not set before they are imported. A device sends nobody anything that its operators did not ask for.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
