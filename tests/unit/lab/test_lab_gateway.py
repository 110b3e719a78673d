import asyncio
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bootstrap.lab import gateway

NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
NOBODY.check_hostname, NOBODY.verify_mode = False, ssl.CERT_NONE


@pytest.fixture(scope="module")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """What an API server says who it is with."""
    key, certificate = (tmp_path_factory.mktemp("tls") / name for name in ("key", "certificate"))
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=x"
    subprocess.run(
        ["openssl", *words.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@asynccontextmanager
async def echoing(speaker: ssl.SSLContext, met: list[int]) -> AsyncIterator[gateway.Address]:
    """A server on loopback that gives back the line that it hears; `met` grows with each connection."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.append(len(met))
        writer.write(await reader.readline())
        writer.close()

    async with await asyncio.start_server(echo, gateway.LOOPBACK, 0, ssl=speaker) as server:
        yield gateway.LOOPBACK, server.sockets[0].getsockname()[1]


def closed_port() -> int:
    with socket.create_server((gateway.LOOPBACK, 0)) as server:
        port: int = server.getsockname()[1]
        return port


async def said(port: int) -> bytes:
    """Say a line over TLS through the door at `port`, and return the answer."""
    reader, writer = await asyncio.open_connection(gateway.LOOPBACK, port, ssl=NOBODY)
    writer.write(b"said\n")
    heard = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return heard


async def through(speaker: ssl.SSLContext, *before: gateway.Address, times: int = 1) -> int:
    """Speak through a door to the servers `before` and then one that is well; return its connections."""
    door, met = gateway.listening(0), list[int]()
    async with echoing(speaker, met) as living:
        serving = asyncio.create_task(gateway.serve(door, [*before, living]))
        for _ in range(times):
            assert await said(door.getsockname()[1]) == b"said\n"
        serving.cancel()
    return len(met)


def test_the_first_server_that_answers_gets_the_connection(speaker: ssl.SSLContext) -> None:
    greeted_and_led = 2
    assert asyncio.run(through(speaker, (gateway.LOOPBACK, closed_port()))) == greeted_and_led


def test_one_server_alone_is_not_greeted_first(speaker: ssl.SSLContext) -> None:
    assert asyncio.run(through(speaker)) == 1


def test_a_frozen_first_host_holds_kubectl_up_once(speaker: ssl.SSLContext) -> None:
    """Its kernel takes connections, and nobody answers."""
    with socket.create_server((gateway.LOOPBACK, 0)) as frozen:
        asyncio.run(through(speaker, frozen.getsockname(), times=3))
        frozen.setblocking(False)
        frozen.accept()[0].close()
        with pytest.raises(BlockingIOError):
            frozen.accept()


def test_a_door_keeps_its_port_unless_somebody_has_it() -> None:
    wanted = closed_port()
    with gateway.listening(wanted) as first, gateway.listening(wanted) as second:
        assert first.getsockname() == (gateway.LOOPBACK, wanted)
        assert second.getsockname()[1] not in (0, wanted)


def test_nobody_answers_and_the_connection_ends() -> None:
    asyncio.run(ended())


async def ended() -> None:
    door = gateway.listening(0)
    serving = asyncio.create_task(gateway.serve(door, [(gateway.LOOPBACK, closed_port())]))
    reader, writer = await asyncio.open_connection(*door.getsockname())
    writer.write(b"said\n")
    assert await asyncio.wait_for(reader.read(), 10) == b""
    writer.close()
    serving.cancel()
