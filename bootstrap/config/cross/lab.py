"""Rules of the virtual rack."""

from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address

from bootstrap.config.cross.addresses import layout_of
from bootstrap.config.cross.names import HOSTS
from bootstrap.config.cross.view import View
from bootstrap.config.tree import Path
from bootstrap.errors import Problem
from bootstrap.model.addresses import address_from
from bootstrap.model.base import shown
from bootstrap.model.lab import LONGEST_BMC_USER, bmc_takes

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


def lab_bmcs(view: View) -> Iterator[Problem]:
    """A BMC of the lab has an address and port of its own, and is and speaks what OpenIPMI's ipmi_sim can."""
    if view.text("lab", "bmc") != "ipmi":
        return
    virtual = {view.text(*item, "name") for item in view.each("lab", "machines")}
    layout = layout_of(view)
    taken = {address: path for path, address in (*layout.hosts, *layout.machines)}
    places: dict[tuple[IPv4Address, str], Path] = {}
    found = False
    for item in view.each("machines"):
        power: Path = (*item, "power")
        if view.text(*item, "name") not in virtual or view.text(*power, "driver") != "ipmi":
            continue
        found = True
        if view.has(*power, "address") and (address := view.read(address_from, *power, "address")) is None:
            name = shown(view.raw(*power, "address"))
            text = f"{name} is a name, and the lab has no DNS; write an address such as 10.99.0.1"
            yield view.problem((*power, "address"), text)
        elif address is not None:
            yield from _place(view, power, address, places, taken)
        yield from _session(view, power)
    if not found:
        yield view.problem(
            ("lab", "bmc"), "no machine of the lab has power: {driver: ipmi, ...}; write it, or remove this"
        )


def _session(view: View, power: Path) -> Iterator[Problem]:
    """Check that ipmi_sim lets such a user in, by such a cipher suite."""
    if (user := view.text(*power, "user")) and not bmc_takes(user, LONGEST_BMC_USER):
        text = f"a BMC of the lab takes at most {LONGEST_BMC_USER} characters, none a quote or backslash"
        yield view.problem((*power, "user"), f"{shown(user)}: {text}; write a name such as admin")
    if view.raw(*power, "cipherSuite") != "3":
        yield view.problem(
            (*power, "cipherSuite"), "must be 3: BMCs of the lab speak no other; write cipherSuite: 3"
        )


def _place(
    view: View,
    power: Path,
    address: IPv4Address,
    places: dict[tuple[IPv4Address, str], Path],
    taken: Mapping[IPv4Address, Path],
) -> Iterator[Problem]:
    """Check that nobody else has the BMC's place on the rack's network."""
    path = (*power, "address")
    if address in taken:
        yield view.problem(path, f"{address} is taken ({view.where(taken[address])}); write another one")
    first = places.setdefault((address, view.raw(*power, "port") or "623"), path)
    if first != path:
        yield view.problem(
            path, f"{address} is taken ({view.where(first)}); write another one, or another port"
        )


RULES: tuple[Callable[[View], Iterator[Problem]], ...] = (disk_serials, hosts_on_the_rack, lab_bmcs)
