"""Fedora CoreOS's build server: a document per stream says where files are, their sums, and their signatures."""

import json
import re
from typing import Any

from bootstrap.errors import PreflightError, printable
from bootstrap.mirror.item import SIGNATURE, Ask, Digest, Item, Wanted
from bootstrap.mirror.pools import releases
from bootstrap.mirror.sources import Source
from bootstrap.mirror.sums import SHA256
from bootstrap.model import Cluster

FAMILY = "fedora-coreos"
SERVER = "https://builds.coreos.fedoraproject.org"
STREAMS = {"1": "next", "2": "testing", "3": "stable"}
"""By the third number of a version."""
ARCHITECTURE = "x86_64"
FILES = (
    ("pxe", "kernel", "kernel"),
    ("pxe", "initramfs", "initramfs"),
    ("pxe", "rootfs", "rootfs"),
    ("raw.xz", "disk", "metal"),
)
"""Format, role, and the word of the role in a file's name: who boots from the mirror goes by that."""
LONGEST = 4 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VERSION = re.compile(r"\d+\.\d+\.\d+\.\d+")
REMEDY = "name an https server in mirror.fedoraCoreos"


def wanted(cluster: Cluster) -> tuple[Wanted, ...]:
    """Return each release of the pools: a version such as 44.20260707.3.1, or a stream."""
    return tuple(_wanted(release, cluster) for release in releases(cluster, FAMILY))


def _wanted(release: str, cluster: Cluster) -> Wanted:
    is_channel = release in STREAMS.values()
    stream = release if is_channel else STREAMS.get([*release.split("."), "", "", ""][2], "stable")
    return Wanted(
        source=FAMILY,
        name=FAMILY,
        version=release,
        url=f"{(cluster.mirror.fedora_coreos or SERVER).rstrip('/')}/streams/{stream}.json",
        is_channel=is_channel,
        keys=cluster.mirror.keys.fedora_coreos,
    )


def newest(wanted: Wanted, ask: Ask) -> str:
    """Return the version that the stream is at; raises PreflightError when its document is damaged."""
    return _metal(wanted, ask)[0]


def items(wanted: Wanted, ask: Ask) -> tuple[Item, ...]:
    """Return the files of the release.

    Raises:
        PreflightError: the stream is at another release by now, or its document is damaged.
    """
    release, formats = _metal(wanted, ask)
    if release != wanted.version:
        raise PreflightError(
            f"{wanted.url} is at {release}, and tells nothing of {wanted.version} any more; "
            f"write {release} in os.release, or the stream's name"
        )
    try:
        return tuple(_item(formats[form][role], word, wanted) for form, role, word in FILES)
    except (KeyError, TypeError, AttributeError) as error:
        raise PreflightError(f"{wanted.url} lacks {error}: it is no stream of Fedora CoreOS") from error


def _metal(wanted: Wanted, ask: Ask) -> tuple[str, Any]:
    text = ask.stated(wanted.url, remedy=REMEDY, longest=LONGEST)
    try:
        metal = json.loads(text)["architectures"][ARCHITECTURE]["artifacts"]["metal"]
        release, formats = str(metal["release"]), metal["formats"]
    except (ValueError, KeyError, TypeError) as error:
        raise PreflightError(
            f"{wanted.url} is no stream of Fedora CoreOS ({error}); is mirror.fedoraCoreos right?"
        ) from error
    if not _VERSION.fullmatch(release):
        raise PreflightError(f"{wanted.url} is at {release[:40]!r}, which is no version; ask its owner")
    return release, formats


def _item(said: Any, word: str, wanted: Wanted) -> Item:
    """Return one file; its name tells what and of which version it is, and its signature is beside it."""
    url, sum_ = str(said["location"]), str(said["sha256"])
    name = url.rpartition("/")[2]
    is_named = _NAME.fullmatch(name) and f"-{wanted.version}-" in name and word in name
    if not is_named or said["signature"] != url + SIGNATURE or not SHA256.fullmatch(sum_):
        raise PreflightError(
            f"{wanted.url} names {printable(url)} for the {word} of {wanted.version}: ask its owner"
        )
    path = f"{FAMILY}/{ARCHITECTURE}/{wanted.version}/{name}"
    return Item(path=path, url=url, digest=Digest("sha256", sum_), is_signed=True)


PLUGIN = Source(title="Fedora CoreOS's images", wanted=wanted, items=items, newest=newest)
