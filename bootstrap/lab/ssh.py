"""The way into a machine of the lab: a key pair of the rack's own, and the OpenSSH client."""

import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bootstrap.errors import LabError

CONNECT_SECONDS = 10
KEYGEN_SECONDS = 30.0


def key_file(work: Path) -> Path:
    """Return where the private key is."""
    return work / "lab" / "id_ed25519"


def ensure_lab_key(work: Path) -> str:
    """Return the public key of the lab, one line without its end; the pair is made at the first call.

    Raises:
        LabError: there is no ssh-keygen, or it failed.
    """
    private = key_file(work)
    private.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not private.is_file():
        _make_pair(private)
    return _keygen("-y", "-f", str(private)).strip()


def _make_pair(private: Path) -> None:
    """Make the pair in a folder aside, and move the private half last: it is there whole, or not at all."""
    with tempfile.TemporaryDirectory(dir=private.parent, prefix=".key-") as folder:
        fresh = Path(folder) / private.name
        _keygen("-q", "-t", "ed25519", "-N", "", "-C", "firstlight-lab", "-f", str(fresh))
        fresh.with_suffix(".pub").replace(private.with_suffix(".pub"))
        fresh.replace(private)


def _keygen(*arguments: str) -> str:
    argv = ("ssh-keygen", *arguments)
    try:
        done = subprocess.run(
            argv,
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=KEYGEN_SECONDS,
        )
    except FileNotFoundError as error:
        text = "ssh-keygen is not installed; as root: apt-get install --no-install-recommends openssh-client"
        raise LabError(text) from error
    except subprocess.SubprocessError as error:
        said = getattr(error, "stderr", None) or str(error)
        raise LabError(f"ssh-keygen failed: {said.strip()}") from error
    return done.stdout


def ssh_argv(
    *, key: Path, address: str, known_hosts: Path, command: Sequence[str] = (), user: str = "root"
) -> tuple[str, ...]:
    """Return the command that runs `command` (none: a shell) at `address`, whose key `known_hosts` has.

    The user's own SSH configuration is not read: its proxies and agents lead out of the lab.
    """
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": str(CONNECT_SECONDS),
        "GlobalKnownHostsFile": "/dev/null",
        "IdentitiesOnly": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": f'"{known_hosts}"',
    }
    flags = (flag for name, value in options.items() for flag in ("-o", f"{name}={value}"))
    remote = ("--", shlex.join(command)) if command else ()
    return ("ssh", "-F", "none", "-i", str(key), *flags, f"{user}@{address}", *remote)
