"""Reports of nodes for tests: one that is well, and what differs in others."""

from collections.abc import Mapping
from typing import Any

from bootstrap.gpu.reported import Report
from bootstrap.gpu.smi import FIELDS
from tests.unit.gpu.machines import H100

WELL: Mapping[str, object] = {
    "name": "NVIDIA H100 80GB HBM3",
    "driver": "570.133.20",
    "temperature": 34,
    "errors": 0,
    "generation": 5,
    "best_generation": 5,
    "width": 16,
    "best_width": 16,
    "memory_used": 0,
    "memory": 81559,
    "use": 0,
    "power": "71.25",
    "most_power": "700.00",
}


def line(number: int, **said: object) -> str:
    """Return a line of nvidia-smi; what is not said is of a card that is well."""
    address = f"00000000:{number + 1:02X}:00.0"
    told = {"index": number, "uuid": f"GPU-{number}", "address": address, **WELL, **said}
    return ", ".join(str(told[name]) for name in FIELDS)


def report(*devices: str, taken: str = "nvidia", **said: Any) -> Report:
    """Return the report of a node that is well, with these GPUs (eight H100 without any)."""
    shown = devices or (H100,) * 8
    found = [
        {"address": f"0000:{number:02x}:00.0", "id": device, "driver": taken}
        for number, device in enumerate(shown, start=1)
    ]
    told: dict[str, Any] = {
        "node": "w1",
        "arm": "00000000-0000-4000-8000-000000000001",
        "at": 1_800_000_000,
        "state": "ready",
        "devices": found,
        "driver": "570.133.20",
        "flavour": "open",
        "handler": "/usr/bin/nvidia-container-runtime",
        "runtime": "/usr/bin/nvidia-container-runtime",
        "plugin": len(shown),
        "fabric": [f"{number}, Completed, Success" for number in range(len(shown))],
        "lines": [line(number) for number in range(len(shown))],
    }
    return Report.model_validate(told | said)
