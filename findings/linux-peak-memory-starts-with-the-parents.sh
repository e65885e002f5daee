#!/usr/bin/env bash
# The peak memory of a child process (`ru_maxrss`) begins with what its parent held when it was started.
#
# Guess:    `resource.getrusage(RUSAGE_CHILDREN).ru_maxrss`, or `os.wait4`, tells how much memory the model's process needed.
# Truth:    the peak is kept through `exec`: a child that a large parent starts by `fork` (as `subprocess` does where it gets a
#           `preexec_fn`, a user or a session) begins with the parent's pages as its peak, and a small model "needs" what the trainer
#           held. By `vfork` and `posix_spawn` the same. `VmHWM` of the child's own /proc/self/status begins anew with `exec`.
# Versions: Linux 6.1 and later, Python 3.11; numpy 2.4.6 as what a trainer holds.
# Fleet:    the memory that a release names is what a device refuses it by: measured from a notebook or a pipeline that holds its
#           data, it is hundreds of megabytes too high, and it changes with the caller. Measure in the child, by VmHWM.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here numpy==2.4.6
python_finding here <<'END'
import os
import subprocess
import sys

import numpy
from finding import expect

CHILD = """
for line in open("/proc/self/status"):
    if line.startswith("VmHWM"):
        print(int(line.split()[1]))
"""


def child(**options):
    """Peak memory of a bare Python in MB: as wait4 tells, and as it sees itself."""
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", CHILD], stdout=subprocess.PIPE, text=True, **options)
    own = int(process.stdout.read()) // 1024
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    return usage.ru_maxrss // 1024, own


def size(megabytes):
    return "below 100 MB" if megabytes < 100 else "above 400 MB"


waited, own = child()
expect("a child of a small parent, by wait4", "below 100 MB", size(waited))
expect("the same, by itself", "below 100 MB", size(own))
held = numpy.ones(60_000_000)
waited, own = child()
expect("a child of a parent that holds 480 MB, by wait4", "above 400 MB", size(waited))
expect("the same, by itself", "below 100 MB", size(own))
waited, own = child(start_new_session=True)
expect("one that subprocess starts by fork, by wait4", "above 400 MB", size(waited))
expect("the same, by itself", "below 100 MB", size(own))
pid = os.posix_spawn(sys.executable, [sys.executable, "-I", "-S", "-c", "pass"], os.environ)
_, _, usage = os.wait4(pid, 0)
expect("one by posix_spawn, by wait4", "above 400 MB", size(usage.ru_maxrss // 1024))
END
finish
