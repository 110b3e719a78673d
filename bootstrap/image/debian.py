"""Builds the debian family's image: kernel, installer initrd and disk, from Debian's own packages.

One with NVIDIA's driver gets modules that were built for its very kernel before: kernel and driver are one pinned pair.
"""

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bootstrap import artifacts
from bootstrap.artifacts import Manifest
from bootstrap.errors import ImageError
from bootstrap.image import builder, disk, modules, recipe
from bootstrap.image.command import APART, run, terminable
from bootstrap.image.modules import Modules
from bootstrap.image.recipe import Options
from bootstrap.progress import Progress

# Debian packages that the building computer needs; everything else runs inside the new root.
HOST_PACKAGES = ("debian-archive-keyring", "dosfstools", "e2fsprogs", "mmdebstrap", "mtools", "zstd")
MIN_FREE_BYTES = 6 << 30
HOST_TOOLS = ("e2fsck", "mcopy", "mke2fs", "mkfs.vfat", "mmdebstrap", "resize2fs", "zstd")
NEEDS = builder.Needs(what="an image", packages=HOST_PACKAGES, tools=HOST_TOOLS, free_bytes=MIN_FREE_BYTES)
# The higher levels save a tenth of the size for several times the time.
COMPRESSION = "-9"
# libcuda1 wants nvidia-legacy-check installed before it, whose preinst looks with lspci at the cards of the computer
# that it runs on, and refuses one with an old NVIDIA card. That is where the image is built, not where it will run.
ANSWER = "nvidia-legacy-check nvidia-driver/check-for-unsupported-gpu boolean false"
COMPONENTS = {"cloud": "main", "server": "main,non-free-firmware"}

# What mmdebstrap and our hook print, and how far the build is then, in percent.
INSTALLING, INSTALLED = 12, 45
STEPS = (
    ("running apt-get update", 1, "reading Debian's package lists"),
    ("downloading packages", 4, "downloading packages"),
    ("extracting archives", 8, "unpacking packages"),
    ("installing essential", 10, "installing packages"),
    ("installing remaining", INSTALLING, "installing packages"),
    ("firstlight-step: boot loaders", INSTALLED, "making the boot loaders"),
    ("firstlight-step: settings", 50, "settings of the installed system"),
    ("firstlight-step: NVIDIA's driver", 51, "putting NVIDIA's driver in"),
    ("firstlight-step: initrd of the installed", 52, "making the installed system's initrd"),
    ("firstlight-step: initrd of the installer", 60, "making the installer's initrd"),
    ("firstlight-step: clearing", 70, "clearing what must differ between machines"),
)
# apt's summary gives the number; each package is then fetched, unpacked and set up, with a line for each.
EXPECTED = re.compile(r"^\d+ upgraded, (\d+) newly installed")
PACKAGE = re.compile(r"^(?:Get:\d+ \S+ \S+ \S+|Unpacking|Setting up) ([a-z0-9][a-z0-9.+-]+)")
LINES_PER_PACKAGE = 3


@dataclass(frozen=True, kw_only=True)
class Build:
    """One build under way: what is built, and where it keeps what is not finished."""

    options: Options
    key: str
    cache: Path
    work: Path
    epoch: int
    progress: Progress
    modules: Modules | None = None

    @property
    def tree(self) -> Path:
        """Return the root folder of the new system."""
        return self.work / "root"

    @property
    def made(self) -> Path:
        """Return where the customize hook's results lie when they have left the tree."""
        return self.work / "made"


def find(options: Options, cache: Path) -> Manifest | None:
    """Return the image for `options` if the cache holds it, with a driver the pair that was built last."""
    name = recipe.key(options)
    return artifacts.load_manifest(cache, name) if options.driver is None else artifacts.made_by(cache, name)


def build(options: Options, cache: Path, progress: Progress, *, update: bool = False) -> Manifest:
    """Return the image for `options`, building it unless the cache holds it already.

    With `update`, one with a driver is also built when Debian has another kernel or driver than the cache's.

    Needs root and the programs of HOST_PACKAGES. Nothing half-made stays behind when it is cut. Raises
    ImageError with what to install or which step failed; DriverError when the driver does not build.
    """
    if not (update and options.driver) and (manifest := find(options, cache)) is not None:
        return _as_it_is(manifest, cache, progress)
    suite = recipe.suite(options)
    builder.check(cache, NEEDS)
    with terminable(), builder.work_folder(cache) as work:
        made = _modules(options, cache, work, progress) if options.driver else None
        key = recipe.key(options, pair=made.pair if made else None)
        if (manifest := artifacts.load_manifest(cache, key)) is not None:
            return _as_it_is(manifest, cache, progress)
        job = Build(
            options=options,
            key=key,
            cache=cache,
            work=work,
            epoch=int(time.time()),
            progress=progress,
            modules=made,
        )
        bootstrap_root(job, suite)
        return finish(job)


def _as_it_is(manifest: Manifest, cache: Path, progress: Progress) -> Manifest:
    artifacts.select(cache, manifest)
    progress("image is already built", 100, 100)
    return manifest


def _modules(options: Options, cache: Path, work: Path, progress: Progress) -> Modules:
    progress("asking Debian for its kernel and driver")
    pair = modules.offered(options, work)
    return modules.build(options, pair, cache, work, progress)


def mmdebstrap_argv(options: Options, suite: str, tree: Path) -> tuple[str, ...]:
    """Return the command that makes the root."""
    argv = builder.mmdebstrap_argv(
        suite,
        tree,
        packages=recipe.packages(options),
        components=modules.COMPONENTS if options.driver else COMPONENTS[options.kernel],
        hook=recipe.TEXTS / "debian" / "customize",
        mirror=options.mirror,
        form="directory",
    )
    if options.driver is None:
        return argv
    return (argv[0], f'--essential-hook=echo {ANSWER} | chroot "$1" debconf-set-selections', *argv[1:])


def bootstrap_root(job: Build, suite: str) -> None:
    """Make the root with everything in it, and take what the hook made out of it."""
    env = {
        "FL_IMAGE": f"{recipe.TEXTS}",
        "SOURCE_DATE_EPOCH": f"{job.epoch}",
        "TMPDIR": f"{job.work}",
        "INITRD": "No",
        "LC_ALL": "C.UTF-8",
    }
    if job.modules is not None and job.options.driver is not None:
        env |= {
            "FL_DRIVER": job.modules.pair.driver,
            "FL_PAIRED": " ".join(job.options.driver.paired),
            "FL_MODULES": f"{modules.archive(job.cache, job.modules)}",
            "FL_KERNEL": job.modules.pair.kernel,
        }
    argv = mmdebstrap_argv(job.options, suite, job.tree)
    run(argv, env=env, apart=APART, on_line=_Steps(job.progress))
    (job.tree / "firstlight").rename(job.made)


class _Steps:
    """Turns the lines of mmdebstrap into progress."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.percent = 0
        self.expected = 1
        self.lines = 0

    def __call__(self, line: str) -> None:
        for text, percent, what in STEPS:
            if text in line:
                self.percent = percent
                self.progress(what, percent, 100)
                return
        if self.percent != INSTALLING:
            return
        if match := EXPECTED.search(line):
            self.expected = max(1, int(match[1]))
        elif match := PACKAGE.search(line):
            self.lines += 1
            self.progress(f"installing packages: {match[1]}", self._percent(), 100)

    def _percent(self) -> int:
        share = min(1.0, self.lines / (LINES_PER_PACKAGE * self.expected))
        return round(INSTALLING + share * (INSTALLED - INSTALLING))


def finish(job: Build) -> Manifest:
    """Make the disk from the root, and put all of it into the store; the manifest comes last."""
    job.progress("making the root file system", 72, 100)
    loaders = disk.Loaders(
        boot_image=(job.made / "boot.img").read_bytes(),
        core_image=(job.made / "core.img").read_bytes(),
        shim=job.made / "bootx64.efi",
        grub_efi=job.made / "grubx64.efi",
    )
    raw, raw_size = make_disk(job, loaders)
    job.progress("compressing the disk", 84, 100)
    compressed = job.work / "disk.raw.zst"
    run(("zstd", "--quiet", "--threads=0", COMPRESSION, f"{raw}", "-o", f"{compressed}"))
    job.progress("taking the files into the store", 96, 100)
    manifest = Manifest(
        key=job.key,
        family=recipe.FAMILY,
        release=job.options.release,
        kernel_flavour=job.options.kernel,
        kernel_version=kernel_version(job.tree),
        built=datetime.fromtimestamp(job.epoch, UTC).isoformat().replace("+00:00", "Z"),
        kernel=artifacts.import_file(job.cache, job.made / "kernel"),
        initrd=artifacts.import_file(job.cache, job.made / "initrd"),
        disk=artifacts.import_file(job.cache, compressed),
        raw_size=raw_size,
        driver=job.options.driver.title if job.options.driver else "",
        driver_version=job.modules.pair.driver if job.modules else "",
        recipe=recipe.key(job.options),
    )
    artifacts.save_manifest(job.cache, manifest)
    job.progress("image is built", 100, 100)
    return manifest


def make_disk(job: Build, loaders: disk.Loaders) -> tuple[Path, int]:
    """Return the raw disk and its size in bytes."""
    raw, root, esp = (job.work / name for name in ("disk.raw", "root.ext4", "esp.fat"))
    uuid = disk.identity(job.key, disk.LABEL)
    (job.tree / "boot" / "grub" / "root.cfg").write_text(f"set root_partuuid={uuid}\n")
    root_bytes = disk.make_root(job.tree, root, job.key, job.epoch)
    job.progress("making the disk", 80, 100)
    disk.make_esp(esp, job.key, loaders, job.epoch)
    parts = disk.table(job.key, root_bytes)
    disk.assemble(raw, parts, loaders, esp, root)
    root.unlink()
    return raw, raw.stat().st_size


def kernel_version(tree: Path) -> str:
    """Return the version of the one kernel in `tree`; raises ImageError when there is none or several."""
    found = [path.name.removeprefix("vmlinuz-") for path in (tree / "boot").glob("vmlinuz-*")]
    if len(found) != 1:
        raise ImageError(f"the image must hold one kernel, not {len(found)}: {', '.join(found)}")
    return found[0]
