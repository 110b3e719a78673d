"""A node's PCI, driver, containerd and device plugin as an agent sees them: folders, and programs that answer."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bootstrap.kubernetes.gpu_agent import SETTINGS, files
from bootstrap.model import Cluster, Os, Pool
from tests.unit.gpu.machines import H100
from tests.unit.gpu.reports import line
from tests.unit.node.appliance import Node

NVIDIA = "0x10de"
PROGRAMS = {
    "modinfo": """[ -e "$FAKE/module-refused" ]
""",
    "modprobe": """fails() { echo "modprobe: $1" >&2; exit 1; }
[ ! -e "$FAKE/module-refused" ] || fails "ERROR: Key was rejected by service"
[ -e "$FAKE/driver-on-disk" ] || fails "FATAL: Module nvidia not found."
. "$FAKE/load"
""",
    "nvidia-smi": """echo "$1" >>"$FAKE/smi.log"
case $1 in *gpumax*) [ ! -e "$FAKE/old-smi" ] || { echo 'Field "gpumax" is not a valid field to query.'; exit 2; }; esac
[ ! -e "$FAKE/hangs" ] || exec sleep 60
if [ -e "$FAKE/hangs-in-kernel" ]; then # as PCI and /proc show it: it was killed, and is there still
    mkdir -p "$FAKE/proc/$$" && echo nvidia-smi >"$FAKE/proc/$$/comm"
    exec sleep 60
fi
case $1 in *fabric*)
    cat "$FAKE/fabric" 2>/dev/null && exit
    echo 'Field "fabric.state" is not a valid field to query.'
    exit 2 ;;
esac
cat "$FAKE/smi"
if [ -e "$FAKE/fails-once" ]; then rm "$FAKE/fails-once"; echo "Unable to determine the device handle"; exit 1; fi
[ ! -e "$FAKE/smi-fails" ]
""",
    "containerd": """cat "$FAKE/containerd.toml"
""",
    "nvidia-container-runtime": "",
}
RUNTIME = """
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  BinaryName = "/usr/sbin/runc-of-old"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]
  BinaryName = "nvidia-container-runtime"
"""


def with_gpus(cluster: Cluster, os: Os, gpu: Mapping[str, Any]) -> Cluster:
    """Return a cluster whose pool `workers` has this operating system and this `gpu:` section."""
    document = cluster.model_dump(mode="json", by_alias=True, exclude_none=True)
    pool = next(one for one in document["pools"] if one["name"] == "workers")
    pool |= {"gpu": dict(gpu), "os": os.model_dump(exclude_defaults=True)}
    return Cluster.model_validate(document)


@dataclass
class GpuMachine:
    """What stands around the agent; everything of it can be changed between two turns."""

    node: Node
    devices: list[str] = field(default_factory=list)
    now: int = 1_800_000_000

    def __post_init__(self) -> None:
        for name, text in PROGRAMS.items():
            program = self.folder / "bin" / name
            program.write_text(f"#!/bin/sh\n{text}")
            program.chmod(0o755)
        self.pci.mkdir(parents=True)
        (self.folder / "plugins").mkdir()
        (self.folder / "containerd.toml").write_text("")
        (self.folder / "smi").write_text("")
        self._put("0000:c1:00.0", vendor="0x1a03", kind="0x030000", device="0x2000")  # the screen of a BMC
        self._put("0000:c2:00.0", vendor=NVIDIA, kind="0x068000", device="0x22a3")  # an NVSwitch

    @property
    def folder(self) -> Path:
        return self.node.folder

    @property
    def pci(self) -> Path:
        return self.folder / "sys/bus/pci/devices"

    def _put(self, address: str, *, vendor: str, kind: str, device: str) -> None:
        folder = self.pci / address
        folder.mkdir()
        for name, text in (("vendor", vendor), ("class", kind), ("device", device)):
            (folder / name).write_text(f"{text}\n")

    def show(self, *devices: str) -> None:
        """Have PCI show these GPUs, by their device ids, and no others."""
        for number in range(len(self.devices)):
            self.unplug(number)
        self.devices = []
        for device in devices:
            self.plug(device)

    def plug(self, device: str) -> None:
        self._put(self.address(len(self.devices)), vendor=NVIDIA, kind="0x030200", device=f"0x{device}")
        self.devices.append(device)

    def unplug(self, number: int) -> None:
        folder = self.pci / self.address(number)
        for path in folder.iterdir() if folder.exists() else ():
            path.unlink()
        if folder.exists():
            folder.rmdir()

    @staticmethod
    def address(number: int) -> str:
        return f"0000:{number + 1:02x}:00.0"

    def load_driver(self, version: str = "570.133.20", flavour: str = "open") -> None:
        """Have a driver loaded that has taken all GPUs."""
        kind = "Open Kernel Module" if flavour == "open" else "x86_64 Kernel Module"
        for path, text in (
            ("sys/module/nvidia/version", f"{version}\n"),
            ("proc/driver/nvidia/version", f"NVRM version: NVIDIA UNIX {kind} for x86_64  {version}\n"),
        ):
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_text(text)
        self.take()
        self.tell(*(line(number) for number in range(len(self.devices))))

    def take(self, driver: str = "nvidia") -> None:
        target = self.folder / "sys/bus/pci/drivers" / driver
        target.mkdir(parents=True, exist_ok=True)
        for number in range(len(self.devices)):
            link = self.pci / self.address(number) / "driver"
            if link.parent.exists():
                link.unlink(missing_ok=True)
                link.symlink_to(target)

    def driver_on_disk(self, version: str = "570.133.20", flavour: str = "open") -> None:
        """Have modprobe find a driver: what it does is what `load_driver` does."""
        self.load_driver(version, flavour)
        kept = self.folder / "loaded"
        (self.folder / "sys/module").rename(kept)
        drivers = " ".join(
            str(self.pci / self.address(number) / "driver") for number in range(len(self.devices))
        )
        for link in drivers.split():
            Path(link).unlink()
        target = self.folder / "sys/bus/pci/drivers/nvidia"
        (self.folder / "load").write_text(
            f'mv "{kept}" "{self.folder}/sys/module"\nfor link in {drivers}; do ln -s "{target}" "$link"; done\n'
        )
        (self.folder / "driver-on-disk").touch()

    def tell(self, *lines: str) -> None:
        """Have nvidia-smi say this."""
        (self.folder / "smi").write_text("".join(f"{each}\n" for each in lines))

    def register_runtime(self) -> None:
        (self.folder / "containerd.toml").write_text(RUNTIME)

    def offer(self, count: int) -> None:
        """Have kubelet's checkpoint say what a device plugin offered."""
        found = {"nvidia.com/gpu": [f"GPU-{number}" for number in range(count)]} if count else None
        text = json.dumps({"Data": {"PodDeviceEntries": None, "RegisteredDevices": found}, "Checksum": 1})
        (self.folder / "plugins/kubelet_internal_checkpoint").write_text(text)

    def configure(self, os: Os | None = None, **gpu: Any) -> None:
        """Have the machine's pool say this of GPUs, and its node know."""
        rack = self.node.rack
        rack.cluster = with_gpus(rack.cluster, os or Os(family="flatcar", release="4593.2.5"), gpu)
        rack.site.load()
        self.write_settings(rack.cluster.pool("workers"))

    def write_settings(self, pool: Pool) -> None:
        content = dict(files(pool))[SETTINGS].content
        assert isinstance(content, bytes)
        (self.folder / "etc/gpu.env").write_bytes(content)

    def turn(self, after: int = 300, **settings: str) -> tuple[str, str]:
        """Have the timer's time come: run the agent; return the state and the reason that it wrote down."""
        self.now += after
        done = self.node.run(
            "gpu",
            FL_SYS=str(self.folder / "sys"),
            FL_PROC=str(self.folder / "proc"),
            FL_PLUGINS=str(self.folder / "plugins"),
            FL_SYSEXT=str(self.folder / "flatcar/enabled-sysext.conf"),
            FL_CLOCK=f"echo {self.now}",
            **{"FL_SMI_SECONDS": "1", **settings},
        )
        assert done.returncode == 0, done.stderr
        self.said = done.stderr
        found = self.written()
        return found["state"], found["reason"]

    def written(self) -> dict[str, Any]:
        """Return the state file."""
        found: dict[str, Any] = json.loads((self.folder / "state/gpu/state").read_text())
        return found

    def be_well(self, devices: Sequence[str] = (H100,) * 8) -> None:
        """Have everything as it should be."""
        self.show(*devices)
        self.load_driver()
        self.register_runtime()
        self.offer(len(devices))
