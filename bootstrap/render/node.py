"""What a running node runs with: its own documents, the one that all nodes have alike, and the tar of both.

In the bundle they are text, so that `plan` shows what changes. A node gets one tar, named by its revision: the sum of
what it is made of.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from bootstrap.errors import RenderError
from bootstrap.kubernetes.nodes import family_of, node_documents, restarts
from bootstrap.kubernetes.places import BIN, IMAGES, ROUTES
from bootstrap.kubernetes.pod_network import PodNetwork
from bootstrap.kubernetes.tree import HostFile
from bootstrap.model import Cluster, Machine
from bootstrap.render import ignition
from bootstrap.templates import read

RESTARTS = ".restarts"
"""The file in the tar that says which units read what: lines of `path unit...`, in the order of restarting."""
_LINES = json.JSONEncoder(separators=(",\n    ", ": "))
_PAIRS = json.JSONEncoder(separators=(",\n  ", ": "))
_SCRIPTS = ("endpoint", "join", "sync")
_UNITS = (
    "firstlight-endpoint.service",
    "firstlight-images.service",
    "firstlight-join.service",
    "firstlight-join.timer",
    "firstlight-sync.service",
    "firstlight-sync.timer",
    "kube-proxy.service",
    "kubelet.service",
)


@dataclass(frozen=True, kw_only=True)
class Joining:
    """What machines need besides the configuration to become nodes by themselves.

    `authority` is the kubernetes authority's certificate in PEM. `binaries` (kubelet and kube-proxy) and `images`
    (archives that containerd imports) are sums in hex of files in the artifact store, by file name, and so are
    `plugins`, the CNI plugins for systems that have none; `network` says where the pods of all nodes are.
    """

    authority: bytes
    binaries: Mapping[str, str]
    network: PodNetwork
    images: Mapping[str, str] = field(default_factory=dict)
    plugins: Mapping[str, str] = field(default_factory=dict)

    @property
    def common(self) -> bytes:
        """Return what the documents of every machine depend on."""
        sums = [self.binaries, self.images, *([self.plugins] if self.plugins else ())]
        return self.authority + json.dumps([dict(found) for found in sums], sort_keys=True).encode()


def own_document(cluster: Cluster, machine: Machine, joining: Joining) -> bytes:
    """Return the documents that are the machine's own, as text, and which units read what.

    Raises:
        RenderError: one is no public text, or the machine has no pod subnet.
    """
    files = node_documents(cluster, machine, joining.authority, joining.network)
    own = {path: file for path, file in files.items() if path != ROUTES}
    return _text(own, f',\n "restarts": {_PAIRS.encode(restarts(files, family_of(cluster, machine)))}')


def shared_document(joining: Joining) -> bytes:
    """Return the documents that all nodes have alike: a thousand nodes have a thousand routes each."""
    routes = joining.network.routes
    return _text({ROUTES: HostFile(routes)} if routes else {})


def revision_of(own: bytes, shared: bytes) -> str:
    """Return the revision of a node's documents, in hex."""
    return hashlib.sha256(hashlib.sha256(own).digest() + hashlib.sha256(shared).digest()).hexdigest()


def tar_of(own: bytes, shared: bytes) -> bytes:
    """Return the tar that a node gets; the same input gives the same bytes.

    Raises:
        ValueError: one is not what `own_document` or `shared_document` wrote.
    """
    mine, ours = json.loads(own), json.loads(shared)
    units = "".join(" ".join((path, *names)) + "\n" for path, names in mine["restarts"].items())
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        _add(tar, RESTARTS, units, 0o644)
        for path, file in sorted({**mine["files"], **ours["files"]}.items()):
            _add(tar, path.lstrip("/"), "\n".join(file["lines"]), int(file["mode"], 8))
    return target.getvalue()


def _add(tar: tarfile.TarFile, path: str, text: str, mode: int) -> None:
    entry, content = tarfile.TarInfo(path), text.encode()
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))


def installed_files(cluster: Cluster, machine: Machine, joining: Joining) -> Iterator[ignition.Node]:
    """Yield the programs of a node, and who it is for those of them that are scripts of ours."""
    settings = {"NODE_NAME": machine.name, "NODE_MAC": machine.mac, "NODE_SERVER": cluster.secure_url}
    text = "".join(f"{key}={value}\n" for key, value in settings.items())
    yield ignition.file("/etc/firstlight/node.env", text)
    for name in _SCRIPTS:
        yield ignition.file(f"{BIN}/{name}", read(f"node/{name}"), mode=0o755)
    for name, sha256 in joining.binaries.items():
        yield ignition.fetched(f"{BIN}/{name}", _artifact(cluster, sha256), sha256, mode=0o755)
    for name, sha256 in joining.images.items():
        yield ignition.fetched(f"{IMAGES}/{name}", _artifact(cluster, sha256), sha256)
    family = family_of(cluster, machine)
    for name, sha256 in () if family.has_cni_plugins else joining.plugins.items():
        yield ignition.fetched(f"{family.cni_plugins}/{name}", _artifact(cluster, sha256), sha256, mode=0o755)
    for unit in ("kubelet", "kube-proxy"):
        path = f"/etc/systemd/system/{unit}.service.d/10-joined.conf"
        yield ignition.file(path, read("systemd/joined.conf"))


def installed_units() -> Iterator[ignition.Node]:
    """Yield the units of a node; each waits for what it needs by conditions of its own."""
    for name in _UNITS:
        yield ignition.unit(name, read(f"systemd/{name}"), enabled=True)


def _artifact(cluster: Cluster, sha256: str) -> str:
    """Return where a file of the artifact store is fetched: plain HTTP, its sum is checked."""
    return f"{cluster.base_url}/artifacts/sha256/{sha256}"


def _text(files: Mapping[str, HostFile], more: str = "") -> bytes:
    """Return `files` as JSON, a line of a file on a line of its own; thousands of nodes have most of them alike."""
    entries = ",\n".join(_entry(path, file.mode, _content(path, file)) for path, file in files.items())
    return f'{{\n "files": {{\n{entries}\n }}{more}\n}}\n'.encode()


@lru_cache(256)
def _entry(path: str, mode: int, content: bytes) -> str:
    lines = _LINES.encode(content.decode().split("\n"))[1:-1]
    return f'  {json.dumps(path)}: {{\n   "mode": "{mode:04o}",\n   "lines": [\n    {lines}\n   ]\n  }}'


def _content(path: str, file: HostFile) -> bytes:
    if not isinstance(file.content, bytes):
        raise RenderError(f"{path}: a {type(file.content).__name__} is no public document")
    return file.content
