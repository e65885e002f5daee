# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The smoke test: a real child process, whatever becomes of it, harms neither the swap nor what serves."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from controller import DIGITS
from links import PYTHON_PATH
from releases import make_release, put, read_release
from shell_runtime import GOOD, install

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import CandidateError
from ansible_collections.edgeml.fleet.plugins.module_utils._device import smoke_test
from ansible_collections.edgeml.fleet.plugins.module_utils._device.runtime import runtime_id
from ansible_collections.edgeml.fleet.plugins.module_utils._device.smoke_test import SmokeTest
from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store
from ansible_collections.edgeml.fleet.plugins.module_utils._device.version import Version

# A user that every Linux has; on a device it is the service's own.
USER, USER_ID = "nobody", 65534
pytestmark = pytest.mark.usefixtures("opt")


@pytest.fixture
def version(tmp_path: Path) -> Version:
    """A version without a latency budget."""
    return hold(tmp_path)


def hold(tmp_path: Path, **variant: Any) -> Version:
    """A version that a store holds, with changes to its variant."""
    (tmp_path / "store").mkdir()
    store = Store(str(tmp_path / "store"))
    made = make_release()
    made.document["variants"][0].update(variant)
    put(store, made)
    return store.version("digits", "1.0.0")


def smoke(version: Version) -> dict[str, Any] | None:
    with SmokeTest(version) as test:
        return test.result()


def must_fail(version: Version, message: str) -> None:
    with pytest.raises(CandidateError, match=f"^digits 1\\.0\\.0: smoke test: {message}$"):
        smoke(version)


# ---- a runtime that answers ----


def test_without_a_runtime_there_is_no_test(version: Version) -> None:
    assert runtime_id() is None
    assert smoke(version) is None


@pytest.mark.parametrize("part", ["venv-1", "app-1"])
def test_half_a_runtime_is_none(opt: Path, version: Version, part: str) -> None:
    (opt / part).mkdir()
    assert smoke(version) is None


def test_what_the_runtime_says_is_returned_with_its_name(opt: Path, version: Version) -> None:
    install(opt, GOOD)
    assert smoke(version) == {
        "latency_seconds": 0.25,
        "load_seconds": 0.1,
        "runtime": "shell 1",
        "runtime_id": "venv-1 app-1",
    }


def test_the_runtime_is_told_which_version_to_test(opt: Path, version: Version) -> None:
    install(opt, """printf '{"called": "%s", "path": "%s", "in": "%s"}' "$*" "$PYTHONPATH" "$PWD" """)
    told = smoke(version)
    assert told is not None
    assert told["called"] == f"-m edgeml_server.tools.smoke {version.directory}"
    assert (told["path"], told["in"]) == (str(opt / "app-1"), "/")


def test_the_environment_of_the_swap_is_not_the_runtimes(
    opt: Path, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANSIBLE_SECRET", "secret")
    install(opt, """printf '{"secret": "%s"}' "$ANSIBLE_SECRET" """)
    assert (smoke(version) or {})["secret"] == ""


def test_the_newest_runtime_is_used(opt: Path, version: Version) -> None:
    install(opt, "exit 1", name="aa-old", age=10)
    install(opt, GOOD, name="mm-new", age=0)
    install(opt, "exit 1", name="zz-older", age=20)
    assert (smoke(version) or {})["runtime_id"] == "venv-mm-new app-mm-new"


def test_a_runtime_that_is_still_being_installed_is_not_used(opt: Path, version: Version) -> None:
    install(opt, GOOD, name="old", age=10)
    install(opt, "exit 1", name="new.part", age=0)
    assert (smoke(version) or {})["runtime_id"] == "venv-old app-old"


def test_what_is_left_of_an_installation_is_no_runtime(opt: Path, version: Version) -> None:
    install(opt, GOOD, name="new.part")
    assert smoke(version) is None


# ---- candidates that fail ----


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("kill -SEGV $$", "the runtime was ended by signal 11"),
        ("kill -KILL $$", "the runtime was ended by signal 9, as the kernel does when memory runs out"),
        (f"{GOOD}; kill -ABRT $$", "the runtime was ended by signal 6"),
    ],
    ids=["it crashes", "it runs out of memory", "it crashes after its result"],
)
def test_a_candidate_that_is_ended_by_a_signal(opt: Path, version: Version, script: str, message: str) -> None:
    install(opt, script)
    must_fail(version, message)


class Lifeline:
    """Tells when every process is gone that has it open for writing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def wait_for_processes(self) -> None:
        """Wait until somebody wrote, and then until nobody can."""
        os.set_blocking(self._descriptor, True)
        with open(self._descriptor, "rb") as file:
            assert file.read() == b"here\n"


@pytest.mark.parametrize("script", ["exec sleep 50", "sleep 50 & wait"], ids=["itself", "in a child"])
def test_a_candidate_that_hangs_is_killed_with_all_that_it_started(
    opt: Path, tmp_path: Path, version: Version, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(smoke_test, "SECONDS", 0.5)
    lifeline = Lifeline(tmp_path / "alive")
    install(opt, f"exec 3>{lifeline.path}; echo here >&3; {script}")
    must_fail(version, "no result after 0.5 s")
    lifeline.wait_for_processes()


def test_a_process_that_got_away_is_not_waited_for(
    opt: Path, tmp_path: Path, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smoke_test, "SECONDS", 0.5)
    os.mkfifo(tmp_path / "pid")
    install(opt, f"setsid sh -c 'echo $$ >{tmp_path}/pid; exec sleep 50' & wait")
    with SmokeTest(version) as test:
        fugitive = int((tmp_path / "pid").read_text())
        with pytest.raises(CandidateError, match=r"no result after 0\.5 s$"):
            test.result()
    os.kill(fugitive, signal.SIGKILL)


def test_a_test_does_not_outlive_its_block(opt: Path, tmp_path: Path, version: Version) -> None:
    lifeline = Lifeline(tmp_path / "alive")
    os.mkfifo(tmp_path / "started")
    install(opt, f"exec 3>{lifeline.path}; echo here >&3; echo > {tmp_path}/started; exec sleep 50")
    with suppress(KeyboardInterrupt), SmokeTest(version):
        (tmp_path / "started").read_text()
        raise KeyboardInterrupt
    lifeline.wait_for_processes()


def test_the_runtimes_reason_is_told(opt: Path, version: Version) -> None:
    install(opt, """echo '{"error": "golden test: expected 1, found 2"}'; exit 1""")
    must_fail(version, "golden test: expected 1, found 2")


@pytest.mark.parametrize(
    "stdout", ["", "null", "3", "[1]", '"good"', "{", "good", "\\377\\376", '{"latency_seconds": 0.1} {}']
)
@pytest.mark.parametrize("code", [0, 1])
def test_rubbish_is_no_result(opt: Path, version: Version, stdout: str, code: int) -> None:
    install(opt, f"printf {shlex.quote(stdout)}; echo first >&2; echo 'the last words' >&2; exit {code}")
    must_fail(version, f"the runtime ended with code {code} and said: the last words")


def test_a_result_of_a_process_that_failed_is_none(opt: Path, version: Version) -> None:
    install(opt, f"{GOOD}; exit 3")
    must_fail(version, "the runtime ended with code 3 and said: nothing")


def test_a_runtime_that_says_much_is_cut_short(opt: Path, version: Version) -> None:
    install(opt, "head -c 3000000 /dev/zero | tr '\\0' x | tee /dev/stderr; exit 1")
    must_fail(version, "the runtime ended with code 1 and said: x{300}")


def test_deeply_nested_rubbish(opt: Path, version: Version) -> None:
    install(opt, "head -c 1000000 /dev/zero | tr '\\0' '['")
    must_fail(version, "the runtime ended with code 0 and said: nothing")


def test_a_runtime_that_cannot_be_started_is_not_the_candidates_fault(opt: Path, version: Version) -> None:
    install(opt, GOOD)
    (opt / "venv-1/bin/python").unlink()
    with pytest.raises(FileNotFoundError, match="venv-1/bin/python"):
        smoke(version)


# ---- the latency budget ----


@pytest.mark.parametrize(("budget", "fits"), [(0.25, True), (0.2499, False), (3600, True)])
def test_a_candidate_that_is_too_slow(opt: Path, tmp_path: Path, budget: float, fits: bool) -> None:
    install(opt, GOOD)
    version = hold(tmp_path, latency_seconds_max=budget)
    if fits:
        assert (smoke(version) or {})["latency_seconds"] == 0.25
    else:
        must_fail(version, r"an inference takes 0\.2500 s; the release allows 0\.2499 s")


@pytest.mark.parametrize("latency", ['"latency_seconds": null', '"latency_seconds": "fast"', '"other": 1'])
def test_a_candidate_that_was_not_timed_does_not_fit_a_budget(opt: Path, tmp_path: Path, latency: str) -> None:
    install(opt, f"echo '{{{latency}}}'")
    must_fail(hold(tmp_path, latency_seconds_max=1), "the release allows 1 s for an inference; none could be measured")


def test_a_latency_that_is_no_number_is_none(opt: Path, tmp_path: Path) -> None:
    install(opt, """echo '{"latency_seconds": NaN}'""")
    must_fail(hold(tmp_path, latency_seconds_max=1), "an inference takes nan s; the release allows 1 s")


def test_without_a_budget_the_latency_may_be_unknown(opt: Path, version: Version) -> None:
    install(opt, """echo '{"latency_seconds": null}'""")
    assert (smoke(version) or {})["latency_seconds"] is None


# ---- the rights of the child ----

IDENTITY = """printf '{"user": "%s %s", "groups": "%s", "oom": "%s", "session": "%s"}' \\
"$(id -u)" "$(id -g)" "$(id -G)" "$(cat /proc/self/oom_score_adj)" "$(cut -d' ' -f6 /proc/self/stat)" """


def test_the_candidate_has_the_services_rights_and_is_the_first_to_go(
    opt: Path, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smoke_test, "USER", USER)
    install(opt, IDENTITY)
    for path in opt.parents:
        if path.stat().st_mode & 0o077 == 0:
            path.chmod(0o711)
    told = smoke(version) or {}
    assert told["user"] == f"{USER_ID} {USER_ID}"
    assert told["groups"] == str(USER_ID)
    assert told["oom"] == "1000"
    assert int(told["session"]) != os.getsid(0)


def test_before_there_is_a_service_there_is_no_user_of_it(opt: Path, version: Version) -> None:
    install(opt, IDENTITY)
    assert (smoke(version) or {})["user"] == f"{os.getuid()} {os.getgid()}"


# ---- the real one ----


@pytest.fixture
def real(opt: Path, tmp_path: Path) -> Store:
    """A store, and the service's own smoke test with the runtime of these tests."""
    (opt / "app-real").symlink_to(PYTHON_PATH)
    install(opt, f'exec {shlex.quote(sys.executable)} "$@"', name="real-venv")
    (opt / "app-real-venv").rmdir()
    (tmp_path / "store").mkdir()
    return Store(str(tmp_path / "store"))


@pytest.mark.parametrize("number", ["1.0.0", "1.1.0"])
def test_the_real_runtime_with_a_real_release(real: Store, number: str) -> None:
    put(real, read_release(DIGITS, "digits", number))
    told = smoke(real.version("digits", number)) or {}
    assert set(told) == {"latency_seconds", "load_seconds", "runtime", "runtime_id"}
    assert 0 < told["latency_seconds"] < smoke_test.SECONDS
    assert told["runtime_id"] == "venv-real-venv app-real"
    real.note_test(real.version("digits", number), told)
    assert real.tested(real.version("digits", number)) == told


def test_the_real_runtime_with_a_file_that_is_no_model(real: Store) -> None:
    put(real, make_release())
    must_fail(real.version("digits", "1.0.0"), ".*ONNX Runtime .* cannot load it.*")
