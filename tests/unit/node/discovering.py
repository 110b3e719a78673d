"""A machine made of files that boots configs/installer/discover, and the application that it talks to over TLS."""

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bootstrap.records.inventory import Inventory
from certs.keystore import Keystore
from certs.wanted import rows
from tests.unit.node.appliance import PROVISIONING, ROOT, served
from tests.unit.web.fakes import W3
from tests.unit.web.looking import LookingRack

# The installer's functions are the real ones; as a program it only says that it was called.
INSTALLER = f"""#!/bin/sh
if [ -n "${{FL_SOURCE_ONLY:-}}" ]; then
    . {ROOT}/configs/installer/install
    restart() {{ echo restarted; exit 0; }}
    set_clock() {{ :; }}
else
    echo "installer: $FL_ARM $(jq -r .machine "$FL_ETC/install.json")"
fi
"""
TOOLS = {
    "lsblk": """#!/bin/sh
case $* in
*--json*) cat "$FAKE/lsblk.json" ;;
*) printf '%s\\n%s1 part\\n' "$5" "$5" ;;
esac
""",
    "wipefs": """#!/bin/sh
for last; do :; done
case $last in *1) echo LVM2_member ;; *) echo "vda gpt" ;; esac
""",
    "sleep": "#!/bin/sh\n:\n",
    "udevadm": "#!/bin/sh\n:\n",
}
LSBLK = {
    "blockdevices": [
        {"path": "/dev/vda", "type": "disk", "size": 1 << 30, "serial": " S1 ", "wwn": None, "model": None,
         "rota": True, "tran": "virtio", "ro": False, "rm": False, "log-sec": 512},
    ]
}  # fmt: skip


@dataclass
class Machine:
    """A machine that boots and looks at itself."""

    folder: Path
    rack: LookingRack
    server: str

    def file(self, path: str, text: str | bytes) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text if isinstance(text, bytes) else text.encode())

    def card(self, name: str, mac: str, *, kind: str = "1", bus: str = "pci", speed: str = "25000") -> None:
        device = self.folder / f"sys/devices/{name}"
        for link, target in (("driver", f"drivers/mlx5_{name}"), ("subsystem", f"bus/{bus}")):
            (self.folder / "sys" / target).mkdir(parents=True, exist_ok=True)
            device.mkdir(parents=True, exist_ok=True)
            (device / link).symlink_to(self.folder / "sys" / target)
        base = f"sys/class/net/{name}"
        for file, text in (("address", mac), ("type", kind), ("speed", speed), ("carrier", "1")):
            self.file(f"{base}/{file}", f"{text}\n")
        (self.folder / base / "device").symlink_to(device)

    def empty_disks(self) -> None:
        """Take away what is on them: nothing holds the machine's place in the world then."""
        for name, text in (
            ("wipefs", "#!/bin/sh\n:\n"),
            ("lsblk", TOOLS["lsblk"].replace("\\n%s1 part", "").replace('"$5" "$5"', '"$5"')),
        ):
            self.file(f"bin/{name}", text)

    def boot(self, seconds: float = 120) -> "subprocess.Popen[str]":
        environment = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "FAKE": str(self.folder),
            "FL_ETC": str(self.folder / "etc"),
            "FL_RUN": str(self.folder / "run"),
            "FL_SYS": str(self.folder / "sys"),
            "FL_BY_PATH": str(self.folder / "by-path"),
            "FL_CMDLINE": str(self.folder / "cmdline"),
            "FL_INSTALLER": str(self.folder / "bin/install-it"),
        }
        script = str(ROOT / "configs/installer/discover")
        process = subprocess.Popen(
            ("timeout", str(seconds), "sh", script), env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        threading.Timer(seconds + 5, process.kill).start()
        return process

    def inventory(self) -> Inventory | None:
        return self.rack.site.strangers.inventory(W3)


@contextmanager
def looked_at(tmp_path: Path, rack: LookingRack) -> Iterator[Machine]:
    """Yield an unlisted machine, W3, made of files, and serve `rack`'s application to it over TLS."""
    now = datetime.now(UTC)
    Keystore(tmp_path / "pki").ensure(
        [row for row in rows(PROVISIONING) if row.name.startswith("provisioning/")], now
    )
    with served(rack.app, tmp_path / "pki") as server:
        made = Machine(tmp_path, rack, server)
        made.file("etc/provisioning-ca.crt", (tmp_path / "pki/provisioning/ca.crt").read_bytes())
        made.file("etc/install.json", json.dumps({"server": server, "cluster": "lab"}))
        made.file(
            "cmdline",
            f"boot=firstlight ignition.config.url=http://10.77.0.1:8080/v1/ignition/{W3.replace(':', '-')} "
            f"firstlight.arm=discover firstlight.image={'b' * 64}\n",
        )
        made.file("lsblk.json", json.dumps(LSBLK))
        for name, text in {**TOOLS, "install-it": INSTALLER}.items():
            made.file(f"bin/{name}", text)
            (tmp_path / "bin" / name).chmod(0o755)
        yield made


def until(ask: Any, seconds: float = 90) -> Any:
    """Return the first answer that is one."""
    deadline = datetime.now(UTC).timestamp() + seconds
    pause = threading.Event()
    while datetime.now(UTC).timestamp() < deadline:
        if found := ask():
            return found
        pause.wait(0.05)
    raise AssertionError(f"no answer in {seconds} s")
