"""Makes localboot.efi: the way from a UEFI network boot to the disk that does not pass through the firmware again.

UEFI firmware that a network boot loader leaves goes on with the next entry of its boot order, and on many machines
that is the same card once more: OVMF tries HTTP boot over IPv4 and IPv6 for two minutes before it comes to the disk.

GRUB reads the embedded configs/grub/localboot.cfg with its rescue parser: no comments, no `if`, and a command that
fails does not end it. So the fallback path of UEFI 2.10, section 3.5.1.1, comes first, the ESP of our own images
(label FIRSTLIGHT) takes its place if there is one, and `exit` leads back to iPXE when nothing started.
"""

import subprocess
from pathlib import Path

from bootstrap.disk import write_file
from bootstrap.errors import ServeError

FILE = Path("run/localboot.efi")
CONFIG = Path(__file__).parents[1] / "configs" / "grub" / "localboot.cfg"
MODULES = (
    "part_gpt",
    "part_msdos",
    "fat",
    "search",
    "search_fs_file",
    "search_label",
    "chain",
    "test",
    "normal",
)
TIMEOUT_SECONDS = 30.0


def make_localboot(work: Path) -> Path:
    """Write `work`/run/localboot.efi with Debian's GRUB and return it.

    Raises:
        ServeError: grub-mkimage is missing or failed; the text says what to install.
    """
    target = work / FILE
    fresh = target.with_suffix(".new")
    options = ("--format=x86_64-efi", "--prefix=/", f"--config={CONFIG}", f"--output={fresh}")
    command = ("grub-mkimage", *options, *MODULES)
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    except FileNotFoundError as error:
        raise ServeError("grub-mkimage is missing: apt-get install grub-common grub-efi-amd64-bin") from error
    except subprocess.SubprocessError as error:
        said = getattr(error, "stderr", None) or str(error)
        raise ServeError(f"grub-mkimage could not make {target.name}: {said.strip()}") from error
    write_file(target, fresh.read_bytes())
    fresh.unlink()
    return target
