"""TFTP for ROMs that cannot do what is usual: what the settings help, and what they do not, with the real dnsmasq."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.pxe_segment import (
    SERVER,
    SERVER_MODE,
    Pxe,
    Segment,
    bench,
    segment,
)
from tests.system.storm_tftp import fetch
from tests.system.tftp_clients import OACK, PORT, Rom

pytestmark = pytest.mark.system

LOADER = "undionly.kpxe"
BYTES = Path("/usr/lib/ipxe", LOADER).read_bytes()
AT_ONCE = 60


@contextmanager
def serving(tmp_path: Path, cable: Segment, tftp: str = "") -> Iterator[Pxe]:
    """Run the real pxe with `appliance.pxe.tftp`."""
    more = f"\n  pxe: {{tftp: {tftp}}}" if tftp else ""
    with bench(tmp_path, dhcp=SERVER_MODE + more) as ground:
        started = ground.start(cable, "--no-probe")
        try:
            started.await_ready()
            yield started
        finally:
            started.process.kill()
            started.process.wait()


@pytest.fixture(name="cable")
def fixture_cable() -> Iterator[Segment]:
    with segment() as made:
        yield made


def deaf(**options: int) -> Rom:
    """Return a client that asks for options and never acknowledges that they were granted."""
    return Rom(options=options, obeys_options=False)


def one_port() -> Rom:
    """Return a client that hears only the port that it asked, as behind a firewall or an address translation."""
    return Rom(options={"blksize": 1400}, hears=PORT)


def test_as_it_comes_options_are_agreed_on_and_each_transfer_has_its_port(
    cable: Segment, tmp_path: Path
) -> None:
    with serving(tmp_path, cable):
        plain, usual = Rom(), Rom(options={"tsize": 0, "blksize": 1468})
        assert plain.fetch(cable, LOADER) == BYTES
        assert usual.fetch(cable, LOADER) == BYTES
        assert (plain.longest, usual.longest) == (512, 1368)
        assert OACK not in plain.seen

        silent = deaf(blksize=1400)
        assert silent.fetch(cable, LOADER) is None
        assert set(silent.seen) == {OACK}
        assert one_port().fetch(cable, LOADER) is None


def test_blocks_of_512_bytes_reach_a_rom_that_never_acknowledges_a_block_size(
    cable: Segment, tmp_path: Path
) -> None:
    """Without a block size there is nothing to agree on, and the data comes at once."""
    with serving(tmp_path, cable, "{maxBlockSize: 512}"):
        silent, usual = deaf(blksize=1400), Rom(options={"blksize": 1468})
        assert silent.fetch(cable, LOADER) == BYTES
        assert usual.fetch(cable, LOADER) == BYTES
        assert (silent.longest, usual.longest) == (512, 512)
        assert OACK not in silent.seen

        sized = deaf(blksize=1400, tsize=0)
        assert sized.fetch(cable, LOADER) is None, "dnsmasq still answers tsize with an OACK"
        assert set(sized.seen) == {OACK}


def test_a_smaller_block_fits_through_a_smaller_mtu(cable: Segment, tmp_path: Path) -> None:
    with serving(tmp_path, cable, "{maxBlockSize: 1024}"):
        usual = Rom(options={"blksize": 1468})
        assert usual.fetch(cable, LOADER) == BYTES
        assert usual.longest == 1024


@pytest.mark.parametrize("tftp", ["", "{maxBlockSize: 512}"], ids=["usual", "small-blocks"])
def test_a_whole_rack_is_served_in_time(cable: Segment, tmp_path: Path, tftp: str) -> None:
    """So nobody needs a setting for one machine: what helps it harms none of the others."""
    with serving(tmp_path, cable, tftp):
        began = time.monotonic()
        got = fetch(cable, SERVER, LOADER, AT_ONCE)
        took = time.monotonic() - began

    assert [one == BYTES for one in got] == [True] * AT_ONCE
    print(f"{AT_ONCE} clients at once, {len(BYTES)} bytes each: {took:.2f} s")  # noqa: T201  # for the record
