"""GET /boot.ipxe and GET /ipxe: what a machine that boots from the network does next."""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from flask import Response, request

from bootstrap.artifacts import Manifest
from bootstrap.boot import Boot, Discover, Install, Leave, Local, Rescue, Wait, decide, decide_unknown
from bootstrap.errors import RenderError, StateError
from bootstrap.families import DISCOVER, LiveBoot
from bootstrap.gpu.images import in_image
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
from web.images import image_of, lack_of, path_of
from web.listeners import LISTENER_HEADER, STAGE_A, Routes, base_of
from web.site import Site
from web.unlisted import card_of

log = logging.getLogger(__name__)

OTHER_ARCHS = frozenset({"arm32", "arm64", "loong64", "riscv32", "riscv64"})
"""What iPXE says (${buildarch}) on machines that our images are not for."""
IMAGE_ARGUMENT = "firstlight.image"
"""The kernel argument by which a live system knows which one it is (configs/installer/discover reads it)."""


def add(routes: Routes, site: Site) -> Hot:
    """Add the routes; return the one that a whole rack asks at once."""

    def listener() -> str:
        return request.headers.get(LISTENER_HEADER, "")

    @routes.get("/boot.ipxe", *STAGE_A)
    def introduce() -> Response:
        return text(ipxe.boot_ipxe(base_of(site.cluster, listener())))

    @routes.get("/ipxe", *STAGE_A)
    def boot() -> Response:
        return response_of(answered(site, asker_from(request.args), listener()))

    @routes.get("/ipxe/leave", *STAGE_A)
    def leave() -> Response:
        return text(leaving(site, asker_from(request.args)))

    return Hot("/ipxe", "GET", STAGE_A, lambda asked: answered(site, asker_from(asked.query), asked.listener))


def leaving(site: Site, asker: Asker) -> str:
    """Return the script that ends iPXE, for a machine whose answer is the 404 of `http-404`; nothing is recorded.

    Raises:
        Refusal: 404, it has another answer.
        StateError: the store cannot be read, and nothing is known from before.
    """
    record, is_stale = lastknown.machine(site, asker.mac)
    given = _decided(site, asker, loading(site, asker.mac), record)
    if is_stale:
        given = lastknown.marked(given)
    if isinstance(given, Local | Leave) and given.method == "http-404":
        return _ending(given)
    raise Refusal(404, "ask /ipxe")


def answered(site: Site, asker: Asker, listener: str) -> Answer:
    """Return what `asker` does next as an answer to its iPXE, and record that it asked.

    Its script names URLs of the `listener` that it asked on. A store that cannot write is logged and never keeps a
    machine from booting.

    Raises:
        StateError: the store cannot be read, and nothing is known from before.
    """
    cluster = site.cluster  # identify, match
    load = loading(site, asker.mac, asker.said.arch)
    boot = recorded(site, asker, lambda record: _decided(site, asker, load, record))  # decide, record
    load = set_back(site, load) if isinstance(boot, Install) else load
    script = script_of(boot, cluster, load, asker, base_of(cluster, listener))  # render
    return refusal(404, boot.reason) if script is None else text_answer(script)


def _decided(site: Site, asker: Asker, load: "Loading", record: MachineRecord | None) -> Boot:
    key = load.image.key if load.image else None
    if load.machine is None and record is None:
        discovers = site.cluster.appliance.discovery and bool(site.discovery)
        owner, seen = card_of(site, asker.mac), site.strangers.inventory(asker.mac)
        in_use = seen is not None and seen.is_in_use
        return decide_unknown(
            asker.mac,
            discovers=discovers,
            image=key,
            listed_as=owner,
            is_in_use=in_use,
            other_arch=asker.said.arch if asker.said.arch in OTHER_ARCHS else "",
        )
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


def set_back(site: Site, load: Loading) -> Loading:
    """Return what a machine loads to install: the system of the image that it was set back to, if it was.

    Where that is not there, or nobody can tell, it is the pool's: what is written is decided later (`begin`).
    """
    if load.machine is None or load.pool is None or in_image(load.pool) is None:
        return load
    with suppress(StateError):
        record, _ = lastknown.machine(site, load.machine.mac)
        image = image_of(site.images, load.pool, record.pin if record else None)
        return replace(load, image=image or load.image)
    return load


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


def script_of(boot: Boot, cluster: Cluster, load: Loading, asker: Asker, base: str) -> str | None:
    """Return the iPXE script of a decision; None if there is none, and a 404 says so.

    `base` is the appliance's URL that the script goes on with, by HTTP or by HTTPS.

    Raises:
        RenderError: something in it is outside iPXE's safe character set.
    """
    match boot:
        case Install(arm=arm, reason=reason):
            return _live(cluster, load, asker, base, arm=arm, reason=reason)
        case Discover(reason=reason):
            return _live(cluster, load, asker, base, arm=DISCOVER, reason=reason)
        case Local() | Leave():
            return _out(boot, asker, base)
        case Wait(reason=reason, seconds=seconds):
            return ipxe.wait_script(reason, seconds, base)
        case Rescue(reason=reason, lines=lines, seconds=seconds):
            return ipxe.rescue_script(reason, lines, seconds, base)


def _out(boot: Local | Leave, asker: Asker, base: str) -> str | None:
    """Return the script that ends the network boot by the machine's way; None where that is a 404."""
    if boot.method == "http-404":
        return None
    if boot.method == "localboot":
        # A machine that names no platform cannot be an iPXE of ours; this script ends in the firmware's own order.
        return ipxe.local_script(asker.firmware or "uefi", boot.reason, base)
    return ipxe.sanboot_script(boot.reason) if boot.method == "ipxe-sanboot" else _ending(boot)


def _ending(boot: Local | Leave) -> str:
    """Return the script that ends iPXE, and says whether there is a disk of ours to go on to."""
    return ipxe.exit_script(boot.reason) if isinstance(boot, Local) else ipxe.leave_script(boot.reason)


def _live(cluster: Cluster, load: Loading, asker: Asker, base: str, *, arm: str, reason: str) -> str:
    """Return the script that starts the live system."""
    if load.pool is None or load.image is None:
        raise RenderError(f"{asker.mac}: decided to start what has no place or no image")
    extra = load.pool.kernel_args
    if arm == DISCOVER:
        # It tells us which live system it runs: one that is accepted goes on in it, if its pool's is the same.
        extra = (*extra, f"{IMAGE_ARGUMENT}={load.image.initrd.sha256}")
    family = family_of(load.pool)
    # iPXE trusts our CA; the live system, which fetches the rest, does so where its family lets us say so.
    trust = family.authorities if base == cluster.secure_url else ""
    onwards = cluster.secure_url if trust else cluster.base_url
    rootfs = f"{onwards}/{path_of(load.image.rootfs)}" if load.image.rootfs else None
    live = LiveBoot(mac=asker.mac, base_url=onwards, arm=arm, rootfs_url=rootfs, extra=extra)
    return ipxe.install_script(
        kernel_url=f"{base}/{path_of(load.image.kernel)}",
        initrd_url=f"{base}/{path_of(load.image.initrd)}",
        kernel_args=family.live_args(live),
        base=base,
        reason=reason,
        authority=trust,
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
