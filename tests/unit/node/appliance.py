"""A real appliance's application behind real TLS on loopback, and an installed machine's folders around our scripts."""

import json
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from flask import Flask
from werkzeug.serving import make_server

from certs.keystore import Keystore
from certs.wanted import Names, rows
from tests.unit.web.fakes import W1
from tests.unit.web.joining import JoiningRack
from web.site import Rendered

ROOT = Path(__file__).parents[3]
LOOPBACK = ip_address("127.0.0.1")
SYSTEMCTL = """#!/bin/sh
case "$*" in *DropInPaths*) cat "$FAKE/drop-ins" 2>/dev/null; exit ;; esac
echo "$*" >>"$FAKE/systemctl.log"
for last; do :; done
case "$*" in
*is-active*) [ ! -e "$FAKE/dead-$last" ] ;;
*restart*) [ ! -e "$FAKE/broken-$last" ] ;;
esac
"""
PATHS = {
    "kubelet": "/var/lib/kubelet/config.yaml",
    "containerd": "/etc/containerd/config.toml",
    "nvidia": "/etc/containerd/conf.d/50-firstlight-nvidia.toml",
    "ca": "/etc/kubernetes/pki/ca.crt",
    "cni": "/etc/cni/net.d/10-firstlight.conflist",
    "settings": "/etc/firstlight/gpu.env",
    "timer": "/etc/systemd/system/firstlight-gpu.timer",
    "drop_in": "/etc/systemd/system/containerd.service.d/10-firstlight.conf",
}
PROVISIONING = Names(
    cluster="lab",
    dns_domain="cluster.local",
    service_ip=ip_address("10.3.0.1"),
    api_dns=(),
    api_ips=(),
    etcd_hosts=(),
    appliance_dns=("appliance.firstlight.internal",),
    appliance_ips=(LOOPBACK,),
)


@contextmanager
def served(app: Flask, pki: Path) -> Iterator[str]:
    """Serve `app` over TLS on loopback as nginx does: it says on which listener a request came."""
    inner = app.wsgi_app

    def listener(environ: Any, start: Any) -> Any:
        environ["HTTP_X_FIRSTLIGHT_LISTENER"] = "machine"
        return inner(environ, start)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "provisioning/server.crt", pki / "provisioning/server.key")
    server = make_server("127.0.0.1", 0, listener, threaded=True, ssl_context=context)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def kubelet_health(state: dict[str, bool]) -> Iterator[str]:
    """Answer as kubelet's health port does, while `state["well"]`."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # http.server's name for it
            content = b"ok" if state["well"] else b"no"
            self.send_response(200 if state["well"] else 500)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *given: object) -> None:
            del given

    server = HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/healthz"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Rig(JoiningRack):
    """A rack whose nodes' documents can be changed, as a render does."""

    own: dict[str, Any] = field(default_factory=dict)

    def rendered(self) -> Rendered:
        before = super().rendered()
        text = json.dumps({"files": self.own, "restarts": self.restarts}).encode()
        documents = {key: text if key == (W1, "node") else value for key, value in before.documents.items()}
        return Rendered(before.cluster, documents, before.shared)

    @property
    def restarts(self) -> dict[str, list[str]]:
        table = {"/etc/containerd/config.toml": ["containerd.service", "kubelet.service"]}
        table |= {PATHS["nvidia"]: ["containerd.service", "kubelet.service"]}
        table |= {PATHS[name]: ["firstlight-gpu.timer"] for name in ("settings", "timer")}
        table |= {"/var/lib/kubelet/config.yaml": ["kubelet.service"]}
        table |= {"/etc/kubernetes/pki/ca.crt": ["kubelet.service", "kube-proxy.service"]}
        return {path: units for path, units in table.items() if path in self.own}

    def plan(self, **files: str) -> str:
        """Render other documents, load them, and return their revision."""
        self.own = {PATHS[name]: {"mode": "0644", "lines": text.split("\n")} for name, text in files.items()}
        self.site.load()
        return self.site.nodes.planned[W1]


@dataclass
class Node:
    """An installed machine: its folders, and our scripts run with them."""

    folder: Path
    rack: Rig
    server: str
    health: str
    state: dict[str, bool]

    def __post_init__(self) -> None:
        for name in ("etc", "bin", "root", "state"):
            (self.folder / name).mkdir()
        tool = self.folder / "bin" / "systemctl"
        tool.write_text(SYSTEMCTL)
        tool.chmod(0o755)
        settings = f"NODE_NAME=w1\nNODE_MAC={W1}\nNODE_SERVER={self.server}\n"
        (self.folder / "etc/node.env").write_text(settings)
        (self.folder / "etc/arm").write_text(f"{self.rack.record().arm}\n")
        ca = (self.folder / "pki/provisioning/ca.crt").read_bytes()
        (self.folder / "etc/provisioning-ca.crt").write_bytes(ca)

    @property
    def pem(self) -> Path:
        return self.folder / "kubelet/kubelet-client-current.pem"

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def run(self, script: str, **settings: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "FAKE": str(self.folder),
            "FL_ETC": str(self.folder / "etc"),
            "FL_STATE": str(self.folder / "state"),
            "FL_PKI": str(self.folder / "kubelet"),
            "FL_JOINED": str(self.pem),
            "FL_ROOT": str(self.root),
            "FL_KUBELET": self.health,
            "FL_HEALTH_TRIES": "4",
            "FL_HEALTH_PAUSE": "0.05",
            "FL_TRIES": "3",
            "FL_SLEEP": "true",
            "FL_SET_CLOCK": "echo clock:",
            **settings,
        }
        command = ("sh", str(ROOT / "configs/node" / script))
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    def join(self, **settings: str) -> subprocess.CompletedProcess[str]:
        return self.run("join", **settings)

    def sync(self, **settings: str) -> subprocess.CompletedProcess[str]:
        return self.run("sync", **settings)

    def calls(self) -> list[str]:
        """What systemctl was asked since the last time."""
        log = self.folder / "systemctl.log"
        lines = log.read_text().splitlines() if log.exists() else []
        log.write_text("")
        return lines


@contextmanager
def node(folder: Path) -> Iterator[Node]:
    """Give a machine that runs from its disk."""
    now = datetime.now(UTC)
    wanted = [row for row in rows(PROVISIONING) if row.name.startswith("provisioning/")]
    Keystore(folder / "pki").ensure(wanted, now)
    rack, state = Rig(), {"well": True}
    rack.clock.now = now - timedelta(seconds=1)
    rack.install()
    with served(rack.app, folder / "pki") as server, kubelet_health(state) as health:
        yield Node(folder, rack, server, health, state)
