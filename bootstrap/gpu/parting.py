"""Whether the GPUs of a node are parted (MIG) as its pool wants, and if not, which are not, and what to do: pure."""

from dataclasses import dataclass

from bootstrap.gpu.mig import in_words, layout
from bootstrap.gpu.reported import Parted, Report
from bootstrap.model import Pool

ON, OFF = "Enabled", "Disabled"
"""The modes, as nvidia-smi writes them."""


@dataclass(frozen=True)
class Mismatch:
    """Which GPUs are not as the pool wants them, each in words; what it wants, and what to do."""

    found: list[str]
    wanted: str
    remedy: str


def mismatch(pool: Pool, said: Report) -> Mismatch | None:
    """Return what is wrong with how GPUs are parted; None if nothing is, or nobody parts them."""
    parts = sorted(layout(pool.gpu))
    wanted = f"wanted is {parted_into(parts)} on each" if parts else "its pool wants them whole"
    if not parts and not said.mig:
        return None
    if len(said.mig) < len(said.devices):
        found = [said.mig_failure or "the node has not told how its GPUs are parted"]
        return Mismatch(
            found, wanted, f"wait for its next look; then journalctl -u firstlight-gpu on {said.node}"
        )
    if not (wrong := [one for one in said.mig if not _is_right(one, parts)]):
        return None
    if said.mig_failure:
        wanted += f" ({said.mig_failure})"
    return Mismatch([f"GPU {one.index}: {in_short(one)}" for one in wrong], wanted, _remedy(wrong, said.node))


def _is_right(one: Parted, parts: list[str]) -> bool:
    """Return whether a GPU has these instances, given sorted; without any it is to be whole, now and after a reset."""
    if not parts:
        return ON not in (one.current, one.pending)
    is_on = one.current == ON and one.pending != OFF
    return is_on and sorted(one.profiles) == parts and one.instances == len(parts)


def _remedy(wrong: list[Parted], node: str) -> str:
    if any(_is_pending(one) for one in wrong):
        return f"drain {node} and start it anew: the mode comes into force when a GPU is reset"
    if unknown := [one for one in wrong if one.current not in (ON, OFF)]:
        return (
            f"run nvidia-smi -i {unknown[0].index} -q on {node}: this GPU, or its driver, does not know MIG"
        )
    return (
        f"drain {node}: it changes that itself at its next look, once nothing uses its GPUs"
        " (journalctl -u firstlight-gpu there)"
    )


def _is_pending(one: Parted) -> bool:
    return {one.current, one.pending} == {ON, OFF}


def in_short(one: Parted) -> str:
    """Return how a GPU is parted in few words: `7 x 1g.10gb`, `MIG mode is pending`; `whole` if its mode is off."""
    if _is_pending(one):
        return f"MIG mode is {one.current}, and {one.pending} is pending"
    if one.current == OFF:
        return "whole"
    if one.current != ON:
        return f"MIG mode is {one.current}"
    lost = one.instances - len(one.profiles)
    more = f", {lost} without a compute instance" if lost > 0 else ""
    return f"{parted_into(one.profiles)}{more}"


def parted_into(profiles: tuple[str, ...] | list[str]) -> str:
    """Return profiles in words, the largest first; `no instances` without any."""
    return in_words(sorted(profiles, reverse=True)) or "no instances"
