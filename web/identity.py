"""Who asks, and from which address: parsed from what machines say, or refused."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Literal

from bootstrap.model import Cluster, mac_from
from bootstrap.records.model import Introduction
from bootstrap.records.said import short
from web.answers import Refusal

LONGEST_VALUE = 512  # an SMBIOS string, percent-encoded twice over
# iPXE's names (settings ${platform} and ${buildarch}).
PLATFORMS: Mapping[str, Literal["bios", "uefi"]] = {"pcbios": "bios", "efi": "uefi"}
_ARCH = re.compile(r"[a-z0-9_]{0,16}")
_UUID = re.compile(r"(?:[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12})?")


@dataclass(frozen=True, kw_only=True)
class Asker:
    """A machine as it introduces itself; `firmware` is None if it does not say."""

    mac: str
    firmware: Literal["bios", "uefi"] | None
    said: Introduction


def asker_from(query: Mapping[str, str]) -> Asker:
    """Return who asks.

    Raises:
        Refusal: 400 for a MAC, architecture or platform that makes no sense, or any value too long.
    """
    if any(len(value) > LONGEST_VALUE for value in query.values()):
        raise Refusal(400, f"a value is longer than {LONGEST_VALUE} characters")
    platform = query.get("platform", "")
    if platform and platform not in PLATFORMS:
        raise Refusal(400, "platform: pcbios or efi")
    return Asker(mac=mac_of(query.get("mac", "")), firmware=PLATFORMS.get(platform), said=_said(query))


def mac_of(text: str) -> str:
    """Return the MAC address in `text` with colons; raises Refusal 400 if there is none."""
    try:
        return mac_from(text)
    except ValueError as error:
        raise Refusal(400, "mac: six pairs of hexadecimal digits") from error


def local_address(cluster: Cluster, text: str) -> str:
    """Return the address that a machine names if it is of the machines' networks, else nothing: we connect to it."""
    try:
        address = IPv4Address(text)
    except ValueError:
        return ""
    return str(address) if cluster.is_local(address) else ""


def _said(query: Mapping[str, str]) -> Introduction:
    arch, uuid = query.get("arch", ""), query.get("uuid", "")
    if not _ARCH.fullmatch(arch):
        raise Refusal(400, "arch: at most 16 of a-z, 0-9 and _")
    # A machine whose firmware has no sensible UUID has none: it would be refused at every boot, for ever.
    uuid = uuid if _UUID.fullmatch(uuid) else ""
    # Makers write anything into these, blanks and 0xff included: they are kept as text to show, never used.
    texts = {name: short(query.get(name, "")) for name in ("serial", "manufacturer", "product")}
    return Introduction(uuid=uuid.lower(), arch=arch, platform=query.get("platform", ""), **texts)
