"""Verbs about machines: status, machine list|show|accept|arm|retire, events."""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Group
from rich.live import Live
from rich.text import Text

from bootstrap.cli.main import Call
from bootstrap.cli.results import emit, stderr, stdout, table
from bootstrap.cli.story import show_story
from bootstrap.errors import FirstlightError, UsageError
from bootstrap.operator import Operator
from bootstrap.status import HEADINGS, alarm_lines, is_broken, rows, stranger

REFRESH_SECONDS = 1.0
EXIT_PARTLY = 3
RECHECK = (
    "Although its GPUs did not fit its pool when it was looked at: the installer looks before it writes."
)
EVENT_HEADINGS = ("TIME", "MACHINE", "WHAT", "DECISION", "REASON")


def operator(call: Call) -> Operator:
    """Return the way to ask the appliance of the configured cluster."""
    return Operator(call.place(call.cluster()).work)


@click.command()
@click.option("--watch", is_flag=True, help="Draw the table anew every second, until Ctrl-C.")
@click.pass_obj
def status(call: Call, watch: bool) -> int:  # noqa: FBT001  # click calls it
    """Show every machine: state, firmware, address, disk, since when, and what it does.

    Control-plane hosts that are nodes too (`node: true`) stand after the machines, with pool control-plane, and then
    alarms of the network, such as a strange DHCP server. Exits 1 if a machine or an alarm waits for a person.
    """
    asked = operator(call)
    if watch:
        follow(asked)
    machines = asked.machines()
    show(call, [*machines, *asked.hosts()])
    alarms = alarm_lines(asked.alarms(), datetime.now(UTC))
    for line in alarms:
        stderr().print(line, style="bold red")
    return int(bool(alarms) or any(map(is_broken, machines)))


def follow(asked: Operator) -> None:
    """Draw the machines until Ctrl-C."""
    with Live(console=stdout(), auto_refresh=False) as live:
        while True:
            now = datetime.now(UTC)
            lines = [Text(line, style="bold red") for line in alarm_lines(asked.alarms(), now)]
            shown = rows([*asked.machines(), *asked.hosts()], now)
            live.update(Group(table(HEADINGS, shown), *lines), refresh=True)
            time.sleep(REFRESH_SECONDS)


def show(call: Call, machines: Sequence[dict[str, Any]]) -> None:
    """Print machines in the form that was asked for."""
    emit(call.output, machines, HEADINGS, rows(machines, datetime.now(UTC)))


@click.group()
def machine() -> None:
    """List, show, explain, accept, arm or retire machines."""


@machine.command("list")
@click.pass_obj
def list_(call: Call) -> None:
    """Show every machine, also unknown ones that asked for a boot. Changes nothing."""
    asked = operator(call)
    show(call, [*asked.machines(), *map(stranger, asked.strangers())])


@machine.command("show")
@click.argument("name")
@click.pass_obj
def show_(call: Call, name: str) -> None:
    """Show all that is known of the machine NAME, and what happened to it. Changes nothing."""
    asked = operator(call)
    found = asked.machine(name)
    if call.output != "table":
        emit(call.output, found, (), ())
        return
    emit("table", found, ("KEY", "VALUE"), [(key, plain(value)) for key, value in told(found)])
    click.echo()
    show_events(call, asked.events(machine=name))


def told(found: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return what is worth a line of its own: all but the events, the facts one by one."""
    facts = {f"facts.{key}": value for key, value in (found.get("facts") or {}).items()}
    rest = {key: value for key, value in found.items() if key not in {"events", "facts"}}
    return sorted({**rest, **facts}.items())


def plain(value: Any) -> str:
    """Return a value on one line: text as it is, nothing as a dash, the rest as JSON."""
    if value is None or value == "":
        return "-"
    return value if isinstance(value, str) else json.dumps(value)


@machine.command("explain")
@click.argument("name")
@click.pass_obj
def explain_(call: Call, name: str) -> int:
    """Tell how the last boots of the machine NAME went, the likely cause of trouble, and the remedy. Changes nothing.

    Exits 1 if something is wrong.
    """
    told = operator(call).story(name)
    if call.output == "table":
        show_story(told)
    else:
        emit(call.output, told, (), ())
    return int(not told["diagnosis"]["isWell"])


@machine.command()
@click.argument("name")
@click.option(
    "--pool", default="", metavar="POOL", help="The pool it belongs to; needed unless just one describes it."
)
@click.option(
    "--name", "as_name", default="", metavar="NAME", help="Its host name (default: m- and its MAC address)."
)
@click.option(
    "--resolve", is_flag=True, help="Although another machine claims the same, or it contradicts itself."
)
@click.option("--recheck", is_flag=True, help=RECHECK)
@click.pass_obj
def accept(  # noqa: PLR0917  # click calls it, by name
    call: Call,
    name: str,
    pool: str,
    as_name: str,
    resolve: bool,  # noqa: FBT001  # as above
    recheck: bool,  # noqa: FBT001  # as above
) -> None:
    """Make the discovered machine NAME (its MAC address) part of the cluster, and let it install now.

    A disk that holds data or a system of this cluster is not erased by this. With --resolve, NAME may be a known
    machine in conflict: what it contradicts then counts for nothing, and it waits to be armed.
    """
    asked = operator(call)
    show(call, [asked.accept(name, pool=pool, as_name=as_name, resolve=resolve, recheck=recheck)])


@machine.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--cycle", is_flag=True, help="Then cut its power and let it boot from the network, now.")
@click.option("--recheck", is_flag=True, help=RECHECK)
@click.pass_obj
def arm(call: Call, name: str, yes: bool, cycle: bool, recheck: bool) -> int:  # noqa: FBT001  # click calls it
    """Let the machine NAME install once more at its next boot. ERASES its selected disk then.

    Exits 3 if it is armed, and --cycle could not be done.
    """
    asked = operator(call)
    found = asked.machine(name)
    if not yes:
        disk = found.get("disk") or "the disk that its rule selects"
        confirm(f"{name} ({found['mac']}): erase {disk} and install at the next boot?")
    then = _power(call, name, "netboot-and-cycle") if cycle else _nothing
    show(call, [asked.act(name, "arm", recheck=recheck)])
    return then()


@machine.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Do not wait until its pods have left.")
@click.option("--power-off", is_flag=True, help="Then cut its power.")
@click.option(
    "--timeout", type=click.FloatRange(min=0), default=300.0, show_default=True, metavar="SECONDS",
    help="How long its pods may take to leave.",
)  # fmt: skip
@click.pass_obj
def retire(  # noqa: PLR0917  # click calls it, by name
    call: Call,
    name: str,
    yes: bool,  # noqa: FBT001  # click calls it
    force: bool,  # noqa: FBT001  # as above
    power_off: bool,  # noqa: FBT001  # as above
    timeout: float,
) -> int:
    """Never install or boot the machine NAME again, until it is armed. Its disk is left alone.

    If it is a node, its pods are moved away and it is taken out of the cluster first; exits 3 if that, or
    --power-off, could not be done: then run this again.
    """
    asked = operator(call)
    found = asked.machine(name)
    if not yes:
        confirm(f"retire {name}?")
    then = _power(call, name, "off") if power_off else _nothing
    undone = _leave(call, found, 0 if force else timeout)
    after = asked.act(name, "retire")
    show(call, [after])
    return max(_tell_retired(after, undone), then())


def _power(call: Call, name: str, action: str) -> Callable[[], int]:
    """Return what switches the machine, says what went wrong, and returns the exit code.

    Raises:
        UsageError: the machine is not in the configuration, which alone says how it is switched.
    """
    from bootstrap.cli.power import targets_of, tell_failures  # noqa: PLC0415  # few calls need its libraries
    from bootstrap.switching import switch  # noqa: PLC0415  # as above

    targets = targets_of(call, (name,))
    return lambda: EXIT_PARTLY if tell_failures(switch(targets, action)) else 0


def _nothing() -> int:
    return 0


def _leave(call: Call, found: Mapping[str, Any], seconds: float) -> str:
    """Take the machine's node out of the cluster; return why that could not be done, or nothing.

    Raises:
        PodsStay: its pods did not leave.
    """
    from bootstrap import leaving  # noqa: PLC0415  # status need not load a client of Kubernetes
    from bootstrap.kubernetes.leaving import Leave, PodsStay  # noqa: PLC0415

    node = leaving.node_of(found)
    if node is None or not (cluster := call.cluster()).control_plane.hosts:
        return ""
    how = Leave(seconds=seconds, tell=stderr().print)
    try:
        leaving.leave_cluster(cluster, call.place(cluster).work, node, how)
    except PodsStay:
        raise
    except FirstlightError as error:
        return str(error)
    return ""


def _tell_retired(after: Mapping[str, Any], undone: str) -> int:
    from bootstrap.leaving import end_of_access  # noqa: PLC0415  # as above

    if line := end_of_access(after, datetime.now(UTC)):
        stderr().print(line)
    if not undone:
        return 0
    stderr().print(
        f"{after['name']} is retired, but its node could not be taken out of the cluster ({undone}); "
        f"later, run this again: machine retire {after['name']}"
    )
    return EXIT_PARTLY


def confirm(question: str) -> None:
    """Return if a person agrees.

    Raises:
        UsageError: nobody can answer.
        FirstlightError: the answer was no.
    """
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:  # Ctrl-C, or the end of the input
        if sys.stdin.isatty():
            raise
        raise UsageError("nobody can answer here: add --yes") from None
    if not agreed:
        raise FirstlightError("nothing was changed")


@click.command()
@click.option("--machine", "name", help="Only this machine's.")
@click.option("--follow", "-f", is_flag=True, help="Go on with new ones, until Ctrl-C.")
@click.pass_obj
def events(call: Call, name: str | None, follow: bool) -> None:  # noqa: FBT001  # click calls it
    """Show what happened, oldest first: first packets, decisions, install progress."""
    asked = operator(call)
    found = asked.events(machine=name)
    show_events(call, found)
    while follow:
        time.sleep(REFRESH_SECONDS)
        last = found[-1]["seq"] if found else 0
        newer = asked.events(after=last, machine=name)
        if newer:
            found = newer
            show_events(call, newer)


def show_events(call: Call, found: Sequence[dict[str, Any]]) -> None:
    """Print events in the form that was asked for."""
    cells = [
        (
            event["time"],
            event["machine"],
            event["what"],
            event["decision"] or "-",
            event["reason"] or event["detail"],
        )
        for event in found
    ]
    emit(call.output, list(found), EVENT_HEADINGS, cells)
    sys.stdout.flush()  # with --follow, a pipe's reader wants them now
