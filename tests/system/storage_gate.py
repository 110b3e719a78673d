r"""What a disk holds after a power cut, computed from the system calls of a process whose syncs failed.

Linux forgets what a failed fsync(2) could not write: the pages stay in the cache, marked clean, and the next
fsync of the same file succeeds without them ("fsyncgate", 2018). A process that reads its file sees the cache;
after the power cut the disk tells the truth. strace's injected EIO alone does not show this, since it skips
the call and leaves the pages dirty. So the calls are replayed here, page by page, as the kernel treats them:
a good sync copies a file's dirty pages to the disk, a bad one forgets that they are dirty.

Names (made, renamed, removed) are taken for durable at once; what is not synced never reaches the disk.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

PAGE = 4096
TRACED = "pwrite64,ftruncate,unlink,fsync,fdatasync"
_UNFINISHED = " <unfinished ...>"
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>")
_CALL = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+)(?: (E[A-Z]+).*)?$", re.DOTALL)
_WRITE = re.compile(r'\d+<([^>]*)>, "((?:\\x[0-9a-f]{2})*)", \d+, (\d+)$')
_FD = re.compile(r"\d+<([^>]*)>(?:, (\d+))?$")


@dataclass
class File:
    """One file: as the cache has it, which pages of it wait, and as the disk has it."""

    cache: bytearray = field(default_factory=bytearray)
    dirty: set[int] = field(default_factory=set)
    disk: bytearray = field(default_factory=bytearray)

    def write(self, offset: int, content: bytes) -> None:
        """Put `content` into the cache."""
        end = offset + len(content)
        self.cache.extend(bytes(max(0, end - len(self.cache))))
        self.cache[offset:end] = content
        self.dirty.update(range(offset // PAGE, (end + PAGE - 1) // PAGE))

    def truncate(self, size: int) -> None:
        """Cut or lengthen the file, on the disk as well."""
        for content in (self.cache, self.disk):
            del content[size:]
        self.cache.extend(bytes(max(0, size - len(self.cache))))

    def sync(self, *, fails: bool) -> None:
        """Bring the dirty pages to the disk, or forget them."""
        for page in () if fails else sorted(self.dirty):
            start, end = page * PAGE, min((page + 1) * PAGE, len(self.cache))
            self.disk.extend(bytes(max(0, end - len(self.disk))))
            self.disk[start:end] = self.cache[start:end]
        self.dirty.clear()


def calls(lines: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Yield name, arguments and error ("" for none) of each call of `strace -f -y -xx`, in order of their end."""
    begun: dict[str, str] = {}
    for line in lines:
        pid, _, rest = line.rstrip("\n").partition(" ")
        rest = rest.strip()
        if rest.endswith(_UNFINISHED):
            begun[pid] = rest.removesuffix(_UNFINISHED)
            continue
        if _RESUMED.match(rest):
            rest = begun.pop(pid) + _RESUMED.sub("", rest, count=1)
        if match := _CALL.match(rest):
            yield match[1], match[2], match[4] or ""


def disk_after(trace: Path, folder: Path) -> dict[str, bytes]:
    """Return the files of `folder` as the disk has them when the power goes at the end of the trace."""
    files: dict[str, File] = {}
    with trace.open() as lines:
        for name, arguments, error in calls(lines):
            _apply(files, name, arguments, error)
    ours = {Path(path): file for path, file in files.items() if Path(path).parent == folder}
    return {path.name: bytes(file.disk) for path, file in ours.items() if not path.name.endswith("-shm")}


def syncs(trace: Path) -> list[str]:
    """Return the names of the files that the first process synced, in order; strace counts them for `when`."""
    with trace.open() as lines:
        ours = list(lines)
    first = ours[0].partition(" ")[0]
    own = (line for line in ours if line.startswith(f"{first} "))
    found = (_FD.match(arguments) for name, arguments, _ in calls(own) if name in ("fsync", "fdatasync"))
    return [Path(_text(match[1])).name for match in found if match]


def failed_syncs(trace: Path) -> int:
    """Count the syncs that were made to fail."""
    return trace.read_text().count("(INJECTED)")


def _apply(files: dict[str, File], name: str, arguments: str, error: str) -> None:
    if name in ("fsync", "fdatasync"):
        if match := _FD.match(arguments):
            files.setdefault(_text(match[1]), File()).sync(fails=bool(error))
    elif error:
        return
    elif name == "unlink":
        files.pop(_text(arguments.strip('"')), None)
    elif name == "ftruncate":
        if match := _FD.match(arguments):
            files.setdefault(_text(match[1]), File()).truncate(int(match[2]))
    elif match := _WRITE.match(arguments):
        files.setdefault(_text(match[1]), File()).write(int(match[3]), _bytes(match[2]))


def _bytes(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", ""))


def _text(escaped: str) -> str:
    return _bytes(escaped).decode()
