# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The memory headroom, from files of the kernel."""

from __future__ import annotations

from pathlib import Path

import pytest
from edgeml_server.common.memory import memory_headroom, private_memory


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, (1000 << 10, "MemAvailable")),
        # The limit of the service counts, not its parents' larger ones; the inactive cache can be had.
        (
            {
                "proc/self/cgroup": "0::/system.slice/edgeml.service\n",
                "sys/fs/cgroup/system.slice/memory.max": "900000",
                "sys/fs/cgroup/system.slice/memory.current": "10",
                "sys/fs/cgroup/system.slice/edgeml.service/memory.max": "500000",
                "sys/fs/cgroup/system.slice/edgeml.service/memory.current": "450000",
                "sys/fs/cgroup/system.slice/edgeml.service/memory.stat": "anon 7\ninactive_file 1000\n",
            },
            (51_000, "the memory limit of the control group /system.slice/edgeml.service"),
        ),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/memory.max": "100",
                "sys/fs/cgroup/a/memory.current": "150",
                "sys/fs/cgroup/a/b/memory.max": "max",
                "sys/fs/cgroup/a/b/memory.current": "150",
            },
            (0, "the memory limit of the control group /a"),
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/docker\n1:cpu:/docker\n",
                "sys/fs/cgroup/memory/docker/memory.limit_in_bytes": "5000",
                "sys/fs/cgroup/memory/docker/memory.usage_in_bytes": "4000",
                "sys/fs/cgroup/memory/docker/memory.stat": "inactive_file 1\ntotal_inactive_file 500\n",
            },
            (1500, "the memory limit of the control group /docker"),
        ),
    ],
)
def test_the_memory_that_is_left(files: dict[str, str], expected: tuple[int, str], tmp_path: Path) -> None:
    for name, content in {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:    1000 kB\n", **files}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    assert memory_headroom(str(tmp_path)) == expected


def test_the_memory_that_a_second_process_needs(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmRSS:\t  900 kB\nRssAnon:\t  100 kB\nRssFile:\t  790 kB\nRssShmem:\t   10 kB\n")
    assert private_memory(status) == 110 << 10, "files are in memory once"
