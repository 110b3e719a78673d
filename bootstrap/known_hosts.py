"""The SSH host keys that machines reported over HTTPS, in the form that the OpenSSH client reads (sshd(8))."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bootstrap.disk import write_file

KEY = re.compile(r"(ssh-[a-z0-9-]+|ecdsa-sha2-[a-z0-9-]+) [A-Za-z0-9+/=]+")


def known_hosts(machine: Mapping[str, Any]) -> str:
    """Return a known_hosts line for each host key of `machine`; what is no key is left out, comments too."""
    found = (KEY.match(str(key)) for key in machine.get("sshHostKeys") or ())
    return "".join(f"{machine['address']} {match[0]}\n" for match in found if match)


def write_known_hosts(work: Path, machine: Mapping[str, Any]) -> Path:
    """Write the machine's known_hosts file below `work` and return it."""
    folder = work / "known_hosts"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / str(machine["name"])
    write_file(path, known_hosts(machine).encode(), 0o600)
    return path
