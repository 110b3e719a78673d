"""Hosts, trees and facts for the tests of apply."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from bootstrap.apply.etcd_data import Etcd, wanted
from bootstrap.apply.facts import Facts, Found, Space, UnitFacts
from bootstrap.apply.manifest import entry, manifest, sha256_of, stamp_of
from bootstrap.kubernetes.tree import HostFile, HostTree, LocalFile, Unit
from certs.secret import Secret

PROGRAM = b"\x7fELF program"
UNITS = "/etc/systemd/system"
ETCD_UNIT = b"""[Service]
ExecStart=/opt/firstlight/bin/etcd \\
    --initial-cluster=m1=https://10.0.0.1:2380,m2=https://10.0.0.2:2380,m3=https://10.0.0.3:2380 \\
    --initial-cluster-state=new \\
    --initial-cluster-token=rack1
"""
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFMyqcGg6k2cCIlLBepzQmmz4y6U9PNjc1KuZCobmMgK"
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIM42uVJzodwGIIm2FhhTPI1G1AIFrtlVCk3E1s2w6V0Z"


def tree_of(host: str, *, value: bytes = b"one\n", program: Path | None = None) -> HostTree:
    files = {
        "/etc/app/config": HostFile(value),
        "/etc/app/key": HostFile(Secret(b"hidden-" + host.encode()), 0o600, "app", "app"),
        f"{UNITS}/app.service": HostFile(b"[Service]\nExecStart=/opt/app\n"),
        f"{UNITS}/etcd.service": HostFile(ETCD_UNIT),
    }
    if program is not None:
        files["/opt/app"] = HostFile(LocalFile(program, hashlib.sha256(PROGRAM).hexdigest()), 0o755)
    etcd = Unit("etcd.service", (f"{UNITS}/etcd.service",), "etcd")
    app = Unit("app.service", ("/etc/app/", f"{UNITS}/app.service"), "app")
    return HostTree(host, files, (etcd, app))


def etcd_of(trees: Iterable[HostTree]) -> Etcd:
    found = wanted(trees)
    assert found is not None
    return found


def empty(host: str) -> Facts:
    """Return what a freshly installed Debian 13 says."""
    return Facts(
        name=host,
        os={"ID": "debian", "VERSION_ID": "13", "PRETTY_NAME": "Debian GNU/Linux 13 (trixie)"},
        arch="x86_64",
        systemd=257,
        clock=1_800_000_000,
        space={name: Space(10**9, "1") for name in ("/etc", "/opt", "/var/lib")},
    )


def applied(tree: HostTree, *, cluster: str = "rack1") -> Facts:
    """Return what a host says on which `tree` was applied."""
    files = {path: found(file) for path, file in tree.files.items()}
    units = {
        unit.name: UnitFacts("loaded", "active", 7, "enabled", stamp_of(unit, tree)) for unit in tree.units
    }
    return replace(empty(tree.host), manifest=manifest(cluster, tree), files=files, units=units)


def found(file: HostFile) -> Found:
    return Found("file", sha256_of(file), file.mode, file.owner, file.group)


def with_file(facts: Facts, path: str, what: Found) -> Facts:
    return replace(facts, files={**facts.files, path: what})


def with_unit(facts: Facts, name: str, what: UnitFacts) -> Facts:
    return replace(facts, units={**facts.units, name: what})


def without(facts: Facts, paths: Iterable[str]) -> Facts:
    gone = set(paths)
    return replace(facts, files={path: each for path, each in facts.files.items() if path not in gone})


def listed(tree: HostTree) -> list[Mapping[str, str]]:
    return [entry(path, file) for path, file in tree.files.items()]
