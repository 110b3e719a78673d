"""The command lines, files and objects that we make, given to the real programs of v1.20.2: they work, and no more.

The tree of a host is laid below a folder, its paths with it; the programs run in a network namespace of their own.
Needs root, openssl, and what tests/kubernetes/build makes (minutes, the first time).
"""

import base64
import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from bootstrap.kubernetes.rbac import CLAIMS, GATE, STATUS, objects
from bootstrap.kubernetes.releases import release_of
from tests.system.claim_plane import (
    VERSION,
    Plane,
    as_list,
    built,
    command_of,
    control_plane,
    namespace_of,
    until,
)

pytestmark = pytest.mark.system

ADDRESS = "10.77.0.10"
NAMESPACE = "fl-t-plane"
CANARY = "canary-4d1f77"


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    root, programs = tmp_path_factory.mktemp("plane"), built()
    with (
        namespace_of(NAMESPACE, ADDRESS),
        control_plane(Plane(root, programs, NAMESPACE), "kube-scheduler") as made,
    ):
        until(lambda: made.health(10259) == "ok")
        yield made


def test_all_four_are_well_and_administrators_have_their_power(plane: Plane) -> None:
    assert plane.kubectl("admin", "get", "--raw", "/healthz") == "ok"
    assert "kube-system" in plane.kubectl("admin", "get", "namespaces", "-o", "name")
    assert plane.kubectl("admin", "auth", "can-i", "*", "*").strip() == "yes"


def test_without_its_binding_an_administrator_may_do_nothing(plane: Plane) -> None:
    plane.kubectl("first-binder", "delete", "clusterrolebinding", "kubeadm:cluster-admins")
    try:
        until(lambda: "Forbidden" in plane.kubectl("admin", "get", "namespaces", check=False), seconds=20)
    finally:
        plane.kubectl("first-binder", "apply", "-f", "-", given=as_list(objects()))
    until(lambda: "kube-system" in plane.kubectl("admin", "get", "namespaces", check=False), seconds=20)


def test_nothing_listens_without_tls_but_etcd_s_numbers_on_loopback(plane: Plane) -> None:
    lines = plane.inside("ss", "-Hltn").stdout.splitlines()

    assert sorted(line.split()[3] for line in lines) == [
        "*:6443",
        f"{ADDRESS}:2379",
        f"{ADDRESS}:2380",
        "127.0.0.1:10257",
        "127.0.0.1:10259",
        "127.0.0.1:2379",
        "127.0.0.1:2381",
    ]
    for port in (6443, 10257, 10259, 2379):
        answer = plane.inside("curl", "-s", "--max-time", "5", f"http://127.0.0.1:{port}/api").stdout
        assert "APIVersions" not in answer
    assert plane.cluster.kubernetes.endpoint_port == 6443


@pytest.mark.parametrize("path", ["/api", "/version", "/readyz", "/metrics", "/api/v1/secrets"])
def test_who_has_no_certificate_is_not_let_in(plane: Plane, path: str) -> None:
    assert plane.tree
    url = f"https://{ADDRESS}:6443{path}"
    asked = plane.inside("curl", "-sk", "--max-time", "5", "-o", "/dev/null", "-w", "%{http_code}", url)
    assert asked.stdout == "401"


def test_etcd_wants_a_certificate_of_its_own_authority(plane: Plane) -> None:
    pki = plane.root / "pki"
    url = f"https://{ADDRESS}:2379/health"
    common = (
        "curl",
        "-s",
        "--max-time",
        "5",
        "--cacert",
        pki / "etcd/ca.crt",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
    )

    assert plane.inside(*common, url).stdout == "000"
    assert plane.inside(*common, "--cert", pki / "admin.crt", "--key", pki / "admin.key", url).stdout == "000"
    client = ("--cert", pki / "etcd/healthcheck-client.crt", "--key", pki / "etcd/healthcheck-client.key")
    assert plane.inside(*common, *client, url).stdout == "200"


def test_secrets_are_encrypted_in_etcd_and_readable_through_the_api(plane: Plane) -> None:
    plane.kubectl("admin", "create", "secret", "generic", "kept", f"--from-literal=a={CANARY}")
    plane.kubectl("admin", "create", "configmap", "open", f"--from-literal=a={CANARY}-open")
    database = b"".join(
        path.read_bytes() for path in (plane.root / "var/lib/etcd").rglob("*") if path.is_file()
    )

    assert f"{CANARY}-open".encode() in database  # what is not a Secret is found: the search works
    assert CANARY.encode() not in database.replace(f"{CANARY}-open".encode(), b"")
    assert b"k8s:enc:secretbox:v1:key1:" in database
    found = json.loads(plane.kubectl("admin", "get", "secret", "kept", "-o", "json"))
    assert found["data"] == {"a": "Y2FuYXJ5LTRkMWY3Nw=="}


def test_the_audit_log_says_who_but_never_what_a_secret_holds(plane: Plane) -> None:
    plane.kubectl("admin", "create", "secret", "generic", "told", f"--from-literal=a={CANARY}-told")
    log = plane.root / "var/log/kubernetes/kube-apiserver-audit.log"
    until(lambda: '"name":"told"' in log.read_text(), seconds=20)
    text = log.read_text()

    assert '"username":"kubernetes-admin"' in text
    assert '"username":"firstlight:first-binder","groups":["system:masters"' in text
    assert CANARY not in text.replace(f"{CANARY}-open", "")


ALLOWED = {
    "claims": {
        ("create", "certificatesigningrequests"),
        ("get", "certificatesigningrequests"),
        ("list", "certificatesigningrequests"),
        ("watch", "certificatesigningrequests"),
        ("update", "certificatesigningrequests/approval"),
    },
    "status": {("get", "nodes"), ("list", "nodes"), ("watch", "nodes")},
    "gate": {("get", "nodes"), ("list", "nodes"), ("patch", "nodes")},
}
RESOURCES = (
    "certificatesigningrequests",
    "certificatesigningrequests/approval",
    "certificatesigningrequests/status",
    "clusterrolebindings",
    "configmaps",
    "nodes",
    "nodes/proxy",
    "pods",
    "pods/exec",
    "secrets",
    "serviceaccounts/token",
)
VERBS = (
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "approve",
    "sign",
    "impersonate",
    "bind",
)


@pytest.mark.parametrize("row", ALLOWED)
def test_an_identity_of_the_web_process_may_do_this_and_nothing_else(plane: Plane, row: str) -> None:
    user = {"claims": CLAIMS, "status": STATUS, "gate": GATE}[row]
    asked = [(verb, what) for what in RESOURCES for verb in VERBS]
    answers = reviewed(plane, [review(user, verb, what) for verb, what in asked])

    assert {each for each, allowed in zip(asked, answers, strict=True) if allowed} == ALLOWED[row]


def reviewed(plane: Plane, reviews: list[dict[str, Any]]) -> list[bool]:
    """Return the API server's answers to these SubjectAccessReviews, in their order."""
    form = "jsonpath={.status.allowed}{'\\n'}"
    printed = plane.kubectl("admin", "create", "-o", form, "-f", "-", given=as_list(tuple(reviews)))
    answers = printed.split()
    assert len(answers) == len(reviews)
    return [answer == "true" for answer in answers]


def review(user: str, verb: str, what: str, name: str = "") -> dict[str, Any]:
    group = {"certificatesigningrequests": "certificates.k8s.io", "signers": "certificates.k8s.io"}
    group |= {"clusterrolebindings": "rbac.authorization.k8s.io"}
    resource, _, part = what.partition("/")
    asked = {
        "verb": verb,
        "group": group.get(resource, ""),
        "resource": resource,
        "subresource": part,
        "name": name,
    }
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "groups": ["system:authenticated"], "resourceAttributes": asked},
    }


@pytest.mark.parametrize(
    ("signer", "allowed"),
    [
        ("kubernetes.io/kube-apiserver-client-kubelet", True),
        ("kubernetes.io/kubelet-serving", True),
        ("kubernetes.io/kube-apiserver-client", False),
        ("kubernetes.io/legacy-unknown", False),
        ("example.net/*", False),
    ],
)
def test_claims_approves_for_two_signers_only(plane: Plane, signer: str, allowed: bool) -> None:  # noqa: FBT001
    assert reviewed(plane, [review(CLAIMS, "approve", "signers", signer)]) == [allowed]


def request(plane: Plane, name: str, subject: str, signer: str) -> str:
    """File a request as the claims identity, and return its name."""
    key, csr = plane.root / f"{name}.key", plane.root / f"{name}.csr"
    argv = ("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    files = ("-keyout", key, "-out", csr, "-subj", subject)
    subprocess.run((*argv, *files), check=True, capture_output=True)
    wanted = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": {
            "request": base64.b64encode(csr.read_bytes()).decode(),
            "signerName": signer,
            "usages": list(release_of(VERSION).csr_usages),
        },
    }
    return plane.kubectl("claims", "create", "-f", "-", given=json.dumps(wanted), check=False)


def status_of(plane: Plane, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(plane.kubectl("claims", "get", "csr", name, "-o", "json"))["status"]
    return found


def test_a_node_s_certificate_is_signed_by_the_kubelets_authority_for_a_week(plane: Plane) -> None:
    request(plane, "w1", "/O=system:nodes/CN=system:node:w1", "kubernetes.io/kube-apiserver-client-kubelet")
    plane.kubectl("claims", "certificate", "approve", "w1")
    until(lambda: "certificate" in status_of(plane, "w1"), seconds=30)
    (plane.root / "w1.crt").write_bytes(base64.b64decode(status_of(plane, "w1")["certificate"]))
    pki = plane.root / "pki"

    verified = plane.inside("openssl", "verify", "-CAfile", pki / "kubelet-ca.crt", plane.root / "w1.crt")
    assert verified.stdout.endswith("w1.crt: OK\n")
    assert plane.inside("openssl", "verify", "-CAfile", pki / "ca.crt", plane.root / "w1.crt").returncode != 0
    week = 7 * 86400
    for seconds, valid in ((week - 900, 0), (week + 900, 1)):
        ends = plane.inside(
            "openssl", "x509", "-checkend", str(seconds), "-noout", "-in", plane.root / "w1.crt"
        )
        assert ends.returncode == valid


def test_a_node_s_certificate_opens_what_a_node_needs_and_nothing_of_others(plane: Plane) -> None:
    if not (plane.root / "w1.crt").exists():
        test_a_node_s_certificate_is_signed_by_the_kubelets_authority_for_a_week(plane)
    certificate, key = (plane.root / f"w1.{end}" for end in ("crt", "key"))
    url = f"https://{ADDRESS}:6443"
    curl = (
        "curl",
        "-s",
        "--cacert",
        plane.root / "pki/ca.crt",
        "--cert",
        certificate,
        "--key",
        key,
        "--max-time",
        "9",
    )
    code = ("-o", "/dev/null", "-w", "%{http_code}")

    paths = {
        "/api/v1/services": "200",
        "/api/v1/endpoints": "200",
        "/apis/discovery.k8s.io/v1beta1/endpointslices": "200",
        "/api/v1/secrets": "403",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles": "403",
        "/api/v1/namespaces/default/secrets/kept": "403",
    }
    assert {path: plane.inside(*curl, *code, f"{url}{path}").stdout for path in paths} == paths


def test_a_request_for_another_signer_is_never_signed(plane: Plane) -> None:
    said = request(plane, "masters-1", "/O=system:masters/CN=root", "kubernetes.io/kube-apiserver-client")
    assert "system:masters group is not allowed" in said
    subject = "/O=kubeadm:cluster-admins/CN=kubernetes-admin"
    request(plane, "root", subject, "kubernetes.io/kube-apiserver-client")
    said = plane.kubectl("claims", "certificate", "approve", "root", check=False)
    assert "orbidden" in said
    # And even an administrator's approval finds no signer that runs.
    plane.kubectl("admin", "certificate", "approve", "root")
    time.sleep(3)
    assert (
        "certificate" not in json.loads(plane.kubectl("admin", "get", "csr", "root", "-o", "json"))["status"]
    )


def test_masters_cannot_be_asked_for_as_a_kubelet(plane: Plane) -> None:
    signer = "kubernetes.io/kube-apiserver-client-kubelet"
    request(plane, "masters", "/O=system:masters/CN=system:node:w1", signer)
    plane.kubectl("claims", "certificate", "approve", "masters")
    time.sleep(3)
    assert "certificate" not in status_of(plane, "masters")


def test_a_snapshot_is_saved_and_the_oldest_are_forgotten(plane: Plane) -> None:
    folder = plane.root / "var/lib/etcd-snapshots"
    for number in range(30):
        (folder / f"20200101T0000{number:02d}Z.db").write_bytes(b"old")
    (folder / "20200101T000000Z.db.part").write_bytes(b"half")
    saved = plane.inside(*command_of(plane.root, "etcd-snapshot"))

    assert saved.returncode == 0, saved.stderr
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) == 28
    assert names[0] == "20200101T000003Z.db"
    assert not [name for name in names if name.endswith(".part")]
    newest = folder / names[-1]
    status = plane.inside(plane.programs / "etcdctl", "snapshot", "status", newest, "-w", "json")
    assert json.loads(status.stdout)["totalKey"] > 100
    assert newest.stat().st_mode & 0o077 == 0
