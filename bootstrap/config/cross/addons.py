"""Rules of addons: volumes, and an export of ours."""

import re
from collections.abc import Callable, Iterator

from bootstrap.config.cross.view import View
from bootstrap.config.suggest import choice
from bootstrap.config.tree import Path
from bootstrap.errors import Problem
from bootstrap.model.addresses import address_from

HOSTS: Path = ("controlPlane", "hosts")
_PLAIN = re.compile(r"(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)+")
"""A path that needs no quotes in exports(5), in a unit and for a shell."""
_SYSTEM = ("boot", "dev", "etc", "home", "opt", "proc", "root", "run", "sys", "tmp", "usr", "var")
"""Folders of a host of which none is to be exported; /srv and folders of one's own are left."""
EXAMPLE = "/srv/nfs"


def volumes(view: View) -> Iterator[Problem]:
    """Volumes are told apart by name, and an addon that makes none and gives none is a mistake."""
    for path in _nfs(view):
        first: dict[str, Path] = {}
        found = [(*volume, "name") for volume in view.each(*path, "volumes")]
        for name in found:
            text = view.text(*name) or ""
            if text in first:
                yield view.problem(name, f"{text!r} is taken ({view.where(first[text])}); write another one")
            elif text:
                first[text] = name
        if not found and view.read(lambda value: value is False, *path, "dynamic"):
            yield view.key_problem(
                (*path, "dynamic"), "leaves nothing to make; list volumes, or remove this key"
            )


def exports(view: View) -> Iterator[Problem]:
    """A host of ours exports a folder of its own to nodes, whose addresses must be known."""
    for path in _nfs(view):
        if not view.keys(*path, "export"):
            continue
        yield from _host(view, path)
        folder = view.text(*path, "path")
        if folder is not None and (not _PLAIN.fullmatch(folder) or folder.split("/")[1] in _SYSTEM):
            text = f"{folder!r} is no folder to export from a host; write one of its own such as {EXAMPLE}"
            yield view.problem((*path, "path"), text)
        elif folder is not None:
            yield from _below(view, path, folder)
        for machine in view.each("machines"):
            name = view.text(*machine, "name")
            if name and not view.has(*machine, "address"):
                yield view.problem(
                    machine,
                    f"{name} needs an address, to which {'.'.join(map(str, path))} is exported; write one",
                )


def _host(view: View, path: Path) -> Iterator[Problem]:
    addresses = {
        view.text(*item, "name"): view.read(address_from, *item, "address") for item in view.each(*HOSTS)
    }
    known = sorted(name for name in addresses if name)
    host, server = view.text(*path, "export", "host"), view.text(*path, "server")
    if host is not None and host not in addresses:
        advice = choice(host, known) if known else "write it under controlPlane.hosts"
        yield view.problem((*path, "export", "host"), f"there is no control-plane host {host!r}; {advice}")
    elif host is not None and server is not None and addresses[host] and server != str(addresses[host]):
        yield view.problem(
            (*path, "server"), f"{server} is not {host}, which exports; write {addresses[host]}"
        )


def _below(view: View, path: Path, folder: str) -> Iterator[Problem]:
    for volume in view.each(*path, "volumes"):
        inner = view.text(*volume, "path")
        if inner is not None and inner != folder and not inner.startswith(f"{folder}/"):
            yield view.problem((*volume, "path"), f"{inner!r} is not exported; write a folder below {folder}")


def _nfs(view: View) -> Iterator[Path]:
    return (path for item in view.each("addons") if view.keys(*(path := (*item, "nfs-provisioner"))))


RULES: tuple[Callable[[View], Iterator[Problem]], ...] = (volumes, exports)
