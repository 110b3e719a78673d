"""A whole appliance (real dnsmasq, nginx, web) and machines (QEMU's firmware, or packets) on one cable, with faults.

Faults are seeded per machine: nftables drops what one address sends, the loader is one for another processor, the
folder of artifacts goes away, the first Ignition document fails inside web.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bootstrap import config
from bootstrap.artifacts import Manifest, import_file, save_manifest
from bootstrap.keys import ensure_keys
from bootstrap.lab.requirements import find_ovmf
from bootstrap.model import Cluster
from bootstrap.operator import Operator
from bootstrap.render.bundle import render_bundle
from tests.system.pxe_segment import ROOT, SERVER, DhcpClient, Options, Segment, run, segment, wait_for

NAMES = ("w1", "w2", "w3", "w4", "w5", "w6")
BASE = f"http://{SERVER}:8080"
UEFI_ROM: Options = [("vendor_class_id", b"PXEClient:Arch:00007:UNDI:003016"), (93, b"\0\7")]
IPXE: Options = [*UEFI_ROM, (77, b"iPXE"), (175, b"\x21\x01\x01")]
CONFIG = """
apiVersion: firstlight/v1alpha1
kind: Cluster
metadata: {{name: explain}}
kubernetes: {{version: v1.36.4, controlPlaneEndpoint: "10.77.0.10:6443", cni: {{plugin: none}}}}
appliance:
  interface: srv0
  address: 10.77.0.1/24
  dhcp: {{mode: server, range: [10.77.0.150, 10.77.0.199]}}
  pxe: {{loader: {{efi64: {{path: {loader}, sha256: {sha256}}}}}}}
pools:
  - name: workers
    os: {{family: debian, release: "13", kernel: cloud}}
    disk: {{select: {{type: nvme}}}}
machines:
{machines}
"""
PE_MACHINE = {"x86_64": b"\x64\x86", "arm64": b"\x64\xaa"}  # little endian (PE format, "Machine Types")


def mac_of(name: str) -> str:
    return f"52:54:00:77:00:0{name[1:]}"


def address_of(name: str) -> str:
    return f"10.77.0.10{name[1:]}"


@dataclass(kw_only=True)
class Appliance:
    """What runs, and the words to ask it."""

    deploy: Path
    cable: Segment
    cluster: Cluster
    cache: Path
    config: Path
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def work(self) -> Path:
        return self.deploy / "explain"

    @property
    def operator(self) -> Operator:
        return Operator(self.work)

    def explain(self, name: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run the verb as a person does."""
        argv = (
            sys.executable,
            "deploy.py",
            "--config",
            str(self.config),
            *options,
            "machine",
            "explain",
            name,
        )
        environment = {**os.environ, "FIRSTLIGHT_DEPLOY": str(self.deploy)}
        return subprocess.run(
            argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    def diagnosis(self, name: str) -> str:
        found: str = self.operator.story(name)["diagnosis"]["name"]
        return found

    def events(self, name: str) -> list[str]:
        return [event["what"] for event in self.operator.events(machine=name)]

    def recording(self, name: str) -> dict[str, Any]:
        """Return what was seen of a machine: the ledger's events, and the lines of nginx's log."""
        log = (self.work / "log" / "nginx-access.log").read_text().splitlines()
        mark = f'"address":"{address_of(name)}"'
        return {
            "name": name,
            "mac": mac_of(name),
            "address": address_of(name),
            "at": time.time(),
            "events": self.operator.events(machine=name),
            "log": [line for line in log if mark in line],
        }

    def console(self, name: str) -> str:
        return (self.deploy / f"{name}.console").read_text(errors="replace")

    def story(self) -> str:
        """Return what tells why a test failed."""
        logs = "\n".join(path.read_text(errors="replace")[-3000:] for path in self.deploy.glob("*.log"))
        consoles = "\n".join(
            path.read_text(errors="replace")[-1500:] for path in self.deploy.glob("*.console")
        )
        return f"{logs}\n{consoles}"

    def start(self, name: str, *argv: str, namespace: str, **environment: str) -> None:
        with (self.deploy / f"{name}.log").open("ab") as output:
            child = subprocess.Popen(
                ("ip", "netns", "exec", namespace, *argv),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            )
        self.children.append(child)

    def drop(self, name: str, protocol: str, port: int) -> None:
        """Have the appliance's firewall drop what a machine sends to a port."""
        rule = f"ip saddr {address_of(name)} {protocol} dport {port} drop"
        run(
            "ip",
            "netns",
            "exec",
            self.cable.server,
            "nft",
            "add",
            "rule",
            "inet",
            "seeded",
            "input",
            *rule.split(),
        )

    def power_on(self, name: str, firmware: str) -> None:
        """Start QEMU on the cable; UEFI does PXE itself, with BIOS the network card's ROM is iPXE."""
        tap = f"tap{name}"
        for command in (
            ("tuntap", "add", tap, "mode", "tap"),
            ("link", "set", tap, "master", "br0"),
            ("link", "set", tap, "up"),
        ):
            run("ip", "-n", self.cable.client, *command)
        card = f"virtio-net-pci,netdev=n0,mac={mac_of(name)},bootindex=1"
        self.start(
            name,
            *("qemu-system-x86_64", "-machine", "q35,graphics=off"),
            *("-accel", "tcg,thread=single", "-cpu", "max", "-m", "256M"),
            *("-no-user-config", "-nodefaults", "-display", "none", "-vga", "none"),
            *("-serial", f"file:{self.deploy}/{name}.console"),
            *("-object", "rng-builtin,id=r0", "-device", "virtio-rng-pci,rng=r0"),
            *("-netdev", f"tap,id=n0,ifname={tap},script=no,downscript=no"),
            *("-device", f"{card},romfile=" if firmware == "uefi" else card),
            *(self._uefi(name) if firmware == "uefi" else ("-boot", "strict=on,reboot-timeout=5000")),
            namespace=self.cable.client,
        )

    def _uefi(self, name: str) -> tuple[str, ...]:
        ovmf = find_ovmf()
        assert ovmf is not None
        variables = self.deploy / f"{name}.vars"
        shutil.copy(ovmf.variables, variables)
        flash = "if=pflash,format=raw"
        return (
            *("-drive", f"{flash},unit=0,readonly=on,file={ovmf.code}"),
            *("-drive", f"{flash},unit=1,file={variables}"),
            *("-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n"),
            *("-fw_cfg", "name=opt/org.tianocore/IPv6Support,string=n"),
        )

    def curl(self, name: str, *arguments: str) -> str:
        """Ask by HTTP from a machine's own address; return the body."""
        done = self.cable.in_client(
            *("curl", "--silent", "--show-error", "--max-time", "10", "--interface", address_of(name)),
            *arguments,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def netboot_by_packets(self, name: str) -> str:
        """Do what firmware and iPXE do up to kernel and initrd, from the machine's address; return its arm."""
        run("ip", "-n", self.cable.client, "address", "add", f"{address_of(name)}/24", "dev", "br0")
        self._lease(name, UEFI_ROM)
        self.curl(name, f"tftp://{SERVER}/snponly.efi", "--output", "/dev/null")
        self._lease(name, IPXE)
        self.curl(name, f"{BASE}/boot.ipxe")
        script = self.curl(name, f"{BASE}/ipxe?mac={mac_of(name)}&platform=efi")
        for url in re.findall(r"http\S+/artifacts/\S+", script):
            self.curl(name, url, "--output", "/dev/null")
        return str(self.operator.machine(name)["arm"])

    def _lease(self, name: str, options: Options) -> None:
        client = DhcpClient(self.cable, "br0")
        try:
            assert client.lease(mac_of(name), options) == address_of(name)
        finally:
            client.close()

    def report(self, name: str, **more: Any) -> None:
        """Report as the installer does."""
        body = json.dumps({"mac": mac_of(name), **more})
        ca = self.work / "bundle/appliance/provisioning-ca.crt"
        self.curl(
            name, "--cacert", str(ca), "--fail", "--json", body, f"https://{SERVER}:8443/v1/machine/events"
        )


@contextmanager
def appliance(folder: Path) -> Iterator[Appliance]:
    """Lay the cable, render, start pxe and web, and end everything."""
    with ExitStack() as stack:
        cable = stack.enter_context(segment())
        runtime = Path(tempfile.mkdtemp(prefix="firstlight-test-", dir="/run"))
        stack.callback(shutil.rmtree, runtime)
        made = _rendered(folder, cable)
        stack.callback(_end, made)
        _lay(cable)
        made.start(
            "web",
            *(sys.executable, "-m", "web", "--work", str(made.work), "--cache", str(made.cache)),
            namespace=cable.server,
            FIRSTLIGHT_FAILPOINTS="ignition.answer.before=raise@1",
        )
        assert wait_for(made.operator.is_ready, 60), made.story()
        made.start(
            "pxe",
            *(sys.executable, "-m", "pxe", "--work", str(made.work), "--runtime", str(runtime), "--no-probe"),
            namespace=cable.server,
        )
        assert wait_for((made.work / "run" / "pxe.ready").exists, 30), made.story()
        yield made


def _lay(cable: Segment) -> None:
    """Put a switch on the machines' side, and an empty firewall on the appliance's."""
    for command in (
        ("link", "add", "br0", "type", "bridge"),
        ("address", "flush", "dev", "cli0"),
        ("link", "set", "cli0", "master", "br0"),
        ("link", "set", "br0", "up"),
    ):
        run("ip", "-n", cable.client, *command)
    table = "add table inet seeded; add chain inet seeded input { type filter hook input priority 0; }"
    run("ip", "netns", "exec", cable.server, "nft", table)


def _rendered(folder: Path, cable: Segment) -> Appliance:
    cache, work = folder / "cache", folder / "deploy" / "explain"
    work.mkdir(parents=True, mode=0o700)
    loader = folder / "arm64.efi"
    loader.write_bytes(of_another_processor(Path("/usr/lib/ipxe/snponly.efi").read_bytes()))
    rows = (f'  - {{name: {n}, mac: "{mac_of(n)}", pool: workers, address: {address_of(n)}}}' for n in NAMES)
    source = folder / "config.yaml"
    digest = hashlib.sha256(loader.read_bytes()).hexdigest()
    source.write_text(CONFIG.format(loader=loader, sha256=digest, machines="\n".join(rows)))
    cluster = config.load([source])
    make_image(folder, cache)
    keyring = ensure_keys(cluster, work, datetime.now(UTC)).keyring
    for path, file in render_bundle(cluster, keyring.public).items():
        target = work / "bundle" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content)
    return Appliance(deploy=folder / "deploy", cable=cable, cluster=cluster, cache=cache, config=source)


def of_another_processor(loader: bytes) -> bytes:
    """Return an EFI program that says it is for arm64, as one that was taken by mistake does."""
    at = loader.index(b"PE\0\0") + 4
    assert loader[at : at + 2] == PE_MACHINE["x86_64"]
    return loader[:at] + PE_MACHINE["arm64"] + loader[at + 2 :]


def make_image(folder: Path, cache: Path) -> None:
    """Put an image into `cache` that no machine can start: enough to be told to load it."""
    parts = {}
    for part in ("kernel", "initrd", "disk"):
        file = folder / part
        file.write_bytes(part.encode() * 1000)
        parts[part] = import_file(cache, file)
    manifest = Manifest(
        key="debian-13-cloud",
        family="debian",
        release="13",
        kernel_flavour="cloud",
        kernel_version="6.12",
        built="2026-01-01T00:00:00Z",
        raw_size=4000,
        kernel=parts["kernel"],
        initrd=parts["initrd"],
        disk=parts["disk"],
    )
    save_manifest(cache, manifest)


def _end(made: Appliance) -> None:
    for child in reversed(made.children):
        child.terminate()
    deadline = time.monotonic() + 20
    for child in made.children:
        try:
            child.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
