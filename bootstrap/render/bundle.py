"""Everything rendered for one cluster, as one value: path -> file."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from types import MappingProxyType
from typing import TypeAlias

from pydantic import BaseModel

from bootstrap.config import dump
from bootstrap.errors import RenderError
from bootstrap.model import Cluster
from bootstrap.render.dnsmasq import dnsmasq_conf
from bootstrap.render.ipxe import boot_ipxe
from bootstrap.render.machines import installed_document, live_document
from bootstrap.render.nginx import nginx_conf
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


def render_bundle(cluster: Cluster, keyring: PublicKeyring) -> Bundle:
    """Return every document of `cluster`, sorted by path; the same input gives the same bytes.

    Paths are relative to the bundle's folder. All of it may be seen by anyone (decision D4): there is nothing
    secret in it, and nothing secret may come in.

    Raises:
        RenderError: a Secret is in the input, the provisioning CA is missing, or a template is wrong.
    """
    refuse_secrets(cluster)
    refuse_secrets(keyring)
    ca = _provisioning_ca(keyring)
    files = {path: File(content) for path, content in _documents(cluster, ca)}
    return MappingProxyType(dict(sorted(files.items())))


def _documents(cluster: Cluster, ca: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of each document."""
    yield "appliance/cluster.json", dump(cluster)
    yield "appliance/provisioning-ca.crt", ca
    yield "pxe/dnsmasq.conf", dnsmasq_conf(cluster).encode()
    yield "web/boot.ipxe", boot_ipxe(cluster.base_url).encode()
    yield "web/nginx.conf", nginx_conf(cluster).encode()
    for machine in cluster.machines:
        yield f"machines/{machine.name}/live.ign", live_document(cluster, machine, ca)
        yield f"machines/{machine.name}/installed.ign", installed_document(cluster, machine, ca)


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


def refuse_secrets(value: object, *, where: str = "input") -> None:
    """Look through `value` (models, dataclasses, mappings, sequences) and refuse a Secret anywhere in it.

    Raises:
        RenderError: one is there; the text says where.
    """
    if isinstance(value, Secret):
        raise RenderError(f"{where} is a secret; it must not reach a document that anyone may read")
    for name, part in _parts(value):
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
