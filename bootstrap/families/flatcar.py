"""Flatcar Container Linux: its PXE image runs from RAM until told to install."""

from bootstrap.families import CONFIG, DISK, IMAGE, LiveBoot, Maker, OSFamily
from bootstrap.gpu.rows import Route, Source
from bootstrap.render.ignition import Node, file
from bootstrap.render.network import FOREIGN_ROUTES, networkd, timesyncd


def live_args(boot: LiveBoot) -> tuple[str, ...]:
    """Return the kernel arguments of the PXE image.

    Never `first_boot=detected`: a live system has no disk to detect its first boot on, and skips Ignition.
    """
    return ("flatcar.first_boot=1", *boot.shared_args)


def drivers(source: Source) -> tuple[Node, ...]:
    """Return the file that names the extension with the driver, or the version that nvidia.service compiles.

    flatcar.org, "Using NVIDIA GPUs on Flatcar".
    """
    if source.route is Route.SYSEXT:
        return (file("/etc/flatcar/enabled-sysext.conf", "".join(f"{name}\n" for name in source.names)),)
    return (file("/etc/flatcar/nvidia-metadata", f"NVIDIA_DRIVER_VERSION={source.version}\n"),)


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
    takes_names_that_begin=True,
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
    drivers=drivers,
    # Its containerd reads a file below /usr, which cannot be written, unless told otherwise; and the extension with
    # NVIDIA's runtime (flatcar/sysext-bakery 07f89f63, nvidia-runtime.sysext, 10-nvidia.conf) tells it one of its own.
    # Ours comes after it. Before 3815.2.0 the program was torcx's.
    container_files={
        "/etc/systemd/system/containerd.service.d/90-firstlight.conf": (
            "[Service]\n"
            "Environment=CONTAINERD_CONFIG=/etc/containerd/config.toml\n"
            "ExecStart=\n"
            "ExecStart=/bin/sh -c 'PATH=/run/torcx/unpack/docker/bin:$$PATH; "
            "exec containerd --config /etc/containerd/config.toml'\n"
        )
    },
)
