"""Switches several machines side by side: each in a process of its own, with a time after which it is ended.

Protocol libraries hold global state, wait where they cannot be told how long, and raise whatever a broken answer
makes them raise. A process that can be ended keeps all of that from the other machines, and from the passwords.
"""

import json
import logging
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any, NamedTuple

from bootstrap import power, rooms
from bootstrap.errors import FirstlightError, PowerError, PowerUnsupported, RenderError, printable
from bootstrap.model.machine import ManualPower
from bootstrap.power import Deadline, PowerDriver, PowerState, Target

AT_ONCE = 32
GRACE_SECONDS = 2.0  # a driver that keeps its own time tells more than one that is ended
LONGEST_TEXT = 400
STANDARD_FILES = (0, 1, 2)  # POSIX: what is asked, told, and complained about

Act = Callable[[PowerDriver[Any]], None]


def netboot_and_cycle(driver: PowerDriver[Any]) -> None:
    """Let the machine boot now, from the network where the driver can say so; elsewhere its boot order decides."""
    with suppress(PowerUnsupported):
        driver.netboot()
    driver.cycle()


ACTS: Mapping[str, Act] = {
    "on": lambda driver: driver.on(),
    "off": lambda driver: driver.off(),
    "cycle": lambda driver: driver.cycle(),
    "netboot": lambda driver: driver.netboot(),
    "netboot-and-cycle": netboot_and_cycle,
    "status": lambda _: None,
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one machine; `error` is empty where all was done, and `remark` where nothing is to be said."""

    name: str
    driver: str
    state: PowerState
    error: str = ""
    remark: str = ""

    def plain(self) -> dict[str, Any]:
        """Return it as JSON knows it."""
        return {
            "name": self.name,
            "driver": self.driver,
            "power": self.state.value,
            "error": self.error,
            "remark": self.remark,
        }


def driver_name(target: Target) -> str:
    """Return the name of the machine's driver; one without `power` is switched by hand."""
    return target.machine.power.driver if target.machine.power else "manual"


def driver_class(target: Target) -> type[PowerDriver[Any]]:
    """Return the class that switches the machine.

    Raises:
        UnknownChoice: there is no such driver.
        RenderError: its file exports none.
    """
    where = f"machine {target.name}: power.driver"
    found = rooms.load(power, driver_name(target), type, where=where)
    if not issubclass(found, PowerDriver):
        raise RenderError(f"{found.__module__}.PLUGIN is not a PowerDriver")
    return found


def driver_of(target: Target, deadline: Deadline) -> PowerDriver[Any]:
    """Return what switches the machine; nothing is sent yet. Raises as `driver_class`."""
    return driver_class(target)(target.machine.power or ManualPower(driver="manual"), target, deadline)


def switch(targets: Sequence[Target], action: str, seconds: float | None = None) -> tuple[Outcome, ...]:
    """Do `action` (one of ACTS) to all `targets`, at most AT_ONCE side by side; return what became of each, in order.

    Each has `seconds` from its own start, or what its driver takes for right. Nothing is left running.
    """
    waiting = deque(enumerate(targets))
    running: dict[int, _Attempt] = {}
    outcomes: dict[int, Outcome] = {}
    try:
        while waiting or running:
            while waiting and len(running) < AT_ONCE:
                number, target = waiting.popleft()
                running[number] = _Attempt(target, action, seconds)
            _wait_for_one(running)
            for number in [number for number, attempt in running.items() if attempt.is_over()]:
                outcomes[number] = running.pop(number).outcome()
    finally:
        for attempt in running.values():
            attempt.end()
    return tuple(outcomes[number] for number in range(len(targets)))


def _wait_for_one(running: Mapping[int, "_Attempt"]) -> None:
    """Return when a process has said something, has ended, or has no time left."""
    first = min(attempt.ends for attempt in running.values())
    connection.wait([attempt.pipe for attempt in running.values()], max(0.0, first - time.monotonic()))


class _Attempt:
    """A process that switches one machine."""

    def __init__(self, target: Target, action: str, seconds: float | None) -> None:
        self._target, self._action = target, action
        self._seconds = driver_class(target).seconds if seconds is None else seconds
        self.ends = time.monotonic() + self._seconds + GRACE_SECONDS
        # All is imported already; a new interpreter would take a second.
        fork = multiprocessing.get_context("fork")
        self.pipe, theirs = fork.Pipe(duplex=False)
        self._process = fork.Process(target=_child, args=(theirs, target, action, self._seconds))
        self._process.start()
        theirs.close()

    def is_over(self) -> bool:
        return self.pipe.poll() or time.monotonic() >= self.ends

    def outcome(self) -> Outcome:
        """Return what the process told, or why it told nothing; it has ended then."""
        done = Done(PowerState.UNKNOWN.value, self._late())
        try:
            if self.pipe.poll():
                done = Done(*json.loads(self.pipe.recv_bytes()))
        except EOFError:
            done = done._replace(
                error=f"{self._target.name}: driver {driver_name(self._target)} died; run this again"
            )
        finally:
            self.end()
        return Outcome(
            name=self._target.name,
            driver=driver_name(self._target),
            state=PowerState(done.state),
            error=done.error,
            remark=done.remark,
        )

    def _late(self) -> str:
        name = self._target.name
        doubt = "" if self._action == "status" else f" It may have been done: power status {name}."
        return (
            f"{name}: driver {driver_name(self._target)} came to no end in {self._seconds:g} s; "
            f"check its address and cable, or give it longer with --timeout.{doubt}"
        )

    def end(self) -> None:
        """End the process and what it has started itself."""
        pid = self._process.pid
        if pid is not None and self._process.is_alive():
            with suppress(ProcessLookupError):  # it leads no group yet, or is gone
                os.killpg(pid, signal.SIGKILL)
            self._process.kill()
        self._process.join()
        self._process.close()
        self.pipe.close()


def _child(pipe: connection.Connection, target: Target, action: str, seconds: float) -> None:
    """Switch one machine and tell the outcome; what libraries print goes nowhere."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    logging.disable()
    with Path(os.devnull).open("r+b") as nowhere:
        for standard in STANDARD_FILES:
            os.dup2(nowhere.fileno(), standard)
    pipe.send_bytes(json.dumps(attempt(target, action, Deadline.after(seconds))).encode())


class Done(NamedTuple):
    """What became of a machine: its state, what went wrong or nothing, and what else is to be said or nothing."""

    state: str
    error: str = ""
    remark: str = ""


def attempt(target: Target, action: str, deadline: Deadline) -> Done:
    """Do `action` to one machine in this process; return what became of it."""
    try:
        _enter_rack(target)
        driver = driver_of(target, deadline)
        try:
            return _state_after(driver, action)
        finally:
            with suppress(Exception):  # what was done is done
                driver.close()
    except FirstlightError as problem:
        error = str(problem)
    except Exception as problem:  # noqa: BLE001  # a library that met an answer it was not made for
        error = _unreadable(target, problem)
    return Done(PowerState.UNKNOWN.value, _one_line(target, error))


def _enter_rack(target: Target) -> None:
    """Enter the lab's network if the machine's BMC is there, as a cable to it would; this process stays in it.

    Raises:
        PowerError: we are not root, or the lab is down.
    """
    cluster = target.cluster
    if cluster.lab is None or cluster.lab.bmc == "none":
        return
    from bootstrap.lab.bmc import bmcs_from  # noqa: PLC0415  # real racks have no lab
    from bootstrap.lab.namespace import enter  # noqa: PLC0415  # as above
    from bootstrap.lab.rack import Rack  # noqa: PLC0415  # as above

    if target.name not in bmcs_from(cluster):
        return
    try:
        enter(Rack(cluster, target.work).namespace_file)
    except FileNotFoundError as error:
        raise PowerError(f"{target.name}: its BMC is in the lab, which is down (lab up builds it)") from error
    except OSError as error:
        raise PowerError(
            f"{target.name}: cannot enter the lab, where its BMC is: {error.strerror}; run this with sudo, "
            "or lab down and up again"
        ) from error


def _state_after(driver: PowerDriver[Any], action: str) -> Done:
    """Do `action` and ask for the state, also if the driver cannot do that."""
    error = ""
    try:
        ACTS[action](driver)
    except PowerUnsupported as problem:
        error = _one_line(driver.target, str(problem))
    remark = _one_line(driver.target, driver.remark) if driver.remark else ""
    return Done(driver.state().value, error, remark)


def _unreadable(target: Target, problem: Exception) -> str:
    if isinstance(problem, UnicodeError):  # its text repeats what it is about
        return f"{target.name}: its user or secret holds letters that cannot be sent; write ASCII alone"
    return (
        f"{target.name}: driver {driver_name(target)} got an answer that it cannot read "
        f"({type(problem).__name__}: {problem}); try once more, and see the device's log"
    )


def _one_line(target: Target, error: str) -> str:
    text = printable(" ".join(error.split()))[:LONGEST_TEXT]  # a device's own words may be among it
    return text if text.startswith(f"{target.name}: ") else f"{target.name}: {text}"
