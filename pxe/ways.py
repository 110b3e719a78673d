"""Speaks TFTP with some machines otherwise than dnsmasq does: those of the configuration, and those learned of."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address
from pathlib import Path

from bootstrap.errors import PreflightError
from bootstrap.model import Cluster
from pxe import nftables
from pxe.events import Event, Kind, clean
from pxe.learned import Learned, Who
from pxe.nftables import Redirects
from pxe.tap import Tap
from pxe.tftpd import NO_OPTIONS, SINGLE_PORTS, Servers, Way, way_of
from pxe.transfers import UNHEARD, Finding, Packet, Transfers

log = logging.getLogger("pxe")

LEARNED = "tftp-learned"  # below the work folder's run/


class Ways:
    """Which machine is spoken with in which way; `report` takes each event, `mac_at` knows machines by address.

    The configuration has the last word: of a machine of which it says anything about TFTP nothing is learned.
    """

    def __init__(
        self,
        cluster: Cluster,
        work: Path,
        runtime: Path,
        *,
        report: Callable[[Event], None],
        mac_at: Callable[[str], str],
    ) -> None:
        appliance = cluster.appliance
        self._cluster = cluster
        self._interface = appliance.interface
        self._own = appliance.address
        self._report, self._mac_at = report, mac_at
        self._configured = configured(cluster)
        listed: list[Who] = [machine.mac for machine in cluster.machines]
        listed += [machine.address for machine in cluster.machines if machine.address]
        self._learned = Learned(work / "run" / LEARNED, listed, time.time)
        self._servers = Servers(appliance.address.ip, runtime)
        self._transfers = Transfers()
        self._tap = Tap(appliance.interface, appliance.address.ip, self.take)
        self._lock = threading.Lock()
        self._serves = False

    def start(self) -> None:
        """Begin: for machines of the configuration before they can ask, for others as they show what they need.

        Raises:
            PreflightError: the configuration asks for it, and a program is missing or the kernel refuses.
        """
        self._servers.end_leftovers()
        self._learned.load()
        ways = {way for way in self._configured.values() if way is not None}
        try:
            self._servers.start({NO_OPTIONS, *ways})
            self._redirect()
            self._serves = True
        except (PreflightError, OSError) as error:
            self._end_serving()
            if ways:
                raise PreflightError(
                    f"machines need TFTP in another way (their key tftp): {error}"
                ) from error
            log.warning("no machine can be spoken TFTP with in another way than the usual one: %s", error)
        try:
            self._tap.start()
        except OSError as error:
            log.warning("nothing is learned about TFTP: %s", error)

    def stop(self) -> None:
        """Leave nothing behind: no process, no table."""
        self._tap.stop()
        self._end_serving()

    def take(self, packet: Packet) -> None:
        """Take a packet of TFTP from the wire."""
        if finding := self._transfers.take(packet, time.monotonic()):
            self._found(finding)

    def _found(self, finding: Finding) -> None:
        who, mac = self._who(finding.packet)
        file = clean(finding.file)
        if finding.is_sent:
            self._tell(Kind.TFTP_SENT, finding, mac, f"{file} {self._ways().get(who, NO_OPTIONS)}")
            return
        said = f"{file}: options were granted {UNHEARD} times, and the machine never answered"
        self._tell(Kind.TFTP_OACK_UNHEARD, finding, mac, f"{said}; {self._learn(who)}")

    def _learn(self, who: Who) -> str:
        """Return what follows from an OACK that `who` never answered."""
        if not self._serves:
            return "it needs TFTP without options, which is not there: see the log of pxe's start"
        if who not in self._configured:
            self._learned.add(who)
        try:
            self._redirect()  # also what is known already: a firewall that starts anew takes our table away
        except PreflightError as error:
            return str(error)
        if who in self._configured:
            return "the configuration says how TFTP is spoken with it"
        return "from now on it gets files without options"

    def _tell(self, kind: Kind, finding: Finding, mac: str, detail: str) -> None:
        address = str(finding.packet.address)
        level = logging.INFO if kind is Kind.TFTP_SENT else logging.WARNING
        log.log(level, "%s: %s: %s", mac or address, kind.value, detail)
        if mac:
            self._report(Event(mac=mac, kind=kind, detail=clean(detail), address=address, at=time.time()))

    def _who(self, packet: Packet) -> tuple[Who, str]:
        """Return by what we know the machine again, and its MAC as far as that is known."""
        if packet.address in self._own.network:
            return packet.mac, packet.mac
        return packet.address, self._mac_at(str(packet.address))

    def _ways(self) -> dict[Who, Way]:
        """Return how each is spoken with that is not spoken with as usual."""
        learned: dict[Who, Way | None] = dict.fromkeys(self._learned.all(), NO_OPTIONS)
        return {who: way for who, way in {**learned, **self._configured}.items() if way is not None}

    def _redirect(self) -> None:
        """Have the kernel send their requests where they belong.

        Raises:
            PreflightError: nft is not there or refused; what was before stays.
        """
        with self._lock:
            ports = {who: way.port for who, way in self._ways().items()}
            redirects = Redirects(
                interface=self._interface,
                address=self._own.ip,
                single=SINGLE_PORTS,
                by_mac={who: port for who, port in ports.items() if isinstance(who, str)},
                by_address={who: port for who, port in ports.items() if isinstance(who, IPv4Address)},
            )
            nftables.load(nftables.ruleset(redirects))

    def _end_serving(self) -> None:
        self._serves = False
        if nftables.program() is not None:
            try:
                nftables.remove(self._interface)
            except PreflightError as error:
                log.warning("%s", error)
        self._servers.stop()


def configured(cluster: Cluster) -> Mapping[Who, Way | None]:
    """Return the machines of which the configuration says how TFTP is spoken with them; None: as usual; pure.

    A machine behind a router is known by its address, if it has one that does not change.
    """
    usual = cluster.appliance.pxe.tftp.max_block_size
    own = cluster.appliance.address.network
    found: dict[Who, Way | None] = {}
    for machine in cluster.machines:
        if (tftp := cluster.tftp_of(machine)) is not None:
            found[machine.mac] = way_of(tftp, usual)
            if machine.address is not None and machine.address not in own:
                found[machine.address] = way_of(tftp, usual)
    return found
