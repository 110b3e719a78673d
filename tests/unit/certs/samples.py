"""One cluster's names, a store of its keys, and what tests ask of certificates."""

from collections.abc import Sequence
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certs.keyring import Keyring
from certs.keystore import Keystore
from certs.secret import Secret
from certs.wanted import Names, Wanted, WantedCa, WantedKeyPair, WantedLeaf, rows

PEM = Encoding.PEM
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)

NAMES = Names(
    cluster="rack1",
    dns_domain="cluster.local",
    service_ip=ip_address("10.3.0.1"),
    api_dns=("m1", "m2", "api.example.net"),
    api_ips=(ip_address("192.168.1.10"), ip_address("192.168.1.11")),
    etcd_hosts=(("m1", ip_address("192.168.1.10")), ("m2", ip_address("192.168.1.11"))),
    appliance_dns=("appliance.firstlight.internal",),
    appliance_ips=(ip_address("10.77.0.1"),),
)
ROWS = rows(NAMES)
CAS = tuple(row.name for row in ROWS if isinstance(row, WantedCa))
KEPT_CAS = tuple(row.name for row in ROWS if isinstance(row, WantedCa) and not row.is_on_hosts)
PAIRS = tuple(row.name for row in ROWS if isinstance(row, WantedKeyPair))
LEAVES = tuple(row for row in ROWS if isinstance(row, WantedLeaf))


def ensure(
    folder: Path,
    *,
    wanted: Sequence[Wanted] = ROWS,
    now: datetime = NOW,
    passphrase: Secret | None = None,
) -> Keyring:
    return Keystore(folder).ensure(wanted, now, passphrase)


def certificate(folder: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())


def leaf(name: str) -> WantedLeaf:
    return next(row for row in LEAVES if row.name == name)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`, by its name there."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def authorities(folder: Path) -> dict[str, bytes]:
    """The files of the authorities, by name."""
    return {name: content for name, content in tree(folder).items() if name.rpartition(".")[0] in CAS}


def changed(before: dict[str, bytes], after: dict[str, bytes]) -> set[str]:
    """Names of files that are new, gone or different."""
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
