# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Notifications to systemd."""

from __future__ import annotations

from pathlib import Path

import pytest
from edgeml_server.systemd import Notifier


def test_without_systemd_nothing_is_notified() -> None:
    notifier = Notifier({"WATCHDOG_USEC": "1000000"})
    assert notifier.watchdog_seconds == 0
    notifier.notify(READY="1")


def test_a_lost_notification_is_no_failure(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "absent")}).notify(READY="1")
    assert "cannot notify systemd" in caplog.text
