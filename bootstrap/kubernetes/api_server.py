"""The API server of a control-plane host: its flags, and the files that only it reads."""

import base64
from collections.abc import Iterator

from bootstrap.kubernetes import etcd_unit
from bootstrap.kubernetes.audit import audit_policy
from bootstrap.kubernetes.documents import flags, json_text, secret_json
from bootstrap.kubernetes.places import API_SERVER, CLIENT_CA, ETCD_PKI, KUBELET_CA, PKI
from bootstrap.kubernetes.releases import Release, release_of
from bootstrap.kubernetes.tree import HostFile
from bootstrap.kubernetes.units import Service
from bootstrap.model import Cluster, Host
from certs.derivation import derived_key
from certs.keyring import Keyring
from certs.secret import Secret

USER = "kube-apiserver"
SIGNERS = "kube-token-signers"
"""The group of the users that sign service account tokens."""
ENCRYPTION = "secrets-encryption"
_AUTHENTICATION = f"{API_SERVER}/authentication.yaml"
_AUDIT_LOG = "/var/log/kubernetes/kube-apiserver-audit.log"
_PURPOSE = "firstlight: Secrets in etcd, 1"
_FIRST_FREE_PORT = 1024
_CLIENTS = {
    "apiserver-etcd-client": PKI,
    "apiserver-kubelet-client": PKI,
    "front-proxy-client": PKI,
}


def service(cluster: Cluster, host: Host) -> Service:
    """Return the API server's service on `host`."""
    release = release_of(cluster.kubernetes.version)
    values = {
        **_network(cluster, host),
        **_etcd(cluster, host),
        **_who(cluster, release),
        **_upstream(),
        **_kept(),
    }
    is_low = cluster.kubernetes.endpoint_port < _FIRST_FREE_PORT
    capabilities = "CAP_NET_BIND_SERVICE" if is_low else ""
    return Service("kube-apiserver", (*flags(values), *release.api_server_flags), capabilities)


def files(cluster: Cluster, keyring: Keyring) -> Iterator[tuple[str, HostFile]]:
    """Yield what only the API server reads."""
    release = release_of(cluster.kubernetes.version)
    yield f"{PKI}/apiserver.crt", HostFile(keyring.certificates["apiserver"])
    yield f"{PKI}/apiserver.key", HostFile(keyring.keys["apiserver"], 0o640, group=USER)
    for row, folder in _CLIENTS.items():
        yield f"{folder}/{row}.crt", HostFile(keyring.certificates[row])
        yield f"{folder}/{row}.key", HostFile(keyring.keys[row], 0o640, group=USER)
    yield CLIENT_CA, HostFile(keyring.certificates["ca"] + keyring.certificates["kubelet-ca"])
    yield f"{PKI}/front-proxy-ca.crt", HostFile(keyring.certificates["front-proxy-ca"])
    yield f"{PKI}/sa.pub", HostFile(keyring.public.public_keys["sa"])
    yield f"{API_SERVER}/audit-policy.yaml", HostFile(audit_policy(release))
    secrets = encryption(release, keyring.keys[ENCRYPTION])
    yield f"{API_SERVER}/encryption.yaml", HostFile(secrets, 0o640, group=USER)
    if release.authentication:
        yield _AUTHENTICATION, HostFile(_authentication(release.authentication))


def encryption(release: Release, pair: Secret) -> Secret:
    """Return the EncryptionConfiguration: Secrets are written with a key that follows from `pair` (PEM).

    `secretbox` is authenticated and needs no counter; `identity` reads what was written without a key.
    """
    key = base64.b64encode(derived_key(pair, _PURPOSE).reveal()).decode("ascii")
    providers = [{"secretbox": {"keys": [{"name": "key1", "secret": key}]}}, {"identity": {}}]
    return secret_json(
        {
            "apiVersion": release.encryption,
            "kind": "EncryptionConfiguration",
            "resources": [{"resources": ["secrets"], "providers": providers}],
        }
    )


def _authentication(api_version: str) -> bytes:
    paths = [{"path": path} for path in ("/livez", "/readyz", "/healthz")]
    return json_text(
        {
            "apiVersion": api_version,
            "kind": "AuthenticationConfiguration",
            "anonymous": {"enabled": True, "conditions": paths},
        }
    )


def _network(cluster: Cluster, host: Host) -> dict[str, object]:
    return {
        "advertise-address": host.address,
        "secure-port": cluster.kubernetes.endpoint_port,
        "service-cluster-ip-range": cluster.kubernetes.service_subnet,
        "endpoint-reconciler-type": "lease",
        "tls-cert-file": f"{PKI}/apiserver.crt",
        "tls-private-key-file": f"{PKI}/apiserver.key",
        "tls-min-version": "VersionTLS12",
    }


def _etcd(cluster: Cluster, host: Host) -> dict[str, object]:
    return {
        "etcd-servers": etcd_unit.client_urls(cluster, host),
        "etcd-cafile": f"{ETCD_PKI}/ca.crt",
        "etcd-certfile": f"{PKI}/apiserver-etcd-client.crt",
        "etcd-keyfile": f"{PKI}/apiserver-etcd-client.key",
    }


def _who(cluster: Cluster, release: Release) -> dict[str, object]:
    """Return the flags about who is asking, and what they may."""
    anonymous = (
        {"authentication-config": _AUTHENTICATION} if release.authentication else {"anonymous-auth": False}
    )
    return {
        **anonymous,
        "authorization-mode": ["Node", "RBAC"],
        "enable-admission-plugins": ["NodeRestriction"],
        "allow-privileged": True,
        "client-ca-file": CLIENT_CA,
        "service-account-issuer": f"https://kubernetes.default.svc.{cluster.kubernetes.dns_domain}",
        "service-account-key-file": f"{PKI}/sa.pub",
        "service-account-signing-key-file": f"{PKI}/sa.key",
    }


def _upstream() -> dict[str, object]:
    """Return the flags about whom the API server calls itself: kubelets, and aggregated API servers.

    A control-plane host has no kube-proxy, so services are called by the addresses of their pods.
    """
    return {
        "kubelet-client-certificate": f"{PKI}/apiserver-kubelet-client.crt",
        "kubelet-client-key": f"{PKI}/apiserver-kubelet-client.key",
        "kubelet-certificate-authority": KUBELET_CA,
        "kubelet-preferred-address-types": ["InternalIP", "Hostname"],
        "enable-aggregator-routing": True,
        "proxy-client-cert-file": f"{PKI}/front-proxy-client.crt",
        "proxy-client-key-file": f"{PKI}/front-proxy-client.key",
        "requestheader-client-ca-file": f"{PKI}/front-proxy-ca.crt",
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-username-headers": "X-Remote-User",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
    }


def _kept() -> dict[str, object]:
    """Return the flags about what is written down, and how: sizes are in megabytes, ages in days."""
    return {
        "encryption-provider-config": f"{API_SERVER}/encryption.yaml",
        "audit-policy-file": f"{API_SERVER}/audit-policy.yaml",
        "audit-log-path": _AUDIT_LOG,
        "audit-log-maxsize": 100,
        "audit-log-maxbackup": 10,
        "audit-log-maxage": 30,
        "profiling": False,
    }
