"""Finds the rule that tells how a machine's last boot went; pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from bootstrap.explain.boots import Boot, boots_of
from bootstrap.explain.rules import NOT_SWITCHED_ON, NOTHING, RULES, UNDER_WAY, Rule
from bootstrap.explain.steps import Step
from bootstrap.render.firmware import firmware_of

UNKNOWN = "?"


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The name of the rule that holds, what most likely is the cause, and what to do."""

    name: str
    cause: str
    remedy: str
    is_well: bool


@dataclass(frozen=True, kw_only=True)
class About:
    """The machine that is asked about: name, MAC, and where the appliance serves it."""

    name: str
    mac: str
    url: str
    secure: str


def diagnose(about: About, steps: Iterable[Step], now: datetime) -> Diagnosis:
    """Return what most likely stands in the way of a machine of which `steps` were seen, in the order of time.

    If the last boot is too young to tell, or only says that it waits after others that failed, the one before tells.
    """
    boots = boots_of(steps)
    if not boots or boots[-1].marks <= _SAYS_NOTHING:
        was_seen = any(not boot.marks <= _SAYS_NOTHING for boot in boots)
        return _filled(NOT_SWITCHED_ON if was_seen else NOTHING, _of(about))
    found = _rule_of(boots[-1], now)
    told = boots[-1]
    if found is None or "script:rescue" in told.marks:
        earlier = reversed([boot for boot in boots[:-1] if "script:rescue" not in boot.marks])
        before = next(earlier, None)
        of_before = _rule_of(before, None) if before else None
        if before and of_before and not of_before.is_well and told.marks.isdisjoint(of_before.missing):
            found, told = of_before, before
    return _filled(found or UNDER_WAY, words(about, told, found or UNDER_WAY))


def last_try(steps: Iterable[Step]) -> Boot | None:
    """Return the last boot that was to install, or None."""
    tries = [boot for boot in boots_of(steps) if "script:install" in boot.marks]
    return tries[-1] if tries else None


def diagnose_try(about: About, boot: Boot) -> Diagnosis:
    """Return what stood in the way of a boot that is over, as the machine asks anew."""
    found = _rule_of(boot, None) or UNDER_WAY
    return _filled(found, words(about, boot, found))


_SAYS_NOTHING = frozenset({"armed", "accepted", "stuck", "boot-loop", "retired", "discovered"})


def _rule_of(boot: Boot, now: datetime | None) -> Rule | None:
    """Return the first rule that holds for `boot`; None if it may still go on. Without `now`, it is over."""
    silence = (now - boot.steps[-1].at).total_seconds() if now else float("inf")
    marks = boot.marks if now else boot.marks | {"another-boot"}
    for rule in RULES:
        if rule.seen <= marks and marks.isdisjoint(rule.missing):
            return rule if silence >= rule.patience else None
    return None


def words(about: About, boot: Boot, rule: Rule) -> Mapping[str, str]:
    """Return what a rule's texts are filled in with."""
    told = boot.last(*rule.seen) or boot.steps[-1]
    if rule.name == "loader-does-not-start":
        told = boot.last("tftp-sent") or told
    if rule.name == "tftp-blocked":
        told = boot.last("loader-offered") or told
    asked = next((step for step in boot.steps if step.arch is not None), None)
    row = firmware_of(asked.arch) if asked and asked.arch is not None else None
    return {
        **_of(about),
        "arch": str(asked.arch) if asked else UNKNOWN,
        "firmware": row.name if row else "of a kind that we do not know",
        "note": row.note if row else "we do not know it",
        "file": " ".join(filter(None, (_what(told), told.file))) or UNKNOWN,
        "status": str(told.status) if told.status is not None else UNKNOWN,
        "reason": told.reason or "no reason given",
        "last": boot.steps[-1].text,
    }


def _what(step: Step) -> str:
    names = ("kernel", "initrd", "artifact")
    return next((name for name in names if f"{name}-error" in step.marks), "")


def _of(about: About) -> Mapping[str, str]:
    return {"name": about.name, "mac": about.mac, "url": about.url, "secure": about.secure}


def _filled(rule: Rule, values: Mapping[str, str]) -> Diagnosis:
    # format_map looks at the rule's own braces only: those in a value stay as they are.
    return Diagnosis(
        name=rule.name,
        cause=rule.cause.format_map(values),
        remedy=rule.remedy.format_map(values),
        is_well=rule.is_well,
    )
