"""Machines that claim from the application in this process, which asks a real cluster."""

import json
import random
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bootstrap.errors import ApiRefused
from bootstrap.kubernetes.access import Access
from bootstrap.kubernetes.api import Api
from bootstrap.kubernetes.marks import Marks, mark
from bootstrap.records.documents import INSTALLED, LIVE
from tests.system.claim_plane import Plane
from tests.unit.certs import crafted
from tests.unit.web.joining import JoiningRack, csr
from web.approver import Approver
from web.credentials import Credentials
from web.site import Rendered

W1, W2 = "52:54:00:77:00:01", "52:54:00:77:00:02"
RENEWAL = ("digital signature", "key encipherment", "client auth")
SERVING = ("digital signature", "key encipherment", "server auth")


class RealRack(JoiningRack):
    """The application in this process, in front of the real cluster."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        super().__init__(cluster=plane.cluster)
        self.clock.now = datetime.now(UTC)
        self.connect = Credentials(plane.pki)
        self.approver = Approver(self.site)
        self.nodes: list[Api] = []

    def close(self) -> None:
        connection = self.connect(self.cluster)
        assert connection is not None
        for api in (connection.api, connection.watching, *self.nodes):
            assert isinstance(api, Api)
            api.close()

    def rendered(self) -> Rendered:
        documents = {(m.mac, kind): b"{}" for m in self.cluster.machines for kind in (LIVE, INSTALLED)}
        return Rendered(self.cluster, documents)


def joined(rack: RealRack, name: str = "w1", mac: str = W1, number: int = 0) -> dict[str, str]:
    """Have a machine join, and return what it got."""
    rack.install(mac)
    end = time.monotonic() + 60
    while (answer := rack.claim(csr(name, number), mac)).status_code == 202:
        assert time.monotonic() < end, answer.text
        rack.clock.forward(1)
        time.sleep(0.2)
    assert answer.status_code == 200, answer.text
    found: dict[str, str] = answer.json or {}
    return found


def node_api(rack: RealRack, granted: dict[str, str], number: int = 0, name: str = "w1") -> Api:
    """Return the API as the node sees it, with the certificate that it was granted."""
    folder = rack.plane.root / f"node-{name}-{number}"
    folder.mkdir(exist_ok=True)
    key = crafted.key("p256", number)
    (folder / "key").touch(0o600)
    (folder / "key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "crt").write_text(granted["certificate"])
    (folder / "ca").write_text(granted["ca"])
    access = Access(
        servers=(rack.plane.server,), authority=folder / "ca", certificate=folder / "crt", key=folder / "key"
    )
    rack.nodes.append(Api(access))
    return rack.nodes[-1]


def has_certificate(api: Api, name: str) -> bool:
    found = api.signing_request(name)
    return found is not None and bool(found.certificate)


def status(plane: Plane, name: str, condition: dict[str, str]) -> None:
    """Say of a node what its kubelet would."""
    body = json.dumps({"status": {"conditions": [condition]}})
    path = f"/api/v1/nodes/{name}/status"
    pki = plane.root / "pki"
    argv = (
        "curl",
        "-sf",
        "--cacert",
        pki / "ca.crt",
        "--cert",
        pki / "admin.crt",
        "--key",
        pki / "admin.key",
    )
    kind = "Content-Type: application/strategic-merge-patch+json"
    done = plane.inside(*argv, "-X", "PATCH", "-H", kind, "--data", body, f"{plane.server}{path}")
    assert done.returncode == 0, done.stderr


def race(rack: RealRack, requests: list[str], chance: random.Random) -> list[int]:
    start, statuses = threading.Barrier(len(requests)), []
    later = [chance.uniform(0, 1.0), 0.0]

    def ask(text: str) -> None:
        start.wait()
        time.sleep(later.pop())
        statuses.append(rack.claim(text, W1).status_code)

    threads = [threading.Thread(target=ask, args=(text,)) for text in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


def taints_of(admin: Api, name: str) -> list[Mapping[str, str]]:
    """Return the taints of a node but those that the cluster gives it when it likes, for not being ready."""
    (found,) = (one for one in admin.node_marks() if one.name == name)
    return [taint for taint in found.taints if not taint["key"].startswith("node.kubernetes.io/")]


def marked(admin: Api, wanted: Mapping[str, Marks]) -> list[str]:
    """Mark as `apply` does: the cluster may taint a node between our reading and our writing (409)."""
    for _ in range(20):
        with suppress(ApiRefused):
            return mark(admin, wanted)
    return mark(admin, wanted)
