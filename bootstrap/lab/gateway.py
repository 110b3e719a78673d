"""A door into the rack for the operator's own kubectl: a port on this computer's loopback that leads to the API.

The rack's network has no way out. This process listens on 127.0.0.1 of the computer, then enters the rack's network
namespace (setns(2)) and connects there to the first API server that is well. It ends with the rack.
"""

import asyncio
import contextlib
import socket
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path

from bootstrap.lab.daemon import to_background
from bootstrap.lab.namespace import enter

LOOPBACK = "127.0.0.1"
DIAL_SECONDS = 2.0
CHUNK = 64 * 1024

Address = tuple[str, int]


def port_file(work: Path) -> Path:
    """Return the file that holds the port of the door into the rack of the work folder `work`."""
    return work / "lab" / "gateway.port"


def listening(wanted: int) -> socket.socket:
    """Return a socket that listens on loopback, at the port `wanted` if nobody has it, else at any."""
    for port in (wanted, 0):
        with contextlib.suppress(OSError):
            return socket.create_server((LOOPBACK, port), backlog=64)
    raise OSError("no port is free on loopback")


async def serve(door: socket.socket, servers: Sequence[Address]) -> None:
    """Lead every connection at `door` to the first of `servers` that is well, until cancelled."""
    order = list(servers)

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            try:
                there_reader, there_writer = await dial(order)
            except OSError:
                return
            with contextlib.closing(there_writer):
                await asyncio.gather(pass_on(reader, there_writer), pass_on(there_reader, writer))

    async with await asyncio.start_server(lead, sock=door) as server:
        await server.serve_forever()


async def dial(servers: list[Address]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the first of `servers` that is well; those that are not go to the end of the list.

    Raises:
        OSError: none is.
    """
    for server in tuple(servers):
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(DIAL_SECONDS):
                if len(servers) > 1:
                    await greet(server)
                return await asyncio.open_connection(*server)
        servers.remove(server)
        servers.append(server)
    raise OSError("no API server answers")


async def greet(server: Address) -> None:
    """Shake hands over TLS and leave: a host that is frozen takes connections too, and says nothing.

    Who the server is, kubectl looks at itself.

    Raises:
        OSError: it does not speak TLS.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection(*server, ssl=context)
    writer.transport.abort()


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hand over what is read until its end, and end the other side's input then."""
    with contextlib.suppress(OSError):
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


def main(pid_file: str, port_file: str, namespace: str, *servers: str) -> None:
    """Go to the background and serve until SIGTERM; by then the files hold the pid and the port."""
    ports = Path(port_file)
    with listening(int(ports.read_text()) if ports.is_file() else 0) as door:
        ports.write_text(f"{door.getsockname()[1]}\n")
        if not to_background(pid_file):
            return
        enter(Path(namespace))
        door.setblocking(False)
        addresses = [(host, int(port)) for host, _, port in (server.rpartition(":") for server in servers)]
        asyncio.run(serve(door, addresses))


if __name__ == "__main__":
    main(*sys.argv[1:])
