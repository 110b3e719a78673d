"""What `status` says of machines: the operator API's objects as rows for people, and the verdict over all."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

HEADINGS = ("NAME", "POOL", "STATE", "FIRMWARE", "ADDRESS", "DISK", "SINCE", "MESSAGE")
DONE = frozenset({"installed", "joined", "ready", "gpu-ready"})
READY = frozenset({"ready", "gpu-ready"})
BROKEN = frozenset({"failed", "quarantined", "conflict"})
UNKNOWN = "-"


def rows(machines: Sequence[Mapping[str, Any]], now: datetime) -> list[tuple[str, ...]]:
    """Return one row per machine under HEADINGS."""
    return [row(machine, now) for machine in machines]


def stranger(seen: Mapping[str, Any]) -> dict[str, Any]:
    """Return a machine that nobody listed in the form of a known one; its name is its MAC address."""
    said = seen.get("said") or {}
    firmware = {"efi": "uefi", "pcbios": "bios"}.get(said.get("platform", ""))
    return {
        **seen,
        "name": seen["mac"],
        "firmware": firmware,
        "since": seen["firstSeen"],
        "message": _of_stranger(seen),
    }


def _of_stranger(seen: Mapping[str, Any]) -> str:
    """Return what is known of a machine that nobody listed, and what to do."""
    mac, pools = seen["mac"], seen.get("pools") or []
    if seen.get("belongsTo"):
        return f"a card of {seen['belongsTo']}, which is known by another one"
    if seen["state"] == "conflict":
        step = f"find out which is which; then: machine accept {mac} --pool POOL --resolve"
        return f"{seen.get('reason')}; {step}"
    found = f"{seen['inventory']}; " if seen.get("inventory") else ""
    if seen.get("misfit"):
        return f"{found}not taken by pool {pools[0]}: {seen['misfit']}"
    pool = pools[0] if len(pools) == 1 else "POOL"
    return f"{found}not in the configuration: machine accept {mac} --pool {pool}, or leave it alone"


def row(machine: Mapping[str, Any], now: datetime) -> tuple[str, ...]:
    """Return the cells of one machine."""
    cells = (machine.get(key) or UNKNOWN for key in ("name", "pool", "state", "firmware", "address", "disk"))
    return (*map(str, cells), age(machine.get("since"), now), message(machine))


def message(machine: Mapping[str, Any]) -> str:
    """Return what a person should know: the stage and percent of work under way, else the last message."""
    text = str(machine.get("message") or machine.get("reason") or "") + behind(machine)
    if machine.get("state") != "installing" or not machine.get("stage"):
        return text
    return f"{machine['stage']} {machine.get('percent') or 0} %  {text}".rstrip()


def behind(machine: Mapping[str, Any]) -> str:
    """Return what to add for a node that does not run the documents that it should."""
    running, planned = machine.get("running"), machine.get("planned")
    if not running or machine.get("state") not in DONE:
        return ""
    drift = f"; not as firstlight left it: {running['drift']}" if running.get("drift") else ""
    if not planned or running["revision"] == planned:
        return drift
    reason = f" ({running['reason']})" if running.get("reason") else ""
    return f"; behind plan{reason}{drift}"


def age(since: str | None, now: datetime) -> str:
    """Return how long ago `since` (RFC 3339) was, in kubectl's short form: 41s, 5m10s, 3h, 2d."""
    if not since:
        return UNKNOWN
    seconds = max(0, int((now - datetime.fromisoformat(since)).total_seconds()))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:  # noqa: PLR2004  # kubectl's own thresholds
        return f"{seconds}s"
    if minutes < 10:  # noqa: PLR2004
        return f"{minutes}m{seconds % 60}s"
    if hours < 3:  # noqa: PLR2004
        return f"{minutes}m"
    return f"{hours}h" if days < 2 else f"{days}d"  # noqa: PLR2004


def is_done(machine: Mapping[str, Any], after: datetime | None = None) -> bool:
    """Return whether the machine came up from its own disk (`after` that time) and its SSH server answers.

    One that joins a cluster must be Ready there too.
    """
    last = READY if machine.get("joins") else DONE
    if machine["state"] not in last or not machine.get("sshAnswers") or not machine.get("bootedAt"):
        return False
    return after is None or datetime.fromisoformat(machine["bootedAt"]) >= after


def is_broken(machine: Mapping[str, Any]) -> bool:
    """Return whether the machine waits for a person; one in a boot loop does, and one that has lost a GPU."""
    has_lost = bool((machine.get("gpu") or {}).get("alarm"))
    return machine["state"] in BROKEN or bool(machine.get("isLooping")) or has_lost


def alarm_lines(alarms: Sequence[Mapping[str, Any]], now: datetime) -> list[str]:
    """Return a line per alarm of the network."""
    return [f"ALARM: {alarm['text']} (for {age(alarm['firstSeen'], now)})" for alarm in alarms]
