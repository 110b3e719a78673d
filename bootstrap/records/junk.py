"""Values that many machines carry in their firmware, and that tell none from another: a table with sources."""

from collections.abc import Mapping
from types import MappingProxyType

GLPI = "GLPI, src/Blacklist.php: values that its users found on several computers"
OCS = "OCS Inventory, its list of serial numbers that name no computer"
AMI = "AMI's firmware kits: what a maker left as it was"
SMBIOS = "DMTF DSP0134 7.2.1: all 00h means there is no UUID, all FFh that none was set"
TOOLS = "dmidecode(8) and hypervisors: what is written where there is no value"

UUIDS: Mapping[str, str] = MappingProxyType(
    {
        "00000000-0000-0000-0000-000000000000": SMBIOS,
        "ffffffff-ffff-ffff-ffff-ffffffffffff": SMBIOS,
        "03000200-0400-0500-0006-000700080009": GLPI,
        "00020003-0004-0005-0006-000700080009": "the same in the other order of its bytes (DSP0134 7.2.1)",
        "6ab5b300-538d-1014-9fb5-b0684d007b53": GLPI,
        "01010101-0101-0101-0101-010101010101": GLPI,
        "12345678-1234-5678-90ab-cddeefaabbcc": AMI,
    }
)
"""UUIDs in lower case. One whose sixteen bytes are all alike needs no entry: evidence.py denies every such value."""

TEXTS: Mapping[str, str] = MappingProxyType(
    {
        "to be filled by o.e.m": AMI,
        "default string": AMI,
        "system serial number": GLPI,
        "systemserialnumb": GLPI,
        "serial number xxxxxx": GLPI,
        "chassis serial number": AMI,
        "base board serial number": AMI,
        "oem_serial": GLPI,
        "oem": AMI,
        "o.e.m": AMI,
        "sys-1234567890": OCS,
        "sys-9876543210": OCS,
        "sn-12345": OCS,
        "sn-1234567890": OCS,
        "sn-123456fvgv3i0b8o5n6n7k": GLPI,
        "mb-1234567890": GLPI,
        "0123456789": OCS,
        "123456": OCS,
        "1234567": OCS,
        "12345678": OCS,
        "123456789": OCS,
        "1234567890": OCS,
        "123456789000": OCS,
        "12345678901234567": OCS,
        "eval": OCS,
        "iatpass": OCS,
        "tulip computers": OCS,
        "invalid": OCS,
        "(null string)": OCS,
        "empty": GLPI,
        "none": OCS,
        "not specified": TOOLS,
        "not available": TOOLS,
        "not applicable": TOOLS,
        "not present": TOOLS,
        "not settable": TOOLS,
        "no enclosure": TOOLS,
        "unknown": TOOLS,
        "unknow": GLPI,
        "n/a": TOOLS,
    }
)
"""Serial numbers, in lower case, without blanks and dots around them. Fewer than four letters and digits, or one sign
repeated, need no entry."""
