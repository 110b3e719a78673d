"""Interfaces, ports and the pid file: what must be right before dnsmasq starts."""

import os
import socket
from ipaddress import IPv4Interface
from pathlib import Path

import pytest

from bootstrap.errors import PreflightError, ServeError
from pxe import ports
from pxe.interfaces import Interface, choose, interfaces
from pxe.pidfile import Ready, only_one

ADDRESS = IPv4Interface("10.77.0.1/24")


def interface(
    name: str = "eth0", *, is_up: bool = True, addresses: tuple[str, ...] = ("10.77.0.1/24",)
) -> Interface:
    return Interface(
        name=name,
        index=2,
        mac="52:54:00:00:00:01",
        mtu=1500,
        is_up=is_up,
        has_carrier=True,
        addresses=tuple(map(IPv4Interface, addresses)),
    )


def test_interface_with_the_address_is_chosen() -> None:
    assert choose("eth0", ADDRESS, [interface("eth1", addresses=()), interface()]).name == "eth0"


def test_missing_interface_names_those_that_are_there() -> None:
    with pytest.raises(PreflightError, match=r"eth9 does not exist here; there are: eth0, eth1"):
        choose("eth9", ADDRESS, [interface(), interface("eth1")])
    with pytest.raises(PreflightError, match=r"there are: none"):
        choose("eth9", ADDRESS, [])


def test_interface_that_is_down_names_the_command() -> None:
    with pytest.raises(PreflightError, match=r"is down; bring it up: ip link set eth0 up"):
        choose("eth0", ADDRESS, [interface(is_up=False)])


@pytest.mark.parametrize(
    ("addresses", "has"),
    [
        ((), "no IPv4 address"),
        (("10.77.0.2/24", "10.8.0.1/16"), "10.77.0.2/24, 10.8.0.1/16"),
        (("10.77.0.1/16",), "10.77.0.1/16"),
    ],
)
def test_interface_without_the_address_says_what_it_has_and_the_command(
    addresses: tuple[str, ...], has: str
) -> None:
    with pytest.raises(PreflightError) as caught:
        choose("eth0", ADDRESS, [interface(addresses=addresses)])
    assert f"it has {has}; add it: ip address add 10.77.0.1/24 dev eth0" in str(caught.value)


def test_loopback_is_no_interface_to_serve_on() -> None:
    assert "lo" not in [found.name for found in interfaces()]


def test_holder_of_a_port_is_found() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        holders = ports.holders_of_ports([sock.getsockname()[1]])
    assert [holder.pid for holder in holders] == [os.getpid()]
    assert str(holders[0]).startswith(f"pid {os.getpid()} (")


def test_table_of_the_kernel_is_read_by_port() -> None:
    table = (
        "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref\n"
        "  10: 00000000:0043 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 111 2 0 0\n"
        "  11: 0100007F:0045 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 222 2 0 0\n"
    )
    assert ports.inodes_of(table, {67}) == {111}
    assert ports.inodes_of(table, {67, 69}) == {111, 222}
    assert ports.inodes_of(table, {4011}) == frozenset()


def test_process_that_is_gone_has_no_command() -> None:
    assert ports.arguments_of(2**22 + 1) == ()
    assert ports.processes_with("--dhcp-leasefile=/nowhere") == ()


def test_second_holder_of_the_pid_file_is_told_the_first(tmp_path: Path) -> None:
    path = tmp_path / "run" / "pxe.pid"
    with only_one(path):
        assert path.read_text() == f"{os.getpid()}\n"
        with pytest.raises(ServeError, match=rf"runs already for .* \(pid {os.getpid()}\)"), only_one(path):
            pass
    assert not path.exists()


def test_pid_file_of_a_killed_process_is_no_hindrance(tmp_path: Path) -> None:
    path = tmp_path / "pxe.pid"
    path.write_text("99999999\n")
    with only_one(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_ready_of_a_killed_process_is_withdrawn(tmp_path: Path) -> None:
    path = tmp_path / "pxe.ready"
    path.write_text("99999999\n")
    ready = Ready(path)
    assert not path.exists()
    ready.say()
    assert path.read_text() == f"{os.getpid()}\n"
