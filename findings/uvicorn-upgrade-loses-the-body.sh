#!/usr/bin/env bash
# A request that offers an upgrade loses its body in uvicorn, with one of its two parsers.
#
# Guess:    a POST with `Upgrade: h2c` is an ordinary request to a server that does not upgrade: the offer is ignored, as the
#           standard lets a server do, and the body is read. Both of uvicorn's parsers read the same.
# Truth:    with h11 the application gets the body; with httptools, which is chosen where it is installed, it gets an empty one:
#           that parser takes what follows the headers for the new protocol.
# Versions: uvicorn 0.54.0, httptools 0.9.0, h11 0.16.0.
# Fleet:    Java's HttpClient offers h2c with every first request by default. Its inferences are answered with "no inputs" on
#           devices that have httptools, and right on those that have not (32-bit ARM). Answer such a request by the same parser.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here uvicorn==0.54.0 h11==0.16.0 httptools==0.9.0
python_finding here <<'EOF'
import socket, threading
import uvicorn
from finding import expect


async def app(scope, receive, send):
    """Answer with the number of bytes of the body."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    answer = str(size).encode()
    headers = [(b"content-length", str(len(answer)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


def size_seen(port, offer):
    body = b'{"inputs": []}'
    head = f"POST /v2/models/digits/infer HTTP/1.1\r\nHost: device\r\n{offer}Content-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(head.encode() + body)
        return int(client.makefile("rb").read().split(b"\r\n\r\n")[1])


offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n"
for parser, with_offer in (("h11", 14), ("httptools", 0)):
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, http=parser, ws="none", log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    port = listener.getsockname()[1]
    expect(f"{parser}: bytes of 14 without an offer", 14, size_seen(port, ""))
    expect(f"{parser}: bytes of 14 with the offer", with_offer, size_seen(port, offer))
    server.should_exit = True
    thread.join()
EOF
finish
