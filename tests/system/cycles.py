"""Power cycles of a lab's machines, and what their consoles and reports say of each boot."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from bootstrap.status import is_done
from tests.system.spine import Site, wait_for

BOOT_SECONDS = 1500.0  # firmware, iPXE and a Debian under emulation, two machines at once, on a busy computer
WRITE_PASS = re.compile(r"firstlight: clear: \d+% ")


def cycle(site: Site, names: Sequence[str]) -> None:
    """Cut the power of `names` and give it back."""
    assert 0 == site.run("lab", "power", "cycle", *names, timeout=120).code


def cycle_and_wait(site: Site, names: Sequence[str]) -> None:
    """Cut the power of `names`, give it back, and wait until each has reported from its disk again."""
    before = site.machines()
    cycle(site, names)
    wait_until_booted_again(site, names, before)


def arm_and_cycle(site: Site, names: Sequence[str]) -> None:
    """Have each of `names` installed once more."""
    for name in names:
        assert 0 == site.run("machine", "arm", name, "--yes", timeout=60).code
    cycle(site, names)


def wait_until_booted_again(
    site: Site, names: Sequence[str], before: Mapping[str, Mapping[str, Any]]
) -> None:
    """Wait until each of `names` has reported from its disk later than it had in `before`."""

    def all_back() -> bool:
        now = site.machines()
        return all(
            now[name]["bootedAt"] not in {None, before[name]["bootedAt"]} and now[name]["sshAnswers"]
            for name in names
        )

    wait_for(all_back, f"{names} booted from disk", timeout=BOOT_SECONDS, every=0.5)


def write_passes(site: Site, name: str) -> int:
    """Return how often the machine's installer began to write its disk, as its own console says."""
    return len(WRITE_PASS.findall(site.console(name)))


def says(site: Site, texts: Mapping[str, str]) -> dict[str, int]:
    """Return how often the console of each machine of `texts` has shown its text."""
    return {name: site.console(name).count(text) for name, text in texts.items()}


def wait_until_each_says_more(site: Site, texts: Mapping[str, str], before: Mapping[str, int]) -> None:
    """Wait until the console of each machine has shown its text more often than in `before`."""
    for name in first_to_say_more(site, texts, before):
        sys.stderr.write(f"{name} said {texts[name]!r}\n")


def first_to_say_more(site: Site, texts: Mapping[str, str], before: Mapping[str, int]) -> Iterator[str]:
    """Yield each machine as soon as its console has shown its text more often than in `before`."""
    silent = set(texts)

    def somebody() -> bool:
        return any(now > before[name] for name, now in says(site, texts).items() if name in silent)

    while silent:
        wait_for(somebody, f"one of {silent} says {texts}", timeout=BOOT_SECONDS, every=0.1)
        now = says(site, texts)
        spoke = {name for name in silent if now[name] > before[name]}
        silent -= spoke
        yield from spoke


@contextmanager
def reports_dropped(site: Site) -> Iterator[Callable[[str], None]]:
    """Yield a function that drops every packet from an address to our HTTPS port, in the lab's namespace only."""
    with ExitStack() as stack:

        def drop(address: str) -> None:
            rule = ("INPUT", "-s", address, "-p", "tcp", "--dport", "8443", "-j", "DROP")
            _iptables(site, "-I", *rule)
            stack.callback(_iptables, site, "-D", *rule)

        yield drop


def _iptables(site: Site, *words: str) -> None:
    subprocess.run(["ip", "netns", "exec", site.namespace, "iptables", *words], check=True)


def all_are_up(site: Site) -> bool:
    """Return whether every machine runs from its disk, SSH answers, and its node is Ready."""
    return all(is_done(machine) for machine in site.machines().values())
