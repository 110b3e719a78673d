"""ONE FILE PER OPERATING SYSTEM: what differs between them, and only that."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bootstrap.gpu.rows import Source
from bootstrap.model import Machine
from bootstrap.render.ignition import Node


@dataclass(frozen=True, kw_only=True)
class LiveBoot:
    """One network boot of the live system that installs a machine.

    `mac` is in lower case with colons; `base_url` is the appliance's, by HTTP or by HTTPS; `arm` the id of the
    installation; `rootfs_url` the third file of families that have one; `extra` the pool's kernel arguments.
    """

    mac: str
    base_url: str
    arm: str
    rootfs_url: str | None = None
    extra: tuple[str, ...] = ()

    @property
    def config_url(self) -> str:
        """Return where the live system fetches its Ignition document: nothing secret is in it."""
        return f"{self.base_url}/v1/ignition/{self.mac.replace(':', '-')}"

    @property
    def shared_args(self) -> tuple[str, ...]:
        """Return the kernel arguments that every family's live system gets, the pool's own last."""
        return (
            f"ignition.config.url={self.config_url}",
            f"firstlight.arm={self.arm}",
            "console=tty0",
            "console=ttyS0,115200",
            "panic=30",
            *self.extra,
        )


DISK, IMAGE, CONFIG = "@disk", "@image", "@config"
"""Places in the command line of a maker's installer: the chosen disk, the image's file, the machine's document."""


@dataclass(frozen=True, kw_only=True)
class Maker:
    """What a family takes from its maker: the files of a release, and the installer in its live system.

    `parts` are patterns (fnmatch) for the names of the release's files, by what they are for: kernel, initrd, disk
    and, where there is one, rootfs. `command` is the installer's command line, one word each, with DISK, IMAGE and
    CONFIG where those belong. `image` is the name that the installer wants the image's file to have. With
    `takes_names_that_begin` it looks for partitions by names that begin like the disk's: /dev/sda* has /dev/sdaa too.
    """

    parts: Mapping[str, str]
    command: tuple[str, ...]
    image: str
    takes_names_that_begin: bool = False


DISCOVER = "discover"
"""In place of the id of an installation: the live system only looks at the machine and waits."""


@dataclass(frozen=True, kw_only=True)
class OSFamily:
    """An operating system line: how its live system starts and what its installed system needs said.

    `live_args` gives the kernel arguments of the network boot, one word each. `starts_installer` is true
    where the live system runs our installer by itself; elsewhere a unit does. `network` gives the files that
    bring up the network card of a machine, `time` those that name its time servers. `masked` are units that
    must not run, mostly those that update the system on their own; `files` say the same where a unit is not
    enough. `core_groups` are what the user core is a member of; `kernels` the choices for `os.kernel`;
    `needs_rootfs` says that the image has a third file, fetched by the live system itself. `kernel_arguments`
    gives the files that hand a pool's kernel arguments to the installed system's boot loader; with
    `ignition_arguments` its own Ignition does that.

    `authorities` is a file of the live system's initrd whose certificates its programs trust, and that is not there
    before: iPXE puts our CA into it, and Ignition then takes its document by HTTPS. Empty: it takes it by HTTP.

    `maker` is set where image and installer are the maker's; without it the image is built by us and written by our
    installer. `enabled` are units of the system's own that must run on a node.

    `drivers` gives the files that tell the system which NVIDIA driver to bring by itself.

    `cni_plugins` is the folder of the CNI plugins: the system's own with `has_cni_plugins`, else one that they are
    brought to. `resolv_conf` is the file that names the real name servers, and `container_files` are texts by path
    that make containerd read its configuration in /etc.
    """

    title: str
    live_args: Callable[[LiveBoot], tuple[str, ...]]
    starts_installer: bool
    network: Callable[[Machine], tuple[Node, ...]]
    time: Callable[[tuple[str, ...]], tuple[Node, ...]]
    masked: tuple[str, ...] = ()
    files: tuple[Node, ...] = ()
    core_groups: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ("server",)
    needs_rootfs: bool = False
    kernel_arguments: Callable[[tuple[str, ...]], tuple[Node, ...]] = lambda _: ()
    authorities: str = ""
    drivers: Callable[[Source], tuple[Node, ...]] = lambda _: ()
    cni_plugins: str = "/opt/cni/bin"
    resolv_conf: str = "/run/systemd/resolve/resolv.conf"
    container_files: Mapping[str, str] = field(default_factory=dict)
    maker: Maker | None = None
    enabled: tuple[str, ...] = ()
    has_cni_plugins: bool = False
    ignition_arguments: bool = False
