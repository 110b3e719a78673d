"""Verbs about the virtual rack: lab up, down, exec, console, power."""

import subprocess

import click

from bootstrap import packages
from bootstrap.cli.main import Call
from bootstrap.cli.results import emit, stderr
from bootstrap.cli.run import require_root
from bootstrap.cli.screen import Screen
from bootstrap.errors import UsageError
from bootstrap.image import host
from bootstrap.known_hosts import write_known_hosts
from bootstrap.lab.console import attach
from bootstrap.lab.rack import Rack
from bootstrap.operator import Operator


@click.group()
def lab() -> None:
    """Use the virtual rack of a configuration that has a `lab:` section."""


def rack_of(call: Call) -> Rack:
    """Return the rack of the configured cluster.

    Raises:
        UsageError: the configuration has no lab.
    """
    cluster = call.cluster()
    if cluster.lab is None:
        raise UsageError(f"cluster {cluster.metadata.name} has no `lab:` section: its machines are real")
    require_root("lab")
    return Rack(cluster, call.place(cluster).work)


@lab.command()
@click.pass_obj
def up(call: Call) -> None:
    """Make the namespace, the bridge and the disks, and start the hosts; the machines stay off."""
    rack = rack_of(call)
    cluster = call.cluster()
    place = call.place(cluster)
    with place.locked(), Screen(stderr(), total=1).step("lab up") as progress:
        packages.ensure(packages.for_lab(bmcs=rack.has_bmcs), progress)
        rack.up(progress, host.for_lab(cluster, place.cache, progress), call.base())


@lab.command()
@click.pass_obj
def down(call: Call) -> None:
    """Cut everything's power and remove the namespace; disks, roots and console logs stay in the work folder."""
    rack_of(call).down()


@lab.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("command", nargs=-1, required=True)
@click.pass_obj
def exec_(call: Call, name: str, command: tuple[str, ...]) -> int:
    """Run COMMAND on the machine or host NAME through SSH, and exit as it does: lab exec w1 -- uname -a."""
    rack = rack_of(call)
    if name in rack.hosts.all:
        return subprocess.run(rack.hosts.ssh_argv(name, command), check=False).returncode
    machine = Operator(call.place(call.cluster()).work).machine(name)
    if not machine.get("sshHostKeys") or not machine.get("address"):
        raise UsageError(
            f"{name} has not reported from its disk yet (state {machine['state']}); see `status`"
        )
    known = write_known_hosts(call.place(call.cluster()).work, machine)
    argv = rack.ssh_argv(machine["address"], known, command)
    return subprocess.run(argv, check=False).returncode


@lab.command()
@click.argument("name")
@click.pass_obj
def console(call: Call, name: str) -> None:
    """Join the serial console of the machine NAME; Ctrl-] leaves. The log is in lab/NAME/console.log.

    A host has only the log.
    """
    attach(rack_of(call).console(name))


@lab.command()
@click.argument("action", type=click.Choice(["on", "off", "cycle", "status"]))
@click.argument("names", nargs=-1)
@click.pass_obj
def power(call: Call, action: str, names: tuple[str, ...]) -> None:
    """Switch machines and hosts on or off, or cycle them (off, then on), as a person at the rack would.

    `off` cuts the power: nothing is told. Without NAMES it is all of them.
    """
    rack = rack_of(call)
    acts = {"on": rack.power_on, "off": rack.power_off, "cycle": rack.cycle}
    for name in names or tuple(rack.states()):
        if action in acts:
            acts[action](name)
    states = rack.states()
    emit(call.output, states, ("NAME", "POWER"), list(states.items()))
