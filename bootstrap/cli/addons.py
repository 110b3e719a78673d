"""Verbs about addons: addon list, render, diff, apply, remove, check."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from bootstrap import steps
from bootstrap.adding import bring, given, record
from bootstrap.adding.bring import Wait, workloads
from bootstrap.adding.objects import Objects
from bootstrap.adding.proof import proofs
from bootstrap.adding.record import Ref
from bootstrap.adding.rendering import Chosen, Given, choose, chosen, documents, warnings
from bootstrap.adding.rendering import addon as addon_of
from bootstrap.cli.apply import must_have_hosts
from bootstrap.cli.main import Call
from bootstrap.cli.results import emit, stderr
from bootstrap.cli.screen import Screen
from bootstrap.config import to_yaml
from bootstrap.errors import UsageError
from bootstrap.kubernetes.api import Api
from bootstrap.kubernetes.releases import minor_of
from bootstrap.leaving import administrator
from bootstrap.model import Cluster
from bootstrap.model.addons import names

HEADINGS = ("ADDON", "CONFIGURED", "OBJECTS", "READY", "WHAT")
PROVEN = ("NEED", "MET", "SEEN")
EXIT_PARTLY = 3


@click.group()
def addon() -> None:
    """Look at the addons of the cluster, bring them there, or take them away (docs/addons.md)."""


@addon.command("list")
@click.pass_obj
def list_(call: Call) -> None:
    """Show the addons of the configuration and of the cluster, and whether their pods are ready. Changes nothing."""
    cluster = _with_hosts(call)
    with _api(call, cluster) as api:
        known, objects = record.read(api), Objects(api)
        items = {one.name: one for one in chosen(cluster)}
        data = [
            _row(cluster, name, items.get(name), known.get(name, ()), objects)
            for name in dict.fromkeys([*items, *sorted(known)])
        ]
    cells = [
        (row["addon"], row["configured"], str(row["objects"]), row["ready"] or "-", row["what"])
        for row in data
    ]
    emit(call.output, data, HEADINGS, cells)


@addon.command()
@click.argument("name", nargs=-1, metavar="[NAME]...")
@click.pass_obj
def render(call: Call, name: tuple[str, ...]) -> None:
    """Print the documents of the addons called NAME (none: all), as they would be applied. Changes nothing."""
    cluster = call.cluster()
    what = given.given(cluster, call.place(cluster).work, call.base())
    for one in choose(cluster, name):
        _warn(cluster, one, what)
        for each in documents(cluster, one, what):
            sys.stdout.write("---\n" + to_yaml(each))


@addon.command()
@click.argument("name", nargs=-1, metavar="[NAME]...")
@click.pass_obj
def diff(call: Call, name: tuple[str, ...]) -> None:
    """Print what `addon apply` would change, as a unified diff; nothing if all is as it should be. Changes nothing."""
    cluster = _with_hosts(call)
    what = given.given(cluster, call.place(cluster).work, call.base())
    items = choose(cluster, name)
    with _api(call, cluster) as api:
        sys.stdout.write(bring.diff(api, cluster, items, what))


@addon.command()
@click.argument("name", nargs=-1, metavar="[NAME]...")
@click.option(
    "--dry-run", is_flag=True, help="Print what would change, as `addon diff` does; change nothing."
)
@click.option("--force", is_flag=True, help="Take over objects that somebody else made and manages.")
@click.pass_context
def apply(context: click.Context, name: tuple[str, ...], dry_run: bool, force: bool) -> int:  # noqa: FBT001  # click calls it
    """Bring the addons called NAME (none: all that are configured) to the cluster.

    A second run changes nothing. What an addon no longer has is deleted, but for namespaces, definitions of kinds and
    volumes; an addon that has left the configuration stays until `addon remove`. Exits 3 if one could not be brought.
    """
    call: Call = context.obj
    if dry_run:
        context.invoke(diff, name=name)
        return 0
    cluster = _with_hosts(call)
    choose(cluster, name)
    place = call.place(cluster)
    with place.locked():
        run = steps.Run(
            configs=call.paths(), place=place, cluster=cluster, reporter=Screen(stderr(), total=1)
        )
        brought = steps.addons(run, name, force=force)
    emit(call.output, brought.to_data(), ("CHANGED",), [(each,) for each in brought.changed])
    return EXIT_PARTLY if brought.failed else 0


@addon.command()
@click.argument("name")
@click.pass_obj
def remove(call: Call, name: str) -> int:
    """Delete everything of the addon NAME from the cluster; what others made stays.

    Volumes that claims use stay until the claims are gone. Exits 1 if something is still there after a minute.
    """
    cluster, console = _with_hosts(call), stderr()
    place = call.place(cluster)
    with place.locked(), _api(call, cluster) as api:
        known = record.read(api)
        if not known.get(name):
            listed = ", ".join(sorted(known)) or "none"
            raise UsageError(f"no addon {name} was brought to the cluster ({listed})")
        brought = bring.remove(api, name, Wait(tell=console.print))
    emit(call.output, brought.to_data(), ("CHANGED",), [(each,) for each in brought.changed])
    for text in brought.failed.values():
        console.print(text)
    if name in {one.name for one in chosen(cluster)}:
        console.print(f"{name} is in the configuration still: the next `up` or `apply` brings it again")
    return int(bool(brought.failed))


@addon.command()
@click.option(
    "--timeout", type=click.FloatRange(min=1, max=3600), default=60.0, show_default=True, metavar="SECONDS",
    help="How long to wait for a volume, and for an address.",
)  # fmt: skip
@click.pass_obj
def check(call: Call, timeout: float) -> int:
    """Prove what Kubeflow and other big charts take for granted: nodes, webhooks, names, volumes, addresses, GPUs.

    Makes a claim and a service called firstlight-proof in the namespace default, and deletes them. Exits 1 if
    something is missing, and says what to do.
    """
    cluster = _with_hosts(call)
    with _api(call, cluster) as api:
        found = list(proofs(api, cluster, Wait(seconds=timeout)))
    data = [{"need": one.need, "met": one.is_met, "said": one.said} for one in found]
    emit(call.output, data, PROVEN, [(one.need, "yes" if one.is_met else "no", one.said) for one in found])
    return int(not all(one.is_met for one in found))


def _with_hosts(call: Call) -> Cluster:
    cluster = call.cluster()
    must_have_hosts(cluster)
    return cluster


@contextmanager
def _api(call: Call, cluster: Cluster) -> Iterator[Api]:
    api = Api(administrator(cluster, call.place(cluster).work))
    try:
        yield api
    finally:
        api.close()


def _row(
    cluster: Cluster, name: str, one: Chosen | None, refs: tuple[Ref, ...], objects: Objects
) -> Mapping[str, Any]:
    ready = list(workloads(objects, refs))
    plugin = addon_of(name) if name in names() else None
    images = plugin.images(minor_of(cluster.kubernetes.version)) if plugin else ()
    return {
        "addon": name,
        "configured": "no" if one is None else "yes" if one.is_listed else "by itself",
        "objects": len(refs),
        "ready": f"{sum(pair[0] for pair in ready)}/{sum(pair[1] for pair in ready)}" if ready else None,
        "images": [image.reference(cluster) for image in images],
        "what": plugin.title if plugin else "no longer known",
    }


def _warn(cluster: Cluster, one: Chosen, what: Given) -> None:
    for text in warnings(cluster, one, what):
        stderr().print(text)
