"""What ipmi_sim asks of a virtual machine's chassis, one run for each question (ipmi_lan(5), chassis_control).

    python -m bootstrap.lab.chassis WORK NAME MC get NAME... | check NAME VALUE... | set NAME VALUE...

ipmi_sim waits for the answer and answers nobody else meanwhile, so a question loads nothing but the standard library,
and an order is carried out by a process of its own, as real BMCs say "understood" before they have done it. Orders
for one machine wait for each other.
"""

import fcntl
import subprocess
import sys
from pathlib import Path

from bootstrap.lab import nextboot
from bootstrap.processes import running_pid

ROOT = Path(__file__).parents[2]
CLUSTER = "lab/cluster.json"
"""The cluster as `lab up` saw it, in the work folder."""

BOOTS: dict[str, nextboot.First | None] = {"none": None, "pxe": "network", "default": "disk"}
"""ipmi_sim's words for boot devices (IPMI 2.0, table 28-14, parameter 5); others have nothing to boot here."""


def answer(folder: Path, asked: str) -> str:
    """Return the value of `asked` for the machine in `folder`, in ipmi_sim's words; 0 of what we do not know."""
    if asked == "power":
        pid_file = folder / "qemu.pid"
        return "0" if running_pid(pid_file, str(pid_file)) is None else "1"
    if asked == "boot":
        chosen = nextboot.chosen(folder)
        return next(word for word, first in BOOTS.items() if first == chosen)
    return "0"


def order(work: Path, name: str, what: str, value: str) -> int:
    """Have the machine do `what`; return the exit status for ipmi_sim: 0, or 1 for what cannot be done."""
    folder = work / "lab" / name
    if what == "boot" and value in BOOTS:
        nextboot.choose(folder, BOOTS[value])
        return 0
    if what == "power" and value in {"0", "1"}:
        with (folder / "bmc" / "log").open("ab") as log:
            subprocess.Popen(
                (sys.executable, "-m", "bootstrap.lab.chassis", str(work), name, "0x20", "switch", value),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return 0
    return 1


def switch(work: Path, name: str, value: str) -> None:
    """Switch the machine as a person at the rack would, after those who were told earlier."""
    from bootstrap.config import parse_dump  # noqa: PLC0415  # half a second that a question has not
    from bootstrap.lab.rack import Rack  # noqa: PLC0415  # as above

    with (work / "lab" / name / "bmc" / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        rack = Rack(parse_dump((work / CLUSTER).read_bytes()), work)
        if value == "1":
            rack.power_on(name)
        else:
            rack.power_off(name)


def main(work: str, name: str, _mc: str, act: str, *words: str) -> int:
    """Answer ipmi_sim; return the exit status."""
    folder = Path(work)
    match act:
        case "get":
            for asked in words:
                sys.stdout.write(f"{asked}:{answer(folder / 'lab' / name, asked)}\n")
            return 0
        case "set":
            pairs = zip(words[::2], words[1::2], strict=False)
            return max((order(folder, name, what, value) for what, value in pairs), default=1)
        case "check":
            return 0
        case "switch":
            switch(folder, name, words[0])
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
