"""The keys and certificates that a cluster needs, as a table of rows.

The reference is kubeadm's table ("PKI certificates and requirements" of kubernetes.io), with the provisioning
authority beside it. It differs from kubeadm where less power is enough: the API server reaches kubelets as a
user without a group, which a ClusterRoleBinding to `system:kubelet-api-admin` lets in. Certificates of kubelets
have an authority of their own, whose key kube-controller-manager holds: the kubernetes authority's key never
leaves the operator, and who steals the other cannot pass for an API server.
"""

import enum
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

AUTHORITY_LIFE = timedelta(days=3650)
LEAF_LIFE = timedelta(days=365)
# Laptops and servers differ by minutes; one hour also covers a clock set by hand.
BACKDATE = timedelta(hours=1)
# A bare machine's clock may be off by a time zone, or by a day when its battery is weak, before it meets NTP.
PROVISIONING_BACKDATE = timedelta(hours=48)

# Long enough for a new API server to come up, and for the clocks of two servers to differ.
BRIEF_LIFE = timedelta(minutes=20)
BRIEF_BACKDATE = timedelta(minutes=5)

_LOCAL = ("localhost", "127.0.0.1", "::1")


class Use(enum.Enum):
    """What the holder of a certificate may prove with it (extended key usage, RFC 5280 4.2.1.12)."""

    SERVER = "server"
    CLIENT = "client"


@dataclass(frozen=True, kw_only=True)
class WantedCa:
    """A certificate authority: `<name>.crt`, signed by itself, and `<name>.key`.

    The key of one that `is_on_hosts` is handed out like a leaf's, and like a leaf's never encrypted; all other
    authorities' keys stay in the key store.
    """

    name: str
    common_name: str
    organization: str | None = None
    life: timedelta = AUTHORITY_LIFE
    backdate: timedelta = BACKDATE
    is_on_hosts: bool = False


@dataclass(frozen=True, kw_only=True)
class WantedLeaf:
    """A certificate `<name>.crt` signed by the authority row called `issuer`, and its key `<name>.key`.

    `sans` are addresses first, then DNS names, each once and in order, so that equal wishes are equal rows.
    """

    name: str
    issuer: str
    common_name: str
    uses: frozenset[Use]
    organization: str | None = None
    sans: tuple[str, ...] = ()
    life: timedelta = LEAF_LIFE
    backdate: timedelta = BACKDATE


@dataclass(frozen=True)
class WantedKeyPair:
    """A plain key pair without a certificate: `<name>.key` and `<name>.pub`."""

    name: str


Wanted = WantedCa | WantedLeaf | WantedKeyPair


@dataclass(frozen=True, kw_only=True)
class Names:
    """The names and addresses of a cluster that certificates speak of.

    `api_dns` and `api_ips` are what clients call API servers: host names and addresses, the endpoint, extra
    names from the configuration. `service_ip` is the first address of the service subnet, which pods call.
    """

    cluster: str
    dns_domain: str
    service_ip: Address
    api_dns: tuple[str, ...]
    api_ips: tuple[Address, ...]
    etcd_hosts: tuple[tuple[str, Address], ...]
    appliance_dns: tuple[str, ...]
    appliance_ips: tuple[Address, ...]


def rows(names: Names) -> tuple[Wanted, ...]:
    """Return every row of the cluster; an authority always comes before what it signs."""
    return (
        WantedCa(name="ca", common_name="kubernetes-ca"),
        WantedCa(name="etcd/ca", common_name="etcd-ca"),
        WantedCa(name="front-proxy-ca", common_name="kubernetes-front-proxy-ca"),
        WantedCa(name="kubelet-ca", common_name="kubernetes-kubelet-ca", is_on_hosts=True),
        WantedCa(
            name="provisioning/ca",
            common_name="firstlight-provisioning-ca",
            organization=names.cluster,
            backdate=PROVISIONING_BACKDATE,
        ),
        WantedKeyPair("sa"),
        WantedKeyPair("secrets-encryption"),
        *_provisioning(names),
        *_etcd(names),
        *_control_plane(names),
        *_users(),
    )


def break_glass() -> WantedLeaf:
    """Return the row of the administrator whom RBAC cannot stop; never part of `rows`.

    `system:masters` is wired into the API server: whoever holds this certificate is root until it expires.
    """
    return _client("super-admin", "ca", "kubernetes-super-admin", organization="system:masters")


def first_binder() -> WantedLeaf:
    """Return the row of who makes the first binding in a new cluster, when nobody may do anything yet.

    It is in `system:masters`, so it lives for minutes, and only in memory (`Keystore.brief`).
    """
    return WantedLeaf(
        name="first-binder",
        issuer="ca",
        common_name="firstlight:first-binder",
        organization="system:masters",
        uses=frozenset({Use.CLIENT}),
        life=BRIEF_LIFE,
        backdate=BRIEF_BACKDATE,
    )


def sans_in_order(names: Iterable[str], addresses: Iterable[Address] = ()) -> tuple[str, ...]:
    """Return addresses (by version and value), then DNS names in lower case; names may hold addresses too."""
    found: set[Address] = set(addresses)
    dns: set[str] = set()
    for name in names:
        address = _address(name)
        if address is None:
            dns.add(name.lower().rstrip("."))
        else:
            found.add(address)
    ordered = sorted(found, key=lambda each: (each.version, int(each)))
    return (*(str(address) for address in ordered), *sorted(dns))


def _provisioning(names: Names) -> tuple[WantedLeaf, ...]:
    return (
        WantedLeaf(
            name="provisioning/server",
            issuer="provisioning/ca",
            common_name="firstlight:web",
            uses=frozenset({Use.SERVER}),
            sans=sans_in_order(names.appliance_dns, names.appliance_ips),
            backdate=PROVISIONING_BACKDATE,
        ),
        WantedLeaf(
            name="provisioning/pxe",
            issuer="provisioning/ca",
            common_name="firstlight:pxe",
            uses=frozenset({Use.CLIENT}),
            backdate=PROVISIONING_BACKDATE,
        ),
    )


def _etcd(names: Names) -> tuple[WantedLeaf, ...]:
    members = sorted(names.etcd_hosts)
    return (
        *(_etcd_member("server", "kube-etcd", host, address) for host, address in members),
        *(_etcd_member("peer", "kube-etcd-peer", host, address) for host, address in members),
        _client("etcd/healthcheck-client", "etcd/ca", "kube-etcd-healthcheck-client"),
        _client("apiserver-etcd-client", "etcd/ca", "kube-apiserver-etcd-client"),
    )


def _etcd_member(role: str, common_name: str, host: str, address: Address) -> WantedLeaf:
    # etcd 3.4's JSON gateway dials its own member with the server certificate and dies without clientAuth.
    return WantedLeaf(
        name=f"etcd/{role}-{host}",
        issuer="etcd/ca",
        common_name=common_name,
        uses=frozenset({Use.SERVER, Use.CLIENT}),
        sans=sans_in_order((host, *_LOCAL), (address,)),
    )


def _control_plane(names: Names) -> tuple[WantedLeaf, ...]:
    service = ("kubernetes", "kubernetes.default", "kubernetes.default.svc")
    domain = f"kubernetes.default.svc.{names.dns_domain}"
    return (
        WantedLeaf(
            name="apiserver",
            issuer="ca",
            common_name="kube-apiserver",
            uses=frozenset({Use.SERVER}),
            sans=sans_in_order(
                (*names.api_dns, *service, domain, *_LOCAL), (*names.api_ips, names.service_ip)
            ),
        ),
        _client("apiserver-kubelet-client", "ca", "kube-apiserver-kubelet-client"),
        _client("front-proxy-client", "front-proxy-ca", "front-proxy-client"),
    )


def _users() -> tuple[WantedLeaf, ...]:
    return (
        _client("admin", "ca", "kubernetes-admin", organization="kubeadm:cluster-admins"),
        _client("controller-manager", "ca", "system:kube-controller-manager"),
        _client("scheduler", "ca", "system:kube-scheduler"),
        _client("claims", "ca", "firstlight:claims"),
        _client("status", "ca", "firstlight:status"),
        _client("gate", "ca", "firstlight:gate"),
    )


def _client(name: str, issuer: str, common_name: str, *, organization: str | None = None) -> WantedLeaf:
    return WantedLeaf(
        name=name,
        issuer=issuer,
        common_name=common_name,
        organization=organization,
        uses=frozenset({Use.CLIENT}),
    )


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
