"""What asks for a loader over DHCP, and which loader it gets: the option-93 table."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Firmware:
    """One kind of firmware, as it names itself in DHCP.

    `archs` are the codes of option 93 (client system architecture: RFC 4578 section 2.1, IANA's registry
    "Processor Architecture Types"); `loader` is the file below the TFTP root, or below /loader/ of our HTTP port for
    UEFI HTTP boot, None where there is none to give; `note` says in one line what an operator should know.
    """

    name: str
    archs: tuple[int, ...]
    loader: str | None
    note: str

    @property
    def vendor_classes(self) -> tuple[str, ...]:
        """Return the option-60 prefixes that say the same as option 93 (PXE 2.1, table 2-1)."""
        kind = HTTP_CLASS if self.is_http else "PXEClient"
        return tuple(f"{kind}:Arch:{arch:05d}" for arch in self.archs)

    @property
    def is_http(self) -> bool:
        """Return whether this is HTTP boot (UEFI 2.10, section 24.7): a URL as boot file, and no packet of TFTP."""
        return self.name.startswith("http-")

    def boot_file(self, base: str) -> str | None:
        """Return what DHCP calls the boot file: its path below the TFTP root, or its URL below `base`; None: none."""
        if self.loader is None:
            return None
        return f"{base}/{HTTP_FOLDER}/{self.loader}" if self.is_http else self.loader


HTTP_CLASS = "HTTPClient"
"""What HTTP boot says in option 60, and wants to read there in an answer (UEFI 2.10, section 24.7.3.1)."""
HTTP_FOLDER = "loader"
"""The folder of our HTTP port with the loaders for HTTP boot."""
NO_LOADER = f"{HTTP_FOLDER}/none"
"""What is never there: HTTP boot that has no loader is sent to it, and gives up at once."""

_BY_HTTP = "UEFI HTTP boot; it wants HTTPClient in option 60 of the answer"

TABLE: tuple[Firmware, ...] = (
    Firmware(name="bios", archs=(0,), loader="undionly.kpxe", note="BIOS, also the ROMs of QEMU"),
    Firmware(name="efi32", archs=(6,), loader=None, note="no distribution carries a 32-bit EFI loader"),
    # RFC 4578 names 7 "EFI BC" and 9 "EFI x86-64"; its erratum swaps them, so real firmware sends either.
    Firmware(name="efi64", archs=(7, 9), loader="snponly.efi", note="UEFI on x86-64"),
    Firmware(name="efi-arm32", archs=(10,), loader=None, note="no distribution carries an arm32 loader"),
    Firmware(
        name="efi-arm64",
        archs=(11,),
        loader="arm64-efi/snponly.efi",
        note="UEFI on arm64; no Debian has a loader small enough: appliance.pxe.loader.efiArm64",
    ),
    Firmware(name="http-efi32", archs=(15,), loader=None, note="no distribution carries a 32-bit EFI loader"),
    Firmware(name="http-efi64", archs=(16,), loader="ipxe-x86_64.efi", note=_BY_HTTP),
    Firmware(name="http-arm32", archs=(18,), loader=None, note="no distribution carries an arm32 loader"),
    Firmware(name="http-arm64", archs=(19,), loader="ipxe-arm64.efi", note=_BY_HTTP),
    Firmware(
        name="http-bios", archs=(20,), loader=None, note="a BIOS boots by PXE: switch its firmware to that"
    ),
)


def firmware_of(arch: int) -> Firmware | None:
    """Return the row whose option-93 codes hold `arch`, or None for a kind that nobody has told us of."""
    return next((row for row in TABLE if arch in row.archs), None)


def loaders() -> tuple[str, ...]:
    """Return the loader files that the table can send by TFTP, each once, below the TFTP root."""
    return tuple(row.loader for row in TABLE if row.loader is not None and not row.is_http)
