"""What asks for a loader over DHCP, and which loader it gets: the option-93 table."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Firmware:
    """One kind of firmware, as it names itself in DHCP.

    `archs` are the codes of option 93 (client system architecture: RFC 4578 section 2.1, IANA's registry
    "Processor Architecture Types"); `loader` is the file below the TFTP root, None where there is none to
    give; `note` says in one line what an operator should know.
    """

    name: str
    archs: tuple[int, ...]
    loader: str | None
    note: str

    @property
    def vendor_classes(self) -> tuple[str, ...]:
        """Return the option-60 prefixes that say the same as option 93 (PXE 2.1, table 2-1)."""
        kind = "HTTPClient" if self.name.startswith("http-") else "PXEClient"
        return tuple(f"{kind}:Arch:{arch:05d}" for arch in self.archs)


_NOT_YET = "UEFI HTTP boot is not answered yet: switch the firmware to PXE"

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
        note="Debian 12's iPXE has no arm64 build; Debian 13's has",
    ),
    Firmware(name="http-efi32", archs=(15,), loader=None, note=_NOT_YET),
    Firmware(name="http-efi64", archs=(16,), loader=None, note=_NOT_YET),
    Firmware(name="http-arm32", archs=(18,), loader=None, note=_NOT_YET),
    Firmware(name="http-arm64", archs=(19,), loader=None, note=_NOT_YET),
    Firmware(name="http-bios", archs=(20,), loader=None, note=_NOT_YET),
)


def firmware_of(arch: int) -> Firmware | None:
    """Return the row whose option-93 codes hold `arch`, or None for a kind that nobody has told us of."""
    return next((row for row in TABLE if arch in row.archs), None)


def loaders() -> tuple[str, ...]:
    """Return the loader files that the table can send, each once, below the TFTP root."""
    return tuple(row.loader for row in TABLE if row.loader is not None)
