"""Volumes on an NFS server: a folder for each claim, and volumes whose folders are there already."""

import json
from collections.abc import Iterable, Iterator

from bootstrap.addons import Addon, Asked, Image, Object, rendered, tolerations
from bootstrap.model.addons import NfsProvisioner, NfsVolume

PROVISIONER = "firstlight/nfs"
"""What the storage class and the program call each other by."""
# Digest: what kubelets of several public clusters say that they pulled under this tag.
IMAGE = Image(
    "registry.k8s.io/sig-storage/nfs-subdir-external-provisioner:v4.0.2",
    "sha256:63d5e04551ec8b5aae83b6f35938ca5ddc50a88d85492d9731810c31591fa4c9",
)
CLIENT = "nfs-common"
"""Debian's package with mount.nfs; kubelet calls it on the node."""
_PARAMETERS = {
    # The program's own words: `onDelete` wins where it is there, else `archiveOnDelete` counts.
    "archive": {"archiveOnDelete": "true"},
    "delete": {"onDelete": "delete"},
    "retain": {"onDelete": "retain"},
}


def images(minor: int) -> tuple[Image, ...]:
    """Return the image; it is the same for all minors."""
    del minor
    return (IMAGE,)


def documents(asked: Asked) -> Iterable[Object]:
    """Return the provisioner with its class, and the volumes."""
    given: NfsProvisioner = asked.options
    return rendered(
        "nfs-provisioner.yaml.j2",
        dynamic=given.dynamic,
        image=IMAGE.reference(asked.cluster),
        is_default=str(given.default_class).lower(),
        mount_options=json.dumps(_mount_options(given)),
        parameters=json.dumps(_PARAMETERS[given.on_delete]),
        path=json.dumps(given.path),
        provisioner=PROVISIONER,
        server=json.dumps(str(given.server)),
        storage_class=given.storage_class,
        tolerations=json.dumps(tolerations(asked.cluster)),
        volumes=[_volume(one) for one in given.volumes],
    )


def warnings(asked: Asked) -> Iterator[str]:
    """Yield why some nodes could not mount, and what an open export means."""
    export = asked.options.export
    if export is not None and not export.root_squash:
        yield (
            f"rootSquash: false on {export.host} makes root of any node root of all files of {asked.options.path}: "
            "who breaks out of one pod has the volumes of all"
        )
    packages = asked.cluster.images.debian.packages
    for pool in asked.cluster.pools:
        if pool.os.family == "debian" and CLIENT not in packages:
            yield (
                f"nodes of pool {pool.name} have no mount.nfs; write images: {{debian: {{packages: [{CLIENT}]}}}}"
            )


def _mount_options(given: NfsProvisioner) -> list[str]:
    """Return the options for mount(8); the type nfs4 is the old way to ask for version 4 (nfs(5))."""
    said = list(given.mount_options)
    names = {option.partition("=")[0] for option in said}
    is_four = given.fs_type == "nfs4" and not names & {"nfsvers", "vers"}
    return [*(["nfsvers=4"] if is_four else []), *said]


def _volume(one: NfsVolume) -> dict[str, str]:
    return {
        "mode": "ReadOnlyMany" if one.read_only else "ReadWriteMany",
        "name": one.name,
        "path": json.dumps(one.path),
        "read_only": str(one.read_only).lower(),
        "size": str(one.size),
    }


PLUGIN = Addon(title="volumes on an NFS server", documents=documents, images=images, warnings=warnings)
