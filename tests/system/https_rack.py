"""A machine whose iPXE trusts one authority: a stick with Debian's newest iPXE, and the script that we render for it.

iPXE is told whom to trust when it is built (`TRUST=`, `CERT=`, `EMBED=`). Here it is Debian's own build, which can
check P-256 since 2.0 and trusts the authority of ipxe.org: the SHA-256 sum of that one certificate stands in it once,
and is replaced by that of ours, which is what `TRUST=` writes there. Certificate and script come from the stick.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from bootstrap.lab.machine import ACCEL_OPTIONS
from bootstrap.lab.requirements import find_ovmf
from tests.system.arm64_loader import loader_of
from tests.system.pxe_segment import Segment, run, wait_for

IPXE_ORG = bytes.fromhex("9faf717b7f8ca2f93c256c79f8ac5591895d66d1ff3bee6397a70d29c65eed1a")
"""What an iPXE trusts that was built without TRUST= (its crypto/rootcert.c)."""
SUITE, IN_PACKAGE = "forky", "usr/lib/ipxe/ipxe-amd64.efi"
MEMORY = 2048


def trusting(loader: bytes, authority: bytes) -> bytes:
    """Return an iPXE that trusts the `authority` (PEM) alone."""
    ours = x509.load_pem_x509_certificate(authority).fingerprint(hashes.SHA256())
    assert loader.count(IPXE_ORG) == 1, "not an iPXE that was built without TRUST="
    return loader.replace(IPXE_ORG, ours)


def stick(folder: Path, authority: bytes, script: str) -> Path:
    """Make what is on the stick: an iPXE that trusts `authority` (PEM) and runs `script`; return its folder."""
    boot = folder / "EFI" / "BOOT"
    boot.mkdir(parents=True)
    (boot / "BOOTX64.EFI").write_bytes(trusting(loader_of(SUITE, IN_PACKAGE).read_bytes(), authority))
    (folder / "ca.crt").write_bytes(authority)
    begin, rest = script.split("\n", 1)
    (boot / "autoexec.ipxe").write_text(f"{begin}\ncertstore file:/ca.crt || echo no certificate\n{rest}")
    return folder


@contextmanager
def machine(
    where: Segment, bridge: str, folder: Path, mac: str, *, name: str, disk: int = 0
) -> Iterator[Path]:
    """Switch on a UEFI machine that starts from the stick in `folder`/stick; yields its console's log.

    A `disk` of so many bytes has the serial `virtio-` and the name.
    """
    console, pid_file, tap = folder / "console.log", folder / "pid", "tap" + mac.replace(":", "")
    ovmf = find_ovmf()
    assert ovmf is not None, "install ovmf"
    shutil.copy(ovmf.variables, folder / "vars")
    flash = "if=pflash,format=raw"
    disks: tuple[str, ...] = ()
    if disk:
        with (folder / "disk").open("wb") as file:
            file.truncate(disk)
        disks = (
            *("-drive", f"if=none,id=disk,format=raw,file={folder}/disk,cache=unsafe,discard=unmap"),
            *("-device", f"virtio-blk-pci,drive=disk,serial=virtio-{name},bootindex=2"),
        )
    command = (
        *("qemu-system-x86_64", "-machine", "q35,graphics=off", *ACCEL_OPTIONS["tcg"], "-m", f"{MEMORY}M"),
        *("-name", name, "-no-user-config", "-nodefaults", "-display", "none", "-vga", "none"),
        *("-serial", f"file:{console}", "-object", "rng-builtin,id=r0", "-device", "virtio-rng-pci,rng=r0"),
        *("-drive", f"{flash},unit=0,readonly=on,file={ovmf.code}"),
        *("-drive", f"{flash},unit=1,file={folder}/vars"),
        *("-drive", f"if=none,id=stick,format=raw,file=fat:rw:{folder}/stick"),
        *("-device", "ide-hd,drive=stick,bus=ide.0,bootindex=1"),
        *("-netdev", f"tap,id=n0,ifname={tap},script=no,downscript=no"),
        *("-device", f"virtio-net-pci,netdev=n0,mac={mac},romfile="),
        *disks,
        *("-daemonize", "-pidfile", str(pid_file)),
    )
    run("ip", "-n", where.client, "tuntap", "add", tap, "mode", "tap")
    run("ip", "-n", where.client, "link", "set", tap, "master", bridge, "up")
    subprocess.run(
        ("nice", "-n", "5", "ip", "netns", "exec", where.client, *command), cwd=folder, check=True, timeout=60
    )
    pid = int(pid_file.read_text())
    try:
        yield console
    finally:
        os.kill(pid, signal.SIGKILL)
        assert wait_for(lambda: not Path(f"/proc/{pid}").exists())
        run("ip", "-n", where.client, "link", "delete", tap)
