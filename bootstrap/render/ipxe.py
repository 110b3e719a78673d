"""iPXE scripts: what a machine's console shows, and where it goes next.

A script holds only text of ours, checked URLs and arguments, and reasons made harmless: iPXE has no quoting,
so a `$`, `{`, `|`, `&` or line break from a machine would be a command (threat T-09).
"""

import re
from collections.abc import Iterable
from typing import Literal, TypeAlias

from bootstrap.errors import RenderError
from bootstrap.templates import render

FirmwareKind: TypeAlias = Literal["bios", "uefi"]

# The name under which the initrd is loaded, and the argument by which an EFI stub kernel finds it.
INITRD_ARGUMENT = "initrd=initrd"

AUTHORITY = "provisioning-ca.crt"
"""The path of the provisioning CA's certificate on the HTTPS port."""
LONGEST_REASON = 200
_ARGUMENT = re.compile(r"[A-Za-z0-9._:/=,@+-]+")
_UNSAFE = re.compile(r"[^A-Za-z0-9 ._:/=,@+()-]")
_READING_SECONDS = 3
"""How long a reason stays on the screen before the next thing clears it."""


def on_console(text: str) -> str:
    """Return `text` as an `echo` can show it: one line, a safe character set, at most 200 characters."""
    one_line = " ".join(_UNSAFE.sub(" ", text.replace("'", "")).split())
    return one_line[:LONGEST_REASON].rstrip() or "no reason given"


def argument(text: str) -> str:
    """Return `text` if it may be an argument of an iPXE command or of a kernel.

    Raises:
        RenderError: it is empty or holds a character outside `A-Za-z0-9._:/=,@+-`.
    """
    if not _ARGUMENT.fullmatch(text):
        raise RenderError(f"{text!r} is not safe as an argument in an iPXE script")
    return text


def boot_ipxe(base: str) -> str:
    """Return the script at /boot.ipxe: the machine says who it is and gets its own script."""
    return render("ipxe/boot.ipxe.j2", base=argument(base))


def loader_ipxe(secure: str, base: str) -> str:
    """Return the script to build into an iPXE that trusts our CA: `secure` is our HTTPS URL, `base` the plain one."""
    return render("ipxe/loader.ipxe.j2", secure=argument(secure), base=argument(base))


def install_script(
    *,
    kernel_url: str,
    initrd_url: str,
    kernel_args: Iterable[str],
    base: str,
    reason: str,
    authority: str = "",
) -> str:
    """Return the script that starts the installer; a failed download is tried again, without end.

    `kernel_args` are one word each; `reason` is shown first. With `authority`, a path, our CA is put there into the
    initrd by iPXE, which makes a cpio archive of it (ipxe.org/cmd/initrd).

    Raises:
        RenderError: a URL or an argument is outside the safe character set.
    """
    words = [argument(word) for word in kernel_args]
    if INITRD_ARGUMENT not in words:
        words.insert(0, INITRD_ARGUMENT)
    return render(
        "ipxe/install.ipxe.j2",
        kernel_url=argument(kernel_url),
        initrd_url=argument(initrd_url),
        kernel_args=" ".join(words),
        base=argument(base),
        reason=on_console(reason),
        authority=argument(authority) if authority else "",
        authority_url=f"{argument(base)}/{AUTHORITY}",
    )


def local_script(firmware: FirmwareKind, reason: str, base: str) -> str:
    """Return the script that sends an installed machine to its own disk.

    localboot.pxe or localboot.efi finds its disk (see bootstrap/localboot.py). Where that does not load, a BIOS
    machine starts drive 0x80, since `exit` leaves some BIOSes hanging; then the firmware goes on with its boot order.
    """
    name = {"bios": "ipxe/local-bios.ipxe.j2", "uefi": "ipxe/local-uefi.ipxe.j2"}[firmware]
    return render(name, reason=on_console(reason), seconds=_READING_SECONDS, base=argument(base))


def exit_script(reason: str) -> str:
    """Return the script that sends a machine to its disk by ending iPXE: the firmware goes on with its boot order."""
    return render("ipxe/exit.ipxe.j2", reason=on_console(reason), seconds=_READING_SECONDS)


def sanboot_script(reason: str) -> str:
    """Return the script that has iPXE start drive 0x80, the first of the firmware's order (ipxe.org/cmd/sanboot).

    If that does not start, the firmware goes on with its boot order.
    """
    return render("ipxe/sanboot.ipxe.j2", reason=on_console(reason), seconds=_READING_SECONDS)


def wait_script(reason: str, seconds: int, base: str) -> str:
    """Return the script that says `reason`, waits `seconds` and asks again.

    Raises:
        RenderError: `seconds` is not between 1 and 3600.
    """
    if not 1 <= seconds <= 3600:  # noqa: PLR2004  # an hour
        raise RenderError(f"a machine is to wait {seconds} seconds")
    return render("ipxe/wait.ipxe.j2", reason=on_console(reason), seconds=seconds, base=argument(base))


def rescue_script(reason: str, lines: Iterable[str], seconds: int, base: str) -> str:
    """Return the script that says `reason` and `lines`, waits `seconds` and asks again.

    Raises:
        RenderError: `seconds` is not between 1 and 3600.
    """
    waits = wait_script(reason, seconds, base)
    said = "".join(f"echo firstlight: {on_console(line)}\n" for line in lines)
    return waits.replace(":again\n", f"{said}:again\n", 1)


def leave_script(reason: str) -> str:
    """Return the script for a machine that is not ours: `reason`, then the firmware goes on."""
    return render("ipxe/leave.ipxe.j2", reason=on_console(reason), seconds=_READING_SECONDS)


def unknown_reason(mac: str) -> str:
    """Return the reason for a machine that the configuration does not list, with the remedy."""
    return f"{mac} is not in config.yaml. To install it, add it under machines: and run deploy.py again"
