"""GET /boot.ipxe and GET /ipxe: what a machine that boots from the network does next."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from flask import Response, request

from bootstrap.artifacts import Manifest
from bootstrap.boot import Boot, Discover, Install, Leave, Local, Rescue, Wait, decide, decide_unknown
from bootstrap.errors import RenderError, StateError
from bootstrap.families import DISCOVER, LiveBoot
from bootstrap.model import BootFromDisk, Cluster, Machine, Pool
from bootstrap.records import transitions
from bootstrap.records.evidence import said_evidence
from bootstrap.records.ledger import Change
from bootstrap.records.model import MachineRecord
from bootstrap.render import ipxe
from bootstrap.render.machines import family_of
from web import evidence, lastknown, story
from web.answers import Answer, Refusal, refusal, response_of, text, text_answer
from web.discovery import inventory_image
from web.hot import Hot
from web.identity import Asker, asker_from
from web.images import lack_of, url_of
from web.listeners import Access, Routes
from web.site import Site
from web.unlisted import card_of

log = logging.getLogger(__name__)

OTHER_ARCHS = frozenset({"arm32", "arm64", "loong64", "riscv32", "riscv64"})
"""What iPXE says (${buildarch}) on machines that our images are not for."""
IMAGE_ARGUMENT = "firstlight.image"
"""The kernel argument by which a live system knows which one it is (configs/installer/discover reads it)."""


def add(routes: Routes, site: Site) -> Hot:
    """Add the routes; return the one that a whole rack asks at once."""

    @routes.get("/boot.ipxe", Access.PUBLIC)
    def introduce() -> Response:
        return text(ipxe.boot_ipxe(site.cluster.base_url))

    @routes.get("/ipxe", Access.PUBLIC)
    def boot() -> Response:
        return response_of(answered(site, asker_from(request.args)))

    @routes.get("/ipxe/leave", Access.PUBLIC)
    def leave() -> Response:
        return text(leaving(site, asker_from(request.args)))

    return Hot("/ipxe", "GET", Access.PUBLIC, lambda asked: answered(site, asker_from(asked.query)))


def leaving(site: Site, asker: Asker) -> str:
    """Return the script that ends iPXE, for a machine whose answer is the 404 of `http-404`; nothing is recorded.

    Raises:
        Refusal: 404, it has another answer.
        StateError: the store cannot be read.
    """
    given = _decided(site, asker, loading(site, asker.mac), site.ledger.machine(asker.mac))
    if isinstance(given, Local | Leave) and given.method == "http-404":
        return _ending(given)
    raise Refusal(404, "ask /ipxe")


def answered(site: Site, asker: Asker) -> Answer:
    """Return what `asker` does next as an answer to its iPXE, and record that it asked.

    A store that cannot write is logged and never keeps a machine from booting.

    Raises:
        StateError: the store cannot be read, and nothing is known from before.
    """
    cluster = site.cluster  # identify, match
    load = loading(site, asker.mac, asker.said.arch)
    boot = recorded(site, asker, lambda record: _decided(site, asker, load, record))  # decide, record
    script = script_of(boot, cluster, load, asker)  # render
    return refusal(404, boot.reason) if script is None else text_answer(script)


def _decided(site: Site, asker: Asker, load: "Loading", record: MachineRecord | None) -> Boot:
    key = load.image.key if load.image else None
    if load.machine is None and record is None:
        discovers = site.cluster.appliance.discovery and bool(site.discovery)
        owner, seen = card_of(site, asker.mac), site.strangers.inventory(asker.mac)
        in_use = seen is not None and seen.is_in_use
        return decide_unknown(asker.mac, discovers=discovers, image=key, listed_as=owner, is_in_use=in_use)
    method: BootFromDisk = "localboot"
    if load.machine is not None:
        method = site.cluster.boot_from_disk_method_of(load.machine)
    return decide(load.machine, record, image=key, lack=load.lack, method=method)


@dataclass(frozen=True, kw_only=True)
class Loading:
    """What a machine may be told to load: its place in the configuration (None: it has none), a pool and its image.

    `lack` says why there is no image, if there is none.
    """

    machine: Machine | None = None
    pool: Pool | None = None
    image: Manifest | None = None
    lack: str = ""


def loading(site: Site, mac: str, arch: str = "") -> Loading:
    """Return what the machine `mac` may load; one that nobody listed, what can look at it.

    A machine whose iPXE says that it is for another processor than our images (`arch`) may load none of them.
    """
    machine = site.cluster.machine_by_mac(mac)
    if machine is None:
        pool, image = inventory_image(site) or (None, None)
        return Loading(pool=pool, image=None if arch in OTHER_ARCHS else image)
    pool = site.cluster.pool(machine.pool)
    if arch in OTHER_ARCHS:
        return Loading(machine=machine, pool=pool, lack=f"is for x86-64 machines, and this one is {arch}")
    image = site.images(pool)
    return Loading(
        machine=machine, pool=pool, image=image, lack=lack_of(site.images, pool) if image is None else ""
    )


def recorded(site: Site, asker: Asker, decided: Callable[[MachineRecord | None], Boot]) -> Boot:
    """Return the decision from what is known of the machine, which then includes that it asked."""
    found: list[Boot] = []

    def act(record: MachineRecord | None, now: datetime) -> Change:
        claimed = evidence.claim(site, record, now, said_evidence(asker.said)) if record else Change()
        known = claimed.record or record
        boot, keep = story.judged(site, known, decided(known), now)
        found.append(boot)
        asked = _asked(known, asker, boot)
        # Of a boot that begins a conflict, the conflict is the news.
        return keep(Change(record=asked.record or known, note=claimed.note or asked.note))

    try:
        written = site.ledger.change(asker.mac, act)
        if written is None and site.unknown_buckets.take("stranger"):
            site.strangers.saw(asker.mac, asker.said)
        elif written is not None:
            evidence.tell_others(site, asker.mac)
    except StateError as error:
        log.warning("%s: the boot is answered but not recorded: %s", asker.mac, error)
        # What was decided may rest on a change that was not written either.
        record, is_stale = lastknown.machine(site, asker.mac, error)
        return lastknown.marked(decided(record)) if is_stale else decided(record)
    return found[-1]


def script_of(boot: Boot, cluster: Cluster, load: Loading, asker: Asker) -> str | None:
    """Return the iPXE script of a decision; None if there is none, and a 404 says so.

    Raises:
        RenderError: something in it is outside iPXE's safe character set.
    """
    match boot:
        case Install(arm=arm, reason=reason):
            return _live(cluster, load, asker, arm=arm, reason=reason)
        case Discover(reason=reason):
            return _live(cluster, load, asker, arm=DISCOVER, reason=reason)
        case Local() | Leave():
            return _out(boot, cluster, asker)
        case Wait(reason=reason, seconds=seconds):
            return ipxe.wait_script(reason, seconds, cluster.base_url)
        case Rescue(reason=reason, lines=lines, seconds=seconds):
            return ipxe.rescue_script(reason, lines, seconds, cluster.base_url)


def _out(boot: Local | Leave, cluster: Cluster, asker: Asker) -> str | None:
    """Return the script that ends the network boot by the machine's way; None where that is a 404."""
    if boot.method == "http-404":
        return None
    if boot.method == "localboot":
        # A machine that names no platform cannot be an iPXE of ours; this script ends in the firmware's own order.
        return ipxe.local_script(asker.firmware or "uefi", boot.reason, cluster.base_url)
    return ipxe.sanboot_script(boot.reason) if boot.method == "ipxe-sanboot" else _ending(boot)


def _ending(boot: Local | Leave) -> str:
    """Return the script that ends iPXE, and says whether there is a disk of ours to go on to."""
    return ipxe.exit_script(boot.reason) if isinstance(boot, Local) else ipxe.leave_script(boot.reason)


def _live(cluster: Cluster, load: Loading, asker: Asker, *, arm: str, reason: str) -> str:
    """Return the script that starts the live system."""
    if load.pool is None or load.image is None:
        raise RenderError(f"{asker.mac}: decided to start what has no place or no image")
    extra = load.pool.kernel_args
    if arm == DISCOVER:
        # It tells us which live system it runs: one that is accepted goes on in it, if its pool's is the same.
        extra = (*extra, f"{IMAGE_ARGUMENT}={load.image.initrd.sha256}")
    rootfs = url_of(cluster, load.image.rootfs) if load.image.rootfs else None
    live = LiveBoot(mac=asker.mac, base_url=cluster.base_url, arm=arm, rootfs_url=rootfs, extra=extra)
    return ipxe.install_script(
        kernel_url=url_of(cluster, load.image.kernel),
        initrd_url=url_of(cluster, load.image.initrd),
        kernel_args=family_of(load.pool).live_args(live),
        base=cluster.base_url,
        reason=reason,
    )


def _asked(record: MachineRecord | None, asker: Asker, boot: Boot) -> Change:
    if record is None:
        return Change()
    return transitions.asked(
        record,
        firmware=asker.firmware,
        said=asker.said,
        decision=type(boot).__name__.lower(),
        reason=boot.reason,
    )
