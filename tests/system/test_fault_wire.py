"""A wire that loses frames: machines install through it as through a good one, only slower."""

from collections.abc import Iterator

import pytest

from tests.system.cycles import BOOT_SECONDS, arm_and_cycle, wait_until_booted_again, write_passes
from tests.system.lossy_wire import PERCENT, LossyWire
from tests.system.spine import BARE, CACHE, Site, leftovers, show_logs
from tests.tier import Promise, rounds

pytestmark = pytest.mark.system

NAMES = ("w1", "w2")


@pytest.fixture(name="site")
def fixture_site(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A lab whose cables are laid and whose machines are off."""
    site = Site(
        deploy=tmp_path_factory.mktemp("wire"),
        cache=CACHE,
        configs=(BARE, "tests/system/overlay-wire.yaml"),
        name="labwire",
    )
    try:
        built = site.run("lab", "up")
        assert 0 == built.code, built.err
        failed_before = request.session.testsfailed
        yield site
        if request.session.testsfailed > failed_before:
            show_logs(site)
    finally:
        down = site.run("down", timeout=120)
    assert (0, []) == (down.code, leftovers(site))


def test_both_machines_install_in_the_first_attempt_over_a_wire_that_loses_frames(
    site: Site, promise: Promise
) -> None:
    """From power-on to SSH, 5 % of the frames lost in each direction: one write pass each, every time."""
    installs = rounds(ci=1, soak=10)  # CI has one more in test_spine
    wire = LossyWire(site.namespace, bridge="fl0")
    with wire.losing(PERCENT):
        up = site.run(timeout=2 * BOOT_SECONDS)
        assert 0 == up.code, up.err[-4000:]
        check_round(site, 1)
        for number in range(2, installs + 1):
            before = site.machines()
            arm_and_cycle(site, NAMES)
            wait_until_booted_again(site, NAMES, before)
            check_round(site, number)
        tallies = wire.tallies()

    assert 2 * len(NAMES) == len(tallies)
    shares = sorted(100 * tally.share for tally in tallies.values())
    promise(
        promise="S-05 5 % loss",
        asked="5 % of the frames lost each way: both machines install in the first attempt, 10 of 10",
        done=f"{installs} installs of both machines, {sum(tally.frames for tally in tallies.values())} frames",
        found=f"{installs} of {installs}; lost {shares[0]:.1f} to {shares[-1]:.1f} % by cable and direction",
    )


def check_round(site: Site, number: int) -> None:
    """Fail unless each machine is installed, by one attempt and one write pass more than a round ago."""
    for name, machine in site.machines().items():
        assert ("installed", 1, number) == (
            machine["state"],
            machine["attempts"],
            write_passes(site, name),
        ), name
