"""The makers' servers on loopback: every release that a rack wants, with real signatures, and what an attacker does."""

import hashlib
import io
import json
import re
import ssl
import struct
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from bootstrap.programs import CNI_PLUGINS

KUBERNETES, ETCD, CNI = "v1.36.4", "v3.6.5", "v1.8.0"
FLATCAR, FCOS = "4593.2.5", "44.20260707.3.1"
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
FLATCAR_FILES = (
    "flatcar_production_pxe.vmlinuz",
    "flatcar_production_pxe_image.cpio.gz",
    "flatcar_production_image.bin.bz2",
)
K8S = f"/k8s/release/{KUBERNETES}/bin/linux/amd64"
BOARD = "/flatcar/stable/amd64-usr"
STREAM = "/fcos/streams/stable.json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
LONG_AGO = "20200101T000000"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def program(name: str, says: str) -> bytes:
    """A program for x86-64 Linux that prints one line: write(1, text), exit(0), without a library."""
    text = f"{says}\n".encode()
    base, start = 0x400000, 64 + 56
    code_size = 7 + 7 + 7 + 7 + 2 + 7 + 3 + 2
    code = b"".join(
        (
            b"\x48\xc7\xc0" + struct.pack("<i", 1),  # rax = write
            b"\x48\xc7\xc7" + struct.pack("<i", 1),  # rdi = stdout
            b"\x48\xc7\xc6" + struct.pack("<i", base + start + code_size),  # rsi = text
            b"\x48\xc7\xc2" + struct.pack("<i", len(text)),  # rdx
            b"\x0f\x05",
            b"\x48\xc7\xc0" + struct.pack("<i", 60),  # rax = exit
            b"\x48\x31\xff",  # rdi = 0
            b"\x0f\x05",
        )
    )
    body = code + text + name.encode()
    size = start + len(body)
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, base + start, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    head += struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    return head + body


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@dataclass(frozen=True)
class Gpg:
    """Keys made for this run, in a home of their own."""

    home: Path

    def run(self, *words: str, given: bytes = b"") -> bytes:
        argv = ("gpg", "--batch", "--quiet", "--homedir", f"{self.home}", "--pinentry-mode", "loopback")
        done = subprocess.run([*argv, *words], input=given, capture_output=True, check=True, timeout=60)
        return done.stdout

    def make(self, name: str, life: str = "1y", *clock: str) -> None:
        self.run(*clock, "--passphrase", "", "--quick-gen-key", name, "ed25519", "sign", life)

    def public(self, name: str, *options: str) -> bytes:
        return self.run(*options, "--export", name)

    def sign(self, name: str, content: bytes, *clock: str) -> bytes:
        return self.run(*clock, "--local-user", name, "--detach-sign", given=content)

    def end(self) -> None:
        subprocess.run(["gpgconf", "--homedir", f"{self.home}", "--kill", "all"], check=True, timeout=60)


CLOCK = ("--faked-system-time", LONG_AGO)


@contextmanager
def keys(folder: Path) -> Iterator[Gpg]:
    """Make the maker's key, a stranger's, and one that has expired."""
    folder.mkdir(mode=0o700)
    gpg = Gpg(folder)
    try:
        gpg.make("maker@example.net")
        gpg.make("stranger@example.net")
        gpg.make("expired@example.net", "1d", *CLOCK)
        yield gpg
    finally:
        gpg.end()


def certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that is its own authority, with its key in the same file."""
    file = folder / "server.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=mirror"
    more = ("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{folder / 'key.pem'}", "-out", f"{file}")
    subprocess.run(["openssl", *words.split(), *more], check=True, capture_output=True, timeout=60)
    file.write_bytes(file.read_bytes() + (folder / "key.pem").read_bytes())
    return file


@dataclass
class Image:
    """A container image with an index before it, as registries have them."""

    blobs: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    digest: str = ""

    @classmethod
    def made(cls) -> "Image":
        image = cls()
        layer = image.add("application/vnd.oci.image.layer.v1.tar+gzip", archive({"pause": b"#!/bin/true"}))
        config = image.add(
            "application/vnd.oci.image.config.v1+json",
            json.dumps(
                {
                    "architecture": "amd64",
                    "os": "linux",
                    "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
                }
            ).encode(),
        )
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": [layer]}
        said = image.add(MANIFEST_TYPE, json.dumps(manifest).encode())
        other = {**said, "digest": f"sha256:{'1' * 64}", "platform": {"os": "linux", "architecture": "arm64"}}
        parts = [other, {**said, "platform": {"os": "linux", "architecture": "amd64"}}]
        index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": parts}
        image.digest = image.add(INDEX_TYPE, json.dumps(index).encode())["digest"]
        return image

    def add(self, kind: str, content: bytes) -> dict[str, Any]:
        digest = f"sha256:{sha256(content)}"
        self.blobs[digest] = (kind, content)
        return {"mediaType": kind, "digest": digest, "size": len(content)}


@dataclass
class Site:
    """What the servers serve, by path; tests change it."""

    gpg: Gpg
    url: str
    image: Image
    files: dict[str, bytes] = field(default_factory=dict)

    def fill(self) -> None:
        """Put every release there, as its maker would."""
        for name in PROGRAMS:
            self.put(f"{K8S}/{name}", program(name, f"Kubernetes {KUBERNETES}"))
        folder = f"etcd-{ETCD}-linux-amd64"
        inside = {f"{folder}/{name}": program(name, name) for name in ("etcd", "etcdctl")}
        etcd = archive({f"{folder}/README.md": b"read me", **inside})
        self.files[f"/etcd/{ETCD}/{folder}.tar.gz"] = etcd
        self.files[f"/etcd/{ETCD}/SHA256SUMS"] = f"{sha256(etcd)}  {folder}.tar.gz\n".encode()
        cni = f"cni-plugins-linux-amd64-{CNI}.tgz"
        content = archive({f"./{name}": program(name, name) for name in CNI_PLUGINS})
        self.files[f"/cni/{CNI}/{cni}"] = content
        self.files[f"/cni/{CNI}/{cni}.sha256"] = f"{sha256(content)}  {cni}\n".encode()
        self.files["/files/nvidia.raw"] = b"a system extension" * 1000
        self.flatcar(FLATCAR)
        self.fcos(FCOS)

    def put(self, path: str, content: bytes) -> None:
        self.files[path] = content
        self.files[f"{path}.sha256"] = sha256(content).encode()

    def signed(self, path: str, content: bytes, by: str = "maker@example.net", *clock: str) -> None:
        self.files[path] = content
        self.files[f"{path}.sig"] = self.gpg.sign(by, content, *clock)

    def flatcar(self, version: str, *, current: bool = True) -> None:
        text = f"FLATCAR_BUILD=1\nFLATCAR_VERSION={version}\nFLATCAR_VERSION_ID={version}\n".encode()
        for folder in (version, "current") if current else (version,):
            self.signed(f"{BOARD}/{folder}/version.txt", text)
        for name in FLATCAR_FILES:
            content = self.content(name, version)
            self.signed(f"{BOARD}/{version}/{name}", content)
            self.digests(f"{BOARD}/{version}/{name}", content)

    def content(self, name: str, version: str) -> bytes:
        """What a file of an operating system holds; who installs from it has better ones."""
        return f"{name} {version} ".encode() * 20_000

    def digests(self, path: str, content: bytes) -> None:
        name = path.rpartition("/")[2]
        rows = (("MD5", "md5"), ("SHA1", "sha1"), ("SHA512", "sha512"))
        lines = (
            f"# {title} HASH\n{hashlib.new(kind, content).hexdigest()}  {name}\n" for title, kind in rows
        )
        self.signed(f"{path}.DIGESTS", "".join(lines).encode())

    def fcos(self, version: str) -> None:
        def said(name: str) -> dict[str, str]:
            path = f"/fcos/prod/{version}/x86_64/fedora-coreos-{version}-{name}"
            content = self.content(name, version)
            self.signed(path, content)
            return {
                "location": self.url + path,
                "signature": f"{self.url}{path}.sig",
                "sha256": sha256(content),
            }

        pxe = {
            "kernel": said("live-kernel.x86_64"),
            "initramfs": said("live-initramfs.x86_64.img"),
            "rootfs": said("live-rootfs.x86_64.img"),
        }
        formats = {"pxe": pxe, "raw.xz": {"disk": said("metal.x86_64.raw.xz")}}
        metal = {"release": version, "formats": formats}
        stream = {"architectures": {"x86_64": {"artifacts": {"metal": metal}}}}
        self.files[STREAM] = json.dumps(stream).encode()


class Server(ThreadingHTTPServer):
    """Serves a Site over https, as told: redirects, silence, cuts."""

    daemon_threads = True

    def __init__(self, pem: Path | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.site: Site | None = None
        self.asked: list[tuple[str, str]] = []
        self.redirects: dict[str, str] = {}
        self.silent: dict[str, int] = {}
        self.cuts: dict[str, int] = {}
        self.released = threading.Event()
        self.stalled = threading.Event()
        if pem is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pem)
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"http{'s' if pem else ''}://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: Any) -> None:
        """Say nothing: clients that are killed hang up."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Range", "")))
        if self.path in self.server.redirects:
            return self.answer(302, b"", Location=self.server.redirects[self.path])
        if self.path.startswith("/v2/"):
            return self.registry()
        site = self.server.site
        content = site.files.get(self.path) if site else None
        if content is None:
            return self.answer(404, b"")
        begin = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        at = int(begin[1]) if begin else 0
        if at and at >= len(content):
            return self.answer(416, b"")
        ranged = {"Content-Range": f"bytes {at}-{len(content) - 1}/{len(content)}"} if at else {}
        return self.answer(206 if at else 200, content[at:], **ranged)

    def registry(self) -> None:
        if self.path == "/v2/":
            return self.answer(200, b"{}")
        kind, content = (self.server.site.image if self.server.site else Image()).blobs.get(
            self.path.rpartition("/")[2], ("", b"")
        )
        if not content:
            return self.answer(404, b"{}")
        return self.answer(200, content, **{"Content-Type": kind})

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.body(body)

    def body(self, body: bytes) -> None:
        silent, cut = self.server.silent.get(self.path), self.server.cuts.pop(self.path, None)
        if silent is not None:
            self.wfile.write(body[:silent])
            self.wfile.flush()
            self.server.stalled.set()
            self.server.released.wait(60)
        elif cut is not None:
            self.wfile.write(body[:cut])
            self.close_connection = True
        else:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing on the test's stderr."""


@contextmanager
def serving(pem: Path | None) -> Iterator[Server]:
    with Server(pem) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            server.shutdown()
            thread.join()


def configuration(site: Site, mirror: str = "mirror") -> str:
    """A rack of three families whose makers are all on `site`."""
    registry = site.url.partition("://")[2]
    document = {
        "apiVersion": "firstlight/v1alpha1",
        "kind": "Cluster",
        "metadata": {"name": "rack1"},
        "kubernetes": {
            "version": KUBERNETES,
            "controlPlaneEndpoint": "192.168.1.10:6443",
            "cni": {"plugin": "flannel"},
            "sandboxImage": "registry.example.net/k8s/pause:3.10",
        },
        "controlPlane": {"hosts": [{"name": "m1", "address": "192.168.1.10"}]},
        "etcd": {"members": ["m1"]},
        "appliance": {
            "interface": "eth0",
            "address": "192.168.1.20/24",
            "dhcp": {"mode": "server", "range": ["192.168.1.50", "192.168.1.99"]},
        },
        "pools": [
            {
                "name": "gpu8",
                "os": {"family": "flatcar", "release": FLATCAR},
                "disk": {"select": {"type": "nvme"}},
            },
            {
                "name": "core",
                "os": {"family": "fedora-coreos", "release": "stable"},
                "disk": {"select": {"type": "ssd"}},
            },
            {"name": "deb", "os": {"family": "debian", "release": "13"}, "disk": {"select": {"type": "ssd"}}},
        ],
        "machines": [{"name": "w1", "mac": "52:54:00:aa:00:01", "pool": "deb"}],
        "mirror": {
            "directory": mirror,
            "caFile": "ca.pem",
            "kubernetes": f"{site.url}/k8s",
            "flatcar": f"{site.url}/flatcar",
            "fedoraCoreos": f"{site.url}/fcos",
            "keys": {"flatcar": "flatcar.asc", "fedoraCoreos": "fedora.gpg"},
            "etcd": {"version": ETCD, "url": f"{site.url}/etcd"},
            "cniPlugins": {"version": CNI, "url": f"{site.url}/cni"},
            "images": [f"registry.example.net/k8s/pause:3.10@{site.image.digest}"],
            "registries": {"registry.example.net": registry},
            "files": [
                {"url": f"{site.url}/files/nvidia.raw", "sha256": sha256(site.files["/files/nvidia.raw"])}
            ],
        },
    }
    return json.dumps(document, indent=1)  # YAML reads JSON
