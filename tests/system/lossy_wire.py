"""Loses frames on the cables of a rack, in both directions, and counts what it lost.

The rules hang at the cable itself (nftables, family netdev), so that every frame meets them, ARP and broadcasts too,
and the sender is not told, as it would be by a rule on its way out.
"""

import json
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

DIRECTIONS = {"from": "ingress", "to": "egress"}
"""What the machine sends and what it is sent, and the side of its cable's end in the bridge where that passes."""

PERCENT = 5.0
"""What an install has to bear (S-05)."""

ENOUGH = 1000
"""Frames of a chain from which on its losses say something; an installation has fifty times as many."""

_CHAIN = """
  chain {name} {{
    type filter hook {hook} device "{tap}" priority 0; policy accept;
    counter comment "all"
    numgen random mod 1000 < {per_mille} counter drop comment "lost"
  }}
"""


@dataclass(frozen=True)
class Tally:
    """Frames that came to one end of one cable, and how many of them were lost there."""

    frames: int
    lost: int

    @property
    def share(self) -> float:
        return self.lost / self.frames


class LossyWire:
    """The cables of the machines in the namespace `namespace`, `bridge` being the appliance's end of them all."""

    def __init__(self, namespace: str, bridge: str) -> None:
        self._inside = ("ip", "netns", "exec", namespace)
        self._bridge = bridge

    @contextmanager
    def losing(self, percent: float) -> Iterator[None]:
        """Lose so many percent of the frames of each cable in each direction, until the end of the block.

        Raises:
            AssertionError: a cable did not lose as many as its dice would have it; the test proved nothing.
        """
        # One segment a frame, as on a wire: a lost frame is not to be a lost burst of forty.
        self._run("ip", "link", "set", "dev", self._bridge, "gso_max_segs", "1")
        taps = self._taps()
        chains = (
            _CHAIN.format(name=f"{direction}_{tap}", hook=hook, tap=tap, per_mille=round(percent * 10))
            for tap in taps
            for direction, hook in DIRECTIONS.items()
        )
        self._run("nft", "-f", "-", given=f"table netdev loss {{{''.join(chains)}}}\n")
        try:
            yield
            _check(self.tallies(), percent / 100, len(taps))
        finally:
            self._run("nft", "delete", "table", "netdev", "loss")

    def tallies(self) -> Mapping[str, Tally]:
        """Return the count of each chain, such as `to_tap525400770001`."""
        rows: list[dict[str, Any]] = json.loads(
            self._run("nft", "--json", "list", "table", "netdev", "loss")
        )["nftables"]
        counted: dict[tuple[str, str], int] = {}
        for rule in (row["rule"] for row in rows if "rule" in row):
            packets = next(part["counter"]["packets"] for part in rule["expr"] if "counter" in part)
            counted[rule["chain"], rule["comment"]] = packets
        chains = sorted({chain for chain, _ in counted})
        return {chain: Tally(counted[chain, "all"], counted[chain, "lost"]) for chain in chains}

    def _taps(self) -> tuple[str, ...]:
        links = json.loads(self._run("ip", "-json", "link", "show", "master", self._bridge))
        return tuple(name for name in (link["ifname"] for link in links) if name.startswith("tap"))

    def _run(self, *command: str, given: str | None = None) -> str:
        done = subprocess.run(
            [*self._inside, *command], check=True, input=given, capture_output=True, text=True, timeout=30
        )
        return done.stdout


def _check(tallies: Mapping[str, Tally], wanted: float, busy: int) -> None:
    full = {chain: tally for chain, tally in tallies.items() if tally.frames > ENOUGH}
    for chain, tally in full.items():
        sys.stderr.write(f"{chain}: {tally.frames} frames, {tally.lost} lost\n")
        deviation = math.sqrt(tally.frames * wanted * (1 - wanted))
        assert abs(tally.lost - wanted * tally.frames) < 5 * deviation, (chain, tally)
    assert len(full) >= busy * len(DIRECTIONS) > 0, f"only these carried more than {ENOUGH} frames: {[*full]}"
