"""What a person does after the computer of the appliance is lost: `restore`, and etcd by the steps that it prints."""

import shlex
import subprocess

from tests.system.spine import Site

HOST = "m1"
STEP = " " * 5
"""How a command begins among the printed steps."""
SCP_SECONDS = 60


def backup_of(site: Site) -> str:
    """Return where the backup of a site is written, outside of its work folder."""
    return str(site.deploy / f"{site.name}.tar.gz")


def keys_of(site: Site) -> dict[str, bytes]:
    """Return every key and certificate of the work folder by its path in it; there are some."""
    found = {str(path): path.read_bytes() for path in (site.work / "pki").rglob("*") if path.is_file()}
    assert found
    return found


def restored(site: Site, backup: str) -> str:
    """Restore `backup` over what is there, and return what was printed; the virtual rack stays as it is."""
    done = site.run("restore", backup, "--force", timeout=120)
    assert done.code == 0, done.err
    return done.err


def bring_etcd_back(site: Site, printed: str) -> None:
    """Do the printed steps, of a cluster with one member, as they stand there."""
    commands = [line.strip() for line in printed.splitlines() if line.startswith(STEP)]
    assert {"systemctl", "scp", "mv", "python3"} <= {command.split()[0] for command in commands}, printed
    for command in commands:
        match command.split():
            case ["scp", *_]:
                _copy(site, command)
            case ["python3", "deploy.py", *words]:
                done = site.run(*words)
                assert done.code == 0, done.err
            case _:
                site.in_machine(HOST, "sh", "-c", command)


def _copy(site: Site, command: str) -> None:
    program, *words = shlex.split(command)
    key, known = site.work / "lab/id_ed25519", site.work / "known_hosts" / HOST
    options = ("-i", str(key), "-o", f"UserKnownHostsFile={known}", "-o", "BatchMode=yes")
    argv = ("ip", "netns", "exec", site.namespace, program, *options, *words)
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=SCP_SECONDS)
    assert done.returncode == 0, done.stderr
