"""Debian, built by us from its packages; its live system is our initrd, which runs the installer."""

from bootstrap.families import LiveBoot, OSFamily
from bootstrap.render.network import networkd, timesyncd


def live_args(boot: LiveBoot) -> tuple[str, ...]:
    """Return the kernel arguments of our initrd; BOOTIF names the card as PXELINUX does (type 01)."""
    return (
        "boot=firstlight",
        "ip=dhcp",
        f"BOOTIF=01-{boot.mac.replace(':', '-')}",
        "ignition.platform.id=metal",
        *boot.shared_args,
    )


PLUGIN = OSFamily(
    title="Debian",
    live_args=live_args,
    starts_installer=True,
    network=networkd,
    time=timesyncd,
    core_groups=("adm", "sudo", "systemd-journal"),
    kernels=("cloud", "server"),
)
