"""Debian, built by us from its packages; its live system is our initrd, which runs the installer."""

from bootstrap.families import LiveBoot, OSFamily
from bootstrap.render.ignition import Node, file
from bootstrap.render.network import FOREIGN_ROUTES, networkd, timesyncd


def live_args(boot: LiveBoot) -> tuple[str, ...]:
    """Return the kernel arguments of our initrd; BOOTIF names the card as PXELINUX does (type 01)."""
    return (
        "boot=firstlight",
        "ip=dhcp",
        f"BOOTIF=01-{boot.mac.replace(':', '-')}",
        "ignition.platform.id=metal",
        *boot.shared_args,
    )


def kernel_arguments(words: tuple[str, ...]) -> tuple[Node, ...]:
    """Return the file that the image's grub.cfg sources; the words hold nothing that GRUB would interpret."""
    text = f'set arguments="{" ".join(words)}"\n'
    return (file("/boot/grub/arguments.cfg", text),) if words else ()


PLUGIN = OSFamily(
    title="Debian",
    live_args=live_args,
    starts_installer=True,
    network=networkd,
    time=timesyncd,
    core_groups=("adm", "sudo", "systemd-journal"),
    kernels=("cloud", "server"),
    kernel_arguments=kernel_arguments,
    authorities="/etc/ssl/certs/firstlight-provisioning.pem",  # the folder is in our initrd, and Go reads all of it
    files=(FOREIGN_ROUTES,),
    cni_plugins="/usr/lib/cni",
    has_cni_plugins=True,
)
