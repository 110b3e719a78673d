"""Fedora CoreOS: its live system fetches its root filesystem as a third file."""

from bootstrap.errors import RenderError
from bootstrap.families import LiveBoot, OSFamily
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
    cni_plugins="/usr/libexec/cni",
)
