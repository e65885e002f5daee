#!/usr/bin/env bash
# On a full disk SQLite in WAL mode frees nothing: no DELETE, no checkpoint, no VACUUM, not even a close.
#
# Guess:    a log that is bounded by "delete the oldest rows" heals itself when the disk is full: DELETE needs no room to speak
#           of, or a checkpoint takes the write-ahead log away.
# Truth:    each DELETE first writes the pages it changes to the write-ahead log, and fails with "database or disk is full"; the
#           checkpoint copies that log into the database, which has no room to grow, and fails too; so do VACUUM and the way
#           back to another journal mode. incremental_vacuum succeeds and frees nothing. Closing keeps the log. A reserve
#           of 64 KB that is given up then lets a small DELETE through, but not the checkpoint: that wants as much as the log holds.
# Versions: SQLite 3.51.1 (pysqlite3-binary 0.5.4.post2), on a tmpfs of 4 MB in a mount namespace.
# Fleet:    a prediction log that filled its device keeps it full for good: with it fail the store, the journal, the next update.
#           Keep a floor of free space before each write, or drop the log whole.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here pysqlite3-binary==0.5.4.post2
unshare --map-root-user --mount true 2>/dev/null || cannot "no mount namespace of one's own"
mkdir "$folder/disk"
cat >"$folder/disk.py" <<'EOF'
import os
from pysqlite3 import dbapi2
from finding import expect

FULL = "database or disk is full"


def does(statement):
    try:
        connection.execute(statement).fetchall()
        return "succeeds"
    except dbapi2.OperationalError as error:
        return str(error)


def free():
    room = os.statvfs("disk")
    return room.f_bavail * room.f_frsize


def fill(path):
    """Write until nothing fits any more."""
    with open(path, "wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            pass


with open("disk/reserve", "wb") as file:
    file.write(b"x" * 65536)
connection = dbapi2.connect("disk/log.db", isolation_level=None)
connection.execute("pragma auto_vacuum = incremental")
connection.execute("pragma journal_mode = wal")
connection.execute("create table prediction (id integer primary key, answer blob)")
while (end := does("insert into prediction (answer) values (randomblob(2000))")) == "succeeds":
    pass
expect("writing ends", FULL, end)
fill("disk/somebody-else")
for statement, end in (
    ("delete from prediction where id < 10", FULL),
    ("delete from prediction", FULL),
    ("pragma wal_checkpoint(truncate)", FULL),
    ("pragma incremental_vacuum", "succeeds"),
    ("vacuum", FULL),
    ("pragma journal_mode = delete", FULL),
):
    expect(statement, end, does(statement))
connection.close()
expect("free bytes after all of it and a close", 0, free())

os.remove("disk/reserve")
connection = dbapi2.connect("disk/log.db", isolation_level=None)
for statement, end in (("delete from prediction where id < 10", "succeeds"), ("pragma wal_checkpoint(truncate)", FULL)):
    expect(f"with 64 KB of room, {statement}", end, does(statement))
EOF
python_finding here <<'EOF'
import subprocess, sys

mount = 'mount -t tmpfs -o size=4m none disk && exec "$0" disk.py'
sys.exit(subprocess.run(["unshare", "--map-root-user", "--mount", "sh", "-c", mount, sys.executable]).returncode)
EOF
finish
