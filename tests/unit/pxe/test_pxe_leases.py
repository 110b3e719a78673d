"""An address that dnsmasq gave is still its machine's after the death of dnsmasq, of pxe, or of the computer."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootstrap import config
from bootstrap.model import Cluster
from pxe.leases import Leases
from tests.system.pxe_segment import CONFIG, SERVER_MODE

FIXED, FIXED_ADDRESS = "52:54:00:77:00:01", "10.77.0.101"
STRANGER, OTHER, NAMED = "52:54:00:99:00:01", "52:54:00:99:00:02", "52:54:00:77:00:02"
HOUR = 3600


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    source = tmp_path_factory.mktemp("leases") / "config.yaml"
    far = "subnets: [{subnet: 10.78.0.0/24, gateway: 10.78.0.1, range: [10.78.0.150, 10.78.0.199]}]"
    dhcp = SERVER_MODE.replace("}", f", {far}}}")
    text = CONFIG.format(interface="srv0", address="10.77.0.1/24", dhcp=dhcp)
    source.write_text(text + f'  - {{name: w2, mac: "{NAMED}", pool: workers}}\n')
    return config.load([source])


class Bench:
    """Leases in a folder, under a clock that we move."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.now = 1_000_000.0
        self.journal, self.hosts = folder / "leases", folder / "dnsmasq.hosts"
        self._cluster = cluster
        self.leases = self.started()

    def started(self) -> Leases:
        made = Leases(self._cluster, self.journal, self.hosts, lambda: self.now)
        made.load()
        return made

    def restored(self) -> list[str]:
        self.leases.restore()
        return self.hosts.read_text().splitlines()


@pytest.fixture
def bench(cluster: Cluster, tmp_path: Path) -> Bench:
    return Bench(cluster, tmp_path)


def ack(mac: str, address: str, name: str = "") -> bytes:
    return f"dnsmasq-dhcp[4711]: 7 DHCPACK(srv0) {address} {mac} {name}\n".encode()


def test_stranger_keeps_the_address_when_dnsmasq_starts_again(bench: Bench) -> None:
    bench.leases.hear(ack(STRANGER, "10.77.0.150"))
    assert bench.restored() == [f"{STRANGER},10.77.0.150"]


def test_stranger_behind_a_relay_keeps_its_address_too(bench: Bench) -> None:
    bench.leases.hear(ack(STRANGER, "10.78.0.150") + ack(OTHER, "10.78.0.200"))
    assert bench.restored() == [f"{STRANGER},10.78.0.150"], "the other is of no range of ours"


def test_stranger_keeps_the_address_when_pxe_was_killed(bench: Bench) -> None:
    bench.leases.hear(ack(STRANGER, "10.77.0.150"))
    bench.leases = bench.started()
    assert bench.restored() == [f"{STRANGER},10.77.0.150"]


def test_reservation_is_not_said_twice(bench: Bench) -> None:
    bench.leases.hear(ack(FIXED, FIXED_ADDRESS, "w1"))
    assert bench.restored() == []


def test_listed_machine_without_address_keeps_its_name_too(bench: Bench) -> None:
    bench.leases.hear(ack(NAMED, "10.77.0.151", "w2"))
    assert bench.restored() == [f"{NAMED},10.77.0.151,w2"]


def test_address_belongs_to_who_got_it_last(bench: Bench) -> None:
    bench.leases.hear(ack(STRANGER, "10.77.0.150") + ack(OTHER, "10.77.0.150"))
    assert bench.restored() == [f"{OTHER},10.77.0.150"]


def test_newest_address_of_a_machine_is_its_last_line(bench: Bench) -> None:
    given = [ack(STRANGER, "10.77.0.150"), ack(STRANGER, "10.77.0.151"), ack(STRANGER, "10.77.0.150")]
    bench.leases.hear(b"".join(given))
    assert bench.restored() == [f"{STRANGER},10.77.0.151", f"{STRANGER},10.77.0.150"]


def test_lease_ends_for_us_when_it_ends_for_the_machine(bench: Bench) -> None:
    bench.leases.hear(ack(STRANGER, "10.77.0.150"))
    bench.now += HOUR + 1
    bench.leases.hear(ack(OTHER, "10.77.0.151"))
    assert bench.restored() == [f"{OTHER},10.77.0.151"]


def test_dnsmasq_forgets_its_predecessor_after_one_lease_time_and_is_told_once(bench: Bench) -> None:
    bench.leases.hear(ack(STRANGER, "10.77.0.150"))
    assert bench.restored()
    assert not bench.leases.forget()
    bench.now += HOUR
    assert bench.leases.forget()
    assert bench.hosts.read_text() == ""
    assert not bench.leases.forget()


@given(cut=st.integers(min_value=0, max_value=3 * len(ack(STRANGER, "10.77.0.150"))))
def test_line_that_comes_in_two_pieces_is_heard(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    bench = Bench(cluster, tmp_path_factory.mktemp("cut"))
    text = b"".join(ack(f"52:54:00:99:00:0{n}", f"10.77.0.15{n}") for n in range(3))
    bench.leases.hear(text[:cut])
    bench.leases.hear(text[cut:])
    assert len(bench.restored()) == 3
    bench.leases.close()


@pytest.mark.parametrize(
    "line",
    [
        ack(STRANGER, "10.77.0.149"),  # not of the range
        ack(STRANGER, "999.1.1.1"),
        b"dnsmasq-dhcp[1]: 7 vendor class: dnsmasq-dhcp[1]: 7 DHCPACK(srv0) 10.77.0.150 52:54:00:99:00:01 \n",
        b"dnsmasq-dhcp[1]: 7 DHCPOFFER(srv0) 10.77.0.150 52:54:00:99:00:01 \n",
        b"\xff\x00\n",
    ],
)
def test_line_that_says_no_lease_is_no_lease(bench: Bench, line: bytes) -> None:
    bench.leases.hear(line)
    assert bench.restored() == []


def test_torn_line_of_the_journal_costs_itself_alone(bench: Bench) -> None:
    bench.leases.hear(ack(STRANGER, "10.77.0.150") + ack(OTHER, "10.77.0.151"))
    bench.journal.write_bytes(bench.journal.read_bytes()[:-4] + b"\n\xff,$(x)\n")
    bench.leases = bench.started()
    assert bench.restored()[0] == f"{STRANGER},10.77.0.150"


def test_journal_that_cannot_be_written_stops_no_lease(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "leases").mkdir()
    leases = Leases(cluster, tmp_path / "none" / "leases", tmp_path / "hosts", lambda: 1.0)
    leases.load()
    leases.hear(ack(STRANGER, "10.77.0.150"))
    leases.restore()
    assert (tmp_path / "hosts").read_text() == f"{STRANGER},10.77.0.150\n"
