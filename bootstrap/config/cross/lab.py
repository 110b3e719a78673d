"""Rules of the virtual rack."""

from collections.abc import Callable, Iterator

from bootstrap.config.cross.view import View
from bootstrap.config.tree import Path
from bootstrap.errors import Problem
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


RULES: tuple[Callable[[View], Iterator[Problem]], ...] = (disk_serials,)
