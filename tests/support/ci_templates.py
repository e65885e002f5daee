# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stranger's git repository made from examples/model-repository, and its GitHub workflow run step by step."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from links import REPOSITORY

TEMPLATE = REPOSITORY / "examples" / "model-repository"
WORKFLOW = TEMPLATE / ".github" / "workflows" / "models.yml"
PIPELINE = TEMPLATE / ".gitlab-ci.yml"
PASSPHRASE = "correct horse battery"
_PROGRAMS = Path(sys.executable).parent


def build_collection(directory: Path) -> Path:
    """Build the collection's tarball below ``directory``, and return its path."""
    built = directory / "built"
    subprocess.run(
        [_PROGRAMS / "ansible-galaxy", "collection", "build", "--output-path", built],
        cwd=REPOSITORY,
        env={**os.environ, "ANSIBLE_HOME": str(directory / "ansible")},
        capture_output=True,
        check=True,
    )
    (tarball,) = built.iterdir()
    return tarball


class Git:
    """A git repository in ``path``, by an author who exists nowhere else."""

    def __init__(self, path: Path, *, bare: bool = False) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self("init", "--quiet", "--initial-branch=main", *(["--bare"] if bare else []))

    def __call__(self, *arguments: str) -> str:
        author = ["-c", "user.name=Ann", "-c", "user.email=ann@example.com", "-c", "commit.gpgsign=false"]
        run = subprocess.run(["git", *author, *arguments], cwd=self.path, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        return run.stdout

    def commit(self, message: str) -> None:
        """Commit everything that is in the work tree."""
        self("add", "--all")
        self("commit", "--quiet", "--message", message)


class ModelProject:
    """The stranger's repository, their fleet, and what the site runner has: models, an online key, a ledger."""

    def __init__(self, directory: Path, collection: Path, hosts: Mapping[str, Any]) -> None:
        self.directory = directory
        self.models = directory / "srv" / "models"
        self.keys = directory / "keys"
        self.ledger = directory / "srv" / "rollouts"
        self.models.mkdir(parents=True)
        self.git = Git(directory / "project")
        shutil.copytree(TEMPLATE, self.git.path, dirs_exist_ok=True)
        source = {"name": str(collection), "type": "file"}
        self.write("requirements.yml", f"---\n{json.dumps({'collections': [source]})}\n")
        self.write("inventory/hosts.yml", f"---\n{json.dumps({'edge': {'hosts': hosts}})}\n")
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "LC_ALL": "C.UTF-8",
            "MODEL_REPOSITORY": str(self.models),
            "ONLINE_KEY": str(self.keys / "online.pem"),
            "ROLLOUT_LEDGER": str(self.ledger),
            "EDGEML_PASSPHRASE": PASSPHRASE,
            # What is to be installed is there: a template that asks for other packages than these fails.
            "PIP_NO_INDEX": "1",
            "ANSIBLE_LOCALHOST_WARNING": "false",
        }

    def write(self, name: str, text: str) -> None:
        """Write a file of the work tree."""
        (self.git.path / name).write_text(text)

    def roll_out_at_once(self) -> None:
        """Have rollouts wait for nothing, and judge no latency: this machine has other work."""
        path = self.git.path / "inventory/group_vars/edge.yml"
        at_once = "rollout_soak_seconds: 0\nrollout_limits: {}\nrollout_min_ready_seconds: 0.2"
        path.write_text(path.read_text().replace("rollout_soak_seconds: 600", at_once))

    def publish_command(self, *arguments: str | Path, expected: int = 0) -> str:
        """Run edgeml-publish as people do, each with the keys that are named."""
        run = subprocess.run(
            [str(REPOSITORY / "bin" / "edgeml-publish"), *map(str, arguments)],
            cwd=self.directory,
            env={**self.environment, "PYTHON": sys.executable},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == expected, f"{run.returncode}: {run.stdout}\n{run.stderr}"
        return run.stdout

    def make_keys(self) -> None:
        """Three people's keys, two of which are needed, and the site's online key."""
        names = ("ann", "bob", "cy")
        for name in names:
            self.publish_command("keys", "new", name, "--keys", self.keys)
        public = [
            option for role in ("root", "targets") for name in names for option in (f"--{role}-key", f"keys/{name}.pub")
        ]
        init = ("keys", "init", "--repository", self.models, "--keys", self.keys, "--request", "first.json")
        self.publish_command(*init, *public, expected=3)
        self.sign(self.directory / "first.json")
        online = ("--repository", self.models, "--online-key", self.keys / "online.pem")
        self.publish_command("sign", "--request", "first.json", *online)
        pinned = self.git.path / "trust" / "root.json"
        pinned.parent.mkdir()
        shutil.copyfile(self.models / "metadata" / "1.root.json", pinned)

    def sign(self, request: Path) -> None:
        """Two people sign a request, one after the other."""
        for name in ("ann", "bob"):
            self.publish_command("sign", "--request", request, "--key", self.keys / f"{name}.pem", expected=3)

    def run_job(self, name: str, ref: str, **environment: str) -> Job:
        """Run the ``run:`` steps of a job of the GitHub workflow in a clean clone, as its runner does."""
        steps = yaml.safe_load(WORKFLOW.read_text())["jobs"][name]["steps"]
        clone = self.directory / "runs" / f"{name}-{ref.replace('/', '-')}"
        self.git("clone", "--quiet", "--branch", ref, str(self.git.path), str(clone))
        (clone / ".venv").symlink_to(_PROGRAMS.parent)
        job = Job(clone, 0, "")
        for step in steps:
            if "run" in step and job.code == 0:
                done = self.run_step(clone, step["run"], **environment)
                job = Job(clone, done.code, job.output + done.output)
        return job

    def run_step(self, tree: Path, command: str, **environment: str) -> Job:
        """Run one step in a work tree."""
        run = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", command],
            cwd=tree,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Job(tree, run.returncode, f"$ {command}\n{run.stdout}")


class Job:
    """A job that has ended: its work tree, its exit code and what it printed."""

    def __init__(self, tree: Path, code: int, output: str) -> None:
        self.tree = tree
        self.code = code
        self.output = output

    def __repr__(self) -> str:
        """The exit code, and what was printed."""
        return f"exit code {self.code}\n{self.output}"
