# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook ``rotate_credentials``: under load, with devices that are away, interrupted, and what it refuses."""

from __future__ import annotations

import signal
import socket
import ssl
import time
from pathlib import Path

import pytest
from controller import DIGITS
from mosquitto import Peer
from rotation_site import SERVERS, Load, Site

UNSIGNED = {"model_repository": str(DIGITS), "model_repository_unsigned": True}


def test_an_authority_is_replaced_under_load(tmp_path: Path) -> None:
    with Site(tmp_path) as site:
        old, client = site.fingerprint(), site.clients["edge-1"]
        before, context_before = client.both(), client.context()
        keys = {place["key"]: Path(place["key"]).read_bytes() for name in site.places().values() for place in name}
        with Load(site) as load:
            run = site.rotate(rotate_replace=old[:12])
            assert run.code == 0, run
            site.wait_in(client.context())
        assert load.failures == []
        assert min(load.count[what] for what in SERVERS) > 1
        assert run.custom_stats["rotate_waits_for"] == []
        assert site.fingerprint() != old
        assert [Path(path).read_bytes() == content for path, content in keys.items()] == [False] * len(keys)
        # It believes nobody any more, and nobody believes it.
        site.wait_out(context_before)
        site.wait_out(client.context(before))
        site.broker.ca = client.authorities
        Peer(site.broker, client.both()).close()
        with (
            socket.create_connection(("127.0.0.1", site.broker.port), timeout=60) as plain,
            pytest.raises(ssl.SSLError, match=r"(?i)unknown ca"),
            client.context(before).wrap_socket(plain, server_hostname="127.0.0.1") as refused,
        ):
            refused.recv(1)


def test_a_device_that_is_away_holds_the_last_wave_back(tmp_path: Path) -> None:
    with Site(tmp_path, crl=True) as site, Load(site) as load:
        old, away = site.fingerprint(), site.clients["edge-2"]
        named = {"rotate_replace": old}
        site.write_inventory("edge-2")
        would = site.rotate("--check", "--diff", **named)
        assert would.code == 0, would
        shown = would.results("Replace certificates and keys")["edge-1"]["diff"][0]
        assert old[:12] in shown["before"]
        assert "a new authority" in shown["after"]
        assert site.fingerprint() == old
        assert not site.reloads.exists()
        first = site.rotate(**named)
        assert first.code == 0, first
        assert first.custom_stats["rotate_waits_for"] == [
            "edge-2 (away)",
            "broker (its certificate waits)",
            "mail (its certificate waits)",
        ]
        # It believes what the mailbox and the repository show, and they believe its own certificate.
        for what in ("mailbox", "models"):
            assert site.lets_in(what, away.context(), away.name)
        assert len(load.failures) == 0
        assert site.fingerprint() != old
        again = site.rotate(**named)
        assert again.code == 0, again
        assert {name: recap["changed"] for name, recap in again.stats.items()} == dict.fromkeys(again.stats, 0)
        site.write_inventory()
        before = away.context()
        last = site.rotate()
        assert last.code == 0, last
        assert last.custom_stats["rotate_waits_for"] == []
        site.wait_in(away.context(), away.name)
        site.wait_out(before, away.name)
        done = site.rotate(**named)
        assert done.code == 0, done
        assert {recap["changed"] for recap in done.stats.values()} == {0}
    assert load.failures == []


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_interruption_at_each_step_is_continued(tmp_path: Path, moment: str) -> None:
    """The controller and what it does on the machine are killed before, or after, a service was told."""
    with Site(tmp_path) as site, Load(site) as load:
        old, runs = site.fingerprint(), 0
        while len(site.believed()) != 1 or site.fingerprint() == old:
            runs += 1
            # The first run ends at its first step, the second one at its second: each gets further.
            site.kill_at(len(site.told()) + runs, moment)
            site.interrupted(rotate_replace=old)
            assert runs < 40, site.told()
        site.kill_at(0)
        last = site.rotate(rotate_replace=old)
        assert last.code == 0, last
        assert runs > 3
        site.wait_in(site.clients["edge-1"].context())
    assert load.failures == []


def test_what_is_refused_before_anything_changes(tmp_path: Path) -> None:
    with Site(tmp_path) as site:
        old = site.fingerprint()
        bad = tmp_path / "bad.pem"
        bad.write_bytes(b"".join((site.authority_directory / name).read_bytes() for name in ("ca.pem", "ca.key")))
        refused = {
            "expected another key than that of the old one": {"rotate_replace": old, "rotate_new_authority": str(bad)},
            "expected the fingerprint of an authority in": {"rotate_replace": "00" * 8},
            "expected at least 8 digits": {"rotate_replace": old[:7]},
            "inference_service_tls_keep: expected true": {
                "rotate_replace": old,
                "inference_service_tls_certificate": "x",
            },
        }
        for problem, variables in refused.items():
            run = site.rotate(**variables)
            assert run.code != 0
            assert problem in repr(run)
        assert not site.reloads.exists()
        assert site.believed() == [old]


def test_it_and_a_rollout_exclude_each_other(tmp_path: Path) -> None:
    with Site(tmp_path) as site:
        old = site.fingerprint()
        rotation = site.ansible.start("edgeml.fleet.rotate_credentials", **site.variables(rotate_replace=old))
        lock = tmp_path / "ledger" / "lock"
        deadline = time.monotonic() + 240
        while not (lock.exists() and lock.read_text()):
            assert time.monotonic() < deadline
            assert rotation.poll() is None, rotation.communicate()
            time.sleep(0.02)
        # While it is stopped, it goes no further, and holds the lock.
        rotation.send_signal(signal.SIGSTOP)
        try:
            for playbook, variables in (
                ("edgeml.fleet.rotate_credentials", {"rotate_replace": old}),
                ("edgeml.fleet.rollout", {"model_name": "digits", "model_version": "1.0.0", **UNSIGNED}),
            ):
                other = site.ansible.run(playbook, **site.variables(**variables))
                assert "another run is at work since" in repr(other), playbook
        finally:
            site.kill(rotation)
