"""The Ignition documents of one machine: the live system that installs it, and the installed system."""

from bootstrap import families, rooms
from bootstrap.families import Maker, OSFamily
from bootstrap.gpu.images import driver_of
from bootstrap.model import Cluster, Machine, Pool
from bootstrap.render import ignition, node
from bootstrap.render.node import Joining
from bootstrap.templates import read

_CA_PATH = "/etc/firstlight/provisioning-ca.crt"
_SLEEP_TARGETS = ("hibernate.target", "hybrid-sleep.target", "sleep.target", "suspend.target")


_MAKER = (ignition.file("/opt/firstlight/maker", read("installer/maker")),)
"""How a family's own installer is run; the installer's functions are used by it."""


def family_of(pool: Pool) -> OSFamily:
    """Return the operating system family of `pool`.

    Raises:
        UnknownChoice: no file in the families' room has that name.
    """
    return rooms.load(families, pool.os.family, OSFamily, where=f"pools.{pool.name}.os.family")


def discovery_document(cluster: Cluster, ca: bytes) -> bytes:
    """Return what the live system of a machine that nobody listed reads: it looks at itself, tells, and waits.

    It is the same for all of them: each learns its MAC address from the kernel's command line.
    """
    task = {"cluster": cluster.metadata.name, "server": cluster.secure_url}
    # One that is accepted goes on to install, by a maker's installer if its pool's family has one.
    has_makers = any(family_of(pool).maker for pool in cluster.pools)
    return ignition.document(
        files=(
            *(_MAKER if has_makers else ()),
            ignition.file(_CA_PATH, ca),
            ignition.file("/etc/firstlight/install.json", ignition.json_bytes(task)),
            ignition.file("/opt/firstlight/install", read("installer/install"), mode=0o755),
            ignition.file("/opt/firstlight/discover", read("installer/discover"), mode=0o755),
        ),
        units=(_own_unit("firstlight-install.service"),),
    )


def live_document(cluster: Cluster, machine: Machine, ca: bytes) -> bytes:
    """Return what the live system of `machine` reads, on plain HTTP: its task, the CA, the installer.

    `ca` is the provisioning CA's certificate in PEM: everything after this is asked over TLS with it.
    """
    pool = cluster.pool(machine.pool)
    family = family_of(pool)
    starts_itself = family.starts_installer
    return ignition.document(
        files=(
            *(_MAKER if family.maker else ()),
            ignition.file(_CA_PATH, ca),
            ignition.file(
                "/etc/firstlight/install.json", ignition.json_bytes(installer_task(cluster, machine))
            ),
            ignition.file("/opt/firstlight/install", read("installer/install"), mode=0o755),
        ),
        units=() if starts_itself else (_own_unit("firstlight-install.service"),),
    )


def installed_document(
    cluster: Cluster, machine: Machine, ca: bytes, joining: Joining | None = None
) -> bytes:
    """Return what the installed system of `machine` reads, once, before its first start.

    With `joining` it becomes a node of the cluster; without, it is installed and left at that.
    """
    pool = cluster.pool(machine.pool)
    family = family_of(pool)
    keys, driver = cluster.ssh.authorized_keys, driver_of(pool)
    return ignition.document(
        files=(
            *_identity(cluster, machine, ca),
            ignition.file("/etc/ssh/sshd_config.d/10-firstlight.conf", read("systemd/sshd.conf")),
            ignition.file("/etc/sudoers.d/50-firstlight", "core ALL=(ALL) NOPASSWD: ALL\n", mode=0o440),
            ignition.file("/opt/firstlight/report", read("installer/report"), mode=0o755),
            *family.network(machine),
            *family.time(_time_servers(cluster)),
            *family.files,
            *family.kernel_arguments(pool.kernel_args),
            *(family.drivers(driver) if driver else ()),
            *(node.installed_files(cluster, machine, joining) if joining else ()),
        ),
        kernel_arguments=pool.kernel_args if family.ignition_arguments else (),
        units=(
            *(ignition.enabled(name) for name in family.enabled if joining),
            *(ignition.masked(name) for name in (*_SLEEP_TARGETS, *family.masked)),
            _own_unit("firstlight-report.service"),
            *(node.installed_units() if joining else ()),
        ),
        users=(
            ignition.user("core", keys, groups=family.core_groups),
            ignition.user("root", keys),
        ),
    )


def _identity(cluster: Cluster, machine: Machine, ca: bytes) -> tuple[ignition.Node, ...]:
    """Return the files that say which machine this is, and of which cluster."""
    domain = cluster.appliance.domain
    hosts = f"127.0.0.1 localhost\n127.0.1.1 {machine.name}.{domain} {machine.name}\n::1 localhost\n"
    return (
        ignition.file("/etc/hostname", f"{machine.name}\n"),
        ignition.file("/etc/hosts", hosts),
        ignition.file(_CA_PATH, ca),
        ignition.file("/etc/firstlight/machine.json", ignition.json_bytes(_facts(cluster, machine))),
    )


def _facts(cluster: Cluster, machine: Machine) -> dict[str, object]:
    """Return who `machine` is and where its appliance answers."""
    return {
        "cluster": cluster.metadata.name,
        "machine": machine.name,
        "pool": machine.pool,
        "mac": machine.mac,
        "server": cluster.secure_url,
    }


def installer_task(cluster: Cluster, machine: Machine) -> dict[str, object]:
    """Return the installer's settings; sizes are in bytes."""
    disk = cluster.disk_of(machine)
    select = disk.select.model_dump(by_alias=True, exclude_none=True)
    task = _facts(cluster, machine)
    task["disk"] = {"select": select, "wipe": list(disk.wipe)}
    task["ntp"] = list(_time_servers(cluster))
    if maker := family_of(cluster.pool(machine.pool)).maker:
        task["maker"] = _maker_task(maker)
    return task


def _maker_task(maker: Maker) -> dict[str, object]:
    """Return how the family's own installer is run, and the name that it wants the image to have."""
    task: dict[str, object] = {"command": list(maker.command), "image": maker.image}
    return task | ({"takesNamesThatBegin": True} if maker.takes_names_that_begin else {})


def _time_servers(cluster: Cluster) -> tuple[str, ...]:
    """Return the time servers as text, in the order of the configuration."""
    return tuple(str(server) for server in cluster.appliance.ntp)


def _own_unit(name: str) -> ignition.Node:
    """Return the unit of ours called `name`, started at every boot."""
    return ignition.unit(name, read(f"systemd/{name}"), enabled=True)
