"""Everything rendered for one cluster, as one value: path -> file."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from ipaddress import IPv4Address
from types import MappingProxyType
from typing import TypeAlias

from pydantic import BaseModel

from bootstrap.config import dump_values, plain_values
from bootstrap.errors import RenderError
from bootstrap.model import Cluster, Machine
from bootstrap.render.dnsmasq import dnsmasq_conf
from bootstrap.render.hosts import host_documents
from bootstrap.render.ipxe import boot_ipxe, loader_ipxe
from bootstrap.render.machines import installed_document, live_document
from bootstrap.render.nginx import nginx_conf
from bootstrap.render.node import Joining, own_document, shared_document
from certs.keyring import PublicKeyring
from certs.secret import Secret

PROVISIONING_CA = "provisioning/ca"
"""The row of the keyring whose certificate every machine pins."""


@dataclass(frozen=True, slots=True)
class File:
    """The content of a file and its permission bits."""

    content: bytes
    mode: int = 0o644


Bundle: TypeAlias = Mapping[str, File]


class Rendered(Mapping[str, File]):
    """The documents of a cluster; those of a machine are made when they are asked for, and not kept.

    `shared` are the documents that belong to no machine. With `joining` the machines become nodes.
    """

    def __init__(self, cluster: Cluster, ca: bytes, joining: Joining | None = None) -> None:
        self._values = plain_values(cluster)
        self._joining = joining
        documents = _shared(cluster, self._values, ca, joining)
        self.shared = MappingProxyType({path: File(content) for path, content in documents})
        self._cluster = cluster
        self._ca = ca
        self._machines = {machine.name: machine for machine in cluster.machines}

    def __getitem__(self, path: str) -> File:
        if path in self.shared:
            return self.shared[path]
        folder, _, rest = path.partition("/")
        name, _, document = rest.partition("/")
        if folder != MACHINES or name not in self._machines or document not in _names(self._joining):
            raise KeyError(path)
        return File(_document(document, self._cluster, self._machines[name], self._ca, self._joining))

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def of_machine(self, name: str) -> dict[str, File]:
        """Return the documents of one machine."""
        return {path: self[path] for path in self._paths_of(name)}

    @cached_property
    def inputs(self) -> Mapping[str, str]:
        """What the documents of each machine are made of, as a digest, by the machine's name.

        The program and its templates are not in it.
        """
        rest = {key: value for key, value in self._values.items() if key != "machines"}
        common = hashlib.sha256(json.dumps(rest, sort_keys=True).encode() + self._ca)
        joining = self._joining
        subnets = joining.network.numbers if joining else {}
        if joining:
            common.update(joining.common)
        return {
            machine["name"]: _digest(common.copy(), [machine, subnets.get(machine["name"])])
            for machine in self._values["machines"]
        }

    @cached_property
    def _paths(self) -> list[str]:
        return sorted([*self.shared, *(path for name in self._machines for path in self._paths_of(name))])

    def _paths_of(self, name: str) -> list[str]:
        return [f"{MACHINES}/{name}/{document}" for document in _names(self._joining)]


MACHINES = "machines"
NODES = "web/nodes.json"
"""What all nodes have alike; there only if machines join."""
NODE = "node.json"
"""What a machine runs with as a node; there only if it joins."""
_OTHERS = ("installed.ign", "live.ign")


def _names(joining: Joining | None) -> tuple[str, ...]:
    return (*_OTHERS, NODE) if joining else _OTHERS


def _document(name: str, cluster: Cluster, machine: Machine, ca: bytes, joining: Joining | None) -> bytes:
    if name == "live.ign":
        return live_document(cluster, machine, ca)
    if name == NODE and joining:
        return own_document(cluster, machine, joining)
    return installed_document(cluster, machine, ca, joining)


def paths_of(name: str) -> list[str]:
    """Return where the documents of the machine called `name` may stand: node.json is there only if it joins."""
    return [f"{MACHINES}/{name}/{document}" for document in (*_OTHERS, NODE)]


def _digest(common: "hashlib._Hash", machine: object) -> str:
    common.update(json.dumps(machine, sort_keys=True).encode())
    return common.hexdigest()[:32]


def render_bundle(cluster: Cluster, keyring: PublicKeyring, joining: Joining | None = None) -> Rendered:
    """Return every document of `cluster`, sorted by path; the same input gives the same bytes.

    With `joining`, machines are told how to become nodes, and what they run then.

    Paths are relative to the bundle's folder. All of it may be seen by anyone (decision D4): there is nothing
    secret in it, and nothing secret may come in.

    Raises:
        RenderError: a Secret is in the input, the provisioning CA is missing, or a template is wrong.
    """
    refuse_secrets(cluster)
    refuse_secrets(keyring)
    return Rendered(cluster, _provisioning_ca(keyring), joining)


def _shared(
    cluster: Cluster, values: Mapping[str, object], ca: bytes, joining: Joining | None
) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of each document that belongs to no machine."""
    yield "appliance/cluster.json", dump_values(values)
    yield "appliance/loader.ipxe", loader_ipxe(cluster.secure_url, cluster.base_url).encode()
    yield "appliance/provisioning-ca.crt", ca
    yield from host_documents(cluster)
    yield "pxe/dnsmasq.conf", dnsmasq_conf(cluster).encode()
    yield "web/boot.ipxe", boot_ipxe(cluster.base_url).encode()
    yield "web/nginx.conf", nginx_conf(cluster).encode()
    if joining:
        yield NODES, shared_document(joining)


def _provisioning_ca(keyring: PublicKeyring) -> bytes:
    """Return the certificate of the provisioning CA in PEM."""
    if not isinstance(keyring, PublicKeyring):
        raise RenderError(f"documents are rendered from a PublicKeyring, not from a {type(keyring).__name__}")
    try:
        return keyring.certificates[PROVISIONING_CA]
    except KeyError:
        raise RenderError(f"the keyring has no certificate {PROVISIONING_CA}") from None


def digest(bundle: Bundle) -> str:
    """Return the SHA-256 of `bundle` in hex: of every path, mode and content, in order."""
    whole = hashlib.sha256()
    for path, file in sorted(bundle.items()):
        whole.update(f"{path}\0{file.mode:o}\0{len(file.content)}\0".encode())
        whole.update(file.content)
    return whole.hexdigest()


_PLAIN = frozenset({str, int, bool, bytes, type(None), IPv4Address})
"""Types that hold nothing but themselves."""


def refuse_secrets(value: object, *, where: str = "input") -> None:
    """Look through `value` (models, dataclasses, mappings, sequences) and refuse a Secret anywhere in it.

    Raises:
        RenderError: one is there; the text says where.
    """
    if isinstance(value, Secret):
        raise RenderError(f"{where} is a secret; it must not reach a document that anyone may read")
    for name, part in _parts(value):
        if type(part) not in _PLAIN:
            refuse_secrets(part, where=f"{where}.{name}")


def _parts(value: object) -> Iterator[tuple[object, object]]:
    """Yield name and value of what `value` is made of; nothing for plain values."""
    if isinstance(value, BaseModel):
        yield from vars(value).items()
    elif is_dataclass(value):
        yield from ((field.name, getattr(value, field.name)) for field in fields(value))
    elif isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, (tuple, list, set, frozenset)):
        yield from enumerate(value)
