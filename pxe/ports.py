"""Which process holds a UDP port, read from /proc: the question after every 'address already in use'."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
SERVED = (67, 69, 4011)  # DHCP (RFC 2131), TFTP (RFC 1350), PXE's boot server port
_SOCKET = re.compile(r"socket:\[(\d+)\]")
_INODE_COLUMN = 9
LONGEST_COMMAND = 120


@dataclass(frozen=True)
class Holder:
    """A process that has one of the sockets asked for."""

    pid: int
    command: str

    def __str__(self) -> str:
        """Return what an operator looks for in `ps`."""
        return f"pid {self.pid} ({self.command})"


def inodes_of(table: str, ports: Collection[int]) -> frozenset[int]:
    """Return the inodes of the sockets on `ports` in the text of /proc/net/udp; pure."""
    rows = (line.split() for line in table.splitlines()[1:])
    return frozenset(int(row[_INODE_COLUMN]) for row in rows if int(row[1].rpartition(":")[2], 16) in ports)


def holders(inodes: frozenset[int]) -> tuple[Holder, ...]:
    """Return the processes that have a socket with one of these inodes open, by pid."""
    found = [pid for pid in _pids() if not inodes.isdisjoint(_socket_inodes(pid))] if inodes else []
    return tuple(Holder(pid, command_of(pid)) for pid in sorted(found))


def holders_of_ports(ports: Collection[int] = SERVED) -> tuple[Holder, ...]:
    """Return the processes of this network namespace that hold one of the UDP `ports`."""
    inodes: set[int] = set()
    for name in ("udp", "udp6"):
        table = PROC / "self" / "net" / name
        inodes |= inodes_of(table.read_text(), ports) if table.exists() else frozenset()
    return holders(frozenset(inodes))


def descriptors_on(pid: int, ports: Collection[int]) -> tuple[int, ...]:
    """Return the descriptors of `pid` that are IPv4 UDP sockets on one of `ports`."""
    try:
        inodes = inodes_of((PROC / str(pid) / "net" / "udp").read_text(), ports)
        entries = [(int(entry.name), str(entry.readlink())) for entry in (PROC / str(pid) / "fd").iterdir()]
    except OSError:  # it ended, or is not ours to look into
        return ()
    matches = ((number, _SOCKET.fullmatch(target)) for number, target in entries)
    return tuple(number for number, match in matches if match and int(match[1]) in inodes)


def arguments_of(pid: int) -> tuple[str, ...]:
    """Return the command line of `pid` as a tuple; empty if it is gone or a zombie."""
    try:
        raw = (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return ()
    return tuple(part.decode(errors="replace") for part in raw.split(b"\0")[:-1])


def command_of(pid: int) -> str:
    """Return the command line of `pid` for people, shortened."""
    text = " ".join(arguments_of(pid)) or "gone"
    return text if len(text) <= LONGEST_COMMAND else text[: LONGEST_COMMAND - 1] + "…"


def processes_with(argument: str, program: str = "dnsmasq") -> tuple[int, ...]:
    """Return the pids of processes of `program` that were started with exactly this argument."""
    commands = ((pid, arguments_of(pid)) for pid in _pids())
    return tuple(
        sorted(pid for pid, command in commands if argument in command and Path(command[0]).name == program)
    )


def _pids() -> Iterable[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]


def _socket_inodes(pid: int) -> frozenset[int]:
    folder = PROC / str(pid) / "fd"
    found = set()
    try:
        for entry in folder.iterdir():
            if match := _SOCKET.fullmatch(str(entry.readlink())):
                found.add(int(match[1]))
    except OSError:  # it ended, or is not ours to look into
        return frozenset(found)
    return frozenset(found)
