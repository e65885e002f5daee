# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action ``rotation_gate``: it decides on the controller whether a wave of a rotation begins."""

from __future__ import annotations

import datetime
import os
from typing import Any, ClassVar, Mapping

from ansible_collections.edgeml.fleet.plugins.module_utils._enrolment.request import EnrolmentError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._controller_action import ControllerAction
from ansible_collections.edgeml.fleet.plugins.plugin_utils._enrolment.rotation import (
    Authorities,
    Host,
    PlaceState,
    Wave,
    is_after,
    permit,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._enrolment.succession import (
    Bundle,
    Succession,
    fingerprint_of,
    name_of,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.ansible_scene import AnsibleScene
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.lock import take
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.steps.names import refuse_unknown_names

_READ, _CLOSE = "read", "close"
# Where the playbook keeps what each machine said, the newest first.
_RESULTS = ("rotation_retire", "rotation_leaves", "rotation_authority", "rotation_read")
_DIGITS_MIN = 8
_NOTHING: dict[str, Any] = {"begins": False, "hosts": [], "held_by": [], "servers": True, "readers": []}


class ActionModule(ControllerAction):
    """Takes the lock, has the authority followed by another one, and lets a wave begin or names what it waits for."""

    arguments: ClassVar[dict[str, Any]] = {
        "wave": {"type": "str", "required": True, "choices": [_READ, *(wave.value for wave in Wave), _CLOSE]},
        "authority": {"type": "path", "required": True},
        "ledger": {"type": "path", "required": True},
        "hosts": {"type": "list", "elements": "str", "default": []},
        "servers": {"type": "list", "elements": "str", "default": []},
        "given_up": {"type": "list", "elements": "str", "default": []},
        "replace": {"type": "str", "default": ""},
        "new_authority": {"type": "path"},
        "last_wave": {"type": "str", "choices": [wave.value for wave in Wave], "default": Wave.RETIRE.value},
    }

    def answer(self, args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return whether the wave begins, on which machines, and what the authorities are."""
        refuse_unknown_names(AnsibleScene(self, task_vars), "rotate_")
        check_mode = self._task.check_mode
        if not check_mode:
            # Until the run ends: no rollout plans or works meanwhile.
            take(os.path.join(args["ledger"], "lock"), os.getppid(), "rotate_credentials")
        succession = Succession(args["authority"])
        before = _described(succession)
        under_way = self._is_under_way(succession, args)
        known = sorted({*args["hosts"], *args["servers"]})
        hosts = [_host(name, name in args["servers"], task_vars.get("hostvars", {})) for name in known]
        if args["wave"] == _READ:
            if not check_mode and not under_way:
                succession.finish()
            found: dict[str, Any] = {**_NOTHING, "begins": under_way, "hosts": known if under_way else []}
        elif not under_way:
            found = dict(_NOTHING)
        elif args["wave"] == _CLOSE:
            found = self._close(succession, hosts)
        else:
            found = self._begin(Wave(args["wave"]), succession, hosts, args)
        after = _described(succession)
        return {
            **found,
            "changed": before != after or bool(found["readers"]),
            "under_way": under_way,
            "authorities": [line.rstrip() for line in after],
            "diff": {"before": "".join(before), "after": "".join(after)},
        }

    def _is_under_way(self, succession: Succession, args: Mapping[str, Any]) -> bool:
        """Whether there is an authority to replace: one is being replaced already, or it is named."""
        replace = args["replace"].replace(":", "").lower()
        fingerprint = fingerprint_of(succession.old)
        if replace and len(replace) < _DIGITS_MIN:
            raise EnrolmentError(f"replace: expected at least {_DIGITS_MIN} digits of a fingerprint; found {replace!r}")
        if succession.new is None and not replace:
            return False
        if replace and not fingerprint.startswith(replace):
            if succession.was_retired(replace) and succession.new is None:
                return False
            raise EnrolmentError(
                f"replace: expected the fingerprint of an authority in {args['authority']}, "
                f"{fingerprint}; found {replace}"
            )
        if args["new_authority"]:
            now = datetime.datetime.now(datetime.timezone.utc)
            bundle = Bundle.read(args["new_authority"], succession.old, now)
            if succession.new not in (None, bundle.certificate):
                raise EnrolmentError(
                    f"new_authority: {name_of(succession.old)} is being replaced by another one, "
                    f"{name_of(succession.new)}; found {name_of(bundle.certificate)}"
                )
        return True

    def _begin(self, wave: Wave, succession: Succession, hosts: list[Host], args: Mapping[str, Any]) -> dict[str, Any]:
        """Let a wave begin where all that answer are after the one before."""
        if list(Wave).index(wave) > list(Wave).index(Wave(args["last_wave"])):
            return {**_NOTHING, "held_by": [f"the last wave is {args['last_wave']}"]}
        if wave is Wave.RETIRE and not succession.switched and not self._task.check_mode:
            return dict(_NOTHING)
        authorities = Authorities(succession.old, succession.new, succession.authority.crl())
        if self._task.check_mode:
            # What the waves before would have done is taken as done.
            asked = [host._replace(places=() if host.places is not None else None) for host in hosts]
            permission = permit(wave, asked, authorities, _certified(succession), args["given_up"])
        else:
            permission = permit(wave, hosts, authorities, _certified(succession), args["given_up"])
        if not permission.granted:
            return {**_NOTHING, "held_by": list(permission.held_by)}
        readers: dict[str, int] = {}
        if wave is Wave.LEAVES:
            readers = succession.authority.readers_of(succession.old)
        if not self._task.check_mode:
            if wave is Wave.AUTHORITY:
                succession.begin(self._bundle(succession, args["new_authority"]))
            elif wave is Wave.LEAVES:
                succession.switch()
                authority = succession.authority
                for name, days in readers.items():
                    authority.write_reader(name, str(authority.reader_path(name)), days=days)
        taking_part = [host.name for host in hosts if host.places is not None]
        return {
            **_NOTHING,
            "begins": True,
            "hosts": taking_part,
            "servers": permission.servers,
            "readers": sorted(readers),
        }

    @staticmethod
    def _bundle(succession: Succession, path: str | None) -> Bundle | None:
        """The new authority, which an operator has or which is made now; None where it is there already."""
        if succession.new is not None:
            return None
        now = datetime.datetime.now(datetime.timezone.utc)
        return Bundle.read(path, succession.old, now) if path else Bundle.make()

    def _close(self, succession: Succession, hosts: list[Host]) -> dict[str, Any]:
        """Believe the new authority alone, when nobody that answers believes the old one."""
        authorities = Authorities(succession.old, succession.new, succession.authority.crl())
        behind = [host.problem for host in hosts if host.problem] + [
            f"{host.name}: still believes {name_of(succession.old)}"
            for host in hosts
            if host.places is not None and not is_after(Wave.RETIRE, host.places, authorities)
        ]
        if behind and not self._task.check_mode:
            raise EnrolmentError(f"the rotation cannot end: {'; '.join(behind)}")
        if not self._task.check_mode:
            succession.finish()
        return dict(_NOTHING)


def _certified(succession: Succession) -> list[str]:
    """The devices whose last certificate the old authority issued."""
    return [name for name in succession.authority.devices() if succession.was_given_by_old(name)]


def _host(name: str, is_server: bool, hostvars: Any) -> Host:
    """What a machine said last, by what the playbook registered."""
    said = hostvars.get(name) or {}
    result = next((said[key] for key in _RESULTS if key in said and not said[key].get("skipped")), None)
    if result is None or result.get("unreachable"):
        return Host(name, is_server, None)
    if result.get("failed"):
        return Host(name, is_server, None, f"{name}: {result.get('msg')}")
    return Host(name, is_server, [PlaceState(place) for place in result["places"]])


def _described(succession: Succession) -> list[str]:
    return [f"{name_of(certificate)}\n" for certificate in succession.authority.certificates]
