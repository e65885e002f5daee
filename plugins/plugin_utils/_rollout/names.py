# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The names of the variables that people give: one that means nothing is refused before anything is done.

It would change nothing, without a word: a rollback of ``rollback_waves=2`` would be one of all waves. An inventory
holds variables of anybody, so of those only a misspelling of an option is refused. What comes with ``-e`` is meant for
this run: there a name that begins as the playbook's own ones do is one of them, or wrong. Pure.
"""

from __future__ import annotations

import difflib
from typing import Iterable, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError

from .options import PREFIX, of_role

# How alike a name must be to an option's, of 1, to be a misspelling of it; `wave` and `waves` are.
_ALIKE = 0.85
_NEAR = 0.5
_NEAR_MAX = 3
# Variables with the prefix of the role that are no options: who takes part.
_ABOUT_HOSTS = ("hosts", "pinned", "maintenance")

# What playbooks read beside the variables of roles, and what they tell workflows: AWX gives that to the jobs that
# follow, as extra variables.
_READ = {
    "collect_inputs_": ("hosts", "directory", "max_bytes", "missing_values", "spool"),
    "container_runtime_": ("hosts",),
    "decommission_": ("devices", "reason", "undo", "root"),
    "edgeml_": (),
    "mqtt_broker_": ("hosts",),
    "model_": (
        "name",
        "version",
        "repository",
        "repository_root",
        "repository_unsigned",
        "repository_state",
        "repository_client_ca",
        "repository_client_certificate",
        "samples",
        "source",
    ),
    "model_repository_": ("hosts",),
    "patch_": ("version", "name", "hosts", "device_timeout"),
    "provision_": ("hosts",),
    "profile_": ("hosts", "key", "seconds", "burst", "power_sensor"),
    "pull_agent_": ("hosts",),
    "reconcile_": (),
    "report_mailbox_": ("hosts",),
    "rollback_": ("hosts", "rollout", "wave", "reason"),
    "rollout_": _ABOUT_HOSTS,
    "rotate_": ("replace", "new_authority", "until", "without", "hosts", "servers", "places"),
    "site_cache_": ("hosts",),
    "status_": ("hosts", "probe", "page"),
    "telemetry_": ("hosts", "server_hosts"),
    "vulnerabilities_": ("hosts", "tracker", "advisories", "bills", "statements", "directory", "database_days_max"),
}
_TOLD = {
    "collect_inputs_": ("datasets", "failed"),
    "profile_": ("classes",),
    "decommission_": ("refused", "wiped", "to_wipe"),
    "reconcile_": ("outcomes",),
    "rollback_": ("outcomes",),
    "rollout_": ("id", "verdict", "outcomes", "report", "evidence", "boundaries", "power"),
    "rotate_": ("waits_for", "authorities"),
}
# Every playbook may tell this.
_PROBLEM = "problem"


def known_names(roles: Iterable[str]) -> Mapping[str, list[str]]:
    """Return the names of variables by their prefix and without it; ``roles`` are those of the roles."""
    found = {prefix: [*words, *_TOLD.get(prefix, ()), _PROBLEM] for prefix, words in _READ.items()}
    for name in {**of_role(), **dict.fromkeys(roles)}:
        prefix = _prefix_of(name, found)
        if prefix is not None:
            found[prefix].append(name[len(prefix) :])
    # What verifies a repository, and what serves one.
    found["model_"] += [f"repository_{word}" for word in found["model_repository_"]]
    found["model_repository_"] += [word[len("repository_") :] for word in found["model_"] if word.startswith("repos")]
    return found


def _prefix_of(name: str, prefixes: Iterable[str]) -> str | None:
    return max((prefix for prefix in prefixes if name.startswith(prefix)), key=len, default=None)


def check_names(variables: Iterable[str]) -> None:
    """Raise ArgumentError for a variable, from wherever, that is a misspelt option of a rollout."""
    known = [name[len(PREFIX) :] for name in of_role()] + list(_ABOUT_HOSTS)
    for name in sorted(variables):
        word = name[len(PREFIX) :] if name.startswith(PREFIX) else ""
        if not word or word in known:
            continue
        option, dot, part = word.partition(".")
        if dot and option in known:
            raise ArgumentError(f'{name}: expected a mapping, such as -e \'{{"{PREFIX}{option}": {{"{part}": …}}}}\'')
        _refuse_misspelt(PREFIX, word, known)


def _refuse_misspelt(prefix: str, word: str, known: Sequence[str]) -> None:
    for meant in difflib.get_close_matches(word, known, 1, _ALIKE):
        raise ArgumentError(f"{prefix}{word}: no such variable; did you mean {prefix}{meant}?")


def check_given(given: Iterable[str], own: Sequence[str], roles: Iterable[str], users_roles: Iterable[str]) -> None:
    """Raise ArgumentError for an extra variable that means nothing, and seems to be meant for the playbook.

    ``own`` are the prefixes of the playbook's variables, as ``rollback_``: what begins with one of them has to be
    known. Of the other prefixes a misspelling is refused. ``roles`` are the variables of the collection's roles,
    ``users_roles`` the names of others, whose variables begin with them.
    """
    known = known_names(roles)
    for name in sorted(given):
        prefix = _prefix_of(name, known)
        if prefix is None or any(name.startswith(f"{role}_") for role in users_roles):
            continue
        word = name[len(prefix) :]
        if word in known[prefix]:
            continue
        _refuse_misspelt(prefix, word, known[prefix])
        if prefix in (*own, "edgeml_"):
            near = difflib.get_close_matches(word, known[prefix], _NEAR_MAX, _NEAR)
            there = f"; the nearest are {', '.join(f'{prefix}{item}' for item in near)}" if near else ""
            raise ArgumentError(
                f"{name}: no such variable{there}. Names that begin with {prefix} are this collection's: name a "
                "variable of your own after your role, or set it in the inventory"
            )
