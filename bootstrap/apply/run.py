"""Does a plan on the hosts, phase by phase; stops where going on could take the control plane down."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, assert_never

from bootstrap import failpoints
from bootstrap.apply import etcd_data
from bootstrap.apply.host import RemoteHost
from bootstrap.apply.node import Certify, Forget, Leave
from bootstrap.apply.plan import (
    Enable,
    Phase,
    Plan,
    Probe,
    Put,
    Restart,
    Retire,
    Start,
    Step,
    changes_something,
    text_of,
)
from bootstrap.errors import FirstlightError
from bootstrap.progress import Progress

MOST_AT_ONCE = 8

T = TypeVar("T")
U = TypeVar("U")


class Prober(Protocol):
    """Knows how to ask whether a unit of a host is healthy."""

    def healthy(self, host: str, unit: str) -> None:
        """Return when `unit` on `host` is healthy.

        Raises:
            FirstlightError: it is not in time; the text says what it answered.
        """

    def leave(self, host: str) -> None:
        """Take the node of `host` out of the cluster.

        Raises:
            FirstlightError: pods stay, or no API server answers.
        """


class Journal(Protocol):
    """Keeps on this computer what the hosts must not be asked for later."""

    def etcd_begins(self) -> None:
        """Write down which etcd cluster is about to be made, before its first member starts."""

    def etcd_seen(self, host: str) -> None:
        """Write down that the member on `host` has been healthy: from now on it has data to lose."""


@dataclass
class Outcome:
    """What came of a plan: steps done, in order, and for each host that is not done a line that says why."""

    hosts: tuple[str, ...]
    done: list[Step] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    waiting: str = ""
    objects: tuple[str, ...] = ()
    proven: tuple[str, ...] = ()

    @property
    def changes(self) -> int:
        """Return how many steps changed something, objects of Kubernetes included."""
        return sum(map(changes_something, self.done)) + len(self.objects)

    @property
    def is_whole(self) -> bool:
        """Return whether everything was done."""
        return not self.failed and not self.waiting

    @property
    def exit_code(self) -> int:
        """Return 0 when all is done, 1 when no host is, 3 in between."""
        if self.is_whole:
            return 0
        return 1 if set(self.hosts) <= set(self.failed) else 3

    @property
    def touched(self) -> tuple[str, ...]:
        """Return the hosts of this run, and those that kept it from going on."""
        return tuple(dict.fromkeys((*self.hosts, *self.failed)))

    def to_data(self) -> dict[str, object]:
        """Return it for programs."""
        return {
            "changes": self.changes,
            "hosts": {
                name: {
                    "state": "failed" if name in self.failed else "done",
                    "error": self.failed.get(name),
                    "steps": [text_of(step) for step in self.done if step.host == name],
                }
                for name in self.touched
            },
            "objects": list(self.objects),
            "proven": list(self.proven),
            "waiting": self.waiting or None,
        }


@dataclass(frozen=True, kw_only=True)
class Runner:
    """Everything that steps need: the hosts by name, who asks for health, who writes down, who is told.

    `certify` makes a certificate in PEM for the request of the host of that name.
    """

    remotes: Mapping[str, RemoteHost]
    prober: Prober
    journal: Journal
    say: Callable[[str], None]
    progress: Progress
    certify: Callable[[str, bytes], bytes]

    def run(self, plan: Plan, outcome: Outcome) -> None:
        """Do the phases of `plan`; `outcome` holds at each moment what was done.

        A host that fails is left alone from there on. A restart or a probe that fails ends the run: what is not
        restarted yet goes on with what it has.
        """
        for number, phase in enumerate(plan.phases):
            self.progress(f"apply: {_title(phase)}", number, len(plan.phases))
            mine = [step for step in phase if isinstance(step, Probe) or step.host not in outcome.failed]
            missing = sorted({name for step in mine for name in _needs(step) if name in outcome.failed})
            if missing:
                outcome.waiting = (
                    f"etcd starts for the first time with all its members; not done: {', '.join(missing)}"
                )
                return
            if any(isinstance(step, Start) and step.unit == etcd_data.UNIT for step in mine):
                self.journal.etcd_begins()
            errors = self._phase(mine, outcome)
            if any(isinstance(step, (Restart, Probe)) for step in errors):
                self.say("stopped here: what is not restarted yet runs on as it was")
                return

    def _phase(self, steps: Sequence[Step], outcome: Outcome) -> list[Step]:
        """Do steps of different hosts side by side; return those that failed."""
        results = side_by_side(self._step, steps)
        failed = []
        for step, error in zip(steps, results, strict=True):
            if error is None:
                outcome.done.append(step)
                if changes_something(step):
                    self.say(text_of(step))
                continue
            failed.append(step)
            outcome.failed.setdefault(step.host, error)
            self.say(error)
        return failed

    def _step(self, step: Step) -> str | None:
        """Do one step; return the line of its error, or None."""
        try:
            failpoints.reached("apply.step.before")
            self._do(step)
            failpoints.reached("apply.step.after")
        except FirstlightError as error:
            return str(error)
        return None

    def _do(self, step: Step) -> None:
        match step:
            case Put():
                name = step.host
                self.remotes[name].put(
                    step, lambda done, all_: self.progress(f"apply: files to {name}", done, all_)
                )
            case Probe(host, unit, _):
                self.prober.healthy(host, unit)
                if unit == etcd_data.UNIT:
                    self.journal.etcd_seen(host)
            case Certify(host):
                self.remotes[host].certify(self.certify(host, self.remotes[host].request()))
            case Leave(host):
                self.prober.leave(host)
            case Forget(host):
                self.remotes[host].forget()
            case Start() | Restart() | Retire() | Enable():
                self.remotes[step.host].units(unit_lines(step))
            case _:
                assert_never(step)  # fmt: skip


def unit_lines(step: Start | Restart | Retire | Enable) -> tuple[str, ...]:
    """Return what the host is told for a step about a unit (`configs/hosts/apply units`)."""
    match step:
        case Start(_, unit, stamp, _):
            return _turned("start", unit, stamp)
        case Restart(_, unit, stamp):
            return _turned("restart", unit, stamp)
        case Retire(_, unit):
            return (f"retire {unit}",)
        case Enable(_, unit):
            return ("reload", f"enable {unit}")
        case _:
            assert_never(step)


def _turned(how: str, unit: str, stamp: str) -> tuple[str, ...]:
    # Reloaded each time: a run that was cut after its files may not have got to it.
    mark = ("mark",) if unit == etcd_data.UNIT else ()
    return ("reload", f"enable {unit}", f"{how} {unit}", *mark, f"stamp {unit} {stamp}")


def side_by_side(act: Callable[[T], U], items: Iterable[T]) -> list[U]:
    """Return what `act` gives for each item, all of them at once and in their order."""
    with ThreadPoolExecutor(MOST_AT_ONCE) as pool:
        return list(pool.map(act, items))


def _needs(step: Step) -> tuple[str, ...]:
    return step.needs if isinstance(step, Start) else ()


def _title(phase: Phase) -> str:
    return text_of(phase[0]) if len(phase) == 1 else f"{text_of(phase[0])}, and {len(phase) - 1} more"
