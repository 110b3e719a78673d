"""Reads the whole mirror again: every file against the lock, every signature against the maker's keys."""

from pathlib import Path

from bootstrap.errors import FirstlightError, MirrorError
from bootstrap.mirror import files, lock, signature
from bootstrap.mirror.item import SIGNATURE
from bootstrap.mirror.lock import Entry, Lock
from bootstrap.mirror.pull import is_whole
from bootstrap.model import Mirror
from bootstrap.progress import Progress


def problems(folder: Path, mirror: Mirror, base: Path, progress: Progress) -> tuple[str, ...]:
    """Return what is wrong in the mirror's `folder`, a line each; none if all is as it was fetched.

    Relative paths in `mirror` begin at `base`. Signatures are checked where the configuration names keys.

    Raises:
        MirrorError: the lock is damaged, or there is none.
    """
    known = lock.read(folder)
    if not known.entries:
        raise MirrorError(f"{folder} is no mirror: it has no {lock.NAME}; run mirror pull")
    found = []
    for number, entry in enumerate(known.entries.values()):
        progress("reading the mirror", number, len(known.entries))
        found += [line for line in (_wrong(folder, entry, mirror, base),) if line is not None]
    return (*found, *_strays(folder, known))


def _wrong(folder: Path, entry: Entry, mirror: Mirror, base: Path) -> str | None:
    path = files.place(folder, entry.path)
    if not path.is_file():
        return f"{path} is missing; run mirror pull"
    if not is_whole(folder, entry):
        return f"{path} is damaged or another file: its sha256 is not {entry.sha256}; run mirror pull"
    keys = {"flatcar": mirror.keys.flatcar, "fedora-coreos": mirror.keys.fedora_coreos}
    given = keys.get(entry.key.partition("/")[0])
    if entry.signer is None or given is None:
        return None
    try:
        signature.signer(f"{path}", path, files.place(folder, entry.path + SIGNATURE), base / given)
    except FirstlightError as error:
        return f"{error}".removesuffix("; it was thrown away")
    return None


def _strays(folder: Path, known: Lock) -> tuple[str, ...]:
    """Return a line for each file that no pull has brought; nothing reads it."""
    paths = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if not path.is_dir())
    own = {lock.NAME, *known.entries}
    return tuple(
        f"{folder / path} is not in {lock.NAME}; remove it, or run mirror pull if that was cut"
        for path in paths
        if path not in own and not path.startswith(f"{lock.PARTS}/")
    )
