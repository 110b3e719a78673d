"""Verbs that start and stop things: up, down, serve."""

import os
import signal
from collections.abc import Mapping
from datetime import UTC, datetime

import click

from bootstrap import steps
from bootstrap.adding.bring import Brought
from bootstrap.cli.apply import asking
from bootstrap.cli.main import Call
from bootstrap.cli.passphrase import passphrase
from bootstrap.cli.results import emit, stderr
from bootstrap.cli.screen import Screen
from bootstrap.containers.serving import Containers
from bootstrap.disk import finish_bundle
from bootstrap.engines import EngineName, engine_of
from bootstrap.errors import PreflightError, UsageError
from bootstrap.handover import fence
from bootstrap.model import Cluster
from bootstrap.serve import serve as run_appliance
from bootstrap.status import HEADINGS, is_broken, is_done, rows
from bootstrap.stores import bring_credentials
from bootstrap.watch import machines_until_settled

EXIT_FAILED = 1
KEYS = "pki/"
EXIT_PARTLY = 3
LAB_TIMEOUT_SECONDS = 45 * 60.0  # two emulated machines need about five minutes on two cores
RACK_TIMEOUT_SECONDS = 7 * 24 * 3600.0  # people switch real machines on when they get to it


@click.command()
@click.option(
    "--wait/--no-wait", default=True, help="Wait until the machines run from their disks (default), or not."
)
@click.option("--timeout", type=float, metavar="SECONDS", help="Give up waiting after so long.")
@click.pass_obj
def up(call: Call, wait: bool, timeout: float | None) -> int:  # noqa: FBT001  # click calls it
    """Do every step, then wait until each machine runs from its own disk.

    The appliance, and the lab if there is one, stay up in the background until `down`. A second run changes
    nothing. Ctrl-C takes back what this run has started.
    """
    cluster = call.cluster()
    screen = Screen(stderr(), total=_steps(cluster))
    steps.check(call.paths(), cluster, screen)
    require_root("up")
    place = call.place(cluster)
    fence.refuse(place.work, place.name)
    undo = steps.Undo([])
    interrupt_on_sigterm()
    with place.locked():
        run = steps.Run(
            configs=call.paths(),
            place=place,
            cluster=cluster,
            reporter=screen,
            passphrase=passphrase(),
            ask=asking(),
        )
        try:
            began = datetime.now(UTC)
            switched_on, applied = bring_up(run, undo)
            fresh = dict.fromkeys(switched_on, began)
            if not wait:
                return applied
            usual = LAB_TIMEOUT_SECONDS if cluster.lab else RACK_TIMEOUT_SECONDS
            limit = usual if timeout is None else timeout
            return max(applied, report(call, run, fresh, limit))
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                screen.say("interrupted: taking back what this run started ...")
            undo.all()
            raise


def bring_up(run: steps.Run, undo: steps.Undo) -> tuple[tuple[str, ...], int]:
    """Do the steps from keys to serve, and say so if nothing changed.

    Return the machines just switched on, and 0, or EXIT_PARTLY if a control-plane host, an image or an addon is not as
    it should be.
    """
    keyring = steps.keys(run)
    found = steps.programs(run)
    bundle = steps.render(run, keyring.public)
    changed = (*steps.write(run, bundle), *(f"{KEYS}{change.name}" for change in keyring.news))
    built = steps.build_images(run)
    rack = steps.lab_up(run, undo)
    outcome = steps.apply(run, keyring, found)
    is_whole = outcome is None or not outcome.exit_code
    brought = steps.addons(run) if is_whole and steps.has_addons(run.cluster) else Brought()
    switched_on = steps.serve(run, rack, undo, changed=changed)
    applied = outcome.changes if outcome else 0
    is_well = is_whole and not built.stays and not brought.failed
    did = undo.actions or changed or built.names or applied or brought.changed or switched_on
    if is_well and not did:
        run.reporter.say("nothing changed: everything runs as the configuration says")
    return switched_on, 0 if is_well else EXIT_PARTLY


def _steps(cluster: Cluster) -> int:
    """Return how many steps `up` has."""
    return 6 + bool(cluster.lab) + 2 * bool(cluster.control_plane.hosts) + steps.has_addons(cluster)


def report(call: Call, run: steps.Run, fresh: Mapping[str, datetime], timeout_seconds: float) -> int:
    """Wait for the machines, print their table, and return the exit code.

    A machine of `fresh` was switched on after that time: what it reported before no longer counts.
    """
    names = steps.expected(run.cluster)
    run.reporter.say(f"waiting for {', '.join(names) or 'no machine'}")
    machines = machines_until_settled(
        steps.operator_of(run), names, run.reporter, fresh=fresh, timeout_seconds=timeout_seconds
    )
    emit(call.output, machines, HEADINGS, rows(machines, datetime.now(UTC)))
    mine = [machine for machine in machines if machine["name"] in names]
    done = sum(is_done(machine, fresh.get(machine["name"])) for machine in mine)
    run.reporter.say(f"the appliance stays up in the background; `{_again(call)} down` stops it")
    if done == len(names):
        return 0
    broken = sum(map(is_broken, mine))
    run.reporter.say(f"{done} of {len(names)} machines run from their disk, {broken} need a person")
    return EXIT_PARTLY if done else EXIT_FAILED


def _again(call: Call) -> str:
    options = " ".join(f"--config {path}" for path in call.paths())
    return f"python3 deploy.py {options}"


@click.command()
@click.pass_obj
def down(call: Call) -> None:
    """Stop the appliance and the lab.

    Leaves no process, namespace, mount or file behind outside the work folder. Keys, state, disks and images
    stay, so that `up` goes on where it was.
    """
    cluster = call.cluster()
    require_root("down")
    place = call.place(cluster)
    if not place.work.exists():
        return
    with place.locked():
        steps.down(place, cluster, Screen(stderr(), total=1))


@click.command()
@click.option(
    "--engine",
    type=click.Choice(["native", "podman", "docker"]),
    help="Run web and pxe as processes, or in containers of podman or docker, whatever appliance.engine says.",
)
@click.option(
    "--prepare",
    is_flag=True,
    help="Only make the container images and the folders that they mount, for compose.yaml.",
)
@click.pass_obj
def serve(call: Call, engine: EngineName | None, prepare: bool) -> None:  # noqa: FBT001  # click calls it
    """Run the appliance in the foreground until Ctrl-C; its log goes to stderr.

    The documents must be rendered and the images built (`up` does both); with a lab, the lab must be up.
    """
    cluster = call.cluster()
    require_root("serve")
    place = call.place(cluster)
    fence.refuse(place.work, place.name)
    finish_bundle(place.bundle)
    if not (place.bundle / "web" / "nginx.conf").is_file():
        raise PreflightError(
            f"{place.bundle} holds no documents; run `up`, or `render` and `image build`, first"
        )
    runner = engine_of(place, cluster, engine)
    if cluster.appliance.store == "etcd":
        if isinstance(runner, Containers):
            raise UsageError(
                "the web container cannot reach etcd yet: serve with --engine native, or store: sqlite"
            )
        bring_credentials(cluster, call.base(), place.work)
    if isinstance(runner, Containers):
        screen = Screen(stderr(), total=1)
        with screen.step("container images") as progress:
            for line in runner.ensure(progress) or ("nothing to build",):
                screen.say(line)
        if prepare:
            click.echo(runner.prepare())
            return
    elif prepare:
        raise UsageError("--prepare is for containers: write --engine podman or --engine docker with it")
    run_appliance(place, runner)


def require_root(verb: str) -> None:
    """Stop unless this is root: ports 67 and 69, network namespaces and images' file owners need it.

    Raises:
        PreflightError: it is not.
    """
    if os.geteuid() != 0:
        raise PreflightError(
            f"`{verb}` needs root: it serves DHCP and TFTP and builds images; check, render and plan do not"
        )


def interrupt_on_sigterm() -> None:
    """Treat SIGTERM as Ctrl-C, in this process alone.

    pyroute2 forks a child per namespace and ends it with SIGTERM: that child must not take our work back.
    """
    owner = os.getpid()

    def leave(number: int, frame: object) -> None:
        del frame
        if os.getpid() != owner:
            os._exit(128 + number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, leave)
