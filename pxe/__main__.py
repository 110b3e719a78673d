"""Starts the pxe process: checks the ground, then keeps dnsmasq running and tells web what it sees."""

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from bootstrap import config, loaders
from bootstrap.errors import FirstlightError, PreflightError
from bootstrap.model import Cluster
from bootstrap.sums import Sums
from bootstrap.workplace import why_closed
from pxe import dnsmasq, interfaces, probe, report, urgent
from pxe.events import Event
from pxe.leases import Leases
from pxe.observe import Observer
from pxe.packets import Answer
from pxe.pidfile import Ready, only_one
from pxe.sentinel import PERIOD_SECONDS, Sentinel, allowed_of, hostname
from pxe.service import Gatherer, Service
from pxe.stop import Stop
from pxe.supervise import supervise
from pxe.ways import Ways

log = logging.getLogger("pxe")


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; return the exit status: 0 told to end, 1 could not serve."""
    arguments = _parser().parse_args(argv)
    _log_to_stderr(logging.DEBUG if arguments.verbose else logging.INFO)
    work, runtime = arguments.work.resolve(), arguments.runtime.resolve()
    try:
        if arguments.check:
            choose_interface(_cluster(work))
            return 0
        with Stop() as stop, only_one(work / "run" / "pxe.pid"):
            stop.listen()
            _run(work, runtime, stop, arguments)
    except FirstlightError as error:
        log.error("%s", error)  # noqa: TRY400  # the text is for people: no traceback
        return error.exit_code
    log.info("ended")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pxe", description="Answer DHCP and TFTP for one cluster.")
    parser.add_argument("--work", type=Path, required=True, help="the cluster's work folder")
    parser.add_argument(
        "--runtime", type=Path, required=True, help="folder for loaders and leases, readable by all"
    )
    parser.add_argument(
        "--no-probe", dest="probe", action="store_false", help="do not look for another DHCP server first"
    )
    parser.add_argument(
        "--check", action="store_true", help="only look whether the interface and its address are there"
    )
    parser.add_argument(
        "--watch-seconds",
        type=float,
        default=PERIOD_SECONDS,
        metavar="SECONDS",
        help="how often to look for other DHCP servers",
    )
    parser.add_argument("--verbose", action="store_true", help="log every line of dnsmasq")
    return parser


def _run(work: Path, runtime: Path, stop: Stop, arguments: argparse.Namespace) -> None:
    _refuse(work)
    cluster = _cluster(work)
    if ended := dnsmasq.end_leftovers(runtime):
        log.warning("ended the dnsmasq that a killed pxe left behind (pid %s)", ", ".join(map(str, ended)))
    _check_ground(cluster, stop, arguments.probe)
    _place_loaders(cluster, work, runtime)
    ready = Ready(work / "run" / "pxe.ready")
    reporter = report.Reporter(f"{cluster.secure_url}/v1/pxe/events", report.session(work))
    leases = Leases(cluster, work / "run" / "leases", dnsmasq.hosts_file(runtime), time.time)
    leases.load()
    service = Service(dnsmasq.command(runtime), work, leases, ready.say)
    events = Gatherer(reporter.put)
    observer = Observer(
        root=runtime / "tftp", report=events.put, neighbour=interfaces.neighbour, on_ready=service.serves
    )
    urgent.prefer(os.getpid(), urgent.READER_NICENESS)
    reporter.start()
    sentinel = _sentinel(cluster, stop, reporter.put, arguments.watch_seconds)
    ways = Ways(cluster, work, runtime, report=reporter.put, mac_at=observer.mac_at)
    try:
        ways.start()
        sentinel.start()
        supervise(service.start, service.listener(observer, events), stop, on_end=ready.withdraw)
    finally:
        sentinel.stop()
        ready.withdraw()
        ways.stop()
        reporter.close()
        leases.close()


def _refuse(work: Path) -> None:
    """Raise PreflightError if nothing may be served from here."""
    if os.geteuid() != 0:
        raise PreflightError("pxe needs root, for DHCP's port and packets; start it with sudo")
    if why := why_closed(work):
        raise PreflightError(why)


def _cluster(work: Path) -> Cluster:
    try:
        bundle = Sums(work / "bundle")
        bundle.read(dnsmasq.CONF.removeprefix("bundle/"))
        return config.parse_dump(bundle.read("appliance/cluster.json"))
    except OSError as error:
        raise PreflightError(
            f"{error.filename} cannot be read ({error.strerror}); render it: deploy.py up"
        ) from error


def choose_interface(cluster: Cluster) -> interfaces.Interface:
    """Return the interface to serve on.

    Raises:
        PreflightError: it is not there, is down or lacks the address; the text says what to type.
    """
    appliance = cluster.appliance
    return interfaces.choose(appliance.interface, appliance.address, interfaces.interfaces())


def _check_ground(cluster: Cluster, stop: Stop, probes: bool) -> None:  # noqa: FBT001  # straight from argparse
    appliance = cluster.appliance
    interface = choose_interface(cluster)
    if not interface.has_carrier:
        log.warning("interface %s has no link yet: is the cable in?", interface.name)
    if appliance.dhcp.mode == "server" and probes:
        log.info("%s: asking whether another DHCP server answers", interface.name)
        probe.refuse_other_servers(interface, stop)
    log.info("dhcp mode %s on %s, address %s", appliance.dhcp.mode, interface.name, appliance.address)


def _sentinel(cluster: Cluster, stop: Stop, report: Callable[[Event], None], seconds: float) -> Sentinel:
    """Return what looks for strange DHCP servers; it does nothing if nobody has said which ones are right."""
    interface = choose_interface(cluster)
    allowed = allowed_of(cluster.appliance)
    if allowed is None:
        log.info("no other DHCP server is looked for: name the site's own (appliance.dhcp.upstream)")

    def ask() -> frozenset[Answer]:
        if allowed is None:
            return frozenset()
        return probe.ask_all(interface, stop, probe.PATIENCE_SECONDS, hostname())

    return Sentinel(ask, allowed or (), report, period_seconds=seconds)


def _place_loaders(cluster: Cluster, work: Path, runtime: Path) -> None:
    cache = Path(os.environ.get("FIRSTLIGHT_CACHE") or work.parent / "cache")
    runtime.mkdir(parents=True, exist_ok=True)
    runtime.chmod(loaders.FOLDER_MODE)
    wanted = loaders.sources("tftp", cluster.appliance.pxe.loader, cache)
    for source in loaders.place(runtime / "tftp", wanted):
        log.info("no loader for %s machines: %s is not there or too big", source.firmware, source.path)
    loaders.Guard(runtime / "tftp", partial(log.error, "%s")).start()


def _log_to_stderr(level: int) -> None:
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        stream=sys.stderr, format="%(asctime)sZ %(name)s: %(message)s", datefmt="%Y-%m-%dT%H:%M:%S"
    )
    log.setLevel(level)


if __name__ == "__main__":
    sys.exit(main())
