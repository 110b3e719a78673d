"""dnsmasq.conf: the whole option-93 table, the three modes, and the directives that must never be there."""

import re
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from bootstrap.model import Cluster, Dhcp, MachineTftp, Subnet
from bootstrap.model.appliance import Pxe, Tftp
from bootstrap.render.dnsmasq import dnsmasq_conf
from bootstrap.render.firmware import TABLE
from tests import samples

MODES = ("server", "proxy", "off")


def changed(**appliance: Any) -> Cluster:
    cluster = samples.cluster("lab")
    return cluster.model_copy(update={"appliance": cluster.appliance.model_copy(update=appliance)})


def in_mode(mode: str) -> list[str]:
    dhcp = samples.cluster("lab").appliance.dhcp.model_copy(update={"mode": mode})
    return directives(changed(dhcp=dhcp))


def directives(cluster: Cluster) -> list[str]:
    lines = (line.strip() for line in dnsmasq_conf(cluster).splitlines())
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("mode", MODES)
def test_nothing_that_is_known_to_harm_is_ever_there(mode: str) -> None:
    lines = in_mode(mode)

    assert not [line for line in lines if line.startswith("dhcp-sequential-ip")]
    assert not [line for line in lines if line.startswith("dhcp-host=") and "set:" in line]
    assert not [line for line in lines if line.startswith(("dhcp-script", "tftp-secure"))]
    ignored = [line for line in lines if line.startswith("dhcp-ignore=")]
    assert all(line.startswith("dhcp-ignore=tag:") for line in ignored)
    assert bool(ignored) == (mode == "proxy")  # a server's silence would leave a machine without an address
    assert not [line for line in lines if line.startswith(("tftp-root", "dhcp-leasefile"))]


@pytest.mark.parametrize("mode", MODES)
def test_only_the_private_network_and_no_name_service(mode: str) -> None:
    lines = in_mode(mode)

    assert {"port=0", "interface=fl0", "except-interface=lo", "bind-interfaces", "enable-tftp"} <= set(lines)
    assert int(next(line for line in lines if line.startswith("tftp-max=")).partition("=")[2]) >= 1000


@pytest.mark.parametrize("mode", MODES)
def test_we_are_the_authority_only_where_we_are_the_server(mode: str) -> None:
    assert ("dhcp-authoritative" in in_mode(mode)) == (mode == "server")


def test_mode_off_gives_no_address_and_no_boot_answer() -> None:
    assert not [line for line in in_mode("off") if line.startswith(("dhcp-", "pxe-"))]


@pytest.mark.parametrize("mode", ["server", "proxy"])
def test_every_kind_of_firmware_is_told_apart_by_option_93_and_by_vendor_class(mode: str) -> None:
    lines = set(in_mode(mode))

    for row in TABLE:
        for arch in row.archs:
            assert f"dhcp-match=set:{row.name},option:client-arch,{arch}" in lines
            assert [line for line in lines if line.startswith(f"dhcp-vendorclass=set:{row.name},")]
    assert "dhcp-vendorclass=set:efi64,PXEClient:Arch:00007" in lines
    assert "dhcp-vendorclass=set:http-efi64,HTTPClient:Arch:00016" in lines


@pytest.mark.parametrize("mode", ["server", "proxy"])
def test_ipxe_is_known_by_either_of_its_marks(mode: str) -> None:
    assert {"dhcp-userclass=set:ipxe,iPXE", "dhcp-match=set:ipxe,175"} <= set(in_mode(mode))
    assert [
        line
        for line in in_mode(mode)
        if line.startswith("dhcp-boot=tag:ipxe,http://10.77.0.1:8080/boot.ipxe")
    ]


def test_a_loader_is_given_to_its_firmware_and_never_to_ipxe() -> None:
    boots = [line for line in in_mode("server") if line.startswith("dhcp-boot=") and "http:" not in line]

    assert boots == [
        f"dhcp-boot=tag:!ipxe,tag:!asks-by-http,tag:{row.name},{row.loader},,10.77.0.1"
        for row in TABLE
        if row.loader and not row.is_http
    ]


def test_an_unknown_kind_gets_no_loader_and_a_tag_for_the_log() -> None:
    lines = in_mode("server")
    unknown = next(line for line in lines if line.startswith("tag-if=set:unknown-firmware"))

    assert set(unknown.split(",")[1:]) == {f"tag:!{row.name}" for row in TABLE} | {"tag:asks-to-boot"}
    assert not [line for line in lines if line.startswith("dhcp-boot=") and "tag:" not in line]


@pytest.mark.parametrize("mode", ["server", "proxy"])
def test_uefi_http_boot_gets_a_url_in_its_own_kind_of_answer(mode: str) -> None:
    lines = in_mode(mode)
    for name, file in (("http-efi64", "ipxe-x86_64.efi"), ("http-arm64", "ipxe-arm64.efi")):
        url = f"http://10.77.0.1:8080/loader/{file}"
        assert f"dhcp-boot=tag:!ipxe,tag:{name},{url},,10.77.0.1" in lines
        assert ("tag-if=set:http-boot,tag:" + name in lines) == (mode == "server")
        assert f"dhcp-ignore=tag:{name},tag:!ipxe" not in lines
        assert not [line for line in lines if line.startswith("pxe-service=") and url in line]
    says = {"server": "dhcp-option-force=tag:!ipxe,tag:http-boot,60,HTTPClient"}
    assert says.get(mode, "dhcp-pxe-vendor=PXEClient,HTTPClient") in lines


def test_uefi_http_boot_without_a_loader_gives_up_at_once() -> None:
    lines = in_mode("server")
    assert "dhcp-boot=tag:!ipxe,tag:http-boot-in-vain,http://10.77.0.1:8080/loader/none" in lines
    assert "dhcp-option-force=tag:!ipxe,tag:http-boot-in-vain,60,HTTPClient" in lines
    assert "tag-if=set:http-boot-in-vain,tag:http-efi32" in lines
    assert "dhcp-ignore=tag:http-efi32,tag:!ipxe" in in_mode("proxy")


def test_listed_machines_get_their_address_and_name() -> None:
    hosts = [line for line in in_mode("server") if line.startswith("dhcp-host=")]

    assert hosts == [
        "dhcp-host=52:54:00:77:00:01,10.77.0.101,w1",
        "dhcp-host=52:54:00:77:00:02,10.77.0.102,w2",
        "dhcp-host=*:*:*:*:*:*,3600",
    ]


def test_no_lease_file_is_written_again_at_each_lease() -> None:
    assert "leasefile-ro" in in_mode("server")


def test_a_machine_without_an_address_is_still_known_by_name() -> None:
    assert "dhcp-host=b8:ce:f6:00:01:01,c1" in directives(_as_server("ha"))


def test_unlisted_machines_get_an_address_of_the_range() -> None:
    assert "dhcp-range=10.77.0.150,10.77.0.199,255.255.255.0,3600" in in_mode("server")


def test_without_a_range_only_listed_machines_are_answered() -> None:
    dhcp = Dhcp(mode="server", range=None)

    assert "dhcp-range=10.77.0.0,static,255.255.255.0,3600" in directives(changed(dhcp=dhcp))


def test_options_that_are_not_set_are_named_so_that_dnsmasq_does_not_offer_itself() -> None:
    lines = in_mode("server")

    assert "dhcp-option=option:router" in lines
    assert "dhcp-option=option:dns-server" in lines
    assert not [line for line in lines if "ntp-server" in line]


def test_options_that_are_set_are_sent() -> None:
    lines = directives(
        changed(
            gateway=IPv4Address("10.77.0.254"),
            dns=(IPv4Address("10.77.0.2"), IPv4Address("10.77.0.3")),
            ntp=(IPv4Address("10.77.0.4"), "ntp.example.net"),
            domain="rack.example.net",
        )
    )

    assert "dhcp-option=option:router,10.77.0.254" in lines
    assert "dhcp-option=option:dns-server,10.77.0.2,10.77.0.3" in lines
    assert "dhcp-option=option:ntp-server,10.77.0.4" in lines, (
        "option 42 holds addresses only (RFC 2132, 8.3)"
    )
    assert "domain=rack.example.net" in lines


def test_a_proxy_sends_ipxe_straight_to_the_script_and_others_to_their_loader() -> None:
    lines = in_mode("proxy")

    assert [line for line in lines if line.startswith("dhcp-range=")] == [
        "dhcp-range=10.77.0.0,proxy,255.255.255.0"
    ]
    assert "pxe-service=tag:!ipxe,0,firstlight,undionly.kpxe,10.77.0.1" in lines
    assert not [line for line in lines if line.startswith("pxe-service=tag:ipxe")]
    assert "dhcp-boot=tag:ipxe,http://10.77.0.1:8080/boot.ipxe,,10.77.0.1" in lines
    assert {f"dhcp-ignore=tag:{row.name},tag:!ipxe" for row in TABLE if not row.loader} <= set(lines)
    assert not [line for line in lines if line.startswith(("dhcp-host=", "domain=", "dhcp-option="))]


def test_no_two_directives_share_a_line() -> None:
    for mode in MODES:
        for line in in_mode(mode):
            assert re.fullmatch(r"[a-z0-9-]+(=[^=]*)?", line), line


def _as_server(name: str) -> Cluster:
    cluster = samples.cluster(name)
    appliance = cluster.appliance.model_copy(update={"dhcp": Dhcp(mode="server")})
    return cluster.model_copy(update={"appliance": appliance})


def test_no_offer_waits_for_a_ping() -> None:
    """A ping first delays every offer by three seconds, one after another: 2 of 1,000 machines were offered in time."""
    assert "no-ping" in in_mode("server")


def behind_relay(mode: str, subnet: Subnet) -> list[str]:
    lab = samples.cluster("lab").appliance.dhcp
    return directives(changed(dhcp=lab.model_copy(update={"mode": mode, "subnets": (subnet,)})))


FAR = IPv4Network("10.78.0.0/23")


def test_a_network_behind_a_relay_has_its_own_range_and_router() -> None:
    ends = (IPv4Address("10.78.0.150"), IPv4Address("10.78.0.199"))
    lines = behind_relay("server", Subnet(subnet=FAR, gateway=IPv4Address("10.78.0.1"), range=ends))

    assert "dhcp-range=set:network-1,10.78.0.150,10.78.0.199,255.255.254.0,3600" in lines
    assert "dhcp-option=tag:network-1,option:router,10.78.0.1" in lines
    assert "dhcp-option=option:router" in lines, "machines of our own network get no router of another's"


def test_a_network_behind_a_relay_without_a_range_is_for_listed_machines() -> None:
    lines = behind_relay("server", Subnet(subnet=FAR, gateway=IPv4Address("10.78.0.1")))

    assert "dhcp-range=set:network-1,10.78.0.0,static,255.255.254.0,3600" in lines


def test_a_proxy_answers_behind_relays_too() -> None:
    lines = behind_relay("proxy", Subnet(subnet=FAR))

    assert [line for line in lines if line.startswith("dhcp-range=")] == [
        "dhcp-range=10.77.0.0,proxy,255.255.255.0",
        "dhcp-range=10.78.0.0,proxy,255.255.254.0",
    ]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("tftp", "directive"),
    [
        (Tftp(), "tftp-mtu=1400"),
        (Tftp(max_block_size=1024), "tftp-mtu=1056"),
        (Tftp(max_block_size=512), "tftp-no-blocksize"),
    ],
)
def test_tftps_blocks_are_as_the_machines_of_the_segment_can_take_them(
    mode: str, tftp: Tftp, directive: str
) -> None:
    dhcp = samples.cluster("lab").appliance.dhcp.model_copy(update={"mode": mode})
    lines = directives(changed(dhcp=dhcp, pxe=Pxe(tftp=tftp)))

    told = [line for line in lines if line.startswith("tftp-") and not line.startswith("tftp-max")]
    assert told == [directive]


def test_who_is_spoken_tftp_with_otherwise_is_a_remark_that_dnsmasq_does_not_read() -> None:
    """So a change of it is a change of what pxe reads, and `plan` says that pxe is to be restarted."""
    cluster = samples.cluster("lab")
    tftp = MachineTftp(options="none")
    machines = [
        one.model_copy(update={"tftp": tftp if one.name == "w1" else None}) for one in cluster.machines
    ]
    with_ways = dnsmasq_conf(cluster.model_copy(update={"machines": tuple(machines)}))

    assert '#   w1: {"options":"none","maxBlockSize":null,"singlePort":false}\n' in with_ways
    assert [line for line in with_ways.splitlines() if not line.startswith("#")] == [
        line for line in dnsmasq_conf(cluster).splitlines() if not line.startswith("#")
    ]
