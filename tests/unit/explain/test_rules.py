"""The table of rules. The lists of events here are typed by hand, one per rule; recorded ones are in test_recorded."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from bootstrap.explain.diagnosis import Diagnosis, diagnose
from bootstrap.explain.rules import NOT_SWITCHED_ON, NOTHING, RULES, UNDER_WAY
from bootstrap.explain.steps import End, Request, story
from bootstrap.records.model import Event
from tests.unit.explain.seen import (
    ABOUT,
    IPXE,
    ROM,
    after,
    asked,
    event,
    from_ipxe,
    from_rom,
    pxe,
    up_to_initrd,
    up_to_script,
)

Seen = tuple[Sequence[Event], Sequence[Request]]
LATE = after(100_000)


def told(seen: Seen, now: datetime = LATE) -> Diagnosis:
    return diagnose(ABOUT, story(*seen), now)


def plus(seen: Seen, *more: Event, requests: Sequence[Request] = ()) -> Seen:
    return [*seen[0], *more], [*seen[1], *requests]


def refused(error: str) -> Request:
    return Request(at=after(4).timestamp(), what="https-refused", name=error, status=200)


SCRIPT, INITRD = up_to_script(), up_to_initrd()
FETCHED = plus(INITRD, event(40, "fetched"))
FACTS = plus(FETCHED, event(50, "facts"))
BEGUN = plus(FACTS, event(51, "begin"))
DONE = plus(BEGUN, event(90, "complete", "installed"))
UP = plus(up_to_script("local"), event(60, "booted"))
LOADER = "http://10.77.0.1:8080/loader/ipxe-x86_64.efi"
HTTP = "HTTPClient:Arch:00016:UNDI:003000 (architecture 16)"
ARM32 = "PXEClient:Arch:00010:UNDI:003016 (architecture 10)"

BY_HTTP = [
    pxe(0, "discover", HTTP),
    pxe(0, "offer", f"10.77.0.101, boot file {LOADER} (architecture 16)"),
    pxe(1, "request", f"10.77.0.101, {HTTP}"),
    pxe(1, "ack", f"10.77.0.101, boot file {LOADER}, w1 (architecture 16)"),
]

UNHEARD = "options were granted 3 times, and the machine never answered"
CASES: dict[str, Seen] = {
    "alarm": plus(UP, event(70, "alarm", "quarantined", "another key")),
    "disk-missing": plus(FACTS, event(55, "failed", "failed", 'no disk matches the rule {"type":"nvme"}; x')),
    "install-failed": plus(BEGUN, event(55, "failed", "failed", "the disk gave an error")),
    "ready": plus(UP, event(61, "claimed"), event(62, "joined"), event(70, "node-ready")),
    "node-not-ready": plus(UP, event(61, "claimed"), event(62, "joined")),
    "not-joined": plus(UP, event(61, "claimed")),
    "runs-from-disk": UP,
    "not-restarted": DONE,
    "disk-does-not-start": up_to_script("local"),
    "write-failed": plus(BEGUN, event(80, "attempt-failed", "again", "lost the connection")),
    "installer-silent": BEGUN,
    "installer-not-begun": FACTS,
    "ignition-refused": plus(INITRD, requests=[asked(30, "ignition", 500)]),
    "installer-not-heard": FETCHED,
    "kernel-refused": plus(SCRIPT, requests=[asked(6, "kernel", 404)]),
    "system-not-started": INITRD,
    "kernel-not-loaded": SCRIPT,
    "waits": up_to_script("wait"),
    "left-alone": up_to_script("leave"),
    "script-refused": ([*from_ipxe()], [asked(4, "boot-script"), asked(5, "script", 503)]),
    "first-script-refused": ([*from_ipxe()], [asked(4, "boot-script", 404)]),
    "certificate-not-believed": ([*from_ipxe()], [refused("0216eb8f")]),
    "https-not-reached": ([*from_ipxe()], [refused("4c0a6035")]),
    "script-not-asked": ([*from_ipxe()], [asked(4, "boot-script")]),
    "http-blocked": ([*from_rom(), pxe(2, "tftp-sent", "snponly.efi"), *from_ipxe()], []),
    "tftp-oack-unheard": ([*from_rom(), pxe(7, "tftp-oack-unheard", f"snponly.efi: {UNHEARD}")], []),
    "loader-does-not-start": ([*from_rom(), pxe(2, "tftp-sent", "snponly.efi")], []),
    "loader-missing": ([*from_rom(), pxe(2, "tftp-not-found", "pxelinux.0 is not there")], []),
    "tftp-cut": ([*from_rom(), pxe(2, "tftp-failed", "snponly.efi was cut off")], []),
    "tftp-blocked": (from_rom(), []),
    "http-loader-missing": (BY_HTTP, [asked(2, "loader", 404)]),
    "http-loader-cut": (BY_HTTP, [asked(2, "loader", end="asked"), asked(3, "loader", end="cut")]),
    "http-boot-blocked": (BY_HTTP, []),
    "no-loader": ([pxe(0, "discover", ARM32), pxe(0, "offer", "10.77.0.101 (architecture 10)")], []),
    "offer-not-taken": (from_rom()[:2], []),
    "discover-unanswered": (from_rom()[:1], []),
    "only-its-system": ([pxe(0, "discover", ""), pxe(0, "ack", "10.77.0.101, w1")], []),
}


@pytest.mark.parametrize("rule", [rule.name for rule in RULES])
def test_every_rule_has_its_case_and_says_what_to_do(rule: str) -> None:
    found = told(CASES[rule])

    assert rule == found.name
    assert "{" not in found.remedy
    assert found.cause
    assert "?" not in found.cause


def test_a_rule_waits_as_long_as_what_it_misses_may_still_come() -> None:
    for rule in (rule for rule in RULES if rule.patience):
        last = story(*CASES[rule.name])[-1].at
        early = told(CASES[rule.name], last)

        assert UNDER_WAY.name == early.name, rule.name
        assert early.is_well


def test_http_boot_that_has_its_loader_is_told_as_pxe_is() -> None:
    """The loader came by HTTP: what is amiss after that has the same names."""
    sent = [asked(2, "loader")]

    assert "loader-does-not-start" == told((BY_HTTP, sent)).name
    assert "http-blocked" == told(([*BY_HTTP, *from_ipxe()], sent)).name
    assert "/loader" in told((BY_HTTP, sent)).cause


@pytest.mark.parametrize("end", ["asked", "cut", "piece"])
def test_a_loader_that_was_not_sent_to_its_end_is_not_told_as_one_that_does_not_start(end: End) -> None:
    part = [asked(2, "loader", end=end)]

    assert "http-loader-cut" == told((BY_HTTP, part)).name
    assert "loader-does-not-start" == told((BY_HTTP, [*part, asked(3, "loader")])).name


@pytest.mark.parametrize("what", ["kernel", "initrd"])
def test_an_initrd_that_was_cut_is_not_loaded(what: str) -> None:
    cut = [asked(6, "kernel"), asked(7, what, end="cut")]

    assert "kernel-not-loaded" == told(plus(SCRIPT, requests=cut)).name
    assert "system-not-started" == told(plus(SCRIPT, requests=[*cut, asked(9, "initrd")])).name
    assert f"HTTP {what} /{what}: 200, cut" in [step.text for step in story([], cut)]


def test_an_ipxe_that_refused_once_and_came_again_by_https_has_no_trouble() -> None:
    """Its clock was set, or nginx had just started: what came later counts."""
    came = [
        refused("4c0a6035"),
        Request(at=after(14).timestamp(), what="boot-script", name="/boot.ipxe", status=200),
    ]

    assert "script-not-asked" == told(([*from_ipxe()], came)).name


def test_an_authority_of_the_same_name_with_another_key_is_another_one() -> None:
    """What iPXE 2.0.0 said of the certificate of a cluster that was made anew."""
    assert "certificate-not-believed" == told(([*from_ipxe()], [refused("1c69e582")])).name


def test_the_error_of_an_ipxe_is_named_by_its_page() -> None:
    assert "(ipxe.org/0216eb8f)" in told(CASES["certificate-not-believed"]).cause
    assert "no error number" in told(([*from_ipxe()], [refused("")])).cause


def test_firmware_that_http_boot_helped_after_pxe_has_no_trouble() -> None:
    """TFTP is blocked, and the machine boots all the same: UEFI goes on to HTTP by itself."""
    later = [one.model_copy(update={"time": one.time + timedelta(seconds=30)}) for one in BY_HTTP]
    seen = ([*from_rom(), *later, *from_ipxe(35)], [asked(32, "loader"), asked(36, "boot-script")])

    assert "script-not-asked" == told(seen).name


def test_nothing_seen_and_nothing_seen_since_it_was_armed_are_two_things() -> None:
    assert NOTHING.name == told(([], [])).name
    assert NOTHING.name == told(([event(0, "accepted"), event(0, "armed")], [])).name
    assert NOT_SWITCHED_ON.name == told(plus(CASES["disk-missing"], event(99, "armed"))).name


def test_while_a_new_boot_is_young_the_one_before_tells() -> None:
    """Firmware asks again and again: its newest DISCOVER alone would say for ever that all is under way."""
    again = from_rom(at=120)

    assert "tftp-blocked" == told(([*from_rom(), *again], []), after(122)).name


def test_a_boot_that_came_further_than_the_one_before_is_under_way() -> None:
    further = [*from_rom(at=120), pxe(122, "tftp-sent", "snponly.efi")]

    assert UNDER_WAY.name == told(([*from_rom(), *further], []), after(123)).name


def test_the_one_rom_that_uefi_hangs_up_on_first_is_no_cut() -> None:
    """UEFI asks for the file's size, hangs up, and fetches it then (docs/booting.md)."""
    cut = pxe(2, "tftp-failed", "snponly.efi was cut off")
    sent = pxe(3, "tftp-sent", "snponly.efi")

    assert "http-blocked" == told(([*from_rom(), cut, sent, *from_ipxe(4)], [])).name


def test_a_node_that_was_not_ready_for_a_while_is_ready() -> None:
    back = plus(CASES["ready"], event(80, "node-not-ready"), event(90, "node-ready"))
    gone = plus(CASES["ready"], event(80, "node-not-ready"))

    assert "ready" == told(back).name
    assert "node-not-ready" == told(gone).name


def test_what_a_machine_says_is_shown_and_never_obeyed() -> None:
    evil = "PXEClient \x1b[2J{mac} [red]\u202e%s\n, boot file x (architecture 9)"
    seen = [pxe(0, "discover", evil), event(1, "failed", "failed", "no disk {0.__class__} \x07\r\nx" * 50)]
    steps = story(seen, [])

    assert [] == [c for step in steps for c in step.text if not c.isprintable()]
    assert all(len(step.text) <= 200 for step in steps)
    assert "{0.__class__}" in diagnose(ABOUT, steps, LATE).cause
    assert 9 == steps[0].arch


def test_a_machine_cannot_look_like_the_end_of_its_own_boot() -> None:
    """Marks come from what we saw, not from what stands in a text."""
    seen = [pxe(0, "discover", f"booted complete, boot file snponly.efi, tftp-sent, {ROM}")]

    assert "discover-unanswered" == told((seen, [])).name
    assert "ipxe-dhcp" in story([pxe(0, "discover", IPXE)], [])[0].marks
