"""Flatcar Container Linux: its PXE image runs from RAM until told to install."""

from bootstrap.families import CONFIG, DISK, IMAGE, LiveBoot, Maker, OSFamily
from bootstrap.render.network import FOREIGN_ROUTES, networkd, timesyncd


def live_args(boot: LiveBoot) -> tuple[str, ...]:
    """Return the kernel arguments of the PXE image.

    Never `first_boot=detected`: a live system has no disk to detect its first boot on, and skips Ignition.
    """
    return ("flatcar.first_boot=1", *boot.shared_args)


# flatcar-install unpacks a file by its name's end, and puts the document on the partition OEM, where the first boot
# from the disk finds it. It checks no signature of a local file: the mirror did, and the sum was compared.
MAKER = Maker(
    parts={
        "kernel": "flatcar_production_pxe.vmlinuz",
        "initrd": "flatcar_production_pxe_image.cpio.gz",
        "disk": "flatcar_production_image.bin.bz2",
    },
    command=("flatcar-install", "-d", DISK, "-f", IMAGE, "-i", CONFIG),
    image="flatcar_production_image.bin.bz2",
)

PLUGIN = OSFamily(
    title="Flatcar Container Linux",
    live_args=live_args,
    starts_installer=False,
    network=networkd,
    time=timesyncd,
    # update-engine fetches a new system, locksmithd restarts into it: when is the operator's to say.
    masked=("locksmithd.service", "update-engine.service"),
    files=(FOREIGN_ROUTES,),
    maker=MAKER,
    ignition_arguments=True,
    enabled=("containerd.service",),
    # Its containerd reads a file below /usr, which cannot be written, unless told otherwise.
    container_files={
        "/etc/systemd/system/containerd.service.d/10-firstlight.conf": (
            "[Service]\nEnvironment=CONTAINERD_CONFIG=/etc/containerd/config.toml\n"
        )
    },
)
