"""Verbs about operating system images: image build, image list."""

import click

from bootstrap import artifacts, steps
from bootstrap.cli.main import Call
from bootstrap.cli.results import emit, stderr
from bootstrap.cli.run import EXIT_PARTLY, require_root
from bootstrap.cli.screen import Screen

HEADINGS = ("FAMILY", "RELEASE", "KERNEL", "DRIVER", "FILE", "SIZE", "SHA256")
MEBIBYTE = 1024 * 1024


@click.group()
def image() -> None:
    """Build or list operating system images."""


@image.command()
@click.option(
    "--update",
    is_flag=True,
    help="Build images with a GPU driver anew if Debian has another kernel or driver.",
)
@click.pass_obj
def build(call: Call, *, update: bool) -> int:
    """Build the Debian images that the configured pools need, and take those of other families from the mirror.

    Fetches iPXE loaders that are configured by URL, too. Does nothing for what is there.
    Where a driver does not build, an earlier image stays in use, the others are built, and the exit code is 3.
    """
    cluster = call.cluster()
    require_root("image build")
    place = call.place(cluster)
    with place.locked():
        run = steps.Run(
            configs=call.paths(), place=place, cluster=cluster, reporter=Screen(stderr(), total=1)
        )
        return EXIT_PARTLY if steps.build_images(run, update=update).stays else 0


@image.command("list")
@click.pass_obj
def list_(call: Call) -> None:
    """Show the images in the cache with the size and sha256 of each file. Changes nothing."""
    place = call.place(call.cluster())
    found = [
        (manifest, name, item)
        for manifest in artifacts.manifests(place.cache)
        for name, item in files(manifest)
    ]
    data = [
        {
            "family": manifest.family,
            "release": manifest.release,
            "kernel": manifest.kernel_flavour,
            "driver": manifest.driver_version,
            "key": manifest.key,
            "file": name,
            "size": item.size,
            "sha256": item.sha256,
        }
        for manifest, name, item in found
    ]
    cells = [
        (
            m.family,
            m.release,
            m.kernel_flavour,
            m.driver_version or "-",
            name,
            f"{item.size / MEBIBYTE:.1f} MiB",
            item.sha256,
        )
        for m, name, item in found
    ]
    emit(call.output, data, HEADINGS, cells)


def files(manifest: artifacts.Manifest) -> list[tuple[str, artifacts.Artifact]]:
    """Return the files of an image by what they are for."""
    return list(manifest.parts.items())
