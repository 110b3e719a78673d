"""The process behind nginx: Flask under granian, one worker with threads, which alone opens the store."""

import argparse
import ctypes
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from granian.constants import Interfaces
from granian.log import LogLevels
from granian.server import Server

from bootstrap.errors import FirstlightError
from bootstrap.state import Store
from bootstrap.state.etcd import EtcdStore
from bootstrap.state.lastgood import LastGood
from bootstrap.stores import DATABASE, open_home
from web import nginx
from web.allotting import ReadJoining, allotted
from web.app import create_app, create_site
from web.approver import Approver
from web.bundle import read_rendered
from web.composing import keep_accepted, read_joining
from web.credentials import Credentials
from web.gate import Gate
from web.hearing import Hearing
from web.images import CachedImages
from web.loaders import HttpLoaders
from web.quiet import OneAMinute
from web.scrubbing import Scrubbing
from web.watch import Watcher

SOCKET = Path("run/web.sock")
# Handlers are short; most of these wait for the one writer's sync of the disk.
THREADS = 32
PR_SET_PDEATHSIG = 1  # prctl(2)

log = logging.getLogger(__name__)


def main() -> None:
    """Serve until SIGTERM; the current folder is the work folder."""
    arguments = _arguments()
    set_up_logging()
    SOCKET.unlink(missing_ok=True)
    server = Server(
        "web",
        interface=Interfaces.WSGI,
        uds=SOCKET,
        uds_permissions=0o600,
        workers=1,
        blocking_threads=THREADS,
        blocking_threads_idle_timeout=600,  # the longest that granian takes
        backlog=1024,
        log_level=LogLevels.error,
        websockets=False,
        workers_kill_timeout=5,
    )
    # granian makes the path absolute; a socket's path ends at 107 bytes, and work folders may lie deep.
    server.bind_uds = SOCKET
    server.serve(target_loader=partial(load, arguments.cache, arguments.records), wrap_loader=False)


def load(cache: Path, records: Path) -> Callable[..., Any]:
    """Return the application, in the worker process; end that with the reason if it is not possible.

    `records` is the folder of what deploy.py reads of accepted machines: the work folder, or a container's own.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    try:
        store = opened()
        images = CachedImages(cache)
        site = create_site(
            store,
            images=images,
            read_rendered=partial(read_rendered, Path()),
            is_nginx_up=nginx.is_up,
            connect=Credentials(),
            read_joining=_joining(store, records),
            keep_accepted=partial(keep_accepted, records),
        )
        app = create_app(site)
    except FirstlightError as error:
        log.critical("web cannot start: %s", error)
        sys.exit(error.exit_code)
    if isinstance(store, EtcdStore):
        Hearing(site).start()
    else:
        LastGood(DATABASE).start()
    Watcher(site).start()
    site.access_log.start()
    Approver(site).start()
    Gate(site).start()
    Scrubbing(site, images.scrubber, HttpLoaders(cache)).start()
    # What is loaded now stays: the garbage collector need not look through ten thousand machines again and again.
    gc.collect()
    gc.freeze()
    return app.wsgi_app


def _joining(store: Store, records: Path) -> ReadJoining:
    """Return what reads how machines join, with the pod subnets of all who share `store`."""
    ask = partial(read_joining, records)
    return allotted(store, records, ask) if isinstance(store, EtcdStore) else ask


def opened() -> Store:
    """Return the store that the configuration names.

    Raises:
        ServeError: nothing is rendered.
        StateError: it cannot be opened, does not answer, or the state is elsewhere.
        PreflightError: a certificate for it cannot be read.
    """
    store = open_home(read_rendered(Path()).cluster, Path())
    if isinstance(store, EtcdStore):
        store.sweep()
    return store


def set_up_logging() -> None:
    """Log to stderr, one line each."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s web %(levelname)s %(message)s"
    )
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # it tells of every request to the cluster
    for handler in logging.getLogger().handlers:
        handler.addFilter(OneAMinute())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m web.server")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--records", type=Path, default=Path())
    return parser.parse_args()


if __name__ == "__main__":
    os.umask(0o077)
    main()
