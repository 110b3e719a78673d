"""What to set on the site's own DHCP server (mode off): the same table that our dnsmasq would answer by."""

from collections.abc import Sequence

from bootstrap.model import Cluster
from bootstrap.render.firmware import TABLE
from bootstrap.templates import render

SERVERS = {
    "dnsmasq": "dnsmasq.conf",
    "kea": "kea-dhcp4.json",
    "isc-dhcpd": "dhcpd.conf",
    "windows": "windows.ps1",
}
"""The servers that we know the language of, each with its file in configs/site-dhcp."""
HEADINGS = ("FIRMWARE", "OPTION 93", "OPTION 60 BEGINS", "NEXT-SERVER (66)", "BOOT FILE (67)", "NOTE")


def site_options(cluster: Cluster, server: str) -> str:
    """Return what to give to `server`, one of SERVERS, in its own language."""
    return render(
        f"site-dhcp/{SERVERS[server]}.j2",
        address=cluster.appliance.address.ip,
        network=cluster.appliance.address.network.network_address,
        base=cluster.base_url,
        script_url=_script_url(cluster),
        rows=[row for row in TABLE if row.loader],
        by_http=[row for row in TABLE if row.loader and row.is_http],
    )


def rows(cluster: Cluster) -> list[Sequence[str]]:
    """Return the same for any other server: one row per kind of firmware, under HEADINGS, iPXE first.

    iPXE names the firmware below it as well: whoever says `iPXE` in option 77 gets the first row, and no other.
    """
    address = str(cluster.appliance.address.ip)
    first = (
        "ipxe",
        "any",
        "any; option 77 is iPXE",
        address,
        _script_url(cluster),
        "iPXE, whatever is below it",
    )
    rest = [
        (
            row.name,
            ", ".join(map(str, row.archs)),
            ", ".join(row.vendor_classes),
            address if row.loader else "-",
            row.boot_file(cluster.base_url) or "-",
            row.note,
        )
        for row in TABLE
    ]
    return [first, *rest]


def _script_url(cluster: Cluster) -> str:
    return f"{cluster.base_url}/boot.ipxe"
