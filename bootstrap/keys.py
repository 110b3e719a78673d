"""A cluster's keys and certificates: the names they hold, and keeping `pki/` of the work folder in order."""

import ipaddress
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple, TypeVar

from bootstrap.errors import FirstlightError, UsageError
from bootstrap.model.cluster import Cluster
from bootstrap.secret_file import secret_in
from certs.errors import CertsError, UnknownCertificate, UnusableFolder
from certs.keyring import Keyring
from certs.keystore import Keystore
from certs.node import node_certificate
from certs.secret import Secret
from certs.status import StatusRow, status
from certs.wanted import Names, Wanted, break_glass, first_binder, rows

FOLDER = "pki"

T = TypeVar("T")


class KeysError(FirstlightError):
    """Keys or certificates are damaged, lost, locked or expired; the text names the file and the remedy."""


class Keys(NamedTuple):
    """The keyring, and a line for people about each thing that was done."""

    keyring: Keyring
    lines: tuple[str, ...]


def names_from(cluster: Cluster) -> Names:
    """Return the names and addresses of `cluster` that certificates speak of."""
    hosts = cluster.control_plane.hosts
    service = cluster.kubernetes.service_subnet
    members = [(host.name, host.address) for host in hosts if host.name in cluster.etcd.members]
    extra = (cluster.kubernetes.endpoint_host, *cluster.kubernetes.api_server.cert_sans)
    return Names(
        cluster=cluster.metadata.name,
        dns_domain=cluster.kubernetes.dns_domain,
        service_ip=next(service.hosts(), service.network_address),
        api_dns=(*(host.name for host in hosts), *(name for name in extra if not _is_address(name))),
        api_ips=(
            *(host.address for host in hosts),
            *(ipaddress.ip_address(name) for name in extra if _is_address(name)),
        ),
        etcd_hosts=tuple(members),
        appliance_dns=(f"appliance.{cluster.appliance.domain}",),
        appliance_ips=(cluster.appliance.address.ip,),
    )


def ensure_keys(cluster: Cluster, work: Path, now: datetime, passphrase: Secret | None = None) -> Keys:
    """Make what `work`/pki lacks, issue again what the configuration or time changed, keep the rest.

    Raises:
        KeysError: something there is damaged, lost, locked or expired; nothing was changed.
    """
    wanted = rows(names_from(cluster))
    return _keys(lambda: Keystore(work / FOLDER).ensure(wanted, now, passphrase))


def preview_keys(cluster: Cluster, work: Path, now: datetime, passphrase: Secret | None = None) -> Keys:
    """Return what `ensure_keys` would, and write nothing: what it makes is made up, and forgotten.

    Raises:
        KeysError: as `ensure_keys`.
    """
    wanted = rows(names_from(cluster))
    return _keys(lambda: Keystore(work / FOLDER).preview(wanted, now, passphrase))


def renew_keys(
    cluster: Cluster,
    work: Path,
    now: datetime,
    passphrase: Secret | None = None,
    *,
    names: Collection[str] = (),
) -> Keys:
    """Issue the certificates called `names` (none: all but the authorities) again, for the keys they have.

    The break-glass certificate `super-admin` is made only here, and only when it is named.

    Raises:
        UsageError: a name is no certificate of this cluster.
        KeysError: as `ensure_keys`.
    """
    wanted: tuple[Wanted, ...] = rows(names_from(cluster))
    glass = break_glass()
    if glass.name in names:
        wanted = (*wanted, glass)
    return _keys(lambda: Keystore(work / FOLDER).renew(wanted, now, passphrase, names=names))


def first_binder_keys(
    cluster: Cluster, work: Path, now: datetime, passphrase: Secret | None = None
) -> tuple[bytes, Secret]:
    """Return certificate and key of who gives administrators their power in a new cluster; nothing is written.

    Both are PEM. They work for 15 minutes, and the audit log holds whatever they are used for.

    Raises:
        KeysError: as `ensure_keys`, or the authority's key is encrypted and no passphrase was given.
    """
    wanted = rows(names_from(cluster))
    return _told(lambda: Keystore(work / FOLDER).brief(first_binder(), wanted, now, passphrase))


def node_certificate_for(
    cluster: Cluster, keyring: Keyring, name: str, request: bytes, now: datetime
) -> bytes:
    """Return in PEM a certificate of the kubelet on the control-plane host called `name`, for its `request`.

    Raises:
        KeysError: the request is not exactly that of this node, or the authority is not valid now.
    """
    life = timedelta(seconds=cluster.kubernetes.kubelet.certificate_life)
    return _told(lambda: node_certificate(keyring, request, name, life=life, now=now))


def key_status(cluster: Cluster, work: Path, now: datetime) -> Sequence[StatusRow]:
    """Return a row for each certificate that the cluster wants or that lies in `work`/pki.

    Raises:
        KeysError: the folder cannot be read.
    """
    return _told(lambda: status(work / FOLDER, rows(names_from(cluster)), now))


def passphrase_from(file: Path) -> Secret:
    """Return the passphrase that is the first line of `file`.

    Raises:
        UsageError: the file cannot be read, holds nothing, or other users can read it.
    """
    return secret_in(file, "the passphrase")


def _keys(act: Callable[[], Keyring]) -> Keys:
    keyring = _told(act)
    news = tuple(str(change) for change in keyring.news)
    kept = len({change.name for change in keyring.changes} - {change.name for change in keyring.news})
    return Keys(keyring, (*news, f"kept {kept} keys and certificates") if kept else news)


def _told(act: Callable[[], T]) -> T:
    """Return what `act` returns; say what went wrong in this project's own errors."""
    try:
        return act()
    except UnknownCertificate as error:
        raise UsageError(str(error)) from error
    except UnusableFolder as error:
        raise KeysError(str(error)) from error
    except CertsError as error:
        raise KeysError(f"{error} (nothing was changed)") from error


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
