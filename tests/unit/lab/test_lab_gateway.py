import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bootstrap.lab import gateway


@asynccontextmanager
async def echoing() -> AsyncIterator[int]:
    """A server on loopback that gives back what it hears."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        writer.close()

    async with await asyncio.start_server(echo, gateway.LOOPBACK, 0) as server:
        yield server.sockets[0].getsockname()[1]


def closed_port() -> int:
    with socket.create_server((gateway.LOOPBACK, 0)) as server:
        port: int = server.getsockname()[1]
        return port


def test_the_first_server_that_answers_gets_the_connection() -> None:
    assert asyncio.run(asked()) == b"said"


def test_a_door_keeps_its_port_unless_somebody_has_it() -> None:
    wanted = closed_port()
    with gateway.listening(wanted) as first, gateway.listening(wanted) as second:
        assert first.getsockname() == (gateway.LOOPBACK, wanted)
        assert second.getsockname()[1] not in (0, wanted)


def test_nobody_answers_and_the_connection_ends() -> None:
    assert asyncio.run(asked(alone=True)) == b""


async def asked(*, alone: bool = False) -> bytes:
    """Say something through the door to a dead server and, unless `alone`, one that echoes."""
    door = gateway.listening(0)
    port = door.getsockname()[1]
    async with echoing() as living:
        servers = [(gateway.LOOPBACK, closed_port()), *([] if alone else [(gateway.LOOPBACK, living)])]
        serving = asyncio.create_task(gateway.serve(door, servers))
        reader, writer = await asyncio.open_connection(gateway.LOOPBACK, port)
        writer.write(b"said")
        writer.write_eof()
        heard = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        serving.cancel()
        return heard
