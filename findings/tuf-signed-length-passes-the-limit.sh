#!/usr/bin/env bash
# A TUF client's largest size of metadata is no limit for a file whose length another file states.
#
# Guess:    `UpdaterConfig.targets_max_length` and `snapshot_max_length` are what a client reads of such a file at most.
# Truth:    they are used only where the file that refers to it states no length. With one, the client reads as many bytes as it
#           says: the holder of the online key alone, which is the one on a server, decides how much a device downloads and parses.
# Versions: tuf 7.0.1, securesystemslib 1.6.0, cryptography 50.0.2.
# Fleet:    lengths are advised against endless data, and the one who has the weakest key fills a small board's memory and its
#           metered link with a file that is refused only after its last byte. Bound what a fetcher returns in the fetcher itself.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here tuf==7.0.1 securesystemslib==1.6.0 cryptography==50.0.2 urllib3==2.8.0
python_finding here <<'EOF'
import functools, http.server, pathlib, tempfile, threading
from datetime import datetime, timedelta, timezone
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import DownloadError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp
from tuf.ngclient import Updater, UpdaterConfig
from finding import expect

KEY = CryptoSigner.generate_ecdsa()
LATER = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=30)
LIMIT = 10_000


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def read(ballast, states_length):
    """What a client with a limit of 10,000 bytes says of targets with so much ballast."""
    repository = pathlib.Path(tempfile.mkdtemp(dir="."))
    root = Root(expires=LATER, consistent_snapshot=False)
    for name in ("root", "targets", "snapshot", "timestamp"):
        root.add_key(KEY.public_key, name)
    targets = Metadata(Targets(expires=LATER, unrecognized_fields={"x-ballast": "x" * ballast}))
    targets.sign(KEY)
    length = len(targets.to_bytes()) if states_length else None
    snapshot = Snapshot(expires=LATER, meta={"targets.json": MetaFile(1, length)})
    signed = {"1.root": Metadata(root), "snapshot": Metadata(snapshot), "timestamp": Metadata(Timestamp(expires=LATER))}
    for metadata in signed.values():
        metadata.sign(KEY)
    for name, metadata in {**signed, "targets": targets}.items():
        metadata.to_file(str(repository / f"{name}.json"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(repository)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = Updater(
        metadata_dir=tempfile.mkdtemp(dir="."),
        metadata_base_url=f"http://127.0.0.1:{server.server_port}/",
        config=UpdaterConfig(targets_max_length=LIMIT),
        bootstrap=(repository / "1.root.json").read_bytes(),
    )
    try:
        client.refresh()
        return "read"
    except DownloadError as error:
        return type(error).__name__
    finally:
        server.shutdown()


expect("targets of 300 bytes, length stated", "read", read(0, True))
expect("targets of 20,000 bytes, length not stated", "DownloadLengthMismatchError", read(20_000, False))
expect("targets of 20,000 bytes, length stated", "read", read(20_000, True))
expect("targets of 20,000,000 bytes, length stated", "read", read(20_000_000, True))
EOF
finish
