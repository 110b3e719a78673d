"""Real peers of the power drivers on loopback: a BMC of OpenIPMI, one of sushy-tools, and an SNMP agent of net-snmp."""

import os
import shutil
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from bootstrap.processes import end, wait_until
from tests.power_questions import NETBOOT, OFF, ON, STATE
from tests.power_targets import secret

LOOPBACK = "127.0.0.1"
PASSWORD, WRONG, USER = "Right-Pass_1", "Wrong-Pass_2", "admin"  # a test's own
START_SECONDS = 30.0


def free_port(kind: socket.SocketKind) -> int:
    """Return a port of loopback that nobody listens on now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(argv: Sequence[str], folder: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program, its output in `folder`/output, and end it by its pid."""
    with (folder / "output").open("ab") as output:
        # A pipe that stays open: ipmi_sim asks its input again and again once that has ended.
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, **environment},
        )
    try:
        yield process
    finally:
        end(process.pid, patience_seconds=5)
        process.wait(timeout=10)
        if process.stdin:
            process.stdin.close()


class FilePeer:
    """A machine whose power is a file, and whose orders are lines of another."""

    can = frozenset({STATE, ON, OFF, NETBOOT})

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(exist_ok=True)
        self.put(on=False)

    def put(self, *, on: bool) -> None:
        (self.folder / "power").write_text("1\n" if on else "0\n")
        (self.folder / "orders").write_text("")
        (self.folder / "boot").unlink(missing_ok=True)

    def is_on(self) -> bool:
        return (self.folder / "power").read_text().strip() == "1"

    def orders(self) -> int:
        return len((self.folder / "orders").read_text().split())

    def netboots(self) -> bool:
        boot = self.folder / "boot"
        return boot.exists() and boot.read_text().strip() == "pxe"


CHASSIS = """\
#!/bin/sh
# What ipmi_sim asks of a chassis: CHASSIS MC get NAME... | set NAME VALUE... | check NAME VALUE...
cd "$(dirname "$0")"
shift
act=$1
shift
while [ $# -gt 0 ]; do
    case "$act $1" in
    "get power") echo "power:$(cat power)" ;;
    "get boot") echo "boot:$(cat boot 2>/dev/null || echo default)" ;;
    "get "*) echo "$1:0" ;;
    "set power") echo "$2" >>orders; echo "$2" >power; shift ;;
    "set boot") echo "$2" >boot; shift ;;
    *) shift ;;
    esac
    shift
done
"""

LAN = """\
name "bmc"
set_working_mc 0x20
  startlan 1
    addr {address} {port}
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid a123456789abcdefa123456789abcdef
  endlan
  chassis_control "{script} 0x20"
  user 2 true "{user}" "{password}" admin 10 none md2 md5 straight
"""

EMULATION = """\
mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
sel_enable 0x20 1000 0x0a
mc_enable 0x20
"""


class IpmiPeer(FilePeer):
    """A BMC of OpenIPMI's ipmi_sim, which speaks cipher suite 3 and no other."""

    def __init__(self, folder: Path, chassis: str = CHASSIS) -> None:
        super().__init__(folder)
        self.port = free_port(socket.SOCK_DGRAM)
        secret(folder, "password", PASSWORD)
        script = folder / "chassis"
        script.write_text(chassis)
        script.chmod(0o700)
        (folder / "emulation").write_text(EMULATION)
        (folder / "state").mkdir()
        lan = LAN.format(address=LOOPBACK, port=self.port, script=script, user=USER, password=PASSWORD)
        (folder / "lan").write_text(lan)

    @property
    def power(self) -> dict[str, Any]:
        return {
            "driver": "ipmi",
            "address": LOOPBACK,
            "port": self.port,
            "user": USER,
            "passwordFile": "password",
            "cipherSuite": 3,
        }

    @contextmanager
    def serving(self) -> Iterator["IpmiPeer"]:
        folder = self.folder
        argv = ("ipmi_sim", "-n", "-c", "lan", "-f", "emulation", "-s", str(folder / "state"))
        with running(argv, folder):
            assert wait_until(lambda: udp_is_open(self.port), START_SECONDS), (folder / "output").read_text()
            yield self


def udp_is_open(port: int) -> bool:
    """Return whether a socket of this computer listens on a UDP port."""
    listening = [line.split()[1] for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    return any(place.endswith(f":{port:04X}") for place in listening)


SYSTEM = "27946b59-9e44-4fa7-8e91-f3527a1ef094"


class RedfishPeer:
    """A BMC of sushy-tools with TLS and a password; it switches some seconds after it is told, as real ones do."""

    can = frozenset({STATE, ON, OFF, NETBOOT})

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.port = free_port(socket.SOCK_STREAM)
        secret(folder, "password", PASSWORD)
        # The certificate is for the name and the address: the proxies of a test listen on other ports of it.
        subprocess.run(
            (
                "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-days", "2", "-subj", "/CN=bmc", "-addext", f"subjectAltName=IP:{LOOPBACK}",
                "-keyout", "bmc.key", "-out", "bmc.crt",
            ),
            cwd=folder, check=True, capture_output=True,
        )  # fmt: skip
        import bcrypt  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415  # sushy-tools brings it

        hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
        (folder / "users").write_text(f"{USER}:{hashed}\n")
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0

    @property
    def power(self) -> dict[str, Any]:
        return {
            "driver": "redfish",
            "address": f"https://{LOOPBACK}:{self.port}",
            "user": USER,
            "passwordFile": "password",
            "caFile": "bmc.crt",
        }

    def put(self, *, on: bool) -> None:
        """Start the BMC afresh: it has no other way to switch at once."""
        self.stop()
        shutil.rmtree(self.folder / "state", ignore_errors=True)
        (self.folder / "state").mkdir()
        system = {
            "uuid": SYSTEM,
            "name": "w1",
            "power_state": "On" if on else "Off",
            "nics": [{"mac": "52:54:00:aa:00:01", "ip": "10.77.0.101"}],
        }
        (self.folder / "settings.py").write_text(
            f"SUSHY_EMULATOR_FAKE_DRIVER = True\nSUSHY_EMULATOR_FAKE_SYSTEMS = [{system!r}]\n"
            f"SUSHY_EMULATOR_STATE_DIR = {str(self.folder / 'state')!r}\n"
            f"SUSHY_EMULATOR_AUTH_FILE = {str(self.folder / 'users')!r}\n"
        )
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                (
                    sys.executable, "-c", "import sys; from sushy_tools.emulator.main import main; sys.exit(main())",
                    "--config", "settings.py", "--interface", LOOPBACK, "--port", str(self.port),
                    "--ssl-certificate", "bmc.crt", "--ssl-key", "bmc.key",
                ),
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=self.folder,
            )  # fmt: skip
        assert wait_until(self._answers, START_SECONDS), (self.folder / "output").read_text()
        self._began = self._resets()

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((LOOPBACK, self.port)) == 0

    def stop(self) -> None:
        if self._process is not None:
            end(self._process.pid, patience_seconds=5)
            self._process.wait(timeout=10)
            self._process = None

    @contextmanager
    def serving(self) -> Iterator["RedfishPeer"]:
        try:
            self.put(on=False)
            yield self
        finally:
            self.stop()

    def is_on(self) -> bool:
        return bool(self._system()["PowerState"] == "On")

    def orders(self) -> int:
        return self._resets() - self._began

    def netboots(self) -> bool:
        boot = self._system()["Boot"]
        return bool(boot["BootSourceOverrideTarget"] == "Pxe")

    def _resets(self) -> int:
        return (self.folder / "output").read_text().count("Actions/ComputerSystem.Reset HTTP")

    def _system(self) -> Any:
        answer = requests.get(
            f"https://{LOOPBACK}:{self.port}/redfish/v1/Systems/{SYSTEM}",
            auth=(USER, PASSWORD),
            verify=str(self.folder / "bmc.crt"),
            timeout=10,
        )
        answer.raise_for_status()
        return answer.json()


AGENT = '''\
"""Rows of APC's rPDU tables for outlets 1 to 8, spoken to snmpd (snmpd.conf, pass_persist)."""
import pathlib, sys, time
HERE = pathlib.Path(__file__).parent
BASE = ".1.3.6.1.4.1.318.1.1.12.3"
CONTROL, STATUS = f"{BASE}.3.1.1.4", f"{BASE}.5.1.1.4"
LAG_SECONDS = 1.0  # relays and their contacts

def power():
    """Return 1 for on and 2 for off, as the contacts are now."""
    orders = [line.split() for line in (HERE / "moved").read_text().splitlines()]
    done = [word for when, word in orders if float(when) + LAG_SECONDS <= time.time()]
    return {"1": 1, "0": 2}[(done or [(HERE / "power").read_text().strip()])[-1]]

def settle():
    (HERE / "power").write_text("1\\n" if power() == 1 else "0\\n")

def write(words):
    kind, value = words.split()
    if kind != "integer" or value not in {"1", "2"}:
        return "wrong-value"
    on = "1" if value == "1" else "0"
    with (HERE / "moved").open("a") as moved:
        moved.write(f"{time.time()} {on}\\n")
    with (HERE / "orders").open("a") as orders:
        orders.write(f"{on}\\n")
    return "DONE"

ROWS = sorted((f"{table}.{outlet}" for table in (CONTROL, STATUS) for outlet in range(1, 9)))
for line in sys.stdin:
    word = line.strip()
    if not word:  # snmpd ends what it sets with an empty line
        continue
    if word == "PING":
        print("PONG", flush=True)
        continue
    oid = sys.stdin.readline().strip()
    if word == "set":
        print(write(sys.stdin.readline().strip()) if oid == f"{CONTROL}.7" else "not-writable", flush=True)
        continue
    if word == "getnext":
        oid = next((row for row in ROWS if row > oid), "")
    if oid not in ROWS:
        print("NONE", flush=True)
        continue
    settle()
    print(oid, "integer", power() if oid.endswith(".7") else 1, sep="\\n", flush=True)
'''


class PduPeer(FilePeer):
    """Outlet 7 of a power strip: net-snmp's agent with APC's tables, whose relay takes a second."""

    can = frozenset({STATE, ON, OFF})

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_port(socket.SOCK_DGRAM)
        secret(folder, "community", PASSWORD)
        (folder / "agent.py").write_text(AGENT)
        (folder / "snmpd.conf").write_text(
            textwrap.dedent(f"""\
            agentaddress udp:{LOOPBACK}:{self.port}
            rwcommunity {PASSWORD}
            rocommunity reader
            pass_persist .1.3.6.1.4.1.318.1.1.12 {sys.executable} {folder / "agent.py"}
            """)
        )

    @property
    def power(self) -> dict[str, Any]:
        return {
            "driver": "pdu",
            "address": LOOPBACK,
            "port": self.port,
            "outlet": 7,
            "communityFile": "community",
            "offSeconds": 2,
        }

    def put(self, *, on: bool) -> None:
        (self.folder / "moved").write_text("")
        super().put(on=on)

    def is_on(self) -> bool:
        last = (self.folder / "moved").read_text().split()[-1:]
        return last == ["1"] if last else super().is_on()

    def moves(self) -> list[tuple[float, str]]:
        """Return when the relay was told what."""
        lines = (line.split() for line in (self.folder / "moved").read_text().splitlines())
        return [(float(when), on) for when, on in lines]

    @contextmanager
    def serving(self) -> Iterator["PduPeer"]:
        argv = ("snmpd", "-f", "-Le", "-C", "-c", "snmpd.conf", "-I", "-smux,mteTrigger,mteTriggerConf")
        with running(argv, self.folder, SNMP_PERSISTENT_DIR=str(self.folder / "persistent"), MIBS=""):
            assert wait_until(lambda: udp_is_open(self.port), START_SECONDS), (
                self.folder / "output"
            ).read_text()
            yield self
