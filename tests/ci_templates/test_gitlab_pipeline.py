# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The GitLab file of examples/model-repository, run by gitlab-ci-local: from a merge request to a device.

Its jobs run in the work tree, so that the packages that the first one installs are there for the others.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from ci_templates import Git, ModelProject, build_collection
from device import Device

TAG = "digits/1.2.0"
SOURCE = "CI_PIPELINE_SOURCE"


class GitLab:
    """gitlab-ci-local in the work tree of a project."""

    def __init__(self, project: ModelProject) -> None:
        self.project = project
        self.program = os.environ["GITLAB_CI_LOCAL"]

    def _run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        given = [option for name, value in variables.items() for option in ("--variable", f"{name}={value}")]
        return subprocess.run(
            [self.program, "--shell-executor-no-image", *given, *arguments],
            cwd=self.project.git.path,
            env=self.project.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def jobs(self, **variables: str) -> set[str]:
        """The jobs of a pipeline that begins with these variables."""
        lines = self._run("--list-csv", **variables).stdout.splitlines()
        begin = next(number for number, line in enumerate(lines) if line.startswith("name;"))
        return {line.split(";")[0] for line in lines[begin + 1 :]}

    def run(self, job: str, **variables: str) -> str:
        """Run a job to its good end."""
        run = self._run(job, **variables)
        assert run.returncode == 0, run.stdout
        return run.stdout


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path, "edge-1")


def test_each_job_of_the_gitlab_file(tmp_path: Path, device: Device) -> None:
    with device:
        project = ModelProject(tmp_path, build_collection(tmp_path), {"edge-1": device.inventory()})
        del project.environment["PIP_NO_INDEX"]
        project.environment.update({name: value for name, value in os.environ.items() if name.startswith("PIP_")})
        pipeline = project.git.path / ".gitlab-ci.yml"
        # The image is for a runner with containers; here the job has this machine's Python.
        pipeline.write_text(re.sub(r"  image: .*\n", "", pipeline.read_text()))
        project.roll_out_at_once()
        project.make_keys()
        project.git.commit("Our models")
        origin = Git(tmp_path / "origin.git", bare=True)
        project.git("remote", "add", "origin", str(origin.path))
        project.git("push", "--quiet", "--set-upstream", "origin", "main")
        project.git("remote", "set-head", "origin", "main")
        gitlab = GitLab(project)

        assert gitlab.jobs(CI_PIPELINE_SOURCE="merge_request_event") == {"check"}
        assert gitlab.jobs(CI_PIPELINE_SOURCE="schedule") == {"renew"}
        assert gitlab.jobs(CI_COMMIT_TAG=TAG) == {"publish", "roll-out"}

        gitlab.run("check", CI_PIPELINE_SOURCE="merge_request_event")
        assert (project.git.path / "reports/digits.html").exists()
        assert not (project.models / "digits").exists()

        gitlab.run("publish", CI_COMMIT_TAG=TAG)
        request = project.git.path / f"signing/{TAG}.json"
        request.parent.mkdir(parents=True)
        shutil.copyfile(project.git.path / f"requests/{TAG}.json", request)
        project.sign(request)
        project.git.commit("Ann and Bob have signed digits 1.2.0")
        project.git("push", "--quiet")

        gitlab.run("roll-out", CI_COMMIT_TAG=TAG, CI_DEFAULT_BRANCH="main")
        assert device.live == "1.2.0"
        gitlab.run("renew", CI_PIPELINE_SOURCE="schedule")
