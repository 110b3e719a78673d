"""What dnsmasq writes reaches the operator's log and web, and says what firmware cannot be served."""

from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from pxe.events import Event, Kind
from pxe.observe import Observer, remark_on

DATA = Path(__file__).parent / "data"


class Bench:
    """An observer and what came out of it."""

    def __init__(self, neighbours: dict[str, str] | None = None) -> None:
        self.reported: list[Event] = []
        self.ready = 0
        known = neighbours or {}

        def neighbour(address: IPv4Address) -> str:
            return known.get(str(address), "")

        self.observer = Observer(
            root=Path("/run/firstlight/lab/tftp"),
            report=self.reported.append,
            neighbour=neighbour,
            on_ready=self._count,
        )

    def _count(self) -> None:
        self.ready += 1

    def hear(self, *lines: str) -> None:
        for line in lines:
            self.observer.heard(line)
        self.observer.quiet()


@pytest.fixture(autouse=True)
def info(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level("INFO", logger="pxe"):
        yield


def test_whole_recorded_session_is_told(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(neighbours={"10.77.0.2": "52:54:00:00:00:02"})
    bench.hear(*(DATA / "dnsmasq-2.90-server.log").read_text().splitlines())
    assert bench.ready == 1
    assert "52:54:00:77:00:01: offer: 10.77.0.101, boot file undionly.kpxe" in caplog.text
    assert "52:54:00:00:00:02: tftp-sent: undionly.kpxe" in caplog.text
    assert "52:54:00:aa:00:04: firmware of a kind that is not in our table: it gets no loader" in caplog.text
    assert "cannot access /run/firstlight/lab/tftp/../../etc/shadow" in caplog.text
    assert "sent size" not in caplog.text
    assert {event.mac for event in bench.reported} >= {"52:54:00:77:00:01", "52:54:00:00:00:02"}


def test_transfer_of_nobody_known_is_logged_by_address_only(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.hear("dnsmasq-tftp[1]: sent /run/firstlight/lab/tftp/snponly.efi to 10.77.0.9")
    assert "10.77.0.9: tftp-sent: snponly.efi" in caplog.text
    assert bench.reported == []


@pytest.mark.parametrize("mac", ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "00:00:00:00:00:00"])
def test_mac_that_no_machine_can_have_is_not_reported(mac: str) -> None:
    bench = Bench()
    bench.hear(f"dnsmasq-dhcp[1]: 7 DHCPDISCOVER(eth0) {mac} ", "dnsmasq-dhcp[1]: 7 tags: eth0")
    assert bench.reported == []


def test_warning_about_firmware_comes_once_per_packet(caplog: pytest.LogCaptureFixture) -> None:
    Bench().hear(
        "dnsmasq-dhcp[1]: 7 DHCPDISCOVER(eth0) 52:54:00:00:00:01 ",
        "dnsmasq-dhcp[1]: 7 tags: efi32, eth0",
        "dnsmasq-dhcp[1]: 7 DHCPOFFER(eth0) 10.77.0.150 52:54:00:00:00:01 ",
    )
    assert caplog.text.count("gets no loader") == 1


@pytest.mark.parametrize("firmware", ["bios", "efi64", "ipxe", ""])
def test_firmware_that_is_served_needs_no_remark(firmware: str) -> None:
    assert remark_on(Event(mac="x", kind=Kind.DISCOVER, detail="", arch=0, firmware=firmware)) == ""


def test_unknown_architecture_is_named() -> None:
    event = Event(mac="x", kind=Kind.DISCOVER, detail="", arch=33, firmware="unknown-firmware")
    assert "(architecture 33)" in remark_on(event)


def test_a_kind_without_a_loader_is_an_event_of_its_own() -> None:
    bench = Bench()
    bench.hear(
        "dnsmasq-dhcp[1]: 7 vendor class: PXEClient:Arch:00033:UNDI:003016",
        "dnsmasq-dhcp[1]: 7 PXE(eth0) 52:54:00:00:00:01 proxy-ignored",
        "dnsmasq-dhcp[1]: 7 tags: unknown-firmware, asks-to-boot, eth0",
    )

    assert [event.kind for event in bench.reported] == [Kind.DISCOVER, Kind.NO_LOADER]
    assert bench.reported[1].detail == remark_on(bench.reported[0])
    assert "(architecture 33)" in bench.reported[1].detail
