"""An appliance on the network of two hosts that are nodes: it serves as `serve` does at first, then in pods on one."""

import dataclasses
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bootstrap import failpoints
from bootstrap.artifacts import Manifest
from bootstrap.containers.table import CONTAINERS
from bootstrap.handover import manifests
from bootstrap.lab import ssh
from bootstrap.lab.host import CARD
from bootstrap.operator import Operator
from bootstrap.processes import is_answering_dhcp
from tests.system.container_bench import Store
from tests.system.node_rack import M1, M2, NAME, Nodes, configuration
from tests.system.pxe_segment import CLIENT, SERVER, Options, Segment, run, wait_for
from tests.system.spine import ROOT, Outcome, Site, running
from tests.system.web_bench import make_image

NODE, NODE_ADDRESS = "m2", "10.77.0.12"
ROOT_THERE = f"root@{NODE_ADDRESS}"
CABLE, OURS, SPARE = "eth0", f"{SERVER}/24", "10.77.0.3/24"
LISTED, FOUND = "52:54:00:79:01:01", "52:54:00:79:01:02"
LISTED_ADDRESS = "10.77.0.131"
FOUND_ADDRESS = "10.77.0.132"
BIOS: Options = [("vendor_class_id", b"PXEClient:Arch:00000:UNDI:002001"), (93, b"\0\0")]
READY_SECONDS, COPY_SECONDS, PODS_SECONDS = 90.0, 300.0, 300
SPACE = ("--namespace", "firstlight")


@dataclass(frozen=True)
class RackSite(Site):
    """deploy.py on the rack's network, as on an operator's computer: its configuration knows of no lab."""

    def argv(self, *arguments: str) -> list[str]:
        return ["ip", "netns", "exec", self.namespace, *super().argv(*arguments)]


@dataclass(frozen=True, kw_only=True)
class Appliance:
    """The appliance, the machines' cable (`cable.client` is their side), and both images in `engine`."""

    nodes: Nodes
    engine: Store
    site: RackSite
    cable: Segment
    image: Manifest
    folder: Path

    @contextmanager
    def serving(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run it here, as `serve` does, on documents of now."""
        done = self.site.run("render", "--output", str(self.site.work / "bundle"))
        assert done.code == 0, done.err
        log = self.folder / "serve.log"
        with running(self.site, "serve", log=log) as process:
            try:
                assert wait_for(self.is_ready, READY_SECONDS), log.read_text()[-3000:]
                yield process
            finally:
                self.site.run("down")

    def is_ready(self) -> bool:
        """Return whether both parts serve here."""
        return Operator(self.site.work).is_ready() and is_answering_dhcp(self.site.work)

    def hand_over(self, *words: str, points: str = "") -> Outcome:
        """Run `handover`; `points` are places where it is killed."""
        overlay = str(self.folder / "in-cluster.yaml")
        extra = {failpoints.VARIABLE: points}
        site = dataclasses.replace(self.site, configs=(*self.site.configs, overlay), extra=extra)
        return site.run("handover", *words, "--timeout", str(PODS_SECONDS))

    # --- as machines and people ask it -----------------------------------------------------------------------

    def curl(self, *words: str) -> bytes:
        """Fetch something from the machines' side; nothing if it does not come."""
        argv = ("ip", "netns", "exec", self.cable.client, "curl", "-sS", "--max-time", "5", *words)
        return subprocess.run(argv, check=False, capture_output=True).stdout

    def boot(self, mac: str) -> bytes:
        """Ask for a machine's script, as its iPXE does."""
        return self.curl(f"http://{SERVER}:8080/ipxe?mac={mac}&platform=pcbios")

    def be_found(self, mac: str, address: str) -> None:
        """Boot as a machine that nobody listed, and tell what is in it."""
        assert self.boot(mac)
        body = json.dumps({"mac": mac, "image": "", "address": address, "inventory": {"cpus": 2}})
        told = self.secure("/v1/discovery", "--json", body)
        assert b'"next"' in told, told

    def secure(self, path: str, *more: str) -> bytes:
        """Fetch something over TLS, trusting the provisioning CA alone."""
        authority = str(self.site.work / "pki/provisioning/ca.crt")
        return self.curl(*more, "--cacert", authority, f"https://{SERVER}:8443{path}")

    def answers(self) -> list[bytes]:
        """Return what machines are told and given, byte by byte."""
        plain = f"http://{SERVER}:8080"
        return [
            self.curl(f"{plain}/boot.ipxe"),
            self.boot(LISTED),
            self.curl(f"{plain}/v1/ignition/{FOUND}"),
            self.secure("/readyz"),
            self.curl(f"{plain}/artifacts/sha256/{self.image.kernel.sha256}"),
        ]

    def pods(self) -> dict[str, dict[str, Any]]:
        """Return the status of each pod's container, by its name."""
        found = self.nodes.kubectl.data(*SPACE, "get", "pods")["items"]
        return {one["name"]: one for pod in found for one in pod["status"].get("containerStatuses", ())}

    def story(self) -> str:
        """Return what the cluster says of the pods, for a failed assertion."""
        words = (
            ("describe", "pods"),
            ("logs", "deploy/web", "--tail=40"),
            ("logs", "deploy/pxe", "--tail=40"),
        )
        told = []
        for each in words:
            try:
                told.append(self.nodes.kubectl(*SPACE, *each))
            except AssertionError as error:
                told.append(str(error))
        return "\n".join(told)[-12000:]

    # --- what the operator does by hand ----------------------------------------------------------------------

    def bring_images(self) -> None:
        """Bring both images and the artifacts to the node, and name the images, as docs/handover.md says."""
        for part in CONTAINERS:
            save, send, load = documented(part)
            archive = self.folder / send[1]
            self.engine.podman(*save[1:-2], str(archive), self.engine.tag(part))
            self._ssh("scp", str(archive), send[2].replace("root@w1", ROOT_THERE))
            self._on_node(*load[2:])
            archive.unlink()
        for name in ("images", "sha256"):
            target = f"{manifests.CACHE}/{name}"
            shutil.copytree(self.site.cache / name, self.nodes.hosts.root(NODE) / target[1:])
        listed = self._on_node("ctr", "--namespace", "k8s.io", "images", "list", "--quiet").split()
        found = {
            part: next(name for name in listed if f"firstlight-{part}@sha256:" in name) for part in CONTAINERS
        }
        overlay = {"appliance": {"interface": CARD, "containers": found}}
        (self.folder / "in-cluster.yaml").write_text(json.dumps(overlay))

    def give_address(self) -> None:
        """Let the node have the appliance's address, and this computer another one."""
        self._here("del", OURS)
        self._here("add", SPARE)
        self._on_node("ip", "address", "add", OURS, "dev", CARD)
        self._forget()

    def _here(self, word: str, address: str) -> None:
        run("ip", "-n", self.nodes.rack.namespace, "address", word, address, "dev", CABLE)

    def _forget(self) -> None:
        """Let the machines ask anew who has the address, as those do that start."""
        run("ip", "-n", self.cable.client, "neighbour", "flush", "all")

    def _on_node(self, *command: str) -> str:
        """Run a command on the node, as root."""
        return self._ssh("ssh", ROOT_THERE, "--", shlex.join(command))

    def _ssh(self, program: str, *words: str) -> str:
        """Run ssh or scp with the lab's key, on the rack's network."""
        known = self.nodes.rack.hosts.known_hosts(NODE)
        key = ssh.key_file(self.site.work)
        _, *options, _ = ssh.ssh_argv(key=key, address=NODE_ADDRESS, known_hosts=known)
        done = subprocess.run(
            self.nodes.rack.in_namespace((program, *options, *words)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COPY_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{program} {words}: {done.stdout}{done.stderr}"
        return done.stdout


def documented(part: str) -> list[list[str]]:
    """Return how docs/handover.md brings the image of web to a node, for `part`: saved, sent, imported."""
    text = (ROOT / "docs/handover.md").read_text()
    (block,) = re.findall(r"```sh\n(podman save .*?)```", text, re.DOTALL)
    lines = [shlex.split(line.replace("web", part)) for line in block.splitlines()]
    assert [line[0] for line in lines] == ["podman", "scp", "ssh", "ssh"]
    assert lines[3][2:] == ["ctr", "--namespace", "k8s.io", "images", "list", "--quiet"]
    return lines[:3]


@contextmanager
def appliance_beside(nodes: Nodes, engine: Store, folder: Path) -> Iterator[Appliance]:
    """Lay the machines' cable, and prepare the appliance of the hosts' cluster; nothing of it runs yet."""
    made = configuration(M1, M2)
    del made["lab"], made["kubernetes"]["binaries"]
    made["machines"] = [{"name": "w1", "mac": LISTED, "pool": "workers", "address": LISTED_ADDRESS}]
    config = folder / "config.yaml"
    config.write_text(json.dumps(made))  # JSON is YAML too
    site = RackSite(nodes.site.deploy, folder / "cache", (str(config),), NAME)
    cable = Segment(server=nodes.rack.namespace, client=f"{nodes.rack.namespace}-c")
    run("ip", "netns", "add", cable.client)
    try:
        _lay(cable)
        yield Appliance(
            nodes=nodes,
            engine=engine,
            site=site,
            cable=cable,
            image=make_image(folder, site.cache),
            folder=folder,
        )
    finally:
        site.run("down")
        run("ip", "netns", "delete", cable.client)


def _lay(cable: Segment) -> None:
    ends = ("cli0", "netns", cable.client, "type", "veth", "peer", "srv-cli0", "netns", cable.server)
    for words in (
        ("link", "add", *ends),
        ("-n", cable.server, "link", "set", "srv-cli0", "master", CABLE, "up"),
        ("-n", cable.client, "address", "add", f"{CLIENT}/24", "dev", "cli0"),
        ("-n", cable.client, "link", "set", "cli0", "up"),
        ("-n", cable.client, "link", "set", "lo", "up"),
    ):
        run("ip", *words)
