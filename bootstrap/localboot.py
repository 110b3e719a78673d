"""Makes localboot.efi and localboot.pxe: a GRUB that takes a machine from its network boot to its own disk.

UEFI firmware that a network boot loader leaves goes on with the next entry of its boot order, and on many machines
that is the same card once more: OVMF tries HTTP boot over IPv4 and IPv6 for two minutes before it comes to the disk.
A BIOS has an order of disks, and the first of them need not be ours.

The installer leaves the file /firstlight/<UUID of the machine> on the ESP of its disk (the UUID is that of SMBIOS 3.6,
7.2.1, which the firmware of both kinds shows to GRUB and to Linux). GRUB takes the disk with that file, else one with
an ESP called FIRSTLIGHT, else what the firmware would have taken.

GRUB reads the embedded configs/grub/localboot*.cfg with its rescue parser: no comments, no `if`, and a command that
fails does not end it, so the later of two searches wins. `exit` leads back to iPXE or to the firmware.
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from bootstrap.disk import write_file
from bootstrap.errors import ServeError

CONFIGS = Path(__file__).parents[1] / "configs" / "grub"
COMMON = (
    "part_gpt",
    "part_msdos",
    "fat",
    "search",
    "search_fs_file",
    "search_label",
    "smbios",
    "echo",
    "chain",
    "boot",
)
TIMEOUT_SECONDS = 30.0
READY_MADE = CONFIGS.parents[1] / "localboot"
"""Where a container's image has both, made when it was built: there is no GRUB in it."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One of the two programs: its name, GRUB's name of its format, and what goes into it."""

    file: str
    format: str
    config: str
    modules: tuple[str, ...]


KINDS = (
    Kind(
        file="localboot.efi",
        format="x86_64-efi",
        config="localboot.cfg",
        modules=(*COMMON, "test", "normal"),
    ),
    Kind(
        file="localboot.pxe",
        format="i386-pc-pxe",
        config="localboot-bios.cfg",
        modules=(*COMMON, "biosdisk", "regexp"),
    ),
)


def make_localboot(work: Path, ready_made: Path = READY_MADE) -> tuple[Path, ...]:
    """Write both into `work`/run, copied from `ready_made` if it is there, else with Debian's GRUB; return them.

    Raises:
        ServeError: grub-mkimage is missing or failed; the text says what to install.
    """
    if ready_made.is_dir():
        return tuple(_copy(ready_made / kind.file, work / "run" / kind.file) for kind in KINDS)
    return tuple(_make(work / "run" / kind.file, kind) for kind in KINDS)


def _copy(source: Path, target: Path) -> Path:
    write_file(target, source.read_bytes())
    return target


def _make(target: Path, kind: Kind) -> Path:
    fresh = target.with_suffix(".new")
    config = f"--config={CONFIGS / kind.config}"
    options = (f"--format={kind.format}", "--prefix=/", config, f"--output={fresh}")
    command = ("grub-mkimage", *options, *kind.modules)
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    except FileNotFoundError as error:
        text = "grub-mkimage is missing: apt-get install grub-common grub-efi-amd64-bin grub-pc-bin"
        raise ServeError(text) from error
    except subprocess.SubprocessError as error:
        said = getattr(error, "stderr", None) or str(error)
        raise ServeError(f"grub-mkimage could not make {target.name}: {said.strip()}") from error
    write_file(target, fresh.read_bytes())
    fresh.unlink()
    return target
