#!/usr/bin/env bash
# A TUF client's search for a target ends at a neighbour's expired role, and without a word after 32 roles.
#
# Guess:    of several delegated roles whose paths match, a role that is expired or has not the target is passed over, and the next
#           one is asked; a target that some valid role has signed is found.
# Truth:    an expired role that matches and comes first raises ExpiredMetadataError, for the targets of all roles behind it; behind
#           it means the order of delegation. And after 32 roles the search answers None, as for a target that does not exist,
#           with no more than a debug message. A role that does not match, expired or not, is not even fetched.
# Versions: tuf 7.0.1, securesystemslib 1.6.0, cryptography 50.0.2.
# Fleet:    one team lets its signature expire, and another team's models cannot be updated; the 33rd model family is never found,
#           and the device says "up to date". Give roles disjoint paths, watch each expiry, take None as an alarm.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here tuf==7.0.1 securesystemslib==1.6.0 cryptography==50.0.2 urllib3==2.8.0
python_finding here <<'EOF'
import functools, http.server, pathlib, tempfile, threading
from datetime import datetime, timedelta, timezone
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.ngclient import Updater
from finding import expect

KEY = CryptoSigner.generate_ecdsa()
NOW = datetime.now(timezone.utc).replace(microsecond=0)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def search(target, roles, expired=()):
    """What a fresh client says of `target`; roles: (name, path pattern, targets), in the order of their delegation."""
    repository = pathlib.Path(tempfile.mkdtemp(dir="."))
    later = NOW + timedelta(days=30)
    root, top, snapshot = Root(expires=later, consistent_snapshot=False), Targets(expires=later), Snapshot(expires=later)
    top.delegations = Delegations({KEY.public_key.keyid: KEY.public_key}, {})
    signed = {"1.root": root, "targets": top, "snapshot": snapshot, "timestamp": Timestamp(expires=later)}
    for name in ("root", "targets", "snapshot", "timestamp"):
        root.add_key(KEY.public_key, name)
    for name, pattern, targets in roles:
        top.delegations.roles[name] = DelegatedRole(name, [KEY.public_key.keyid], 1, False, paths=[pattern])
        files = {file: TargetFile.from_data(file, b"model") for file in targets}
        signed[name] = Targets(expires=NOW - timedelta(days=1) if name in expired else later, targets=files)
        snapshot.meta[f"{name}.json"] = MetaFile(1)
    for name, document in signed.items():
        metadata = Metadata(document)
        metadata.sign(KEY)
        metadata.to_file(str(repository / f"{name}.json"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(repository)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = Updater(
        metadata_dir=tempfile.mkdtemp(dir="."),
        metadata_base_url=f"http://127.0.0.1:{server.server_port}/",
        bootstrap=(repository / "1.root.json").read_bytes(),
    )
    try:
        return "found" if client.get_targetinfo(target) else "none"
    except RepositoryError as error:
        return type(error).__name__
    finally:
        server.shutdown()


wanted = "models/digits.json"
ours, theirs = ("ours", "models/*", [wanted]), ("theirs", "models/*", [])
expect("the neighbour valid, and first", "found", search(wanted, [theirs, ours]))
expect("the neighbour expired, and first", "ExpiredMetadataError", search(wanted, [theirs, ours], ["theirs"]))
expect("the neighbour expired, and second", "found", search(wanted, [ours, theirs], ["theirs"]))
expect("the neighbour expired, with other paths", "found", search(wanted, [("theirs", "labels/*", []), ours], ["theirs"]))
for before, answer in ((30, "found"), (40, "none")):
    crowd = [(f"team{number}", "models/*", []) for number in range(before)]
    expect(f"behind {before} roles that match", answer, search(wanted, [*crowd, ours]))
EOF
finish
