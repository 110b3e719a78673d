"""Verbs about what follows from the configuration: render, plan. Neither needs root."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from bootstrap.cli.main import Call
from bootstrap.cli.passphrase import passphrase
from bootstrap.cli.results import stderr
from bootstrap.disk import read_bundle, write_bundle
from bootstrap.gpu.machine import choices as gpu_choices
from bootstrap.joining import joining
from bootstrap.keys import ensure_keys, preview_keys
from bootstrap.mirror.adopt import not_yet
from bootstrap.model import Cluster
from bootstrap.node_programs import recorded
from bootstrap.plan import plan as compare
from bootstrap.render.bundle import render_bundle
from bootstrap.rendering import with_lab_key


@click.command()
@click.option(
    "--output", "folder", type=click.Path(path_type=Path, file_okay=False), required=True, metavar="DIR",
    help="The folder to write; made if it is not there.",
)  # fmt: skip
@click.pass_obj
def render(call: Call, folder: Path) -> None:
    """Write every document into DIR: dnsmasq.conf, nginx.conf, iPXE scripts and Ignition per machine.

    Makes the keys in the work folder if they are not there yet: documents carry public certificates.
    """
    cluster = call.cluster()
    place = call.place(cluster)
    with place.locked():
        keys = ensure_keys(cluster, place.work, datetime.now(UTC), passphrase())
    public = keys.keyring.public
    bundle = render_bundle(with_lab_key(cluster, place.work), public, joining(cluster, place.work, public))
    write_bundle(folder, bundle)
    stderr().print(f"{len(bundle)} documents in {folder}")


@click.command()
@click.pass_obj
def plan(call: Call) -> None:
    """Print what `up` would do, in order, and a diff against what was last applied. Writes nothing.

    Control-plane hosts that were applied before are looked at over SSH.
    """
    cluster = call.cluster()
    place = call.place(cluster)
    keys = preview_keys(cluster, place.work, datetime.now(UTC), passphrase())
    public = keys.keyring.public
    nodes = joining(cluster, place.work, public, keep=False)
    bundle = render_bundle(with_lab_key(cluster, place.work, make=False), public, nodes)
    lines = keys.lines if keys.keyring.news else ()  # that all was kept is no change
    changes = compare(read_bundle(place.bundle), bundle, keys=lines)
    sys.stdout.write("".join(f"{line}\n" for line in gpu_choices(cluster)))
    sys.stdout.write("\n".join(changes.lines or ("nothing changes",)) + "\n" + changes.diff)
    sys.stdout.write(_hosts(call, cluster, was_applied=bool(recorded(place.work))))
    sys.stdout.writelines(not_yet(cluster, call.base(), place.cache))


def _hosts(call: Call, cluster: Cluster, *, was_applied: bool) -> str:
    """Return what would change on control-plane hosts; before the first time it is everything."""
    names = ", ".join(host.name for host in cluster.control_plane.hosts)
    if not names:
        return ""
    if not was_applied:
        return f"apply the control plane to {names} for the first time; `apply --dry-run` shows it whole\n"
    from bootstrap.cli.apply import host_changes  # noqa: PLC0415  # what speaks to hosts is slow to import

    return host_changes(call, cluster)
