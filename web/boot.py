"""GET /boot.ipxe and GET /ipxe: what a machine that boots from the network does next."""

import logging

from flask import Response, request

from bootstrap.artifacts import Manifest
from bootstrap.boot import Boot, Install, Leave, Local, Wait, decide
from bootstrap.errors import RenderError, StateError
from bootstrap.families import LiveBoot
from bootstrap.model import Cluster, Machine
from bootstrap.records import transitions
from bootstrap.records.ledger import Change
from bootstrap.records.model import MachineRecord
from bootstrap.render import ipxe
from bootstrap.render.machines import family_of
from web.answers import text
from web.identity import Asker, asker_from
from web.images import url_of
from web.listeners import Access, Routes
from web.site import Site

log = logging.getLogger(__name__)


def add(routes: Routes, site: Site) -> None:
    """Add the two routes."""

    @routes.get("/boot.ipxe", Access.PUBLIC)
    def introduce() -> Response:
        return text(ipxe.boot_ipxe(site.cluster.base_url))

    @routes.get("/ipxe", Access.PUBLIC)
    def boot() -> Response:
        asker, cluster = asker_from(request.args), site.cluster  # identify
        machine = cluster.machine_by_mac(asker.mac)  # match
        image = site.images(cluster.pool(machine.pool)) if machine else None
        record = site.ledger.machine(asker.mac)
        boot = decide(machine, record, image=image.key if image else None)  # decide
        script = script_of(boot, cluster, machine, image, asker)  # render
        note(site, asker, record, boot)  # record
        return text(script)


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


def note(site: Site, asker: Asker, record: MachineRecord | None, boot: Boot) -> None:
    """Record what was asked and answered; a failure is logged and never keeps a machine from booting."""
    try:
        if record is not None:
            site.ledger.change(asker.mac, lambda current, _: _asked(current, asker, boot))
        elif site.unknown_buckets.take("stranger"):
            site.strangers.saw(asker.mac, asker.said)
    except StateError as error:
        log.warning("%s: the boot was answered but not recorded: %s", asker.mac, error)


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
