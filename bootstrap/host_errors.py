"""What can go wrong on the way to a control-plane host and on it: each one a clear line with its remedy."""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from bootstrap.errors import HostError, printable
from bootstrap.model.kubernetes import Host

AGAIN = "then run this again: it goes on where it was"


class HostDown(HostError):  # noqa: N818  # reads as a sentence where it is raised
    """Nothing answers at the host's address."""


class HostRefuses(HostError):  # noqa: N818
    """The host is there and has no SSH server at that port."""


class KeyChanged(HostError):  # noqa: N818
    """The host shows another key than the known one."""


class UnknownKey(HostError):  # noqa: N818
    """The host's key is not known, and nobody was there to confirm it."""


class LoginRefused(HostError):  # noqa: N818
    """The host takes none of the operator's keys."""


class NoSudo(HostError):  # noqa: N818
    """The user may not become root without a password."""


class TimedOut(HostError):  # noqa: N818
    """The host is there and does not get done."""


class ConnectionLost(HostError):  # noqa: N818
    """The connection broke while something was under way."""


class DiskFull(HostError):  # noqa: N818
    """There is no room on the host."""


class Locked(HostError):  # noqa: N818
    """Somebody else works on the host."""


class Foreign(HostError):  # noqa: N818
    """Something stands in our place on the host that is not ours."""


class Unsupported(HostError):  # noqa: N818
    """The host's hardware or operating system is none that we know."""


class StepFailed(HostError):  # noqa: N818
    """Something on the host did not do what it should."""


@dataclass(frozen=True)
class Known:
    """The key that we know of a host, and the file where it is written down; None if the configuration has it."""

    key: str
    file: Path | None = None

    @property
    def where(self) -> str:
        """Return where a person finds it."""
        return str(self.file) if self.file else "controlPlane.hosts of the configuration"

    @property
    def remedy(self) -> str:
        """Return what to do when the host was really given a new key."""
        return f"remove {self.file}" if self.file else "write its new key as hostKey there"


def fingerprint(key: str) -> str:
    """Return the fingerprint of a public key line, as `ssh-keygen -l` shows it (SHA-256, base64 without padding)."""
    try:
        blob = base64.b64decode(key.split()[1], validate=True)
    except (IndexError, binascii.Error):
        return "(no key)"
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def place_of(host: Host) -> str:
    """Return how an error names a host."""
    return f"host {host.name} ({host.user}@{host.address} port {host.port})"


def unknown_key(host: Host, offered: str) -> str:
    """Return the line about a first contact that nobody confirmed."""
    return (
        f"{place_of(host)}: its key is not known yet; compare {fingerprint(offered)} with `ssh-keygen -lf "
        f"{_key_path(offered)}` on its console, then write below controlPlane.hosts, {host.name}: "
        f'hostKey: "{offered}"'
    )


def key_changed(host: Host, known: Known, offered: str | None) -> KeyChanged:
    """Return the error about a host that shows `offered` (None: it could not be seen) instead of the known key."""
    shown = fingerprint(offered) if offered else "a key of another type"
    return KeyChanged(
        host.name,
        f"{place_of(host)} has another key than the known one: known {fingerprint(known.key)} (in {known.where}), "
        f"shown {shown}; nothing was changed. If the host was installed anew, {known.remedy}; if not, somebody "
        "stands between you and it",
    )


def timed_out(host: Host, what: str, seconds: float) -> str:
    """Return the line about something that took too long."""
    return f"{place_of(host)}: {what} took longer than {seconds:.0f} s; look at the host (`dmesg`, `uptime`), {AGAIN}"


def is_key_trouble(stderr: str) -> bool:
    """Return whether the OpenSSH client refused the host's key."""
    return bool(_KEY_TROUBLE.search(stderr))


def from_ssh(host: Host, stderr: str) -> HostError:
    """Return what an OpenSSH client that gave up (exit code 255) means by its stderr."""
    line = _last_line(stderr) or "no answer any more"
    for pattern, kind, advice in _MEANINGS:
        if pattern.search(stderr):
            return kind(host.name, f"{place_of(host)} {advice.format(user=host.user)} ({line})")
    return ConnectionLost(
        host.name, f"{place_of(host)}: the connection broke ({line}); look whether the host is up, {AGAIN}"
    )


def from_sudo(host: Host, code: int, stderr: str) -> NoSudo | None:
    """Return the error if `stderr` is sudo's refusal; None if a command failed for another reason."""
    if host.user == "root" or code == 0 or not _SUDO.search(stderr):
        return None
    return NoSudo(
        host.name,
        f"{place_of(host)}: {host.user} may not run sudo without a password ({_last_line(stderr)}); write "
        f"`{host.user} ALL=(ALL) NOPASSWD: ALL` into /etc/sudoers.d/firstlight there, or set its `user` to root",
    )


def _key_path(key: str) -> str:
    kind = key.split(maxsplit=1)[0]
    names = {"ssh-rsa": "rsa", "ssh-ed25519": "ed25519"}
    return f"/etc/ssh/ssh_host_{names.get(kind, 'ecdsa')}_key.pub"


def _last_line(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return printable(lines[-1]) if lines else ""


_KEY_TROUBLE = re.compile(
    r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key verification failed|no matching host key type"
)
_SUDO = re.compile(r"^sudo: |sudo: (command )?not found|is not in the sudoers file", re.MULTILINE)
_MEANINGS: tuple[tuple[re.Pattern[str], type[HostError], str], ...] = (
    (
        re.compile(r"Connection refused"),
        HostRefuses,
        "refuses the connection: start its SSH server, or set its `port` below controlPlane.hosts",
    ),
    (
        re.compile(
            r"Connection timed out|No route to host|Network is unreachable|Host is down|Could not resolve"
        ),
        HostDown,
        "does not answer: is it switched on, and is its `address` below controlPlane.hosts right?",
    ),
    (
        re.compile(r"Permission denied|Too many authentication failures|Load key|UNPROTECTED PRIVATE KEY"),
        LoginRefused,
        "lets nobody in with your keys: put your public key into ~{user}/.ssh/authorized_keys there",
    ),
)
