"""A machine that nobody listed, as the appliance hears of it: found, installed and joined over the real wire.

It asks under an address of its own, what real machines ask in order; its claim is the script of real nodes.
"""

import hashlib
import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bootstrap.kubernetes.access import Access
from bootstrap.kubernetes.api import Api
from tests.system.claim_plane import Plane
from tests.system.fleet_claims import Disk
from tests.system.fleet_cluster import ClusterSite
from tests.system.fleet_site import HTTP, HTTPS, SERVER, Answer, asked
from tests.system.pxe_segment import inside, run

ROUTER, FAR_NETWORK = "10.80.0.1", "10.80.0.0/24"
SUBNETS = f"[{{{{subnet: {FAR_NETWORK}, gateway: {ROUTER}, range: [10.80.0.10, 10.80.0.49]}}}}]"
"""For a text that is formatted."""
LIVE = hashlib.sha256(b"kernel").hexdigest()
"""The live system of a fleet's image, in which an unknown machine waits."""
INVENTORY = {
    "vendor": "Maker",
    "cpus": 2,
    "disks": [{"path": "/dev/vda", "serial": "d1", "type": "virtio", "size": 1 << 33}],
}


@dataclass(frozen=True, kw_only=True)
class FoundMachine:
    """One machine: its card, its address, and the namespace in which all that it sends comes from there."""

    site: ClusterSite
    mac: str
    address: str
    namespace: str
    folder: Path

    def be_found(self) -> None:
        """Boot from the network and tell what is in it."""
        script = self._plain(f"/ipxe?mac={self.mac}&platform=pcbios").body
        assert b"firstlight.arm=discover" in script, script
        body = {"mac": self.mac, "image": LIVE, "address": self.address, "inventory": INVENTORY}
        assert self.secure("POST", "/v1/discovery", body)["next"] == "wait"

    def install(self) -> tuple[str, bytes]:
        """Go on to the installer, and start from the disk; return the arm, and the installed system's document."""
        told = self.secure("GET", f"/v1/discovery/{self.mac.replace(':', '-')}?image={LIVE}")
        assert told["next"] == "install", told
        mine = {"mac": self.mac, "arm": told["arm"]}
        begun = {**mine, "nonce": "n1", "disk": {"path": "/dev/vda", "size": 1 << 33}}
        path = self.secure("POST", "/v1/machine/begin", begun)["config"]["url"].partition(f":{HTTPS}")[2]
        document = self.asked("GET", path)
        assert document.status == 200, document
        self.secure("POST", "/v1/machine/events", {**mine, "kind": "complete"})
        self.secure("POST", "/v1/machine/events", {**mine, "kind": "booted", "address": self.address})
        return told["arm"], document.body

    def join(self, name: str, arm: str) -> str:
        """Run the script of real nodes until it has a certificate; return that."""
        disk = Disk(self.folder, name, self.mac)
        with inside(self.namespace):
            disk.request(arm)
            return disk.join(self.site.work / "bundle/appliance/provisioning-ca.crt")

    @contextmanager
    def api(self, plane: Plane) -> Iterator[Api]:
        """Open the API as the node that it became, from its own address."""
        pem = self.folder / "pki/kubelet-client-current.pem"
        with inside(self.namespace):
            access = Access(servers=(plane.server,), authority=plane.pki / "ca.crt", certificate=pem, key=pem)
            api = Api(access)
            try:
                yield api
            finally:
                api.close()

    def asked(self, method: str, path: str, body: Any = None) -> Answer:
        """Ask over TLS, trusting the provisioning CA alone."""
        with inside(self.namespace):
            connection = http.client.HTTPSConnection(SERVER, HTTPS, timeout=20, context=self.site.trusted())
            return asked(connection, method, path, body)

    def secure(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Ask over TLS; return what the answer, which must be 200, says."""
        answer = self.asked(method, path, body)
        assert answer.status == 200, answer
        found: dict[str, Any] = json.loads(answer.body)
        return found

    def _plain(self, path: str) -> Answer:
        with inside(self.namespace):
            return asked(http.client.HTTPConnection(SERVER, HTTP, timeout=20), "GET", path)


@contextmanager
def far_network(site: ClusterSite, address: str) -> Iterator[str]:
    """Put a machine with `address` behind a router on the machines' side; yield the namespace that it is in."""
    name = f"{site.client}-far"
    run("ip", "netns", "add", name)
    try:
        for words in (
            ("link", "add", "far0", "netns", name, "type", "veth", "peer", "router0", "netns", site.client),
            ("-n", site.client, "address", "add", f"{ROUTER}/24", "dev", "router0"),
            ("-n", site.client, "link", "set", "router0", "up"),
            ("-n", name, "address", "add", f"{address}/24", "dev", "far0"),
            ("-n", name, "link", "set", "far0", "up"),
            ("-n", name, "route", "add", "default", "via", ROUTER),
            ("-n", site.server, "route", "add", FAR_NETWORK, "via", "10.79.0.2"),
            ("netns", "exec", site.client, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"),
        ):
            run("ip", *words)
        yield name
    finally:
        run("ip", "netns", "delete", name)
