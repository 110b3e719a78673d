"""What machines that are not to be installed get, with the reason on their own console."""

from collections.abc import Iterator

import pytest

from tests.system.spine import CACHE, Site, leftovers, wait_for

pytestmark = pytest.mark.system

BOOT_SECONDS = 240.0
STRANGER = "52:54:00:77:00:99"


@pytest.fixture(scope="module", name="site")
def fixture_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(
        deploy=tmp_path_factory.mktemp("waiting"),
        cache=CACHE,
        configs=("tests/system/waiting.yaml",),
        name="labwait",
    )
    up = site.run()
    assert up.code == 0, up.err
    yield site
    assert site.run("down", timeout=120).code == 0
    assert leftovers(site) == []


def test_a_machine_of_a_pool_that_is_not_armed_waits_and_says_how_to_arm_it(site: Site) -> None:
    """Its console shows the reason and the command; its disk is untouched; it asks again."""
    wait_for(lambda: "firstlight: w3 is accepted" in site.console("w3"), "w3 is told", timeout=BOOT_SECONDS)
    console = site.console("w3")

    assert "machine arm w3" in console
    wait_for(lambda: site.console("w3").count("w3 is accepted") >= 2, "w3 asks again", timeout=BOOT_SECONDS)
    assert "accepted" == site.machine("w3")["state"]
    assert is_empty(site, "w3/virtio-w3-root.raw")


def test_an_unknown_machine_is_told_so_and_left_to_its_firmware(site: Site) -> None:
    """Its console shows its own address and what to do; it is listed as discovered; its disk is untouched."""
    reason = f"firstlight: {STRANGER} is not in config.yaml"
    wait_for(lambda: reason in site.console("stranger"), "the stranger is told", timeout=BOOT_SECONDS)

    wait_for(
        lambda: "back to the firmware" in site.console("stranger").partition(reason)[2],
        "the firmware goes on",
        timeout=BOOT_SECONDS,
    )
    assert "discovered" == site.machine(STRANGER)["state"]
    assert is_empty(site, "stranger/not-ours.raw")


def is_empty(site: Site, disk: str) -> bool:
    """Return whether nothing was ever written to a sparse disk."""
    return (site.work / "lab" / disk).stat().st_blocks == 0
