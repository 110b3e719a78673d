"""Rules of the virtual rack."""

from collections.abc import Callable, Iterator

from bootstrap.config.cross.addresses import layout_of
from bootstrap.config.cross.names import HOSTS
from bootstrap.config.cross.view import View
from bootstrap.config.tree import Path
from bootstrap.errors import Problem
from bootstrap.model.addresses import address_from
from bootstrap.model.base import shown

LONGEST_SERIAL = {"virtio": 20, "nvme": 20, "scsi": 36}
"""Characters of a serial number that virtual hardware keeps (20 bytes by the specs of virtio and NVMe)."""


def disk_serials(view: View) -> Iterator[Problem]:
    """A serial number is whole, and names one disk of its machine."""
    for machine in view.each("lab", "machines"):
        seen: dict[str, Path] = {}
        for disk in view.each(*machine, "disks"):
            path, serial = (*disk, "serial"), view.text(*disk, "serial")
            bus = view.text(*disk, "bus") or "virtio"
            longest = LONGEST_SERIAL.get(bus)
            if serial and longest and len(serial) > longest:
                yield view.problem(
                    path,
                    f"{shown(serial)} is cut by {bus} at {longest} characters; write {serial[:longest]!r}",
                )
            if serial and serial in seen:
                yield view.problem(
                    path, f"{serial!r} is taken ({view.where(seen[serial])}); write another one"
                )
            seen.setdefault(serial or "", path)


def hosts_on_the_rack(view: View) -> Iterator[Problem]:
    """A host of the lab is on the private network, as no packet leaves it."""
    layout = layout_of(view)
    virtual = {view.text(*item, "name") for item in view.each("lab", "hosts")}
    for item in view.each(*HOSTS):
        address = view.read(address_from, *item, "address")
        if address is None or layout.network is None or view.text(*item, "name") not in virtual:
            continue
        if address not in layout.network:
            advice = f"write {layout.free.removeprefix('such as ')}, or take it out of lab.hosts"
            yield view.problem(
                (*item, "address"), f"{address} of a host of the lab is outside {layout.network}; {advice}"
            )


RULES: tuple[Callable[[View], Iterator[Problem]], ...] = (disk_serials, hosts_on_the_rack)
