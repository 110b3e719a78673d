"""The application without nginx: takes reports of a few machines and prints each answer as a line of JSON.

`python -m tests.system.storage_taker REPORTS WORK...` runs web's own loader in the work folder, so the store is
opened, filled and asked as in the real process, but every write happens in one thread: the Nth sync is the same in
each run. Of several work folders, each gets a process of its own, forked after the slow imports.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from werkzeug.test import Client

from tests.system.storage_bench import FACTS, macs, report_of, told_from
from tests.system.storage_careless import forget_to_sync
from web.listeners import LISTENER_HEADER
from web.server import load, set_up_logging

OK = 200
CREW = 4  # so that none reports more often than the server allows


def main() -> None:
    """Take the reports; end with 1 if that was not possible in one of the folders."""
    reports, works = int(sys.argv[1]), [Path(word) for word in sys.argv[2:]]
    set_up_logging()
    if level := os.environ.get("STORAGE_SYNCHRONOUS"):
        forget_to_sync(level)
    if len(works) == 1:
        take(works[0], reports)
        return
    sys.exit(max(apart(work, reports) for work in works))


def apart(work: Path, reports: int) -> int:
    """Take the reports in a child process and return its exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    take(work, reports)
    os._exit(0)


def take(work: Path, reports: int) -> None:
    """Load, report, ask for the boot script and Ignition after each refusal, and print what came."""
    os.chdir(work)
    client = Client(load(Path("cache"), Path()))
    arms = [ask(client, "operator", "GET", f"/v1/machines/m{number}").json["arm"] for number in range(CREW)]
    for number in range(reports):
        mac, arm, text = macs(CREW)[number % CREW], arms[number % CREW], f"{os.getpid()} {number}"
        answer = ask(client, "machine", "POST", FACTS, json=report_of(mac, arm, text))
        told = told_from(mac, text, answer.status_code, dict(answer.headers), answer.get_data())
        say(work=str(work), told=vars(told), reads=reads(client, mac) if told.status != OK else [])


def reads(client: Client, mac: str) -> list[int]:
    """Return how the boot script and Ignition are answered now."""
    paths = (f"/ipxe?mac={mac}&platform=efi", f"/v1/ignition/{mac}")
    return [ask(client, "public", "GET", path).status_code for path in paths]


def ask(client: Client, listener: str, method: str, path: str, **more: Any) -> Any:
    """Ask as nginx would."""
    return client.open(path, method=method, headers={LISTENER_HEADER: listener}, **more)


def say(**fields: Any) -> None:
    """Print one line."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
