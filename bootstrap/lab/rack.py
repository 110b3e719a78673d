"""The rack as a whole: built, taken down, and each of its machines and hosts switched on and off."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from bootstrap.errors import LabError
from bootstrap.lab import accel, gateway, network, nextboot, qmp, requirements, ssh
from bootstrap.lab.bmcs import Bmcs
from bootstrap.lab.container import Container
from bootstrap.lab.host import port_of
from bootstrap.lab.hosts import Hosts
from bootstrap.lab.machine import (
    CARD,
    CARD_PLACES,
    Accel,
    Ovmf,
    Vm,
    argv,
    disk_file,
    variables_file,
    vms_from,
)
from bootstrap.lab.network import Network
from bootstrap.lab.power import Slot
from bootstrap.model import Cluster
from bootstrap.power import PowerState
from bootstrap.processes import end, running_pid
from bootstrap.progress import Progress, silent

PRIVATE = 0o700
END_SECONDS = 5.0
SWEEPS = 5  # a supervisor may start its part again while we end the processes of the namespace


class Rack:
    """The virtual rack of one cluster; it is made of `work`/lab and one network namespace."""

    def __init__(self, cluster: Cluster, work: Path) -> None:
        self._vms = {vm.name: vm for vm in vms_from(cluster)}
        self._work = work.resolve()
        port = cluster.kubernetes.endpoint_port
        self._servers = tuple(f"{host.address}:{port}" for host in cluster.control_plane.hosts)
        self._accel = cluster.lab.accel if cluster.lab else "auto"
        self._network = Network(
            namespace=f"fl-{cluster.metadata.name}",
            bridge=cluster.appliance.interface,
            address=cluster.appliance.address,
            owner=self._work,
        )
        self.hosts = Hosts.of(cluster, self._work, self._network)
        """The control-plane hosts that this computer runs."""
        self._bmcs = Bmcs.of(cluster, self._work, self._network)

    @property
    def namespace(self) -> str:
        """Return the name of the network namespace, as `ip netns` knows it."""
        return self._network.namespace

    @property
    def namespace_file(self) -> Path:
        """Return the file that stands for the network namespace."""
        return self._network.file

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the machines, in the order of the configuration."""
        return tuple(self._vms)

    def in_namespace(self, command: Sequence[str]) -> tuple[str, ...]:
        """Return the command that runs `command` on the rack's network."""
        return network.in_namespace(self.namespace, command)

    def up(
        self,
        progress: Progress = silent,
        host_roots: Mapping[bool, Path] | None = None,
        base: Path = Path(),
    ) -> None:
        """Build the network and the disks, start the BMCs and the hosts; what is there stays, what runs goes on.

        `host_roots` are the archives that hosts start from which have no root yet, by whether they are to be nodes
        (bootstrap/image/host.py). Relative paths of the configuration begin in `base`.

        Raises:
            LabError: something is missing, or the namespace is another run's; the text says what to do.
            UsageError: the password of a BMC cannot be read.
        """
        bmcs = self._bmcs.all
        requirements.check(tuple(self._vms.values()), hosts=bool(self.hosts.all), bmcs=bool(bmcs))
        network.check_owner(self._network)
        self._lab.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        progress("lab: trying whether KVM works")
        kind = self._chosen_accel()
        for slot in self._slots_in_use():
            if slot.folder.name not in {*self._vms, *self.hosts.all}:
                slot.switch_off()
        self.hosts.furnish(host_roots or {}, progress)
        progress(f"lab: network {self._network.address} in namespace {self.namespace}, accelerator {kind}")
        inner = {bmc.address for bmc in bmcs.values()} - {self._network.address.ip}
        network.build(self._network, [vm.tap for vm in self._vms.values()], inner)
        self._start_router()
        self._start_gateway()
        for vm in self._vms.values():
            progress(f"lab: disks of {vm.name}")
            self._furnish(vm, progress)
        self._bmcs.start(base, progress)
        self.hosts.start(progress)

    def down(self, progress: Progress = silent) -> None:
        """Switch everything off and remove all but disks, console logs and keys; also after a crash.

        Every process in the namespace ends, whoever started it. The namespace of another work folder with
        the same cluster name is not touched.

        Raises:
            LabError: there is something to take down, and we are not root or the kernel refused.
        """
        slots = (*self._slots_in_use(), *map(self.hosts.container, self.hosts.all))
        if not any(slot.folder.exists() for slot in slots) and not self._network.file.exists():
            return
        requirements.check_root()
        self._bmcs.end()
        for slot in slots:
            progress(f"lab: switching off {slot.folder.name}")
            slot.switch_off()
        self._verdict.unlink(missing_ok=True)
        if network.owner_of(self._network) in {None, self._network.alias}:
            self._end_processes()
            network.remove(self._network)
            self._router_pid_file.unlink(missing_ok=True)
            self._gateway_pid_file.unlink(missing_ok=True)

    def power_on(self, name: str) -> None:
        """Switch on a machine or a host; one that is on stays as it is.

        Raises:
            LabError: there is no such machine, the rack is not up, or QEMU did not start.
        """
        if name in self.hosts.all:
            self._check_network(f"host {name}")
            self.hosts.boot(name)
        else:
            self._power_on(self._vm(name))

    def _power_on(self, vm: Vm) -> None:
        requirements.check((vm,))
        self._check_network(f"machine {vm.name}")
        slot = Slot(self._lab / vm.name)
        if slot.pid() is not None:
            return
        chosen = nextboot.chosen(slot.folder)
        first = chosen or vm.boot
        command = argv(
            vm,
            accel=self._chosen_accel(),
            pid_file=slot.pid_file,
            ovmf=self._ovmf,
            first=first,
        )
        # What somebody chooses from now on is for the start after this one.
        nextboot.choose(slot.folder, None)
        try:
            slot.switch_on(self.in_namespace(command), self._work)
        except LabError:
            nextboot.choose(slot.folder, chosen)
            raise
        if first != vm.boot:
            _restore_order(slot, vm)

    def _chosen_accel(self) -> Accel:
        firmware = {self._ovmf if vm.is_uefi else None for vm in self._vms.values()}
        return accel.choose(self._accel, self._verdict, firmware)

    def _check_network(self, whose: str) -> None:
        if not network.is_namespace(self._network.file):
            raise LabError(f"{whose} cannot be switched on: the lab is down (lab up builds it)")

    def power_off(self, name: str) -> None:
        """Cut the power of a machine or a host: nothing in it is told. One that is off stays off.

        Raises:
            LabError: there is no such machine.
        """
        self._slot(name).switch_off()

    def netboot(self, name: str) -> None:
        """Let a machine boot from the network at its next start, and only then.

        Raises:
            LabError: there is no such machine, or the rack was never up.
        """
        vm = self._vm(name)
        if not (self._lab / vm.name).is_dir():
            raise LabError(f"machine {name} is not built yet (lab up builds it)")
        nextboot.choose(self._lab / vm.name, "network")

    @property
    def has_bmcs(self) -> bool:
        """Return whether a machine has a BMC."""
        return bool(self._bmcs.all)

    def network_first(self, name: str) -> bool:
        """Return whether a machine always tries the network before its disks."""
        return self._vm(name).boot == "network"

    def cycle(self, name: str) -> None:
        """Cut the power of a machine or a host and switch it on again; one that is off is switched on.

        Raises:
            LabError: as for `power_on`.
        """
        self.power_off(name)
        self.power_on(name)

    def states(self) -> Mapping[str, PowerState]:
        """Return of each host and each machine whether it is on."""
        return {name: self._slot(name).state() for name in (*self.hosts.all, *self._vms)}

    def freeze(self, name: str) -> None:
        """Stop every process of a host, as a hang would; what it has open stays open.

        Raises:
            LabError: there is no such host.
        """
        self._host(name).freeze()

    def thaw(self, name: str) -> None:
        """Let a frozen host go on.

        Raises:
            LabError: there is no such host.
        """
        self._host(name).thaw()

    def plug(self, name: str, *, connected: bool) -> None:
        """Plug a host's cable in or out; its next start plugs it in.

        Raises:
            LabError: there is no such host, or it is off.
        """
        network.set_port(self._network, port_of(self._host(name).folder), up=connected)

    def console(self, name: str) -> Path:
        """Return the socket of a machine's serial console, for `console.attach`.

        Raises:
            LabError: there is no such machine; a host has a log alone.
        """
        if name in self.hosts.all:
            raise LabError(f"{name} is a host, without a console to type at; read {self.console_log(name)}")
        return Slot(self._lab / self._vm(name).name).console

    def console_log(self, name: str) -> Path:
        """Return the file with everything that the console of a machine or a host said."""
        return self._slot(name).console_log

    def ssh_argv(self, address: str, known_hosts: Path, command: Sequence[str] = ()) -> tuple[str, ...]:
        """Return the command that runs `command` (none: a shell) as root on the machine at `address`."""
        key = ssh.key_file(self._work)
        return self.in_namespace(
            ssh.ssh_argv(key=key, address=address, known_hosts=known_hosts, command=command)
        )

    def destroy_disks(self) -> None:
        """Remove the machines' disks, firmware variables and console logs: they are new machines then.

        Raises:
            LabError: a machine is on; none was touched.
        """
        slots = self._slots_in_use()
        running = [slot.folder.name for slot in slots if slot.state() is not PowerState.OFF]
        if running:
            raise LabError(f"switch off first: {', '.join(running)}")
        for slot in slots:
            shutil.rmtree(slot.folder)

    @property
    def _lab(self) -> Path:
        return self._work / "lab"

    @property
    def _verdict(self) -> Path:
        return self._lab / "accel"

    @cached_property
    def _ovmf(self) -> Ovmf | None:
        return requirements.find_ovmf()

    def _vm(self, name: str) -> Vm:
        if name not in self._vms:
            known = ", ".join((*self.hosts.all, *self._vms))
            raise LabError(f"no machine {name} in the lab; there are: {known}")
        return self._vms[name]

    def _host(self, name: str) -> Container:
        if name not in self.hosts.all:
            known = ", ".join(self.hosts.all) or "none"
            raise LabError(f"no host {name} in the lab; there are: {known}")
        return self.hosts.container(name)

    def _slot(self, name: str) -> Slot | Container:
        return self._host(name) if name in self.hosts.all else Slot(self._lab / self._vm(name).name)

    def _slots_in_use(self) -> tuple[Slot | Container, ...]:
        """Return the slots that are on the disk, also those of machines and hosts that left the configuration."""
        if not self._lab.is_dir():
            return ()
        return tuple(_slot_at(path) for path in sorted(self._lab.iterdir()) if path.is_dir())

    def _furnish(self, vm: Vm, progress: Progress) -> None:
        (self._lab / vm.name).mkdir(mode=PRIVATE, exist_ok=True)
        for disk in vm.disks:
            with (self._work / disk_file(vm, disk)).open("ab") as file:
                if file.tell() == 0:
                    file.truncate(disk.size)
                elif file.tell() != disk.size:
                    progress(f"lab: disk {disk.serial} of {vm.name} keeps its {file.tell()} bytes")
        if vm.is_uefi and self._ovmf:
            self._copy_variables(vm, self._ovmf)

    def _copy_variables(self, vm: Vm, ovmf: Ovmf) -> None:
        """Give the machine its own copy of the firmware's variables: there whole, or not at all."""
        target = self._work / variables_file(vm, ovmf)
        if target.exists():
            return
        partial = target.with_name(f"{target.name}.partial")
        shutil.copyfile(ovmf.variables, partial)
        partial.replace(target)

    @property
    def _router_pid_file(self) -> Path:
        return self._lab / "router.pid"

    def _start_router(self) -> None:
        """Have somebody tell iPXE that there is no IPv6 router; one that runs already goes on."""
        if running_pid(self._router_pid_file, str(self._router_pid_file)) is not None:
            return
        command = (*_server("router"), self._network.bridge, str(self._router_pid_file))
        network.run(self.in_namespace(command))

    @property
    def _gateway_pid_file(self) -> Path:
        return self._lab / "gateway.pid"

    def _start_gateway(self) -> None:
        """Open the door to the rack's API servers; one that is open stays so, with its port."""
        if not self._servers or running_pid(self._gateway_pid_file, str(self._gateway_pid_file)) is not None:
            return
        files = (self._gateway_pid_file, gateway.port_file(self._work))
        command = (*_server("gateway"), *map(str, files), str(self._network.file))
        network.run((*command, *self._servers))

    def _end_processes(self) -> None:
        for _ in range(SWEEPS):
            pids = network.pids_in(self._network)
            for pid in pids:
                end(pid, patience_seconds=END_SECONDS)
            if not pids:
                return
        text = f"processes in namespace {self.namespace} do not end: {network.pids_in(self._network)}"
        raise LabError(text)


def _restore_order(slot: Slot, vm: Vm) -> None:
    """Have a machine that has just started follow its own boot order again, from its next reset on.

    QEMU hands the order to the firmware at a reset (hw/nvram/fw_cfg.c), and the first one is over when it runs.

    Raises:
        LabError: QEMU does not answer.
    """
    with qmp.opened(slot.monitor) as monitor:
        card = f"/machine/peripheral/{CARD}"
        monitor.execute("qom-set", path=card, property="bootindex", value=CARD_PLACES[vm.boot])


def _server(name: str) -> tuple[str, ...]:
    """Return the command of one of the lab's small servers, to be started in the checkout."""
    return (sys.executable, "-m", f"bootstrap.lab.{name}")


def _slot_at(folder: Path) -> Slot | Container:
    container = Container(folder)
    return container if container.key.is_file() else Slot(folder)
