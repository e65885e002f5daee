#!/usr/bin/env bash
# python-tuf calls a refused connection an attack.
#
# Guess:    a repository that cannot be reached is a DownloadError with the network's reason; SlowRetrievalError is kept for a
#           server that trickles bytes, the attack of that name in the specification.
# Truth:    a refused connection ends as SlowRetrievalError without a text; a connection that breaks
#           in the middle of a reply is an exception of urllib3's, which no `except` for python-tuf's errors takes.
# Versions: tuf 7.0.1, urllib3 2.8.0, securesystemslib 1.6.0, cryptography 50.0.2.
# Fleet:    devices lose their link every day. An agent that reports each of these as what the name says floods its operators with
#           attacks, or ends by an exception that it does not know. Translate every failure of the link into one word, by
#           asking what the link did.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here tuf==7.0.1 securesystemslib==1.6.0 cryptography==50.0.2 urllib3==2.8.0
python_finding here <<'EOF'
import datetime, socket, tempfile, threading
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root
from tuf.ngclient import Updater
from finding import expect

key = CryptoSigner.generate_ecdsa()
root = Root(expires=datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0) + datetime.timedelta(days=30))
for role in ("root", "targets", "snapshot", "timestamp"):
    root.add_key(key.public_key, role)
trusted = Metadata(root)
trusted.sign(key)


def refresh(port):
    client = Updater(
        metadata_dir=tempfile.mkdtemp(dir="."), metadata_base_url=f"http://127.0.0.1:{port}/", bootstrap=trusted.to_bytes())
    try:
        client.refresh()
        return "no error"
    except Exception as error:
        return f"{type(error).__module__.split('.')[0]}'s {type(error).__name__}"


def half_replies(listener):
    while True:
        client = listener.accept()[0]
        client.recv(65536)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
        client.close()


with socket.socket() as closed:
    closed.bind(("127.0.0.1", 0))
    expect("refused", "tuf's SlowRetrievalError", refresh(closed.getsockname()[1]))
listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=half_replies, args=[listener], daemon=True).start()
expect("broken in the middle", "urllib3's ProtocolError", refresh(listener.getsockname()[1]))
EOF
finish
