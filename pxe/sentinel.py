"""Looks each minute for DHCP servers that should not be there, and says who they are until they are gone."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping
from ipaddress import IPv4Address

from bootstrap.model import Appliance
from pxe.events import Event, Kind
from pxe.packets import Answer

log = logging.getLogger("pxe")

PERIOD_SECONDS = 60.0  # from one question to the next; with its 5 s of patience, a new server is known in 65
MISSES = 2  # questions without an answer until a server counts as gone: one packet may get lost

Asked = Callable[[], Collection[Answer]]


def allowed_of(appliance: Appliance) -> frozenset[IPv4Address] | None:
    """Return the servers that may answer: we, and the site's; None if nobody has said which those are.

    Beside another server (mode proxy or off) with no `upstream` named, every one could be the right one.
    """
    dhcp = appliance.dhcp
    if dhcp.mode != "server" and not dhcp.upstream:
        return None
    return frozenset({appliance.address.ip, *dhcp.upstream})


class Sentinel:
    """Knows which strange servers answered last; `ask` questions the segment, `report` takes each event."""

    def __init__(
        self,
        ask: Asked,
        allowed: Collection[IPv4Address],
        report: Callable[[Event], None],
        *,
        period_seconds: float = PERIOD_SECONDS,
    ) -> None:
        self._ask = ask
        self._allowed = frozenset(allowed)
        self._report = report
        self._period = period_seconds
        self._misses: dict[tuple[IPv4Address, str], int] = {}  # of each strange server that is known
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sentinel", daemon=True)

    def start(self) -> None:
        """Look at once, and then once per period, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; does not wait for the question that is being asked."""
        self._end.set()

    def look(self) -> None:
        """Ask once; report each strange server that answered, and once each that is gone.

        A known one is reported again each time: web forgets what it hears of no more.

        Raises:
            OSError: the interface is gone.
        """
        strange = {(a.server, a.mac): a for a in self._ask() if a.server not in self._allowed}
        for key, answer in sorted(strange.items()):
            if key not in self._misses:
                log.error("ALARM: another DHCP server answers: %s", answer)
            self._misses[key] = 0
            self._report(_event(Kind.ROGUE_DHCP, key, f"another DHCP server answers: {answer}"))
        self._forget(strange)

    def _forget(self, strange: Mapping[tuple[IPv4Address, str], Answer]) -> None:
        for key in [key for key in self._misses if key not in strange]:
            self._misses[key] += 1
            if self._misses[key] >= MISSES:
                del self._misses[key]
                server, mac = key
                text = f"the DHCP server {server} (MAC {mac}) answers no more"
                log.warning("%s", text)
                self._report(_event(Kind.ROGUE_DHCP_GONE, key, text))

    def _run(self) -> None:
        while not self._end.is_set():
            begun = time.monotonic()
            try:
                self.look()
            except OSError as error:
                log.warning("could not look for other DHCP servers: %s", error)
            except Exception:
                # The thread is the only one of its kind: whatever went wrong, the next round is to happen.
                log.exception("could not look for other DHCP servers")
            self._end.wait(max(0.0, begun + self._period - time.monotonic()))


def _event(kind: Kind, key: tuple[IPv4Address, str], detail: str) -> Event:
    server, mac = key
    return Event(mac=mac, kind=kind, detail=detail, address=str(server))


def hostname() -> bytes:
    """Return what our question says in option 12: whose it is, for the log of the server that hears it."""
    return b"firstlight-sentinel-" + socket.gethostname().split(".")[0].encode()[:40]
