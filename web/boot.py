"""GET /boot.ipxe and GET /ipxe: what a machine that boots from the network does next."""

import logging
from collections.abc import Callable
from datetime import datetime

from flask import Response, request

from bootstrap.artifacts import Manifest
from bootstrap.boot import Boot, Install, Leave, Local, Rescue, Wait, decide
from bootstrap.errors import RenderError, StateError
from bootstrap.families import LiveBoot
from bootstrap.model import Cluster, Machine
from bootstrap.records import transitions
from bootstrap.records.ledger import Change
from bootstrap.records.model import MachineRecord
from bootstrap.render import ipxe
from bootstrap.render.machines import family_of
from web import story
from web.answers import text, text_answer
from web.hot import Hot
from web.identity import Asker, asker_from
from web.images import lack_of, url_of
from web.listeners import Access, Routes
from web.site import Site

log = logging.getLogger(__name__)


def add(routes: Routes, site: Site) -> Hot:
    """Add the two routes; return the one that a whole rack asks at once."""

    @routes.get("/boot.ipxe", Access.PUBLIC)
    def introduce() -> Response:
        return text(ipxe.boot_ipxe(site.cluster.base_url))

    @routes.get("/ipxe", Access.PUBLIC)
    def boot() -> Response:
        return text(script(site, asker_from(request.args)))

    return Hot(
        "/ipxe", "GET", Access.PUBLIC, lambda asked: text_answer(script(site, asker_from(asked.query)))
    )


def script(site: Site, asker: Asker) -> str:
    """Return what `asker` does next, and record that it asked.

    A store that cannot write is logged and never keeps a machine from booting.

    Raises:
        StateError: the store cannot be read.
    """
    cluster = site.cluster  # identify, match
    machine = cluster.machine_by_mac(asker.mac)
    pool = cluster.pool(machine.pool) if machine else None
    image = site.images(pool) if pool else None
    lack = lack_of(site.images, pool) if pool and image is None else ""

    def decided(record: MachineRecord | None) -> Boot:
        return decide(machine, record, image=image.key if image else None, lack=lack)

    boot = recorded(site, asker, decided)  # decide, record
    return script_of(boot, cluster, machine, image, asker)  # render


def recorded(site: Site, asker: Asker, decided: Callable[[MachineRecord | None], Boot]) -> Boot:
    """Return the decision from what is known of the machine, which then includes that it asked."""
    found: list[Boot] = []

    def act(record: MachineRecord | None, now: datetime) -> Change:
        boot, keep = story.judged(site, record, decided(record), now)
        found.append(boot)
        return keep(_asked(record, asker, boot))

    try:
        if site.ledger.change(asker.mac, act) is None and site.unknown_buckets.take("stranger"):
            site.strangers.saw(asker.mac, asker.said)
    except StateError as error:
        log.warning("%s: the boot is answered but not recorded: %s", asker.mac, error)
        # What was decided may rest on a change that was not written either.
        return decided(site.ledger.machine(asker.mac))
    return found[-1]


def script_of(
    boot: Boot, cluster: Cluster, machine: Machine | None, image: Manifest | None, asker: Asker
) -> str:
    """Return the iPXE script of a decision.

    Raises:
        RenderError: something in it is outside iPXE's safe character set.
    """
    match boot:
        case Install():
            if machine is None or image is None:
                raise RenderError(f"{asker.mac}: decided to install what has no place or no image")
            return _install(boot, cluster, machine, image)
        case Local(reason=reason):
            # A machine that names no platform cannot be an iPXE of ours; this script ends in the firmware's own order.
            return ipxe.local_script(asker.firmware or "uefi", reason, cluster.base_url)
        case Wait(reason=reason, seconds=seconds):
            return ipxe.wait_script(reason, seconds, cluster.base_url)
        case Rescue(reason=reason, lines=lines, seconds=seconds):
            return ipxe.rescue_script(reason, lines, seconds, cluster.base_url)
        case Leave(reason=reason):
            return ipxe.leave_script(ipxe.unknown_reason(asker.mac) if machine is None else reason)


def _install(boot: Install, cluster: Cluster, machine: Machine, image: Manifest) -> str:
    pool = cluster.pool(machine.pool)
    live = LiveBoot(mac=machine.mac, base_url=cluster.base_url, arm=boot.arm, extra=pool.kernel_args)
    return ipxe.install_script(
        kernel_url=url_of(cluster, image.kernel),
        initrd_url=url_of(cluster, image.initrd),
        kernel_args=family_of(pool).live_args(live),
        base=cluster.base_url,
        reason=boot.reason,
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
