"""Fedora CoreOS: its live system fetches its root filesystem as a third file."""

from bootstrap.errors import RenderError
from bootstrap.families import CONFIG, DISK, IMAGE, LiveBoot, Maker, OSFamily
from bootstrap.render import ignition
from bootstrap.render.network import chrony, network_manager


def live_args(boot: LiveBoot) -> tuple[str, ...]:
    """Return the kernel arguments of the live system.

    Raises:
        RenderError: the image has no root filesystem URL.
    """
    if boot.rootfs_url is None:
        raise RenderError("fedora-coreos: the image has no root filesystem file")
    return (
        f"coreos.live.rootfs_url={boot.rootfs_url}",
        "ignition.firstboot",
        "ignition.platform.id=metal",
        "ip=dhcp",
        *boot.shared_args,
    )


# The live system's own service would choose the disk and fetch without our authority: it stays off, as no coreos.inst
# argument is given. --insecure: there is no signature beside the file; the mirror checked it, and the sum was compared.
MAKER = Maker(
    parts={
        "kernel": "*-live-kernel[.-]x86_64",
        "initrd": "*-live-initramfs.x86_64.img",
        "rootfs": "*-live-rootfs.x86_64.img",
        "disk": "*-metal.x86_64.raw.xz",
    },
    command=(
        *("coreos-installer", "install", "--insecure"),
        *("--image-file", IMAGE, "--ignition-file", CONFIG, DISK),
    ),
    image="fedora-coreos-metal.x86_64.raw.xz",
)

PLUGIN = OSFamily(
    title="Fedora CoreOS",
    live_args=live_args,
    starts_installer=False,
    network=network_manager,
    time=chrony,
    # Zincati updates and restarts the machine by itself; its own switch keeps `rpm-ostree upgrade` usable.
    files=(
        ignition.file("/etc/zincati/config.d/90-firstlight-no-updates.toml", "[updates]\nenabled = false\n"),
    ),
    needs_rootfs=True,
    maker=MAKER,
    ignition_arguments=True,
    enabled=("containerd.service",),
)
