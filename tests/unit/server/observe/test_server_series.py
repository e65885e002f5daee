# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The metrics of the server beside those of prometheus_client: the same text, and no count lost between threads."""

from __future__ import annotations

import threading
from collections.abc import Callable

import prometheus_client
from edgeml_server.observe.exposition import write
from edgeml_server.observe.series import Distribution, Family, Number
from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest

BUCKETS = (0.0005, 0.25, 1.0, 10.0)
VALUES = (0.0, 0.0005, 0.0006, 0.25, 1, 3.5, 10, 11)
THREADS, TURNS = 4, 5000

_omit_created_series: Callable[[], None] = disable_created_metrics


def test_the_text_is_that_of_prometheus_client() -> None:
    _omit_created_series()
    registry = CollectorRegistry()
    labels = ["model", "code"]
    about = "Requests, by what\\ever\ncame."
    theirs = (
        prometheus_client.Counter("a_requests_total", about, labels, registry=registry),
        prometheus_client.Gauge("b_bytes", "Bytes.", registry=registry),
        prometheus_client.Histogram("c_seconds", "Seconds.", labels, buckets=BUCKETS, registry=registry),
        prometheus_client.Summary("d_distance", "Distances.", registry=registry),
        prometheus_client.Counter("e_total", "None yet.", labels, registry=registry),
    )
    ours = (
        Family("counter", "a_requests_total", about, Number, labels),
        Family("gauge", "b_bytes", "Bytes.", Number),
        Family("histogram", "c_seconds", "Seconds.", lambda: Distribution(BUCKETS), labels),
        Family("summary", "d_distance", "Distances.", Distribution),
        Family("counter", "e_total", "None yet.", Number, labels),
    )
    for model in ("plain", 'quoted "\\ name', "\u00e4"):
        theirs[0].labels(model, "200").inc()
        theirs[0].labels(model, "200").inc(2.5)
        ours[0].labels(model, "200").inc()
        ours[0].labels(model, "200").inc(2.5)
        for value in VALUES:
            theirs[2].labels(model, "200").observe(value)
            ours[2].labels(model, "200").observe(value)
    theirs[1].set(1e9)
    ours[1].only.set(1e9)
    for value in VALUES:
        theirs[3].observe(value)
        ours[3].only.observe(value)
    written = write(ours)
    of_any_process = written.index(b"# HELP a_requests_total")
    assert written[of_any_process:] == generate_latest(registry)
    assert b"process_cpu_seconds_total" in written[:of_any_process]


def test_removed_series_are_gone_and_others_stay() -> None:
    family = Family("counter", "a_total", "A.", Number, ["model", "version", "code"])
    for version in ("1", "2"):
        for code in ("200", "400"):
            family.labels("m", version, code).inc()
    family.remove("m", "2", "400")
    family.remove("m", "2", "400")
    family.remove_all({"model": "m", "version": "1"})
    assert [labels for labels, _child in family.series()] == [("m", "2", "200")]


def test_no_count_is_lost_between_threads() -> None:
    family = Family("counter", "a_total", "A.", Number, ["model"])
    rows = Distribution(BUCKETS)

    def count() -> None:
        for _turn in range(TURNS):
            family.labels("m").inc()
            rows.observe(2)

    threads = [threading.Thread(target=count) for _thread in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert family.labels("m").value == THREADS * TURNS
    assert (rows.count, rows.sum) == (THREADS * TURNS, 2 * THREADS * TURNS)
