"""Which machine is spoken TFTP with in which way, and how the programs that do it are told."""

import re
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from bootstrap.errors import PreflightError
from bootstrap.model import Cluster, MachineTftp
from pxe import nftables, tap, tftpd
from pxe.events import Event
from pxe.learned import KEPT_SECONDS, Learned, who_from
from pxe.nftables import Redirects, ruleset, table_of
from pxe.tftpd import NO_OPTIONS, Way, arguments, refusable_by, rules_text, way_of
from pxe.transfers import ACK, DATA, OACK, REQUEST, UNHEARD, Packet
from pxe.ways import Ways, configured
from tests import samples

OURS = IPv4Address("10.77.0.1")
STRANGER = "52:54:00:99:00:01"
NEAR, FAR = IPv4Address("10.77.0.150"), IPv4Address("10.78.0.9")


@pytest.mark.parametrize(
    ("tftp", "way"),
    [
        (MachineTftp(), None),
        (MachineTftp(max_block_size=1368), None),
        (MachineTftp(options="none"), Way()),
        (MachineTftp(options="none", max_block_size=1024), Way()),
        (MachineTftp(max_block_size=1024), Way(block=1024)),
        (MachineTftp(single_port=True), Way(block=1368, is_single=True)),
        (MachineTftp(options="none", single_port=True), Way(is_single=True)),
    ],
)
def test_the_configuration_asks_for_a_way_or_for_dnsmasqs_own(tftp: MachineTftp, way: Way | None) -> None:
    assert way_of(tftp, usual_block=1368) == way


def test_every_way_has_a_port_of_its_own() -> None:
    every = [
        Way(block=block, is_single=single) for block in (0, *range(512, 1469)) for single in (True, False)
    ]

    assert len({way.port for way in every}) == len(every)
    assert max(way.port for way in every) < tftpd.USUAL_PORTS[0]


def told(way: Way) -> tuple[str, ...]:
    return arguments(way, OURS, Path("/run/x/tftp"), Path("/run/x/tftp.rules"), ("blksize", "tsize"))


def test_in_tftpd_is_told_what_to_refuse_and_how_large_a_block_may_be() -> None:
    plain, capped, small = (told(way) for way in (Way(), Way(block=1024), Way(block=512, is_single=True)))

    assert {"--refuse=blksize", "--refuse=tsize", "--address=10.77.0.1:20000"} <= set(plain)
    assert not any(one.startswith("--blocksize") for one in plain)
    assert {"--blocksize=1024", "--address=10.77.0.1:21024", "--port-range=24000:24499"} <= set(capped)
    assert not any(one.startswith("--refuse") for one in capped)
    assert {"--refuse=blksize", "--refuse=blksize2", "--port-range=24500:24999"} <= set(small)
    assert "--refuse=tsize" not in small
    assert {one[-1] for one in (plain, capped, small)} == {"/run/x/tftp/"}


@pytest.mark.parametrize(("status", "knows"), [(0, True), (64, False)])
def test_in_tftpd_is_asked_which_options_it_knows(tmp_path: Path, status: int, knows: bool) -> None:  # noqa: FBT001
    """tftp-hpa ends with 64 (EX_USAGE) at an option that it does not know, and with 0 after its version."""
    binary = tmp_path / "in.tftpd"
    binary.write_text(f'#!/bin/sh\n[ "$*" = "--refuse=windowsize --version" ] && exit {status}\n')
    binary.chmod(0o755)

    found = refusable_by(str(binary))
    assert ("windowsize" in found) == knows
    assert {"blksize", "blksize2", "tsize", "timeout", "utimeout", "rollover"} <= set(found)


def test_a_strange_path_stays_one_word_of_the_rule() -> None:
    assert rules_text(Path("/run/a b#c\\d")) == "r ^/* /run/a\\ b\\#c\\\\d/\n"


def redirects(**more: Any) -> Redirects:
    return Redirects(interface="srv0", address=OURS, single=(24500, 24999), **more)


def test_our_table_replaces_the_one_that_was_there_in_one_step() -> None:
    text = ruleset(redirects(by_mac={STRANGER: 20000, "02:00:00:00:00:09": 21024}, by_address={FAR: 20000}))

    assert text.startswith("table ip firstlight_tftp_srv0\ndelete table ip firstlight_tftp_srv0\ntable ip ")
    assert "elements = { 02:00:00:00:00:09 : 21024, 52:54:00:99:00:01 : 20000 }" in text
    assert "elements = { 10.78.0.9 : 20000 }" in text
    assert text.count("{") == text.count("}")


def test_every_rule_is_for_our_interface_our_address_and_port_69() -> None:
    rules = [line for line in ruleset(redirects()).splitlines() if " udp dport set " in line]

    assert len(rules) == 3
    start = '    iifname "srv0" ip daddr 10.77.0.1 udp dport 69 '
    assert all(rule.startswith(start) and rule.endswith(" udp checksum set 0") for rule in rules)


def test_an_empty_map_has_no_elements() -> None:
    assert "elements" not in ruleset(redirects())


def test_names_of_tables_differ_and_are_words_of_nft() -> None:
    names = [table_of(name) for name in ("eth0", "eth0.100", "eth0_100", "enp5s0f1", "br-a", "br_a")]

    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in names)


class Book:
    """What is learned, in a file, by a clock of ours."""

    def __init__(self, file: Path, *listed: str, most: int = 3) -> None:
        self.now = 1_000_000.0
        self.file, self.listed, self.most = file, listed, most
        self.learned = self.opened()

    def opened(self) -> Learned:
        made = Learned(self.file, self.listed, lambda: self.now, self.most)
        made.load()
        return made


def mac(number: int) -> str:
    return f"02:00:00:00:01:{number:02x}"


def test_what_is_learned_outlives_pxe(tmp_path: Path) -> None:
    book = Book(tmp_path / "learned")

    assert book.learned.add(STRANGER)
    assert book.learned.add(FAR)
    assert not book.learned.add(STRANGER)
    assert book.opened().all() == (FAR, STRANGER)
    assert book.file.stat().st_mode & 0o777 == 0o600


def test_a_flood_of_strangers_evicts_no_listed_machine(tmp_path: Path) -> None:
    book = Book(tmp_path / "learned", STRANGER)
    book.learned.add(STRANGER)
    for number in range(100):
        book.learned.add(mac(number))

    assert book.learned.all() == (STRANGER, mac(97), mac(98), mac(99))
    assert book.opened().all() == book.learned.all()


def test_strangers_are_forgotten_in_the_end_and_listed_ones_are_not(tmp_path: Path) -> None:
    book = Book(tmp_path / "learned", STRANGER)
    book.learned.add(STRANGER)
    book.learned.add(mac(1))
    book.now += KEPT_SECONDS + 1
    assert book.opened().all() == (STRANGER,)


def test_a_torn_file_costs_the_torn_line_alone(tmp_path: Path) -> None:
    file = tmp_path / "learned"
    file.write_bytes(
        b"1000000 02:00:00:00:01:01\nx\n\xff\xfe\n1000000 ff:ff:ff:ff:ff:ff\n1000000 10.78.0.9\n10000"
    )

    assert Book(file).learned.all() == (mac(1), FAR)


def test_a_full_disk_forgets_nothing_at_hand(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    book = Book(tmp_path / "no-such-folder" / "learned")

    assert book.learned.add(STRANGER)
    assert book.learned.all() == (STRANGER,)
    assert "cannot be written" in caplog.text


@pytest.mark.parametrize("text", ["", "10.0.0", "01:00:5e:00:00:01", "zz:00:00:00:00:01", "1.2.3.4:5"])
def test_what_is_no_machine_is_not_taken(text: str) -> None:
    assert who_from(text) is None


def with_tftp(machine: MachineTftp | None = None, pool: MachineTftp | None = None) -> Cluster:
    """Return the sample with `machine` at its first machine and `pool` at all of its pools."""
    cluster = samples.cluster("lab")
    first, *rest = cluster.machines
    return cluster.model_copy(
        update={
            "machines": (first.model_copy(update={"tftp": machine}), *rest),
            "pools": tuple(one.model_copy(update={"tftp": pool}) for one in cluster.pools),
        }
    )


def test_a_machines_own_word_counts_before_its_pools() -> None:
    none, usual = MachineTftp(options="none"), MachineTftp()
    cluster = with_tftp(usual, none)
    first, second = cluster.machines[:2]

    assert configured(with_tftp()) == {}
    assert configured(cluster)[first.mac] is None
    assert configured(cluster)[second.mac] == NO_OPTIONS


def test_a_machine_behind_a_router_is_known_by_its_fixed_address() -> None:
    cluster = with_tftp(MachineTftp(options="none"))
    first, *rest = cluster.machines
    moved = cluster.model_copy(update={"machines": (first.model_copy(update={"address": FAR}), *rest)})

    assert configured(moved) == {first.mac: NO_OPTIONS, FAR: NO_OPTIONS}


class Bench:
    """Ways with no kernel and no in.tftpd behind them: what they would be told."""

    def __init__(self, cluster: Cluster, tmp_path: Path) -> None:
        self.events: list[Event] = []
        self.loaded: list[str] = []
        self.removed = 0
        self.served: list[Way] = []
        (tmp_path / "run").mkdir(exist_ok=True)
        self.ways = Ways(
            cluster,
            tmp_path,
            tmp_path,
            report=self.events.append,
            mac_at={str(FAR): STRANGER}.get,  # type: ignore[arg-type]
        )

    def remove(self, interface: str) -> None:
        del interface
        self.removed += 1

    def deaf(self, who: str = STRANGER, address: IPv4Address = NEAR) -> None:
        """Let a machine ask, and never answer to an OACK."""
        self.packet(who, address, REQUEST, file="snponly.efi")
        for _ in range(UNHEARD):
            self.packet(who, address, OACK, is_ours=True)

    def packet(
        self,
        who: str,
        address: IPv4Address,
        kind: int,
        number: int = 0,
        *,
        is_ours: bool = False,
        file: str = "",
    ) -> None:
        packet = Packet(
            mac=who, address=address, tid=2070, is_ours=is_ours, kind=kind, number=number, size=100, file=file
        )
        self.ways.take(packet)

    def sends_to(self, who: str) -> str:
        """Return the port that the last table has for `who`, or nothing."""
        found = re.search(rf"{re.escape(who)} : (\d+)", self.loaded[-1])
        return found[1] if found else ""


BenchOf = Callable[[Cluster], Bench]


@pytest.fixture(name="bench_of")
def fixture_bench_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BenchOf:
    def made(cluster: Cluster) -> Bench:
        bench = Bench(cluster, tmp_path)
        monkeypatch.setattr(nftables, "load", bench.loaded.append)
        monkeypatch.setattr(nftables, "remove", bench.remove)
        monkeypatch.setattr(nftables, "program", lambda: "nft")
        monkeypatch.setattr(tftpd.Servers, "start", lambda _, wanted: bench.served.extend(sorted(wanted)))
        monkeypatch.setattr(tftpd.Servers, "end_leftovers", lambda _: None)
        monkeypatch.setattr(tap.Tap, "start", lambda _: None)
        return bench

    return made


def test_a_deaf_machine_is_redirected_at_once_told_of_and_remembered(bench_of: BenchOf) -> None:
    bench = bench_of(with_tftp())
    bench.ways.start()
    assert bench.served == [NO_OPTIONS]
    assert bench.sends_to(STRANGER) == ""

    bench.deaf()
    assert bench.sends_to(STRANGER) == "20000"
    [event] = bench.events
    assert (event.mac, event.kind.value) == (STRANGER, "tftp-oack-unheard")
    assert event.detail.startswith("snponly.efi: options were granted 3 times")

    again = bench_of(with_tftp())
    again.ways.start()
    assert again.sends_to(STRANGER) == "20000"


def test_the_configuration_counts_before_what_is_learned(bench_of: BenchOf, tmp_path: Path) -> None:
    cluster = with_tftp(MachineTftp())
    first = cluster.machines[0]
    bench = bench_of(cluster)
    bench.ways.start()
    bench.deaf(first.mac)

    assert bench.sends_to(first.mac) == ""
    assert "the configuration says" in bench.events[0].detail
    assert not (tmp_path / "run" / "tftp-learned").exists()


@pytest.mark.parametrize(
    ("tftp", "port"), [(None, "20000"), (MachineTftp(), ""), (MachineTftp(max_block_size=1024), "21024")]
)
def test_what_was_learned_before_the_configuration_said_so_gives_way(
    bench_of: BenchOf, tmp_path: Path, tftp: MachineTftp | None, port: str
) -> None:
    cluster = with_tftp(tftp)
    first = cluster.machines[0]
    bench = bench_of(cluster)
    (tmp_path / "run" / "tftp-learned").write_text(f"1 {first.mac}\n")
    bench.ways.start()
    assert bench.sends_to(first.mac) == port


def test_behind_a_router_the_address_is_remembered_and_the_machine_told_of(bench_of: BenchOf) -> None:
    bench = bench_of(with_tftp())
    bench.ways.start()
    bench.deaf("02:00:00:00:00:fe", FAR)

    assert bench.sends_to(str(FAR)) == "20000"
    assert bench.sends_to("02:00:00:00:00:fe") == ""
    assert [event.mac for event in bench.events] == [STRANGER]


def test_a_transfer_that_ends_well_is_told_with_the_way(bench_of: BenchOf) -> None:
    cluster = with_tftp(MachineTftp(max_block_size=1024))
    first = cluster.machines[0]
    bench = bench_of(cluster)
    bench.ways.start()
    address = IPv4Address("10.77.0.101")
    bench.packet(first.mac, address, REQUEST, file="snponly.efi")
    bench.packet(first.mac, address, DATA, 1, is_ours=True)
    bench.packet(first.mac, address, ACK, 1)

    assert [(event.kind.value, event.detail) for event in bench.events] == [
        ("tftp-sent", "snponly.efi in blocks of at most 1024 bytes")
    ]


def test_without_the_programs_all_else_goes_on_unless_the_configuration_needs_them(
    bench_of: BenchOf, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(*_: object) -> None:
        raise PreflightError("in.tftpd is not installed; install it: apt-get install tftpd-hpa")

    usual, special = bench_of(with_tftp()), bench_of(with_tftp(MachineTftp(options="none")))
    monkeypatch.setattr(tftpd.Servers, "start", missing)
    usual.ways.start()
    assert "in.tftpd is not installed" in caplog.text
    usual.deaf()
    assert usual.events[0].detail.endswith("see the log of pxe's start")

    with pytest.raises(PreflightError, match="their key tftp"):
        special.ways.start()
    assert special.loaded == []


def test_nothing_is_left_behind(bench_of: BenchOf) -> None:
    bench = bench_of(with_tftp())
    bench.ways.start()
    bench.ways.stop()
    assert bench.removed == 1
