"""Verbs about operating system images: image build, image list."""

import click

from bootstrap import artifacts, steps
from bootstrap.cli.main import Call
from bootstrap.cli.results import emit, stderr
from bootstrap.cli.run import require_root
from bootstrap.cli.screen import Screen

HEADINGS = ("FAMILY", "RELEASE", "KERNEL", "FILE", "SIZE", "SHA256")
MEBIBYTE = 1024 * 1024


@click.group()
def image() -> None:
    """Build or list operating system images."""


@image.command()
@click.pass_obj
def build(call: Call) -> None:
    """Build the Debian images that the configured pools need, and take those of other families from the mirror.

    Does nothing for images that are there.
    """
    cluster = call.cluster()
    require_root("image build")
    place = call.place(cluster)
    with place.locked():
        run = steps.Run(
            configs=call.paths(), place=place, cluster=cluster, reporter=Screen(stderr(), total=1)
        )
        steps.build_images(run)


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
            "key": manifest.key,
            "file": name,
            "size": item.size,
            "sha256": item.sha256,
        }
        for manifest, name, item in found
    ]
    cells = [
        (m.family, m.release, m.kernel_flavour, name, f"{item.size / MEBIBYTE:.1f} MiB", item.sha256)
        for m, name, item in found
    ]
    emit(call.output, data, HEADINGS, cells)


def files(manifest: artifacts.Manifest) -> list[tuple[str, artifacts.Artifact]]:
    """Return the files of an image by what they are for."""
    return list(manifest.parts.items())
