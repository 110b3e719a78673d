"""A cluster in a file that outlives who asks it, and an appliance with state that can be handed over to it."""

import json
import shutil
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bootstrap import accepted, allotment
from bootstrap.containers.table import Name
from bootstrap.errors import ApiRefused
from bootstrap.handover import fence, unpack
from bootstrap.handover.back import Back
from bootstrap.handover.gathering import Goods
from bootstrap.handover.moving import Move
from bootstrap.handover.parcel import PART
from bootstrap.kubernetes.seen import DeploymentView, NodeView, PodView
from bootstrap.model import Cluster
from bootstrap.progress import Progress, silent
from bootstrap.records.model import Accepted, MachineRecord
from bootstrap.render.bundle import File
from bootstrap.state import Put
from bootstrap.state.sqlite import SqliteStore
from bootstrap.states import State
from bootstrap.workplace import Workplace
from tests import samples

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
IMAGE = "registry.example.net/firstlight-{}@sha256:" + "ab" * 32
ID = "0123456789ab"
W7 = Accepted(mac="52:54:00:aa:00:07", name="w7", pool="gpu8")
DOCUMENTS = {
    "appliance/cluster.json": b"{}",
    "appliance/provisioning-ca.crt": b"CA",
    "hosts/m1/etcd.service": b"host",
    "machines/w1/ignition.json": b"w1",
    "pxe/dnsmasq.conf": b"port=0",
    "web/nginx.conf": b"daemon off;",
}


class Lines:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []

    @contextmanager
    def step(self, name: str) -> Iterator[Progress]:
        self.said.append(f"[{name}]")
        yield silent

    def say(self, text: str) -> None:
        self.said.append(text)


class FileCluster:
    """An API server's objects in a JSON file; a Deployment has its pod, which runs if it is pulled."""

    def __init__(self, file: Path, *, address: str = "10.0.0.5") -> None:
        self.file = file
        self.address = address
        self.is_ready = True
        self.is_pulled = True
        self.refuses = ""
        self.stays: list[str] = []
        self.later: list[str] = []
        self.generation = 1
        self.pod_age = timedelta(seconds=1)

    @property
    def objects(self) -> dict[str, Any]:
        return dict(json.loads(self.file.read_text())) if self.file.exists() else {}

    def of_kind(self, kind: str) -> dict[str, Any]:
        return {
            key.partition("/")[2]: each for key, each in self.objects.items() if key.startswith(f"{kind}/")
        }

    def node(self, name: str) -> NodeView | None:
        if name != "w1":
            return None
        return NodeView(
            name=name,
            is_ready=self.is_ready,
            message="",
            addresses=(self.address,),
            version="v1.36.4",
            is_cordoned=False,
        )

    def apply(self, objects: Iterable[Mapping[str, Any]], *, is_trial: bool = False) -> list[str]:
        changed = []
        for each in objects:
            name = f"{each['kind']}/{each['metadata']['name']}"
            if self.refuses and name.startswith(self.refuses):
                raise ApiRefused(f"{name} is refused", 403)
            if self.objects.get(name) != each:
                changed.append(name)
            if not is_trial:
                self._save({**self.objects, name: json.loads(json.dumps(each))})
        return changed

    def runs(self, namespace: str, name: str) -> bool:
        assert namespace == "firstlight"
        if not (self.is_ready and self.is_pulled and f"Deployment/{name}" in self.objects):
            return False
        self.start("web" if name == "web" else "pxe")
        return True

    def start(self, part: Name) -> None:
        """Do what a part's pod does on the node before the part itself runs."""
        spec = self.objects[f"Deployment/{part}"]["spec"]["template"]["spec"]
        given = dict(word.removeprefix("--").split("=") for word in spec["initContainers"][0]["args"])
        folder = self.file.parent / f"parcels-{part}"
        shutil.rmtree(folder, ignore_errors=True)
        for volume in (each for each in spec["volumes"] if "projected" in each):
            self._project(folder / volume["name"].removeprefix("parcel-"), volume["projected"]["sources"])
        unpack.lay(
            part,
            self.node_folder,
            documents=unpack.read(folder / "documents", given["documents"]),
            state=lambda: unpack.first_state(folder / "state", given["state"], given["handover"]),
            handover=given["handover"],
            own=lambda *_: None,
        )

    @property
    def node_folder(self) -> Path:
        return self.file.parent / "node"

    def _project(self, folder: Path, sources: list[dict[str, Any]]) -> None:
        folder.mkdir(parents=True)
        secrets = self.of_kind("Secret")
        for source in (each["secret"] for each in sources):
            if source["name"] in secrets or not source.get("optional"):
                (item,) = source["items"]
                content = secrets[source["name"]]["data"][item["key"]]
                (folder / item["path"]).write_bytes(b64decode(content))

    def names(self, kind: str, namespace: str, labels: Mapping[str, str]) -> list[str]:
        assert namespace == "firstlight"
        found = self.of_kind(kind).items()
        return sorted(name for name, each in found if labels.items() <= each["metadata"]["labels"].items())

    def deployment(self, namespace: str, name: str) -> DeploymentView | None:
        assert namespace == "firstlight"
        there = name in self.of_kind("Deployment")
        return DeploymentView(made=NOW, generation=self.generation) if there else None

    def pods(self, namespace: str, labels: Mapping[str, str]) -> list[PodView]:
        assert (namespace, dict(labels)) == ("firstlight", {"app.kubernetes.io/name": "firstlight"})
        idle = {
            part: not (self.node_folder / folders[0] / unpack.MARK).exists()
            for part, folders in unpack.STATE_FOLDERS.items()
        }
        made = NOW + self.pod_age
        ours = [
            PodView(name=f"{part}-5d4f9", labels={PART: part}, made=made, is_idle=idle[part])
            for part in idle
            if part in self.of_kind("Deployment")
        ]
        return [
            *ours,
            *(PodView(name=name, labels={PART: "web"}, made=made, is_idle=False) for name in self.stays),
        ]

    def delete(self, kind: str, name: str, *, namespace: str | None = None) -> bool:
        assert (namespace is None) == (kind == "Namespace")
        left = self.objects
        gone = left.pop(f"{kind}/{name}", None)
        if kind == "Namespace":
            left = {}
            self.stays += self.later
        self._save(left)
        return gone is not None

    def _save(self, objects: dict[str, Any]) -> None:
        fresh = self.file.with_suffix(".fresh")
        fresh.write_text(json.dumps(objects))
        fresh.replace(self.file)


def cluster() -> Cluster:
    """Return the example with pinned images."""
    given = samples.cluster("example")
    containers = given.appliance.containers.model_copy(
        update={"web": IMAGE.format("web"), "pxe": IMAGE.format("pxe")}
    )
    return given.model_copy(
        update={"appliance": given.appliance.model_copy(update={"containers": containers})}
    )


@dataclass
class Rack:
    """A work folder with keys, state and leases, the cluster that it is handed over to, and a node's folder."""

    folder: Path
    lines: Lines = field(default_factory=Lines)

    @property
    def place(self) -> Workplace:
        return Workplace(self.folder / "deploy", cluster().metadata.name)

    @property
    def work(self) -> Path:
        return self.place.work

    @property
    def api(self) -> FileCluster:
        return FileCluster(self.folder / "cluster.json")

    @property
    def node(self) -> Path:
        return self.folder / "node"

    def make(self, keys: Path) -> None:
        self.place.make()
        for path in sorted(keys.rglob("*")):
            goal = self.work / "pki" / path.relative_to(keys)
            if path.is_file():
                goal.parent.mkdir(parents=True, exist_ok=True)
                goal.write_bytes(path.read_bytes())
                goal.chmod(path.stat().st_mode & 0o777)
        self.put(MachineRecord(mac="52:54:00:aa:00:01", name="w1", state=State.READY, since=NOW))
        accepted.write(self.work, [W7])
        allotment.record(self.work, {"w1": 0, "w7": 1})
        (self.work / "binaries.json").write_text("{}")
        (self.work / "run/leases").write_text("1 52:54:00:00:00:01 10.0.0.5\n")
        (self.work / "run/tftp-learned").write_text("1 52:54:00:00:00:01\n")
        self.node.mkdir()

    def put(self, *records: MachineRecord, into: Path | None = None) -> None:
        file = (into or self.work) / "state/state.db"
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        store = SqliteStore(file)
        store.commit([Put(key=f"machine/{each.mac}", value=each.to_bytes()) for each in records])
        store.close()

    def machines(self, where: Path | None = None) -> dict[str, State]:
        store = SqliteStore((where or self.work) / "state/state.db")
        found = [MachineRecord.from_bytes(entry.value) for entry in store.scan("machine/")]
        store.close()
        return {each.name: each.state for each in found}

    def goods(self, **changes: bytes) -> Goods:
        config = self.folder / "config.yaml"
        config.write_text((samples.ROOT / "configs/example.yaml").read_text())
        documents = {**DOCUMENTS, **changes}
        return Goods(
            cluster=cluster(),
            place=self.place,
            configs=(config,),
            version="0.1.0",
            bundle={path: File(content) for path, content in documents.items()},
            now=NOW,
        )

    def move(self, **changes: Any) -> Move:
        values: dict[str, Any] = {"goods": self.goods(), "node": "w1", "reporter": self.lines}
        return Move(**{**values, "new_id": lambda: ID, "sleep": lambda _: None, "seconds": 0.0, **changes})

    def back(self, **changes: Any) -> Back:
        values: dict[str, Any] = {"cluster": cluster(), "place": self.place, "reporter": self.lines}
        return Back(**{**values, "now": NOW, "seconds": 0.0, "sleep": lambda _: None, **changes})

    def copied(self, name: str = "copy") -> Path:
        """Copy the node's folder, as an operator does."""
        shutil.copytree(self.node, self.folder / name, symlinks=True)
        return self.folder / name

    @property
    def stage(self) -> str:
        found = fence.read(self.work)
        return found.stage if found else ""
