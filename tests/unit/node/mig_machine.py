"""GPUs that can be parted, as nvidia-smi shows them: a program that keeps modes and instances, and prints as it does.

What it prints follows NVIDIA's MIG User Guide ("Getting Started with MIG", read on 2026-11-24) and, for what the guide
does not print (nothing to list, an instance in use), what users published. No GPU was asked.
"""

import json
from pathlib import Path

from tests.unit.gpu.machines import H100
from tests.unit.node.appliance import Node
from tests.unit.node.gpu_machine import PROGRAMS, GpuMachine

SMI = r"""
row() { printf '|   %s  MIG %-14s %4s %8s %10s     |\n' "$@"; }
line='+----------------------------------------------------+'
uuid() { echo "GPU-e86cb44c-6756-fd30-cd4a-1e6da3caf9b$1"; }
case " $* " in
*mig* | *compute-apps* | *' -L '*) echo "$*" >>"$FAKE/mig.log" ;;
esac
case "$*" in
--query-gpu=index,uuid,mig.mode.current,mig.mode.pending*)
    for n in 0 1; do echo "$n, $(uuid "$n"), $(cat "$FAKE/gpus/$n/now"), $(cat "$FAKE/gpus/$n/pending")"; done
    exit ;;
--query-compute-apps=pid*) cat "$FAKE/pids"; exit ;;
-L)
    for n in 0 1; do
        echo "GPU $n: NVIDIA H100 80GB HBM3 (UUID: $(uuid "$n"))"
        awk '$2 == "ci" {printf "  MIG %s     Device  %d: (UUID: MIG-c7384736-a75d-5afc-978f-%d)\n", $1, NR - 1, NR}' \
            "$FAKE/gpus/$n/instances"
    done
    exit ;;
'mig -lgi')
    [ ! -e "$FAKE/forbidden" ] || { echo 'No GPU instances found: Insufficient Permissions'; exit 4; }
    cat "$FAKE/gpus/0/instances" "$FAKE/gpus/1/instances" | grep -q . ||
        { echo 'No GPU instances found: Not Found'; exit 6; }
    printf '%s\n' "$line" '| GPU instances:                                     |' \
        '| GPU   Name          Profile  Instance   Placement  |' \
        '|                       ID       ID       Start:Size |' \
        '|====================================================|'
    for n in 0 1; do
        while read -r name ci; do row "$n" "$name" 9 2 4:4; echo "$line"; done <"$FAKE/gpus/$n/instances"
    done
    exit ;;
esac
case "$1 $3" in '-i '* | 'mig '*) ;; *) exec "$FAKE/bin/nvidia-smi-of-old" "$@" ;; esac
[ "$1" = mig ] && { shift; is_part=yes; }
n=$2 at=$FAKE/gpus/$2 address=00000000:0$(($2 + 1)):00.0
shift 2
case "$*" in
--query-gpu=mig.mode.current*) cat "$at/now" ;;
'-mig 1' | '-mig 0')
    wanted=Enabled word=enable
    [ "$2" = 1 ] || { wanted=Disabled word=disable; }
    echo "$wanted" >"$at/pending"
    if [ -e "$FAKE/client" ]; then
        echo "Warning: MIG mode is in pending $word state for GPU $address:In use by another client"
        echo "$address is currently being used by one or more other processes (e.g. CUDA application or a" \
            "monitoring application such as another instance of nvidia-smi). Please first kill all processes using" \
            "the device and retry the command or reboot the system to make MIG mode effective."
    else
        echo "$wanted" >"$at/now"
        echo "$wanted MIG Mode for GPU $address"
    fi
    echo 'All done.' ;;
-dci)
    grep -q ci "$at/instances" || { echo 'No compute instances found: Not Found'; exit 6; }
    sed -i 's/ ci$/ -/' "$at/instances"
    echo "Successfully destroyed compute instance ID  0 from GPU  $n GPU instance ID  1" ;;
-dgi)
    ! grep -q ci "$at/instances" ||
        { echo "Unable to destroy GPU instance ID  1 from GPU  $n: In use by another client"; exit 19; }
    : >"$at/instances"
    echo "Successfully destroyed GPU instance ID  1 from GPU  $n" ;;
'-cgi '*)
    [ "$3" = -C ] && grep -q Enabled "$at/now" || { echo "Unable to create"; exit 3; }
    for name in $(echo "$2" | tr , ' '); do
        echo "$name ci" >>"$at/instances"
        echo "Successfully created GPU instance ID  2 on GPU  $n using profile MIG $name (ID  9)"
        if [ -e "$FAKE/no-room" ]; then
            echo "Unable to create a GPU instance on GPU  $n using profile 9: Insufficient Resources"
            echo "Failed to create GPU instances: Insufficient Resources"
            exit 4
        fi
    done ;;
*) echo "Invalid combination of input arguments. Please run 'nvidia-smi -h' for help."; exit 2 ;;
esac
"""
CHANGES = ("-mig", "-cgi", "-dci", "-dgi")


class MigMachine(GpuMachine):
    """A node with two GPUs that can be parted."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        for name, text in (("nvidia-smi-of-old", PROGRAMS["nvidia-smi"]), ("nvidia-smi", SMI)):
            program = self.folder / "bin" / name
            program.write_text(f"#!/bin/sh\n{text}")
            program.chmod(0o755)
        for number in (0, 1):
            (self.folder / f"gpus/{number}").mkdir(parents=True)
            self.be_parted(number, mode="Disabled")
        self.put("pids", "")
        self.be_well((H100, H100))

    def put(self, name: str, text: str = "") -> None:
        (self.folder / name).write_text(text)

    def be_parted(self, number: int, *names: str, mode: str = "Enabled", usable: bool = True) -> None:
        """Have a GPU be parted so, whoever has done it."""
        at = self.folder / f"gpus/{number}"
        for name in ("now", "pending"):
            (at / name).write_text(f"{mode}\n")
        (at / "instances").write_text("".join(f"{name} {'ci' if usable else '-'}\n" for name in names))

    def modes(self) -> list[tuple[str, str]]:
        """Return the mode of each GPU, now and after a reset."""
        at = [self.folder / f"gpus/{number}" for number in (0, 1)]
        return [((one / "now").read_text().strip(), (one / "pending").read_text().strip()) for one in at]

    def parts(self) -> list[list[str]]:
        """Return the profiles of the instances of each GPU that programs can use."""
        texts = [(self.folder / f"gpus/{number}/instances").read_text() for number in (0, 1)]
        return [[line.split()[0] for line in text.splitlines() if line.endswith(" ci")] for text in texts]

    def start_anew(self, *, is_kept: bool) -> None:
        """Have the machine be started anew: instances are gone, and the mode is kept (Ampere) or not (Hopper)."""
        for number, (_, pending) in enumerate(self.modes()):
            self.be_parted(number, mode=pending if is_kept else "Disabled")

    def give(self, **counts: int) -> None:
        """Have a device plugin offer these resources of nvidia.com."""
        found = {
            f"nvidia.com/{name.replace('_', '-', 1).replace('_', '.')}": [f"MIG-{n}" for n in range(count)]
            for name, count in counts.items()
        }
        self.checkpoint(found, ())

    def checkpoint(self, found: dict[str, list[str]], pods: tuple[str, ...]) -> None:
        """Have kubelet write down what was offered, and which pods it gave some of it."""
        entries = [{"PodUID": pod, "ResourceName": "nvidia.com/gpu", "ContainerName": "c"} for pod in pods]
        text = json.dumps({"Data": {"PodDeviceEntries": entries or None, "RegisteredDevices": found}})
        (self.folder / "plugins/kubelet_internal_checkpoint").write_text(text)

    @property
    def made(self) -> Path:
        return self.folder / "state/gpu/mig"

    def asked(self) -> list[str]:
        """Return what nvidia-smi was asked of parts since the last time."""
        log = self.folder / "mig.log"
        lines = log.read_text().splitlines() if log.exists() else []
        log.write_text("")
        return lines

    def changes(self) -> list[str]:
        """Return what nvidia-smi was told to change since the last time."""
        return [line for line in self.asked() if set(line.split()) & set(CHANGES)]

    def look(self) -> tuple[str, str]:
        """Run the agent once, with time for a busy computer."""
        return self.turn(FL_SMI_SECONDS="20", FL_PODS=str(self.folder / "pods"))
