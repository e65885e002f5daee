# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The options of a rollout: each is declared once, with its type, its range and the variable that sets it.

A role's argument spec checks a copy of a variable and leaves the variable as it was. So what the inventory, a survey or
``-e name=value`` gives, often as text, is converted here, before anything is done with it. Pure.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from typing import Any, Callable, ClassVar, Mapping, NoReturn, Sequence, TypeVar

import yaml
from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.edgeml.fleet.plugins.module_utils._common import window
from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError

PREFIX = "rollout_"
Self = TypeVar("Self", bound="_Options")


@dataclass(frozen=True)
class Kind:
    """The type of an option: its name in Ansible, and how a value that is given becomes one of it."""

    name: str
    convert: Callable[[str, Any], Any]
    elements: str | None = None
    choices: tuple[str, ...] = ()
    options: Mapping[str, Kind] = field(default_factory=dict)

    def spec(self) -> dict[str, Any]:
        """Return it as a part of an argument spec."""
        spec: dict[str, Any] = {"type": self.name}
        if self.elements:
            spec["elements"] = self.elements
        if self.choices:
            spec["choices"] = list(self.choices)
        if self.options:
            spec["options"] = {name: kind.spec() for name, kind in self.options.items()}
        return spec


def _refuse(name: str, expected: str, value: Any) -> NoReturn:
    raise ArgumentError(f"{name}: expected {expected}; found {value!r}")


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        _refuse(name, "a text", value)
    return str(value)


def _quoted_text(name: str, value: Any) -> str:
    """A text that YAML may have read as a number: 1.10 without quotes is 1.1."""
    if not isinstance(value, str):
        kind = "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__
        raise ArgumentError(f'{name}: expected a text; found the {kind} {value!r}. Quote it: {name}: "{value}"')
    if not value.strip():
        _refuse(name, "a text that is not empty", value)
    return value


def _number(least: float, whole: bool) -> Callable[[str, Any], Any]:
    expected = f"{'a whole number' if whole else 'a number'} from {least:g}"

    def convert(name: str, value: Any) -> float | int:
        try:
            number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else None
        except ValueError:
            number = None
        if number is None or not least <= number < 1e15 or (whole and number != int(number)):
            _refuse(name, expected, value)
        return int(number) if whole else number

    return convert


def _boolean(name: str, value: Any) -> bool:
    try:
        return bool(boolean(value))
    except TypeError:
        _refuse(name, "true or false", value)


def _choice(choices: Sequence[str]) -> Callable[[str, Any], Any]:
    def convert(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            _refuse(name, f"one of {', '.join(choices)}", value)
        return value

    return convert


def _structure(name: str, value: Any, start: str) -> Any:
    """A list or a mapping that is written as text, as ``-e name=value`` and surveys give it."""
    if isinstance(value, str) and value.strip().startswith(start):
        try:
            return yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ArgumentError(f"{name}: cannot be read as YAML: {value!r}") from error
    return value


def _list(element: Callable[[str, Any], Any], separator: str | None = ",") -> Callable[[str, Any], Any]:
    def convert(name: str, value: Any) -> list[Any]:
        value = _structure(name, value, "[")
        if isinstance(value, str):
            value = [part.strip() for part in (value.split(separator) if separator else [value]) if part.strip()]
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            value = [value]
        if not isinstance(value, Sequence):
            _refuse(name, "a list", value)
        return [element(name, item) for item in value]

    return convert


def _mapping(options: Mapping[str, Kind]) -> Callable[[str, Any], Any]:
    def convert(name: str, value: Any) -> dict[str, Any]:
        value = _structure(name, value, "{")
        if value is None or value == "":
            return {}
        if not isinstance(value, Mapping):
            _refuse(name, "a mapping", value)
        unknown = sorted(str(key) for key in set(value) - set(options)) if options else []
        if unknown:
            raise ArgumentError(f"{name}: {unknown[0]}: no such option; expected {', '.join(sorted(options))}")
        kinds = {str(key): options.get(str(key), RAW) for key in value}
        return {key: kinds[key].convert(f"{name}: {key}", item) for key, item in value.items()}

    return convert


def _amounts(name: str, value: Any) -> Any:
    return _structure(name, value, "{")


RAW = Kind("raw", lambda _name, value: value)
TEXT = Kind("str", _text)
NAME = Kind("str", _quoted_text)
BOOLEAN = Kind("bool", _boolean)


def whole(least: int) -> Kind:
    """A whole number from ``least``."""
    return Kind("int", _number(least, whole=True))


def number(least: float) -> Kind:
    """A number from ``least``."""
    return Kind("float", _number(least, whole=False))


def mapping(options: Mapping[str, Kind]) -> Kind:
    """A mapping with some of these ``options``; with any, if none are named."""
    return Kind("dict", _mapping(options), options=options)


def choice(*choices: str) -> Kind:
    """One of these texts."""
    return Kind("str", _choice(choices), choices=choices)


# What a device watches a version by until it commits it: the sub-options of model_swap's trial_limits.
TRIAL_LIMITS = {
    "crashes_max": whole(0),
    "error_rate_max": number(0),
    "latency_ratio_max": number(0),
    "requests_min": whole(0),
}
SERVER = {
    "store": Kind("path", _text),
    "server": TEXT,
    "strategy": choice("load", "reload", "restart", "smp", "none"),
    "server_unit": TEXT,
}


# How a device fetches by itself: the sub-options of model_swap's fetch.
FETCH = {
    "sources": Kind("list", _list(_text), elements="str"),
    "ca_file": TEXT,
    "certificate_file": TEXT,
    "key_file": TEXT,
    "token_file": TEXT,
    "proxy": TEXT,
    "bytes_per_second": whole(0),
    "windows": Kind("list", _list(_text, separator=None), elements="str"),
    "seconds_max": number(1),
    "bytes_max_percent": whole(100),
}

# Where the desired state of devices that pull is published, and where their reports arrive.
PULL = {
    "fleet": TEXT,
    "repository": TEXT,
    "fleet_key": TEXT,
    "online_key": TEXT,
    "mailbox": TEXT,
    "ca_file": TEXT,
    "crl_file": TEXT,
    "mailbox_ca_file": TEXT,
    "certificate_file": TEXT,
    "key_file": TEXT,
    "report_seconds": number(0),
    "mqtt_broker": TEXT,
    "mqtt_port": whole(1),
    "mqtt_ca_file": TEXT,
}

# Lists as they are given, and their elements.
TEXTS = Kind("list", _list(_text), elements="str")
NUMBERS = Kind("list", _list(_number(1, whole=True)), elements="int")
WINDOWS = Kind("list", _list(_text, separator=None), elements="str")
TARGETS = Kind("list", _list(lambda _name, value: value), elements="raw")
AMOUNTS = Kind("raw", _amounts)


def absolute_path(text: str) -> str:
    """Return a path on the controller as a variable names it, with ``~`` and environment variables resolved."""
    return os.path.abspath(os.path.expanduser(os.path.expandvars(text)))


def _is(kind: Kind, also: str | None = None) -> dict[str, Any]:
    """Declare an option. ``also``: a variable of the playbooks that sets it where the role's own does not."""
    return {"kind": kind, "also": also}


@dataclass(frozen=True)
class _Options:
    """Options that are read from variables."""

    # A survey's question that nobody answered gives an empty text, and JSON may say null.
    empty_means_default: ClassVar[bool] = True

    @classmethod
    def names(cls) -> dict[str, tuple[str, ...]]:
        """Return the variables that set each option, the first before the second."""
        found = {}
        for item in dataclasses.fields(cls):
            also = item.metadata["also"]
            found[item.name] = (f"{PREFIX}{item.name}", *((also,) if also else ()))
        return found

    @classmethod
    def from_variables(cls: type[Self], variables: Mapping[str, Any]) -> Self:
        """Read the options from the variables that set them. Raises ArgumentError, which names the variable."""
        values, alternatives = {}, cls.names()
        for item in dataclasses.fields(cls):
            names = alternatives[item.name]
            name = next((name for name in names if cls._is_given(variables, name)), None)
            if name is not None:
                values[item.name] = item.metadata["kind"].convert(name, variables[name])
            elif item.metadata["also"]:
                raise ArgumentError(f"{names[-1]} is not set. Set it in the inventory, or with -e {names[-1]}=…")
        return cls(**values)

    @classmethod
    def _is_given(cls, variables: Mapping[str, Any], name: str) -> bool:
        return name in variables and not (cls.empty_means_default and variables[name] in (None, ""))

    @classmethod
    def spec(cls) -> dict[str, dict[str, Any]]:
        """Return the argument spec of the role, by the role's variables."""
        found = {}
        for item in dataclasses.fields(cls):
            spec = item.metadata["kind"].spec()
            if item.metadata["also"]:
                spec["required"] = True
            elif item.default_factory is not dataclasses.MISSING:
                spec["default"] = item.default_factory()
            else:
                spec["default"] = item.default
            found[f"{PREFIX}{item.name}"] = spec
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the options as JSON's types."""
        return {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}


@dataclass(frozen=True)
class DeviceOptions(_Options):
    """What the calls to one device are made with: each device may have its own."""

    # The tasks read these variables themselves.
    empty_means_default = False

    device_timeout: int = field(default=900, metadata=_is(whole(1)))
    device_silence_seconds: float = field(default=180, metadata=_is(number(0)))
    jitter_seconds: float = field(default=0, metadata=_is(number(0)))
    min_ready_seconds: float = field(default=2, metadata=_is(number(0)))
    trial_seconds: float = field(default=300, metadata=_is(number(0)))
    trial_limits: dict[str, Any] = field(default_factory=dict, metadata=_is(mapping(TRIAL_LIMITS)))
    server: dict[str, Any] = field(default_factory=dict, metadata=_is(mapping(SERVER)))
    fetch: dict[str, Any] = field(default_factory=dict, metadata=_is(mapping(FETCH)))
    keep: int = field(default=1, metadata=_is(whole(0)))
    accept_no_way_back: bool = field(default=False, metadata=_is(BOOLEAN))
    transport: str = field(default="push", metadata=_is(choice("push", "pull")))


@dataclass(frozen=True)
class LedgerOptions(_Options):
    """What every playbook needs that reads the ledger."""

    ledger: str = field(default="~/.local/state/edgeml/rollouts", metadata=_is(TEXT))
    device_class_variables: list[str] = field(default_factory=lambda: ["device_class"], metadata=_is(TEXTS))
    pull: dict[str, Any] = field(default_factory=dict, metadata=_is(mapping(PULL)))
    label_days: float = field(default=7, metadata=_is(number(0)))
    evidence_key: str = field(default="", metadata=_is(TEXT))

    @property
    def ledger_directory(self) -> str:
        """The ledger's directory, with ``~`` and environment variables resolved."""
        return absolute_path(self.ledger)

    @property
    def evidence_key_file(self) -> str:
        """The key that signs evidence, with ``~`` and environment variables resolved; empty where there is none."""
        return absolute_path(self.evidence_key) if self.evidence_key else ""


@dataclass(frozen=True)
class RolloutOptions(LedgerOptions):
    """What a rollout is planned and judged by, whatever the device."""

    model: str = field(default="", metadata=_is(NAME, also="model_name"))
    version: str = field(default="", metadata=_is(NAME, also="model_version"))
    repository: str = field(default="", metadata=_is(NAME, also="model_repository"))
    waves: list[Any] = field(default_factory=lambda: ["canary", "10%", "50%", "100%"], metadata=_is(TARGETS))
    boundaries: dict[str, Any] = field(default_factory=dict, metadata=_is(mapping({})))
    salt: str = field(default="", metadata=_is(TEXT))
    max_unavailable: Any = field(default=None, metadata=_is(AMOUNTS))
    window: list[str] = field(default_factory=list, metadata=_is(WINDOWS))
    soak_seconds: int = field(default=60, metadata=_is(whole(0)))
    soak_seconds_max: int = field(default=300, metadata=_is(whole(0)))
    limits: dict[str, Any] = field(default_factory=dict, metadata=_is(mapping({})))
    concurrency: int = field(default=0, metadata=_is(whole(0)))
    attempt: int = field(default=1, metadata=_is(whole(1)))
    approve_after: list[int] = field(default_factory=list, metadata=_is(NUMBERS))
    approved: int = field(default=0, metadata=_is(whole(0)))
    approved_by: str = field(default="", metadata=_is(TEXT))
    plan_only: bool = field(default=False, metadata=_is(BOOLEAN))
    plan_page: str = field(default="", metadata=_is(TEXT))
    reason: str = field(default="", metadata=_is(TEXT))
    shadow_devices: int = field(default=0, metadata=_is(whole(0)))
    profiles_key: str = field(default="", metadata=_is(TEXT))

    def __post_init__(self) -> None:
        """Raise ArgumentError for what can only be checked as a whole."""
        try:
            window.check(self.window)
        except ArgumentError as error:
            raise ArgumentError(f"{PREFIX}window: {error}") from None

    @property
    def analyses_max(self) -> int:
        """How many times a wave is analysed at most, where its measurements say too little."""
        if not self.soak_seconds:
            return 1
        return max(self.soak_seconds_max // self.soak_seconds, 1)


def of_role() -> dict[str, dict[str, Any]]:
    """Return the argument spec of the role ``rollout``: every variable once."""
    return {**RolloutOptions.spec(), **DeviceOptions.spec()}
