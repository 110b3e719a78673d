"""`python -m web --work FOLDER --cache FOLDER`: nginx and the application behind it, until SIGTERM."""

import argparse
import logging
import os
import signal
import sys
import time
from pathlib import Path

from bootstrap.errors import ServeError
from bootstrap.localboot import READY_MADE, make_localboot
from bootstrap.workplace import why_closed
from web import nginx
from web.children import Child, end_leftovers
from web.server import SOCKET, set_up_logging

ROUND_SECONDS = 0.1
PID_FILE = Path("run/web.pid")
NGINX_NOTE, SERVER_NOTE = Path("run/nginx.session"), Path("run/server.session")

log = logging.getLogger(__name__)


def main() -> int:
    """Run both children; return the exit code."""
    arguments = _arguments()
    os.umask(0o077)
    set_up_logging()
    try:
        run(arguments.work, arguments.cache.resolve(), (arguments.records or arguments.work).resolve())
    except ServeError as error:
        log.critical("%s", error)
        return error.exit_code
    return 0


def run(work: Path, cache: Path, records: Path) -> None:
    """Run nginx and the application with `work` as their current folder, and return when both have ended.

    `records` is the folder of what deploy.py reads of accepted machines.

    Raises:
        ServeError: the work folder holds nothing rendered, or the appliance was handed over.
    """
    if why := why_closed(work):
        raise ServeError(why)
    room = Path(__file__).resolve().parent.parent
    os.environ["PYTHONPATH"] = str(room)
    if not (work / nginx.CONFIG).is_file():
        raise ServeError(f"{work / nginx.CONFIG} is not there; run deploy.py render first")
    os.chdir(work)
    stop = _Stop()
    for note in (NGINX_NOTE, SERVER_NOTE):
        if left := end_leftovers(note):
            log.warning("ended what a killed web had left (pid %s)", ", ".join(map(str, left)))
    nginx.prepare(cache)
    if READY_MADE.is_dir():  # in a container nobody has made them for us
        make_localboot(Path())
    SOCKET.unlink(missing_ok=True)
    PID_FILE.write_text(str(os.getpid()))
    server = (sys.executable, "-P", "-m", "web.server", "--cache", str(cache), "--records", str(records))
    front = Child("nginx", nginx.COMMAND, before=lambda: nginx.prepare(cache), note=NGINX_NOTE)
    back = Child("the application", server, before=lambda: None, note=SERVER_NOTE)
    try:
        _keep(front, back, stop)
    finally:
        front.end()
        back.end()
        nginx.OPERATOR_SOCKET.unlink(missing_ok=True)
        PID_FILE.unlink(missing_ok=True)  # last: whoever starts the next one waits for as long as it is there


def _keep(front: Child, back: Child, stop: "_Stop") -> None:
    stamp = nginx.stamp()
    while not stop.asked:
        back.keep()
        # The first time nginx waits until the application has begun, or ended: who asks then is told to ask again.
        if SOCKET.exists() or front.pid is not None or back.pid is None:
            front.keep()
        if (found := nginx.stamp()) != stamp:
            stamp = found
            log.info("nginx reads its files again")
            front.signal(signal.SIGHUP)
        time.sleep(ROUND_SECONDS)


class _Stop:
    """Remembers that SIGTERM or SIGINT came."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: object) -> None:
        del number, frame
        self.asked = True


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m web", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="the cluster's work folder")
    parser.add_argument("--cache", type=Path, required=True, help="the folder of artifacts and images")
    parser.add_argument("--records", type=Path, help="the folder of accepted.json (default: the work folder)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
