"""Real handshakes with TLS 1.2 and 1.3 between the issued pairs: right ones accepted, wrong ones refused."""

import shutil
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certs.keystore import Keystore
from tests.unit.certs import samples
from tests.unit.certs.tls import Pair, handshake

NOW = datetime.now(UTC)  # the TLS library asks the real clock
DAY = timedelta(days=1)
VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])

# server, authority it wants clients from, client, authority the client wants the server from
RIGHT = [
    ("etcd/server-m1", "etcd/ca", "apiserver-etcd-client", "etcd/ca"),
    ("etcd/server-m2", "etcd/ca", "etcd/healthcheck-client", "etcd/ca"),
    ("etcd/server-m1", "etcd/ca", "etcd/server-m1", "etcd/ca"),  # its gateway dials itself
    ("etcd/peer-m1", "etcd/ca", "etcd/peer-m2", "etcd/ca"),
    ("etcd/peer-m2", "etcd/ca", "etcd/peer-m1", "etcd/ca"),
    ("apiserver", "ca", "admin", "ca"),
    ("apiserver", "ca", "controller-manager", "ca"),
    ("apiserver", "ca", "scheduler", "ca"),
    ("apiserver", "front-proxy-ca", "front-proxy-client", "ca"),
    ("provisioning/server", "provisioning/ca", "provisioning/pxe", "provisioning/ca"),
]
# as above, and who says no
WRONG = [
    ("etcd/server-m1", "etcd/ca", "admin", "etcd/ca", "server: unknown authority"),
    ("etcd/server-m1", "etcd/ca", "apiserver-kubelet-client", "etcd/ca", "server: unknown authority"),
    ("apiserver", "ca", "apiserver-etcd-client", "ca", "server: unknown authority"),
    ("apiserver", "ca", "front-proxy-client", "ca", "server: unknown authority"),
    ("apiserver", "front-proxy-ca", "admin", "ca", "server: unknown authority"),
    ("provisioning/server", "provisioning/ca", "admin", "provisioning/ca", "server: unknown authority"),
    ("apiserver", "ca", "provisioning/pxe", "ca", "server: unknown authority"),
    ("apiserver", "ca", "apiserver", "ca", "server: wrong purpose"),
    (
        "provisioning/server",
        "provisioning/ca",
        "provisioning/server",
        "provisioning/ca",
        "server: wrong purpose",
    ),
    ("provisioning/server", "provisioning/ca", None, "provisioning/ca", "server: no certificate"),
    ("etcd/server-m1", "etcd/ca", None, "etcd/ca", "server: no certificate"),
    ("admin", "ca", "scheduler", "ca", "client: wrong purpose"),
    ("provisioning/pxe", "provisioning/ca", "provisioning/pxe", "provisioning/ca", "client: wrong purpose"),
    ("apiserver", "etcd/ca", "apiserver-etcd-client", "etcd/ca", "client: unknown authority"),
    (
        "provisioning/server",
        "provisioning/ca",
        "provisioning/pxe",
        "front-proxy-ca",
        "client: unknown authority",
    ),
]
# by who signed a server: who calls it, and the authority that it wants callers from
CLIENTS = {
    "ca": ("admin", "ca"),
    "etcd/ca": ("apiserver-etcd-client", "etcd/ca"),
    "kubelet-ca": ("apiserver-kubelet-client", "ca"),
    "provisioning/ca": ("provisioning/pxe", "provisioning/ca"),
}
SAID = {
    "unknown authority": "unable to get local issuer certificate|self-signed certificate in certificate chain",
    "wrong purpose": "unsuitable certificate purpose",
    "no certificate": "PEER_DID_NOT_RETURN_A_CERTIFICATE",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls") / "pki"
    samples.ensure(folder, now=NOW)
    return folder


def _name_of(server: str) -> str:
    row = samples.leaf(server)
    return row.sans[0] if row.sans else "localhost"


@VERSIONS
@pytest.mark.parametrize("case", RIGHT, ids="-".join)
def test_right_pairs_shake_hands(
    folder: Path, case: tuple[str, str, str, str], version: ssl.TLSVersion
) -> None:
    server, clients, client, servers = case
    one = Pair(folder=folder, shows=server, trusts=clients)
    two = Pair(folder=folder, shows=client, trusts=servers)

    assert handshake(one, two, _name_of(server), version) == (
        samples.leaf(client).common_name,
        samples.leaf(server).common_name,
    )


@VERSIONS
@pytest.mark.parametrize("case", WRONG, ids=lambda case: "-".join(str(each) for each in case))
def test_wrong_pairs_are_refused_for_the_right_reason(
    folder: Path, case: tuple[str, str, str | None, str, str], version: ssl.TLSVersion
) -> None:
    server, clients, client, servers, who = case
    one = Pair(folder=folder, shows=server, trusts=clients)
    two = Pair(folder=folder, shows=client, trusts=servers)

    with pytest.raises(ssl.SSLError, match=SAID[who.partition(": ")[2]]):
        handshake(one, two, _name_of(server), version)


@pytest.mark.parametrize(
    ("server", "name"),
    [(row.name, san) for row in samples.LEAVES for san in row.sans],
)
def test_a_server_is_known_by_each_of_its_names(folder: Path, server: str, name: str) -> None:
    authority = samples.leaf(server).issuer
    client, clients = CLIENTS[authority]
    one = Pair(folder=folder, shows=server, trusts=clients)
    two = Pair(folder=folder, shows=client, trusts=authority)

    handshake(one, two, name, ssl.TLSVersion.TLSv1_3)


@pytest.mark.parametrize(
    ("server", "name"),
    [
        ("apiserver", "kube-apiserver"),  # its CN is no name
        ("apiserver", "evil.example.net"),
        ("apiserver", "10.77.0.1"),
        ("etcd/server-m1", "m2"),
        ("etcd/peer-m1", "192.168.1.11"),
        ("provisioning/server", "10.77.0.2"),
        ("provisioning/server", "localhost"),
    ],
)
def test_a_server_is_not_known_by_another_name(folder: Path, server: str, name: str) -> None:
    authority = samples.leaf(server).issuer
    client, clients = CLIENTS[authority]
    one = Pair(folder=folder, shows=server, trusts=clients)
    two = Pair(folder=folder, shows=client, trusts=authority)

    with pytest.raises(ssl.SSLCertVerificationError, match=r"(Hostname|IP address) mismatch"):
        handshake(one, two, name, ssl.TLSVersion.TLSv1_3)


@VERSIONS
@pytest.mark.parametrize("stranger", ["server", "client"])
def test_another_clusters_authority_of_the_same_name_is_refused(
    folder: Path, tmp_path: Path, stranger: str, version: ssl.TLSVersion
) -> None:
    samples.ensure(tmp_path, now=NOW)
    here, there = (folder, tmp_path) if stranger == "client" else (tmp_path, folder)
    trusted = folder
    one = Pair(folder=here, shows="etcd/server-m1", trusts="etcd/ca", trusted_folder=trusted)
    two = Pair(folder=there, shows="apiserver-etcd-client", trusts="etcd/ca", trusted_folder=trusted)

    with pytest.raises(ssl.SSLError, match=SAID["unknown authority"]):
        handshake(one, two, "m1", version)


@VERSIONS
@pytest.mark.parametrize("stale", ["apiserver", "admin"])
@pytest.mark.parametrize(("issued", "said"), [(NOW - 366 * DAY, "expired"), (NOW + 2 * DAY, "not yet valid")])
def test_time_is_checked_on_both_sides_and_renew_cures_it(
    tmp_path: Path, stale: str, issued: datetime, said: str, version: ssl.TLSVersion
) -> None:
    base = min(issued, NOW)
    samples.ensure(tmp_path, now=base)
    Keystore(tmp_path).renew(samples.ROWS, issued, names=[stale])
    Keystore(tmp_path).renew(samples.ROWS, NOW, names=sorted({"apiserver", "admin"} - {stale}))
    one = Pair(folder=tmp_path, shows="apiserver", trusts="ca")
    two = Pair(folder=tmp_path, shows="admin", trusts="ca")

    Keystore(tmp_path).renew([*samples.ROWS], issued, names=[stale])
    with pytest.raises(ssl.SSLError, match=said):
        handshake(one, two, "kubernetes", version)
    Keystore(tmp_path).renew(samples.ROWS, NOW)
    handshake(one, two, "kubernetes", version)


def test_old_and_new_certificates_of_a_renewal_work_together(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "pki")
    Keystore(tmp_path / "pki").renew(samples.ROWS, NOW, names=["etcd/peer-m1"])
    old = Pair(folder=folder, shows="etcd/peer-m2", trusts="etcd/ca")
    new = Pair(folder=tmp_path / "pki", shows="etcd/peer-m1", trusts="etcd/ca")

    handshake(old, new, "m2", ssl.TLSVersion.TLSv1_3)
    handshake(new, old, "m1", ssl.TLSVersion.TLSv1_3)
