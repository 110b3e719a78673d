"""Verbs about power: power on, off, cycle, status, netboot."""

from collections.abc import Sequence

import click

from bootstrap.cli.main import Call
from bootstrap.cli.results import emit, stderr
from bootstrap.config.suggest import choice
from bootstrap.errors import UsageError
from bootstrap.power import Target
from bootstrap.switching import Outcome, switch

EXIT_NONE, EXIT_PARTLY = 1, 3
HEADINGS = ("NAME", "DRIVER", "POWER", "RESULT")


@click.group()
def power() -> None:
    """Switch machines on and off by their power drivers (docs/power.md)."""


def targets_of(call: Call, names: Sequence[str]) -> tuple[Target, ...]:
    """Return the machines called `names`, each once, in that order; all of them without names.

    Raises:
        UsageError: a name is none of the configuration's.
    """
    cluster = call.cluster()
    known = {machine.name: machine for machine in cluster.machines}
    for name in names:
        if name not in known:
            raise UsageError(f"there is no machine {name!r}; {choice(name, known)}")
    base, work = call.base(), call.place(cluster).work
    return tuple(
        Target(machine=known[name], cluster=cluster, base=base, work=work)
        for name in dict.fromkeys(names or known)
    )


def tell_failures(outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """Say in a line each on stderr which machines were not switched and why, and return those; say remarks too."""
    failed = tuple(outcome for outcome in outcomes if outcome.error)
    for text in (text for outcome in outcomes for text in (outcome.error, outcome.remark) if text):
        stderr().print(text)
    return failed


def exit_code(outcomes: Sequence[Outcome], failed: Sequence[Outcome]) -> int:
    """Return 0 if all was done, 3 if some was, 1 if nothing was."""
    if not failed:
        return 0
    return EXIT_NONE if len(failed) == len(outcomes) else EXIT_PARTLY


def _verb(action: str, text: str, *, needs_names: bool = True) -> None:
    """Add a verb to the group; they differ by a word and by what their help says."""

    @click.argument(
        "names", nargs=-1, required=needs_names, metavar="NAME..." if needs_names else "[NAME...]"
    )
    @click.option(
        "--timeout", type=click.FloatRange(min=0.1, max=3600), metavar="SECONDS",
        help="How long each machine may take (default: what its driver needs, about a minute).",
    )  # fmt: skip
    @click.pass_obj
    def verb(call: Call, names: tuple[str, ...], timeout: float | None) -> int:
        outcomes = switch(targets_of(call, names), action, timeout)
        rows = [
            (outcome.name, outcome.driver, outcome.state.value, "failed" if outcome.error else "done")
            for outcome in outcomes
        ]
        emit(call.output, [outcome.plain() for outcome in outcomes], HEADINGS, rows)
        return exit_code(outcomes, tell_failures(outcomes))

    power.command(action, help=f"{text}\n\nExits 3 if that failed for some machines, 1 if for all.")(verb)


_verb("on", "Switch machines on. One that is on stays as it is.")
_verb("off", "Cut machines' power: nothing in them is told. One that is off stays off.")
_verb("cycle", "Cut machines' power and switch them on again. One that is off is switched on.")
_verb("netboot", "Let machines boot from the network at their next start, and only then. Switches nothing.")
_verb(
    "status",
    "Show whether machines are on; all of them without NAME. Changes nothing.",
    needs_names=False,
)
