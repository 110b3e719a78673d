"""Everything that goes over a rack's bridge, and the secrets that must not be in it (T-01)."""

import base64
import re
import subprocess
import sys
import threading
from collections.abc import Collection, Mapping
from pathlib import Path

from tests.system.installed import looks
from tests.system.spine import Site

PROBE = b"firstlight-tap-4d1f77"
"""Sent over the wire by the test itself: a tap that does not find it has heard nothing."""
SCALAR = slice(
    36, 68
)  # of a P-256 key in PKCS #8 (RFC 5208, RFC 5915); what comes before is the same in each
DROPPED = re.compile(r"(\d+) packets? dropped by kernel")
START_SECONDS, END_SECONDS = 300.0, 30.0
BRIDGE = "fl0"
SHORTEST = 6  # bytes: by chance, a gigabyte holds one of a thousand such pieces once in 300 times
SAY = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as speaker:
    speaker.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    speaker.sendto(sys.argv[1].encode(), ("10.77.0.255", 9))
"""


class Tap:
    """tcpdump on the bridge, started as soon as the lab has one."""

    def __init__(self, site: Site, capture: Path) -> None:
        self.capture = capture
        self.dropped: int | None = None
        self._inside = ("ip", "netns", "exec", site.namespace)
        self._stop = threading.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tap", daemon=True)

    def start(self) -> None:
        """Wait for the bridge in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the capture; what it holds is whole afterwards."""
        if self._started.is_set():
            self._say_probe()
        self._stop.set()
        self._thread.join(START_SECONDS)

    def _run(self) -> None:
        while not self._has_bridge():
            if self._stop.wait(0.2):
                return
        # The files of the images make the most of it: room for what comes while the disk is slow.
        command = (*self._inside, "tcpdump", "-Z", "root", "-n", "-s", "0", "-B", "131072", "-i", BRIDGE)
        process = subprocess.Popen([*command, "-w", str(self.capture)], stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        process.stderr.readline()  # "listening on ..."
        self._started.set()
        self._stop.wait()
        process.terminate()
        said = process.communicate(timeout=END_SECONDS)[1]
        found = DROPPED.search(said)
        self.dropped = int(found[1]) if found else None

    def _has_bridge(self) -> bool:
        asked = subprocess.run(
            (*self._inside, "ip", "link", "show", BRIDGE), capture_output=True, check=False
        )
        return asked.returncode == 0

    def _say_probe(self) -> None:
        """Send a datagram to all on the network; tcpdump hands over what it has heard within a second."""
        subprocess.run(
            (*self._inside, sys.executable, "-c", SAY, PROBE.decode()), timeout=END_SECONDS, check=True
        )
        self._stop.wait(2)


def marks_of(key: bytes) -> frozenset[bytes]:
    """Return what the private part of a PEM or OpenSSH key looks like wherever it turns up.

    Also inside of a base64 text, as a kubeconfig holds whole PEM files.
    """
    lines = key.splitlines()[1:-1]
    raw = base64.b64decode(b"".join(lines))
    if b"OPENSSH" in key:
        return in_all_forms(_seed_of(raw))
    assert raw[SCALAR.start - 2 : SCALAR.start] == b"\x04\x20", "an octet string of 32 bytes"
    return in_all_forms(raw[SCALAR]) | forms_of(lines[0][48:64]) | forms_of(lines[1][:24])


def in_all_forms(secret: bytes) -> frozenset[bytes]:
    """Return the forms of both halves of 32 secret bytes: one is whole where a frame or a line ends in the other."""
    return forms_of(secret[:16]) | forms_of(secret[16:])


def forms_of(piece: bytes) -> frozenset[bytes]:
    """Return a piece as it is, in hexadecimal digits, and in base64 at each alignment."""
    # The first and the last characters of base64 also depend on what stands beside.
    texts = {base64.b64encode(bytes(lead) + piece)[4 if lead else 0 :].rstrip(b"=")[:-1] for lead in range(3)}
    return frozenset({piece, piece.hex().encode(), piece.hex().upper().encode(), *texts})


def _seed_of(raw: bytes) -> bytes:
    """Return the seed of an unencrypted Ed25519 key: it stands before the last copy of the public key."""
    public = raw[raw.index(b"ssh-ed25519") + 15 :][:32]
    end = raw.rindex(public)
    return raw[end - 32 : end]


def packets(capture: Path, rule: str) -> int:
    """Return how many packets of the file fit a rule of pcap-filter(7)."""
    command = ("tcpdump", "-n", "--count", "-r", str(capture), rule)
    counted = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return int(counted.split()[0])


def found_in(capture: Path, marks: Mapping[str, Collection[bytes]]) -> list[str]:
    """Return the names of the secrets of which a piece is in the file.

    grep goes through the file once for all of them; its patterns are lines, so that a piece is cut where it has one.
    """
    names = {line: name for name, pieces in marks.items() for piece in pieces for line in _lines_of(piece)}
    command = (
        "grep",
        "--text",
        "--only-matching",
        "--no-filename",
        "--fixed-strings",
        "--file=-",
        str(capture),
    )
    asked = subprocess.run(
        command, input=b"\n".join(names), env={"LC_ALL": "C"}, capture_output=True, check=False
    )
    assert asked.returncode in (0, 1), asked.stderr
    hit = {names[line] for line in asked.stdout.splitlines() if line in names}
    return [name for name in marks if name in hit]


def _lines_of(piece: bytes) -> list[bytes]:
    """Return the parts of a piece between line ends that are long enough to be nothing else; at least one is."""
    parts = [part for part in piece.split(b"\n") if len(part) >= SHORTEST]
    assert parts, piece
    return parts


def secrets_of(site: Site, machines: dict[str, tuple[str, ...]]) -> dict[str, frozenset[bytes]]:
    """Return the marks of all keys of the work folder, and of the given files of machines."""
    found = {}
    for file in (*site.work.rglob("*.key"), site.work / "lab" / "id_ed25519"):
        found[str(file.relative_to(site.work))] = marks_of(file.read_bytes())
    for name, paths in machines.items():
        for path, key in looks(site, name, {path: f"cat {path}" for path in paths}).items():
            found[f"{name}:{path}"] = marks_of(key.encode())
    return found
