#!/usr/bin/env bash
# uvicorn's `limit_concurrency` refuses clients while nobody is being served.
#
# Guess:    with a limit of 4 a fifth request is refused while four are being answered.
# Truth:    connections are counted, idle ones too. Four clients that are connected and ask nothing (kept alive, or opened ahead)
#           get the next one a 503, and the server is idle. h11 and httptools alike.
# Versions: uvicorn 0.54.0, h11 0.16.0, httptools 0.9.0.
# Fleet:    dashboards, Prometheus and connection pools hold connections open. A limit made for a device's memory locks out the
#           clients that have work, and looks like overload. Count requests in the application, connections at a limit of their own.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here uvicorn==0.54.0 h11==0.16.0 httptools==0.9.0
python_finding here <<'EOF'
import socket, threading, time
import uvicorn
from finding import expect


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


def status(port):
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: device\r\nConnection: close\r\n\r\n")
        return int(client.makefile("rb").readline().split()[1])


for parser in ("h11", "httptools"):
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, http=parser, log_level="critical", lifespan="off", limit_concurrency=4))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    expect(f"{parser}: alone", 200, status(port))
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(4)]
    while len(server.server_state.connections) < 4:
        time.sleep(0.01)
    expect(f"{parser}: requests that are being answered", 0, len(server.server_state.tasks))
    expect(f"{parser}: beside four idle connections", 503, status(port))
    for client in idle:
        client.close()
    server.should_exit = True
    thread.join()
EOF
finish
