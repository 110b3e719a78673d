"""What an installed machine says of itself, asked in one connection: under emulation each costs seconds."""

from collections.abc import Mapping

from tests.system.spine import Site

ASLEEP = ("sleep.target", "suspend.target", "hibernate.target", "hybrid-sleep.target")
LOOKS = {
    "hostname": "hostname",
    "disk": "lsblk --noheadings --nodeps --output SERIAL /dev/vda",
    "root": "findmnt --noheadings --output SOURCE /",
    "bytes": "findmnt --bytes --noheadings --output SIZE /",
    "with a password": "awk -F: '$2 !~ /^[!*]/ {print $1}' /etc/shadow",
    "sshd": "sshd -T",
    "asleep": f"systemctl is-enabled {' '.join(ASLEEP)} || true",
    "time": "systemctl is-enabled systemd-timesyncd.service",
    "containerd": "containerd --version",
    "cni": "ls /usr/lib/cni",
    "failed": "systemctl list-units --failed --plain --no-legend",
}
MARK = "== "


def looks(site: Site, name: str, commands: Mapping[str, str] = LOOKS) -> dict[str, str]:
    """Return what each command prints on the machine, by the command's name; one that fails ends with `exit N`."""
    script = "\n".join(
        f"echo; echo '{MARK}{key}'; {command} || echo \"exit $?\"" for key, command in commands.items()
    )
    _, *parts = f"\n{site.in_machine(name, 'sh', '-c', script)}".split(f"\n{MARK}")
    found = dict(part.partition("\n")[::2] for part in parts)
    assert found.keys() == commands.keys()
    return {key: text.strip() for key, text in found.items()}
