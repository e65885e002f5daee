#!/usr/bin/env bash
# asyncio's Server.close() forgets a client that it has just accepted: nobody answers it, and nothing is logged.
#
# Guess:    closing a server ends the listening; clients that it has accepted are served, as the documentation of close() says
#           ("existing incoming client connections are left open").
# Truth:    an accepted client gets its transport in the loop's next iteration. When the server is closed in between, that task ends
#           with an AssertionError, which is reported in debug mode only. The client waits until the garbage collector finds its
#           socket, and is reset then. With uvloop it is answered.
# Versions: Python 3.8 to 3.12 (asyncio), uvloop 0.22.1.
# Fleet:    a server that opens a second listener with new certificates and closes the old one resets a client in some of its
#           reloads; the busier, the more. Remove the old listener's reader, let one iteration pass, and close it then.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here uvloop==0.22.1
python_finding here <<'EOF'
import asyncio, socket
import uvloop
from finding import expect


async def answer(reader, writer):
    writer.write(b"answered")
    await writer.drain()
    writer.close()


async def ask():
    """What a client gets whose server is closed in the iteration of the loop that accepts it."""
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    with socket.create_connection(server.sockets[0].getsockname()) as client:
        # Timers run after the events of the same iteration.
        loop.call_later(0, server.close)
        await asyncio.sleep(0.5)
        client.settimeout(2)
        try:
            return (await loop.run_in_executor(None, client.recv, 100)).decode() or "nothing"
        except (TimeoutError, ConnectionResetError):
            return "nothing"


expect("the client of asyncio's server gets", "nothing", asyncio.run(ask()))
expect("the client of uvloop's server gets", "answered", uvloop.run(ask()))
EOF
finish
