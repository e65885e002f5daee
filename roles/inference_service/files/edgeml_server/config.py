# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The server's configuration file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from .observe.collect_rules import CollectRule, parse_rules

# Each is a module models/provider_NAME.
PROVIDERS = ("cpu", "cuda", "openvino", "qnn", "tensorrt")
_CHOICES = {
    "execution_provider": PROVIDERS,
    "log_level": ("debug", "info", "warning", "error"),
    "prediction_log_inputs": ("summary", "full"),
}


class ConfigError(Exception):
    """The configuration is not usable. The text names the file and the key, and says what was expected and found."""


class Config(NamedTuple):
    """The settings in ``server.json``. Each has a default except ``store`` and ``socket``.

    Without a ``prediction_log`` path the server keeps none.
    """

    store: str
    socket: str
    listen_address: str = "127.0.0.1"
    listen_port: int = 8080
    execution_provider: str = "cpu"
    threads: int = 1
    workers: int = 0
    max_request_bytes: int = 16 << 20
    max_pending: int = 64
    max_connections: int = 512
    client_seconds: int = 30
    deadline_ms: int = 0
    drain_seconds: int = 10
    load_seconds: int = 120
    tls_certificate: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    credentials: str = ""
    log_level: str = "info"
    prediction_log: str = ""
    prediction_log_rows: int = 100_000
    prediction_log_bytes: int = 64 << 20
    prediction_log_sample_percent: float = 10.0
    prediction_log_inputs: str = "summary"
    collect_inputs: Mapping[str, CollectRule] = MappingProxyType({})
    batch_rows: int = 1
    drift_window: int = 1000
    drift_psi: float = 0.2

    @property
    def inference_workers(self) -> int:
        """Inferences that may run at once: ``workers``, or as many as the processors allow when that is 0."""
        return self.workers or max(1, len(os.sched_getaffinity(0)) // self.threads)

    @property
    def inference_threads(self) -> int:
        """Threads for inference: with batching more than may run at once, so that waiting requests form batches."""
        return self.inference_workers if self.batch_rows == 1 else min(self.max_pending, _BATCHING_THREADS_MAX)


_BATCHING_THREADS_MAX = 64

_LEAST = {
    "listen_port": 0,
    "threads": 1,
    "workers": 0,
    "max_request_bytes": 1,
    "max_pending": 1,
    "max_connections": 1,
    "client_seconds": 1,
    "deadline_ms": 0,
    "drain_seconds": 0,
    "load_seconds": 1,
    "prediction_log_rows": 1,
    "prediction_log_bytes": 1 << 20,
    "prediction_log_sample_percent": 0,
    "batch_rows": 1,
    "drift_window": 500,
    "drift_psi": 0,
}
_OPTIONAL = ("tls_certificate", "tls_key", "tls_client_ca", "credentials")
_MOST = {"listen_port": 65535, "prediction_log_sample_percent": 100}


def read_config(path: str) -> Config:
    """Read and check the JSON file at ``path``. Raises ConfigError."""
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error
    try:
        return parse_config(document)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def parse_config(document: Any) -> Config:
    """Check parsed JSON in full and return it as a Config. Raises ConfigError."""
    if not isinstance(document, Mapping):
        raise ConfigError(f"expected an object; found {type(document).__name__}")
    known = {name: type(Config._field_defaults.get(name, "")) for name in Config._fields}
    unknown = sorted(set(document) - set(known))
    if unknown:
        raise ConfigError(f"unknown key {', '.join(unknown)}; expected some of {', '.join(known)}")
    for key in ("store", "socket"):
        if key not in document:
            raise ConfigError(f"{key}: missing")
    values = dict(document)
    rules = _rules(values.pop("collect_inputs", []))
    for key, value in values.items():
        if known[key] in (int, float):
            _check_number(key, value, whole=known[key] is int)
        elif not isinstance(value, str) or not (value or key in _OPTIONAL):
            raise ConfigError(f"{key}: expected a text; found {value!r}")
        elif value not in _CHOICES.get(key, (value,)):
            raise ConfigError(f"{key}: expected one of {', '.join(_CHOICES[key])}; found {value!r}")
    config = Config(**values, collect_inputs=rules)
    if rules and not config.prediction_log:
        raise ConfigError("collect_inputs: expected a prediction_log, of which inputs are collected; found none")
    if bool(config.tls_certificate) != bool(config.tls_key) or (config.tls_client_ca and not config.tls_key):
        raise ConfigError("tls_certificate, tls_key: expected both or neither, and both with tls_client_ca")
    return config


def _rules(value: Any) -> dict[str, CollectRule]:
    try:
        return parse_rules(value)
    except ValueError as error:
        raise ConfigError(f"collect_inputs: {error}") from error


def _check_number(key: str, value: Any, whole: bool) -> None:
    least, most = _LEAST[key], _MOST.get(key, 1 << 40)
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
        raise ConfigError(
            f"{key}: expected a {'whole ' if whole else ''}number from {least} to {most}; found {value!r}"
        )
