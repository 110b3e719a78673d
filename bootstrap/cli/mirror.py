"""Verbs about the mirror, the folder to start from with no internet: mirror pull, verify, list."""

from dataclasses import asdict
from pathlib import Path

import click

from bootstrap.cli.main import Call
from bootstrap.cli.results import emit, stderr
from bootstrap.cli.screen import Screen
from bootstrap.errors import MirrorError
from bootstrap.image.command import terminable
from bootstrap.mirror import lock
from bootstrap.mirror.folder import folder_of
from bootstrap.mirror.pull import Pull
from bootstrap.mirror.server import Server
from bootstrap.mirror.verify import problems
from bootstrap.mirror.wanted import wanted
from bootstrap.model import Cluster

HEADINGS = ("FILE", "VERSION", "SIZE", "SIGNED", "FETCHED", "SHA256")
PLANNED = ("FILE", "VERSION", "SIZE", "STATE", "FROM")
MEBIBYTE = 1024 * 1024


@click.group()
def mirror() -> None:
    """Fetch all that the cluster is made from into one folder, and start from it with no internet."""


@mirror.command()
@click.option("--dry-run", is_flag=True, help="Show what would be fetched, with sizes; writes nothing.")
@click.option(
    "--allow-downgrade", is_flag=True, help="Take a channel's release also when it is older than before."
)
@click.pass_obj
def pull(call: Call, dry_run: bool, allow_downgrade: bool) -> None:  # noqa: FBT001  # click calls it
    """Fetch what the configuration needs and the folder lacks; checks signatures and sums, goes on after a cut."""
    cluster, screen = call.cluster(), Screen(stderr(), total=1)
    with terminable(), screen.step("mirror pull") as progress:
        run = Pull(
            folder=_folder(call, cluster),
            server=Server(call.base(), cluster.mirror.ca_file),
            progress=progress,
            allow_downgrade=allow_downgrade,
        )
        items = wanted(cluster)
        if dry_run:
            rows = run.rows(items)
            cells = [(row.path, row.version, _size(row.size), row.state, row.url) for row in rows]
            return emit(call.output, [asdict(row) for row in rows], PLANNED, cells)
        fetched = run.all(items)
        screen.say(
            f"{len(fetched)} files fetched, {_size(sum(entry.size for entry in fetched))}: {run.folder}"
        )
    return None


@mirror.command()
@click.pass_obj
def verify(call: Call) -> None:
    """Read every file again, and compare it with the lock and the makers' keys. Changes nothing."""
    cluster, screen = call.cluster(), Screen(stderr(), total=1)
    folder = _folder(call, cluster)
    with screen.step("mirror verify") as progress:
        if found := problems(folder, cluster.mirror, call.base(), progress):
            raise MirrorError("\n".join(found))
        screen.say(
            f"{len(lock.read(folder).entries)} files are what they were when they were fetched: {folder}"
        )


@mirror.command("list")
@click.pass_obj
def list_(call: Call) -> None:
    """Show the files of the mirror with version, size, signer, time and sha256. Changes nothing."""
    cluster = call.cluster()
    entries = lock.read(_folder(call, cluster)).entries.values()
    data = [{**asdict(entry), "version": _version(entry)} for entry in entries]
    cells = [
        (e.path, _version(e), _size(e.size), (e.signer or "-")[-16:], e.fetched, e.sha256) for e in entries
    ]
    emit(call.output, data, HEADINGS, cells)


def _folder(call: Call, cluster: Cluster) -> Path:
    return folder_of(cluster, call.base(), call.place(cluster).cache)


def _version(entry: lock.Entry) -> str:
    return entry.key.rpartition("/")[2]


def _size(size: int | None) -> str:
    return "?" if size is None else f"{size / MEBIBYTE:.1f} MiB"
