"""Log lines that real dnsmasqs wrote (2.90 of Debian 12, 2.91 of Debian 13) become the right events."""

from pathlib import Path, PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pxe import log
from pxe.events import LONGEST_TEXT, Event, Kind, clean
from pxe.log import LogReader

DATA = Path(__file__).parent / "data"
ROOT = PurePath("/run/firstlight/lab/tftp")
KNOWN = "52:54:00:77:00:01"
VERSIONS = ["2.90", "2.91"]


def events_of(lines: list[str]) -> list[Event]:
    reader = LogReader(ROOT)
    return [event for line in lines for event in reader.feed(line)] + list(reader.flush())


def recorded(version: str, mode: str) -> list[str]:
    return (DATA / f"dnsmasq-{version}-{mode}.log").read_text().splitlines()


def told(events: list[Event], mac: str) -> list[tuple[str, str, int | None]]:
    return [(event.kind.value, event.detail, event.arch) for event in events if event.mac == mac]


def dhcp(text: str, xid: int = 7) -> str:
    return f"dnsmasq-dhcp[4711]: {xid} {text}"


@pytest.mark.parametrize("version", VERSIONS)
def test_recorded_conversation_of_a_bios_machine(version: str) -> None:
    bios = "PXEClient:Arch:00000:UNDI:003016"
    assert told(events_of(recorded(version, "server")), KNOWN)[2:] == [
        ("discover", bios, 0),
        ("offer", "10.77.0.101, boot file undionly.kpxe", 0),
        ("request", f"10.77.0.101, {bios}", 0),
        ("ack", "10.77.0.101, boot file undionly.kpxe, w1", 0),
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_recorded_ipxe_says_its_user_class_and_gets_the_script(version: str) -> None:
    first, second = (e for e in events_of(recorded(version, "server")) if e.mac == "52:54:00:aa:00:03")
    assert (first.kind, first.firmware, first.arch) == (Kind.DISCOVER, "ipxe", 7)
    assert first.detail == "PXEClient:Arch:00007:UNDI:003016, user class iPXE"
    assert second.detail == "10.77.0.187, boot file http://10.77.0.1:8080/boot.ipxe"


@pytest.mark.parametrize("version", VERSIONS)
def test_recorded_firmware_is_known_by_its_tags_when_it_names_no_class(version: str) -> None:
    events = events_of(recorded(version, "server"))
    unknown = next(e for e in events if e.mac == "52:54:00:aa:00:04")
    http = next(e for e in events if e.mac == "52:54:00:aa:00:05")
    assert (unknown.firmware, unknown.arch) == ("unknown-firmware", None)
    assert (http.firmware, http.arch) == ("http-efi64", 16)


@pytest.mark.parametrize("version", VERSIONS)
def test_recorded_ends_of_leases(version: str) -> None:
    events = events_of(recorded(version, "server"))
    assert told(events, "52:54:00:aa:00:07") == [
        ("request", "10.77.0.101", None),
        ("nak", "10.77.0.101, address not available", None),
        ("request", "10.99.0.1", None),
        ("nak", "10.99.0.1, wrong network", None),
    ]
    assert told(events, "52:54:00:aa:00:08")[-1][0] == "release"
    assert told(events, "52:54:00:aa:00:09") == [("decline", "10.77.0.160", None)]
    assert told(events, "52:54:00:aa:00:0a") == [("inform", "0.0.0.0", None)]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mode", ["server", "proxy"])
def test_recorded_transfers(version: str, mode: str) -> None:
    events = [e for e in events_of(recorded(version, mode)) if e.kind.value.startswith("tftp")]
    assert sorted((e.kind.value, e.detail, e.address) for e in events) == [
        ("tftp-failed", "snponly.efi was cut off, the machine said: User [31maborted", "10.77.0.2"),
        ("tftp-not-found", "ab to 10.0.0.9 is not there", "10.77.0.2"),
        ("tftp-not-found", "arm64-efi/snponly.efi is not there", "10.77.0.2"),
        ("tftp-sent", "undionly.kpxe", "10.77.0.2"),
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_recorded_proxy_answers_are_offers_without_an_address(version: str) -> None:
    events = events_of(recorded(version, "proxy"))
    assert told(events, KNOWN) == [("offer", "proxy", 0)]
    assert told(events, "52:54:00:aa:00:02") == [
        ("offer", "proxy", 7),
        ("offer", "boot file snponly.efi, proxy", 7),
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_recorded_vendor_class_that_looks_like_an_ack_is_no_ack(version: str) -> None:
    events = events_of(recorded(version, "server"))
    assert told(events, "52:54:00:aa:00:06")[0] == (
        "discover",
        "[31mredDHCPACK(srv0) 10.77.0.150 52:54:00:77:00:01, user class ]0;t",
        None,
    )
    assert "10.77.0.150" not in [e.address for e in events if e.mac == KNOWN]


@pytest.mark.parametrize("version", VERSIONS)
def test_start_is_told_by_its_line_alone(version: str) -> None:
    lines = recorded(version, "server")
    assert [log.version_started(line) for line in lines] == [version] + [None] * (len(lines) - 1)


def test_machine_of_a_transfer_is_the_last_one_that_got_the_address() -> None:
    lines = [
        dhcp("DHCPACK(eth0) 10.77.0.150 52:54:00:00:00:01 "),
        dhcp("DHCPACK(eth0) 10.77.0.150 52:54:00:00:00:02 ", xid=8),
        "dnsmasq-tftp[4711]: sent /run/firstlight/lab/tftp/undionly.kpxe to 10.77.0.150",
    ]
    assert told(events_of(lines), "52:54:00:00:00:02")[-1] == ("tftp-sent", "undionly.kpxe", None)


def test_remembered_addresses_are_bounded() -> None:
    reader = LogReader(ROOT)
    for number in range(log.MOST_ADDRESSES + 10):
        address = f"10.1.{number // 250}.{number % 250}"
        reader.feed(
            dhcp(f"DHCPACK(eth0) {address} 52:54:00:00:{number // 250:02x}:{number % 250:02x} ", number)
        )
    assert len(reader._macs) <= log.MOST_ADDRESSES


def test_packet_waits_for_its_end_and_silence_ends_it() -> None:
    reader = LogReader(ROOT)
    assert reader.feed(dhcp("DHCPDISCOVER(eth0) 52:54:00:00:00:01 ")) == ()
    assert reader.feed(dhcp("tags: bios, eth0")) == ()
    assert [e.kind for e in reader.flush()] == [Kind.DISCOVER]
    assert reader.flush() == ()


def test_next_packet_of_the_same_transaction_ends_the_one_before() -> None:
    reader = LogReader(ROOT)
    reader.feed(dhcp("available DHCP range: 10.77.0.150 -- 10.77.0.199"))
    reader.feed(dhcp("DHCPDISCOVER(eth0) 52:54:00:00:00:01 "))
    done = reader.feed(dhcp("available DHCP range: 10.77.0.150 -- 10.77.0.199"))
    assert [e.kind for e in done] == [Kind.DISCOVER]


def test_why_a_machine_gets_no_address_is_told() -> None:
    events = events_of([dhcp("DHCPDISCOVER(eth0) 52:54:00:00:00:01 no address available")])
    assert events[0].detail == "no address available"


def test_file_name_cannot_claim_another_machines_transfer() -> None:
    line = "dnsmasq-tftp[4711]: file /x/a not found for 10.0.0.1 not found for 10.0.0.9"
    assert [(e.address, e.kind) for e in events_of([line])] == [("10.0.0.9", Kind.TFTP_NOT_FOUND)]


@pytest.mark.parametrize(
    "vendor_class", ["PXEClient:Arch:99999:UNDI", "PXEClient:Arch:7", "", "xPXEClient:Arch:00007"]
)
def test_nonsense_is_no_architecture(vendor_class: str) -> None:
    assert log.arch_of(vendor_class, ["eth0"]) is None


@given(st.text())
def test_any_line_is_survived(text: str) -> None:
    reader = LogReader(ROOT)
    for line in (text, dhcp(text), f"dnsmasq-tftp[1]: {text}", dhcp(f"vendor class: {text}")):
        reader.feed(line)
        log.version_started(line)
        log.is_routine(line)
    reader.flush()


@given(st.text(max_size=2000))
def test_clean_text_is_one_short_printable_line(text: str) -> None:
    cleaned = clean(text)
    assert len(cleaned) <= LONGEST_TEXT
    assert cleaned.isprintable()
