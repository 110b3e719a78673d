"""Flatcar's release servers: a folder per version, each file with its sums and its signature beside it."""

import re

from bootstrap.errors import PreflightError
from bootstrap.mirror.item import Ask, Digest, Item, Wanted
from bootstrap.mirror.pools import releases
from bootstrap.mirror.sources import Source
from bootstrap.mirror.sums import sum_under
from bootstrap.model import Cluster

FAMILY = "flatcar"
HOST = "https://{channel}.release.flatcar-linux.net"
BOARD = "amd64-usr"
CHANNELS = {"0": "alpha", "1": "beta", "2": "stable", "3": "lts"}
"""By the second number of a version."""
FILES = (
    "flatcar_production_pxe.vmlinuz",
    "flatcar_production_pxe_image.cpio.gz",
    "flatcar_production_image.bin.bz2",
)
SHA512_DIGITS = 128
_VERSION = re.compile(r"^FLATCAR_VERSION(?:_ID)?=\"?(\d+\.\d+\.\d+)\"?\s*$", re.MULTILINE)


def wanted(cluster: Cluster) -> tuple[Wanted, ...]:
    """Return each release of the pools: a version such as 4593.2.5, or a channel."""
    return tuple(_wanted(release, cluster) for release in releases(cluster, FAMILY))


def _wanted(release: str, cluster: Cluster) -> Wanted:
    is_channel = release in CHANNELS.values()
    channel = release if is_channel else CHANNELS.get([*release.split("."), "", ""][1], "stable")
    copy = cluster.mirror.flatcar
    base = f"{copy.rstrip('/')}/{channel}" if copy else HOST.format(channel=channel)
    return Wanted(
        source=FAMILY,
        name=FAMILY,
        version=release,
        url=f"{base}/{BOARD}",
        is_channel=is_channel,
        keys=cluster.mirror.keys.flatcar,
    )


def newest(wanted: Wanted, ask: Ask) -> str:
    """Return the version that the channel is at; raises PreflightError when it says none."""
    return _version(f"{wanted.url}/current/version.txt", wanted, ask)


def items(wanted: Wanted, ask: Ask) -> tuple[Item, ...]:
    """Return the files of the release; raises PreflightError when its folder holds another or states no sums."""
    folder = f"{wanted.url}/{wanted.version}"
    found = _version(f"{folder}/version.txt", wanted, ask)
    if found != wanted.version:
        raise PreflightError(
            f"{folder} holds Flatcar {found}, not {wanted.version}; write {found} in os.release, or ask its owner"
        )
    return tuple(_item(folder, name, wanted, ask) for name in FILES)


def _version(url: str, wanted: Wanted, ask: Ask) -> str:
    match = _VERSION.search(ask.signed(url, wanted.keys))
    if match is None:
        raise PreflightError(f"{url} names no version; is mirror.flatcar right?")
    return match[1]


def _item(folder: str, name: str, wanted: Wanted, ask: Ask) -> Item:
    url = f"{folder}/{name}"
    sum_ = sum_under("SHA512", name, ask.signed_if_there(f"{url}.DIGESTS", wanted.keys), SHA512_DIGITS)
    if sum_ is None:
        raise PreflightError(f"{url}.DIGESTS holds no SHA512 sum of {name}; ask its owner")
    path = f"{FAMILY}/{BOARD}/{wanted.version}/{name}"
    return Item(path=path, url=url, digest=Digest("sha512", sum_), is_signed=True)


PLUGIN = Source(title="Flatcar's images", wanted=wanted, items=items, newest=newest)
