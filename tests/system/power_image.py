"""An initrd that is the appliance's computer: this computer's Python and nginx, the project, and a small init.

Everything lies in the VM at the path that it has here. The kernel and its modules are those of the Debian image
that the project itself builds.
"""

import lzma
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import BinaryIO

from bootstrap.artifacts import Manifest, artifact_path
from tests.system import storage_careless

ROOT = Path(__file__).parents[2]
ROOMS = ("bootstrap", "certs", "configs", "pxe", "web")
# virtio_net needs the two before it.
MODULES = ("failover", "net_failover", "virtio_net", "virtio_blk")
LEFT_OUT = re.compile(
    r"/(test|tests|idlelib|tkinter|ensurepip|lib2to3|turtledemo|config-3[^/]*|site-packages|dist-packages)/"
)
# Compiled for python -O, and packages that web does not import: an emulated computer unpacks its initrd slowly.
IDLE = re.compile(r"\.opt-[12]\.pyc$")
IDLE_PACKAGES = ("pygments", "pyroute2", "requests", "rich", "urllib3")
MAGIC = b"070701"
HEADER = 110
BLOCK = 4
TRAILER = "TRAILER!!!"
LIBRARY = re.compile(r"=> (/\S+) \(0x|^\s*(/\S+) \(0x", re.MULTILINE)

INIT = """#!/bin/busybox sh
for folder in proc sys dev tmp run firstlight; do /bin/busybox mkdir -p /$folder; done
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/
for module in {modules}; do busybox insmod /modules/$module.ko; done
busybox ip link set lo up
busybox ip addr add {address} dev eth0
busybox ip link set eth0 up
busybox mount -t ext4 /dev/vda /firstlight || {{ echo "power: no disk"; busybox sleep 5; busybox poweroff -f; }}
echo "power: up"
cd {root}
while :; do {python} -m web --work /firstlight --cache /cache; echo "power: web ended $?"; busybox sleep 1; done
"""
# Idle unless the kernel's command line asks for it.
CONTROL = """
from pathlib import Path
if "power.careless" in Path("/proc/cmdline").read_text().split():
    forget_to_sync()
"""


def make_initrd(target: Path, manifest: Manifest, cache: Path, small_cache: Path, address: str) -> None:
    """Write the initrd; `small_cache` is what the VM has as /cache, `address` its address with the prefix."""
    init = INIT.format(modules=" ".join(MODULES), address=address, root=ROOT, python=sys.executable)
    with target.open("wb") as file:
        archive = Archive(file)
        archive.add_text("/init", init, 0o755)
        archive.add_text("/etc/passwd", "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
        archive.add_text("/etc/group", "root:x:0:\nnogroup:x:65534:\n")
        archive.add_text(
            str(site_packages() / "sitecustomize.py"), Path(storage_careless.__file__).read_text() + CONTROL
        )
        for name, content in modules(artifact_path(cache, manifest.initrd.sha256)):
            archive.add_bytes(f"/modules/{name}.ko", content)
        archive.add_file(Path("/bin/busybox"), _program("busybox"))
        for path in host_files():
            archive.add_file(path)
        for path in small_cache.rglob("*"):
            archive.add_file(Path("/cache") / path.relative_to(small_cache), path)
        archive.end()


def host_files() -> list[Path]:
    """Return the files of this computer that the appliance needs, with the libraries that they load."""
    nginx = Path("/usr/share/nginx"), Path("/etc/nginx/mime.types")
    files = {*python_files(), *room_files(), *(path for path in nginx if path.is_file())}
    programs = [_program(name) for name in ("nginx", "setpriv")]
    loaded = [path for path in files if ".so" in path.name] + [*programs, Path(sys.executable).resolve()]
    return sorted({*files, *programs, *libraries(loaded)})


def python_files() -> Iterator[Path]:
    """Yield the interpreter, its library, and the packages that requirements.lock names."""
    link = Path(sys.executable)
    yield link
    while link.is_symlink():
        link = link.parent / link.readlink()
        yield link
    yield Path(sys.prefix) / "pyvenv.cfg"
    for name in ("stdlib", "platstdlib"):
        folder = Path(sysconfig.get_path(name, vars={"base": sys.base_prefix, "platbase": sys.base_prefix}))
        yield from (
            path for path in _below(folder) if not LEFT_OUT.search(str(path.relative_to(folder.parent)))
        )
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if (match := re.match(r"([a-z0-9-]+)==", line)) and match[1] not in IDLE_PACKAGES:
            yield from _distribution(match[1])


def _distribution(name: str) -> Iterator[Path]:
    try:
        found = metadata.distribution(name).files or []
    except metadata.PackageNotFoundError:
        return  # for another system
    for file in found:
        path = Path(os.path.normpath(str(file.locate())))
        if path.is_file():
            yield path


def room_files() -> Iterator[Path]:
    """Yield the project's own files."""
    for room in ROOMS:
        yield from _below(ROOT / room)


def site_packages() -> Path:
    """Return the folder of the packages."""
    return Path(sysconfig.get_path("purelib"))


def libraries(programs: Iterable[Path]) -> set[Path]:
    """Return the shared libraries that ldd names, under those names."""
    done = subprocess.run(("ldd", *map(str, programs)), capture_output=True, text=True, check=False)
    found = {Path(one or other) for one, other in LIBRARY.findall(done.stdout)}
    return {Path(os.path.normpath(path)) for path in found}


def modules(initrd: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the kernel modules that we load, from the image's own initrd."""
    for name, content in members(initrd):
        stem = Path(name).name.removesuffix(".ko.xz")
        if name.endswith(".ko.xz") and stem in MODULES:
            yield stem, lzma.decompress(content)


def members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each member of the first cpio archive in a file (newc, cpio(5))."""
    content = archive.read_bytes()
    at = 0
    while content[at : at + len(MAGIC)] == MAGIC:
        fields = [int(content[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        size, name_size = fields[6], fields[11]
        name = content[at + HEADER : at + HEADER + name_size - 1].decode()
        start = _padded(at + HEADER + name_size)
        if name == TRAILER:
            return
        yield name, content[start : start + size]
        at = _padded(start + size)


class Archive:
    """A cpio archive (newc) under way: each member's folders come before it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._made: set[str] = set()

    def add_text(self, name: str, text: str, mode: int = 0o644) -> None:
        """Add a file."""
        self.add_bytes(name, text.encode(), mode)

    def add_bytes(self, name: str, content: bytes, mode: int = 0o644, modified: int = 0) -> None:
        """Add a file."""
        self._member(name, stat.S_IFREG | mode, content, modified)

    def add_file(self, name: Path, source: Path | None = None) -> None:
        """Add what lies at `source` (default: at `name`): a file or a symbolic link; folders come by themselves."""
        path = source or name
        state = path.lstat()
        if (
            stat.S_ISLNK(state.st_mode)
            and source is None
            and path.exists()
            and path.parent == Path(sys.executable).parent
        ):
            self._member(str(name), state.st_mode, str(path.readlink()).encode(), 0)
        elif path.is_file():
            self._member(str(name), path.stat().st_mode, path.read_bytes(), int(path.stat().st_mtime))

    def end(self) -> None:
        """Close the archive."""
        self._write(TRAILER, 0, b"", 0)

    def _member(self, name: str, mode: int, content: bytes, modified: int) -> None:
        if name in self._made:
            return
        for parent in reversed(Path(name).parents):
            folder = str(parent)
            if folder not in self._made:
                self._made.add(folder)
                if folder != "/":
                    self._write(folder, stat.S_IFDIR | 0o755, b"", 0)
        self._made.add(name)
        self._write(name, mode, content, modified)

    def _write(self, name: str, mode: int, content: bytes, modified: int) -> None:
        words = name.lstrip("/").encode() + b"\0"
        fields = (len(self._made) + 1, mode, 0, 0, 1, modified, len(content), 0, 0, 0, 0, len(words), 0)
        header = MAGIC + b"".join(b"%08x" % field for field in fields) + words
        self._file.write(header.ljust(_padded(len(header)), b"\0"))
        self._file.write(content.ljust(_padded(len(content)), b"\0"))


def _padded(size: int) -> int:
    return (size + BLOCK - 1) // BLOCK * BLOCK


def _below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not IDLE.search(path.name))


def _program(name: str) -> Path:
    found = shutil.which(name)
    assert found, f"{name} is not installed"
    return Path(found)
