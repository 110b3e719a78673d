"""The way into a machine of the lab: a key pair of the rack's own, and the OpenSSH client."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from bootstrap.disk import write_file
from bootstrap.errors import LabError
from certs.errors import CertsError
from certs.secret import Secret
from certs.ssh import new_ssh_key, public_line

COMMENT = "firstlight-lab"
CONNECT_SECONDS = 10
PORT = 22


def key_file(work: Path) -> Path:
    """Return where the private key is."""
    return work / "lab" / "id_ed25519"


def ensure_lab_key(work: Path) -> str:
    """Return the public key of the lab, one line without its end; the pair is made at the first call.

    Raises:
        LabError: the private key that is there is damaged.
    """
    return public_of(ensure_key(key_file(work)))


def ensure_key(private: Path) -> Secret:
    """Return the private key in the file `private`, which is made at the first call.

    Raises:
        LabError: what is there is no key.
    """
    if not private.is_file():
        private.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(private, new_ssh_key().reveal(), 0o600)
    key = Secret(private.read_bytes())
    try:
        public_of(key)
    except CertsError as error:
        raise LabError(f"{private}: {error}; remove it, and a new one is made") from error
    return key


def public_of(key: Secret) -> str:
    """Return the line that belongs to a private key, without its end."""
    return public_line(key, COMMENT)


def ssh_argv(
    *,
    key: Path,
    address: str,
    known_hosts: Path,
    command: Sequence[str] = (),
    user: str = "root",
    port: int = PORT,
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
    at = () if port == PORT else ("-p", str(port))
    remote = ("--", shlex.join(command)) if command else ()
    return ("ssh", "-F", "none", "-i", str(key), *flags, *at, f"{user}@{address}", *remote)
