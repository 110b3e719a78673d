"""One site over a memory store: w1 arms itself, w2 waits for an operator."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from bootstrap.artifacts import Artifact, Manifest
from bootstrap.model import Cluster
from bootstrap.records.documents import INSTALLED, LIVE, NODE
from bootstrap.records.model import MachineRecord
from bootstrap.state.memory import MemoryStore
from tests.unit.web.fakes import W1, BrokenStore, CountedIds, HandClock, cluster
from web.app import create_app, create_site
from web.credentials import Connect, nowhere
from web.site import Rendered, Site

IMAGE = Manifest(
    key="debian-13",
    family="debian",
    release="13",
    kernel_flavour="cloud",
    kernel_version="6.12",
    built="2026-01-01T00:00:00Z",
    kernel=Artifact("a" * 64, 1),
    initrd=Artifact("b" * 64, 2),
    disk=Artifact("c" * 64, 3),
    raw_size=4,
)


SHARED = b'{"files": {"/etc/firstlight/routes": {"mode": "0644", "lines": ["route", ""]}}}'


def node_json(name: str) -> bytes:
    """Return a node's own documents as they are rendered."""
    file = {"mode": "0644", "lines": [f"node {name}", ""]}
    return json.dumps({"files": {"/etc/node": file}, "restarts": {"/etc/node": ["kubelet.service"]}}).encode()


@dataclass
class Rack:
    """The application with everything around it, and short words for asking it."""

    clock: HandClock = field(default_factory=HandClock)
    store: BrokenStore = field(default_factory=lambda: BrokenStore(MemoryStore()))
    cluster: Cluster = field(default_factory=cluster)
    image: Manifest | None = IMAGE
    nginx_up: bool = True
    connect: Connect = nowhere
    site: Site = field(init=False)
    app: Flask = field(init=False)
    client: FlaskClient = field(init=False)

    def __post_init__(self) -> None:
        self.site = create_site(
            self.store,
            images=lambda _: self.image,
            read_rendered=self.rendered,
            is_nginx_up=lambda: self.nginx_up,
            connect=lambda cluster: self.connect(cluster),  # noqa: PLW0108  # a test changes it later
            clock=self.clock,
            ids=CountedIds(),
        )
        self.app = create_app(self.site)
        self.client = self.app.test_client()

    def rendered(self) -> Rendered:
        names = {machine.mac: machine.name for machine in self.cluster.machines}
        kinds = (LIVE, INSTALLED)
        documents = {(m, kind): f"{kind} of {name}".encode() for m, name in names.items() for kind in kinds}
        if self.cluster.control_plane.hosts:
            documents |= {(mac, NODE): node_json(name) for mac, name in names.items()}
        return Rendered(self.cluster, documents, SHARED)

    def ask(self, listener: str, method: str, path: str, **more: Any) -> TestResponse:
        headers = {"X-Firstlight-Listener": listener, **more.pop("headers", {})}
        return self.client.open(path, method=method, headers=headers, **more)

    def public(self, path: str, **more: Any) -> TestResponse:
        return self.ask("public", "GET", path, **more)

    def boot(self, mac: str = W1, **query: str) -> str:
        answer = self.public("/ipxe", query_string={"mac": mac, "platform": "pcbios", **query})
        assert answer.status_code == 200, answer.text
        return answer.text

    def tell(self, kind: str, mac: str = W1, **more: Any) -> TestResponse:
        body = {"mac": mac, "arm": self.record(mac).arm, "kind": kind} | more
        return self.ask("machine", "POST", "/v1/machine/events", json=body)

    def begin(self, mac: str = W1, **more: Any) -> TestResponse:
        body = {"mac": mac, "arm": self.record(mac).arm} | more
        return self.ask("machine", "POST", "/v1/machine/begin", json=body)

    def operator(self, method: str, path: str, **more: Any) -> TestResponse:
        return self.ask("operator", method, path, **more)

    def machine(self, name: str = "w1") -> dict[str, Any]:
        answer: dict[str, Any] = self.operator("GET", f"/v1/machines/{name}").json or {}
        return answer

    def record(self, mac: str = W1) -> MachineRecord:
        record = self.site.ledger.machine(mac)
        assert record is not None
        return record


@pytest.fixture
def rack() -> Rack:
    return Rack()
