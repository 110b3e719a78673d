"""What the network boot of a machine looked like from here, in the words that web understands."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

LONGEST_TEXT = 200  # characters: a line on a screen; option 60 may bring 255 bytes of anything


class Kind(StrEnum):
    """What was seen: the DHCP messages of RFC 2131, the ends that a TFTP transfer can have, and what we make of it."""

    DISCOVER = "discover"
    OFFER = "offer"
    REQUEST = "request"
    ACK = "ack"
    NAK = "nak"
    DECLINE = "decline"
    RELEASE = "release"
    INFORM = "inform"
    TFTP_SENT = "tftp-sent"
    TFTP_FAILED = "tftp-failed"
    TFTP_NOT_FOUND = "tftp-not-found"
    TFTP_OACK_UNHEARD = "tftp-oack-unheard"
    NO_LOADER = "no-loader"
    ROGUE_DHCP = "rogue-dhcp"
    ROGUE_DHCP_GONE = "rogue-dhcp-gone"


_OF_SERVERS = frozenset({Kind.ROGUE_DHCP, Kind.ROGUE_DHCP_GONE})


@dataclass(frozen=True, kw_only=True)
class Event:
    """One observation of the machine (or the strange DHCP server) with `mac`; it never decides anything.

    `mac` is lower case with colons, or empty where only `address` (dotted IPv4) is known. `detail` is text
    for people, already cleaned. `arch` is DHCP option 93 (RFC 4578), None if the machine did not say;
    `firmware` is what our dnsmasq.conf took it for, said once per packet. `at` is when it was seen, in seconds
    since the epoch, as far as that is known.
    """

    mac: str
    kind: Kind
    detail: str
    arch: int | None = None
    address: str = ""
    firmware: str = ""
    at: float | None = field(default=None, compare=False)

    def as_json(self) -> Mapping[str, str | int | float | None]:
        """Return the object that POST /v1/pxe/events takes."""
        said = {"mac": self.mac, "kind": self.kind.value, "detail": self.detail, "arch": self.arch}
        said |= {"server": self.address} if self.kind in _OF_SERVERS else {}
        return said if self.at is None else {**said, "at": self.at}


def clean(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return `text` on one line, without control characters, and at most `longest` characters long.

    A machine chooses its vendor class, host name and file names freely: a terminal that shows them must not
    obey them, and a log must not grow by them.
    """
    if len(text) <= longest and text.isprintable():
        return text
    printable = "".join(character for character in text[: 4 * longest] if character.isprintable())
    return printable if len(printable) <= longest else printable[: longest - 1] + "…"
