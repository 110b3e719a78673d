"""What a machine's GPU driver is to be: that of its pool, or one that it keeps or was set back to (gpu upgrade)."""

from collections.abc import Sequence
from typing import Any

from bootstrap.gpu.choosing import Choice, offered
from bootstrap.gpu.images import driver_of, in_image
from bootstrap.gpu.machine import judged
from bootstrap.gpu.rows import Source
from bootstrap.model import Pool
from bootstrap.records.gpus import kept_by
from bootstrap.records.model import MachineRecord
from web.images import Images


def row_of(pool: Pool, title: str) -> Source | None:
    """Return the row of the driver called `title` on the pool's system; None if there is none."""
    rows = offered(pool.os.family, pool.os.release)
    return next((row for row in rows if row.title == title), None)


def answer_to(pool: Pool, record: MachineRecord | None, devices: Sequence[str]) -> dict[str, Any] | None:
    """Return the driver that a node with these GPUs is to have, as it is told; None if that is not known.

    One that its machine keeps, or was set back to, goes before that of the pool.
    """
    found = judged(pool, devices)
    if not isinstance(found, Choice):
        return None
    kept = [row for title in (kept_by(record) if record else ()) if (row := row_of(pool, title))]
    row = kept[0] if kept else found.source
    return {
        "branch": row.branch,
        "flavour": str(row.flavour),
        "route": str(row.route),
        "names": list(row.names),
    }


def target_of(images: Images, pool: Pool) -> dict[str, Any] | None:
    """Return what the nodes of `pool` are to run by now; None without a driver.

    With a driver in the image it is that of the image which machines install from, which may be an earlier one than
    `planned`, the pool's, until that is built; `image` is empty if there is none.
    """
    source = driver_of(pool)
    if source is None:
        return None
    image = images(pool) if in_image(pool) else None
    return {
        "route": str(source.route),
        "planned": source.title,
        "driver": image.driver if image else source.title,
        "names": list(source.names),
        "checkInterval": pool.gpu.check_interval if pool.gpu else 0,
        "version": image.driver_version if image else "",
        "kernel": image.kernel_version if image else "",
        "image": image.key if image else "",
    }
