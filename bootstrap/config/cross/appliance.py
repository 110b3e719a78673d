"""Settings of the appliance and of Kubernetes' binaries that go together or exclude each other."""

from collections.abc import Callable, Iterator
from itertools import combinations

from bootstrap.config.cross.view import View
from bootstrap.config.tree import Path, Scalar, find
from bootstrap.errors import Problem

APPLIANCE = "appliance"
FIRST_FREE_PORT = 1024
"""Below, a port is for root (ip(7), ip_unprivileged_port_start)."""


def two_ports(view: View) -> Iterator[Problem]:
    """Plain and TLS traffic need a port each."""
    ports = []
    for key, default in (("httpPort", 8080), ("httpsPort", 8443)):
        node = find(view.tree, (APPLIANCE, key))
        ports.append(node.value if isinstance(node, Scalar) else default)
    if ports[0] == ports[1]:
        wrong = (APPLIANCE, "httpsPort") if view.has(APPLIANCE, "httpsPort") else (APPLIANCE, "httpPort")
        yield view.problem(
            wrong, f"{ports[0]} is the port of both http and https; write another one such as 8444"
        )


def containers(view: View) -> Iterator[Problem]:
    """Containers are not root where it counts, and docker has networks of its own only."""
    engine = view.text(APPLIANCE, "engine") or "native"
    if engine == "native":
        return
    for key in ("httpPort", "httpsPort"):
        node = find(view.tree, (APPLIANCE, key))
        port = node.value if isinstance(node, Scalar) else None
        if isinstance(port, int) and 0 < port < FIRST_FREE_PORT:
            yield view.problem(
                (APPLIANCE, key),
                f"{port} is for root, and web is not root in its container; write {port + 8000},"
                " or engine: native",
            )
    if engine == "docker" and view.has("lab"):
        yield view.problem(
            (APPLIANCE, "engine"),
            "docker cannot run a container in the lab's network; write podman or native",
        )


def etcd_store(view: View) -> Iterator[Problem]:
    """The etcd section belongs to `store: etcd`."""
    wanted, given = view.text(APPLIANCE, "store") == "etcd", view.has(APPLIANCE, "etcd")
    if wanted and not given:
        yield view.problem(
            (APPLIANCE, "store"), "etcd needs to be reached; add etcd: {endpoints: [https://...]} beside it"
        )
    if given and not wanted:
        yield view.key_problem(
            (APPLIANCE, "etcd"), "is used by store: etcd only; remove it, or write store: etcd"
        )
    engine = view.text(APPLIANCE, "engine") or "native"
    if wanted and engine != "native":
        yield view.problem(
            (APPLIANCE, "engine"),
            f"{engine}: its web container cannot reach etcd yet; write native, or store: sqlite",
        )
    yield from _together(view, (APPLIANCE, "etcd"), "certFile", "keyFile")


def _together(view: View, path: Path, *keys: str) -> Iterator[Problem]:
    given = [key for key in keys if view.has(*path, key)]
    if given and len(given) < len(keys):
        lacking = next(key for key in keys if key not in given)
        yield view.key_problem((*path, given[0]), f"needs its other half; add {lacking}: beside it")


def one_source(view: View) -> Iterator[Problem]:
    """A loader, and the release binaries, come from one place."""
    loaders: Path = (APPLIANCE, "pxe", "loader")
    for firmware in view.keys(*loaders):
        path = (*loaders, firmware)
        if view.keys(*path) and not (view.has(*path, "path") or view.has(*path, "url")):
            yield view.problem(path, "says not where the loader is; add path: or url:")
        yield from _exclusive(view, path, "path", "url")
    for one, other in combinations(("directory", "build", "mirror"), 2):
        yield from _exclusive(view, ("kubernetes", "binaries"), one, other)


def _exclusive(view: View, path: Path, one: str, other: str) -> Iterator[Problem]:
    if view.has(*path, one) and view.has(*path, other):
        yield view.key_problem(
            (*path, other), f"excludes {one} ({view.where((*path, one))}); remove one of them"
        )


RULES: tuple[Callable[[View], Iterator[Problem]], ...] = (
    two_ports,
    containers,
    etcd_store,
    one_source,
)
