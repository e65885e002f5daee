# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""This machine as a controller with the collection installed, for the real cron: in a mount namespace of its own, with
files laid over those of the machine, so that nothing of the machine changes."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from links import REPOSITORY
from logged_process import LoggedProcess

# What the machine's packages have cron do is none of the tests' business.
_RUN_CRON = """
set -e
layers=$1 venv=$2 mail=$3
mkdir "$layers/mounted"
mount -t tmpfs tmpfs "$layers/mounted"
cd "$layers/mounted"
for top in /etc /opt /usr/sbin; do
    mkdir -p "upper$top" "work$top"
    cp -a "$layers/files$top/." "upper$top"
    mount -t overlay overlay -o "lowerdir=$top,upperdir=upper$top,workdir=work$top" "$top"
done
cd /
mkdir /opt/venv
mount --bind "$venv" /opt/venv
mount --bind "$mail" /var/mail
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/spool/cron
mkdir /var/spool/cron/crontabs
mount -t tmpfs tmpfs /etc/cron.d
cp "$layers/files/etc/cron.d"/* /etc/cron.d
exec cron -f -L 15
"""

# What is mailed goes to files, one each.
_SENDMAIL = """#!/bin/sh
part=$(mktemp /var/mail/.XXXXXX) && cat >"$part" && mv "$part" "/var/mail/${part##*.}"
"""

_PLAYBOOK = """#!/opt/venv/bin/python
import sys
from ansible.cli.playbook import main
sys.exit(main())
"""


class CronController(LoggedProcess):
    """A controller with these ``files`` (contents by path below /etc), ansible-playbook in /opt/ansible/bin and the
    collection in /opt/collections. As a context manager its cron runs."""

    def __init__(self, directory: Path, files: Mapping[str, str]) -> None:
        self.directory = directory
        self._files = directory / "files"
        self._mail = directory / "mail"
        self._mail.mkdir(parents=True)
        super().__init__(directory)
        collection = self._files / "opt/collections/ansible_collections/edgeml/fleet"
        for part in ("meta", "playbooks", "plugins", "roles"):
            shutil.copytree(REPOSITORY / part, collection / part, ignore=shutil.ignore_patterns("__pycache__"))
        for path, text in files.items():
            self._write(path, text)
        self._write("/opt/ansible/bin/ansible-playbook", _PLAYBOOK, 0o755)
        self._write("/usr/sbin/sendmail", _SENDMAIL, 0o755)

    def __enter__(self) -> CronController:
        command = ["unshare", "--mount", "sh", "-c", _RUN_CRON, "sh", str(self.directory), sys.prefix]
        self.start([*command, str(self._mail)])
        return self

    @property
    def is_busy(self) -> bool:
        """Whether a job has not ended."""
        pid = self.process.pid
        return bool(Path(f"/proc/{pid}/task/{pid}/children").read_text())

    @property
    def mails(self) -> list[str]:
        """What was mailed so far."""
        return [path.read_text() for path in self._mail.iterdir() if not path.name.startswith(".")]

    def _write(self, path: str, text: str, mode: int = 0o644) -> None:
        file = Path(f"{self._files}{path}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
