"""DHCP servers of a site, none of them ours: real dnsmasq, Kea and ISC dhcpd, each with its leases in a file."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.system.pxe_segment import wait_for

RANGE = ("10.77.0.200", "10.77.0.250")
NETWORK = "10.77.0.0/24"


@dataclass(frozen=True, kw_only=True)
class Site:
    """A running server of the site: its process, what it logged, and the leases that it gave."""

    pid: int
    log: Path
    leases: Path


@contextmanager
def stranger(namespace: str, interface: str, folder: Path, *options: str) -> Iterator[Site]:
    """Run another dnsmasq as DHCP server on the segment."""
    argv = (
        *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--bind-interfaces"),
        *("--pid-file=", f"--interface={interface}", "--log-facility=-", "--log-dhcp"),
        *(f"--dhcp-leasefile={folder}/stranger.leases", *options),
    )
    with _running(namespace, argv, folder / "stranger.log", "started") as process:
        yield Site(pid=process, log=folder / "stranger.log", leases=folder / "stranger.leases")


@contextmanager
def site_dnsmasq(namespace: str, interface: str, folder: Path, printed: str) -> Iterator[Site]:
    """Run a site's dnsmasq whose configuration includes `printed`."""
    (folder / "firstlight.conf").write_text(printed)
    options = (f"--dhcp-range={','.join(RANGE)}", "--no-ping", f"--conf-file={folder}/firstlight.conf")
    with stranger(namespace, interface, folder, *options) as site:
        yield site


@contextmanager
def site_kea(namespace: str, interface: str, folder: Path, printed: str) -> Iterator[Site]:
    """Run a site's Kea whose section Dhcp4 has the keys of `printed` too."""
    leases = folder / "kea-leases.csv"
    dhcp4 = {
        "interfaces-config": {"interfaces": [interface]},
        "lease-database": {"type": "memfile", "name": str(leases)},
        "subnet4": [{"subnet": NETWORK, "pools": [{"pool": "-".join(RANGE)}]}],
        "loggers": [
            {"name": "kea-dhcp4", "severity": "INFO", "output_options": [{"output": "stdout"}]},
        ],
        **json.loads(printed),
    }
    (folder / "kea.json").write_text(json.dumps({"Dhcp4": dhcp4}))
    variables = ("KEA_PIDFILE_DIR", "KEA_LOCKFILE_DIR", "KEA_DHCP_DATA_DIR")
    argv = ("kea-dhcp4", "-c", str(folder / "kea.json"))
    environment = dict.fromkeys(variables, str(folder))
    with _running(namespace, argv, folder / "kea.log", "DHCP4_STARTED", environment) as pid:
        yield Site(pid=pid, log=folder / "kea.log", leases=leases)


@contextmanager
def site_isc(namespace: str, interface: str, folder: Path, printed: str) -> Iterator[Site]:
    """Run a site's ISC dhcpd whose dhcpd.conf includes `printed`."""
    (folder / "firstlight.conf").write_text(printed)
    leases = folder / "dhcpd.leases"
    leases.touch()
    subnet = f"subnet 10.77.0.0 netmask 255.255.255.0 {{ range {' '.join(RANGE)}; }}"
    (folder / "dhcpd.conf").write_text(
        f'authoritative;\nping-check false;\ninclude "{folder}/firstlight.conf";\n{subnet}\n'
    )
    argv = (
        *("dhcpd", "-4", "-f", "-d", "-cf", str(folder / "dhcpd.conf"), "-lf", str(leases)),
        *("-pf", str(folder / "dhcpd.pid"), "--no-pid", interface),
    )
    with _running(namespace, argv, folder / "dhcpd.log", "Server starting service") as pid:
        yield Site(pid=pid, log=folder / "dhcpd.log", leases=leases)


SERVERS: Mapping[str, Callable[..., object]] = {
    "dnsmasq": site_dnsmasq,
    "kea": site_kea,
    "isc-dhcpd": site_isc,
}
"""By the name under which `dhcp-options` prints for it."""


@contextmanager
def _running(
    namespace: str,
    argv: tuple[str, ...],
    log: Path,
    started: str,
    environment: Mapping[str, str] | None = None,
) -> Iterator[int]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            ("ip", "netns", "exec", namespace, *argv),
            stdout=output,
            stderr=output,
            env={**os.environ, **(environment or {})},
        )
    try:
        assert wait_for(lambda: started in log.read_text(), 20), log.read_text()
        yield process.pid
    finally:
        process.kill()
        process.wait()
