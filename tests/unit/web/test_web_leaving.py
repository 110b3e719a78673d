"""How a machine leaves its network boot for its disk: by a search, by iPXE's own ways, or by a 404."""

import pytest

from tests.unit.web.conftest import Rack
from tests.unit.web.fakes import W1, W2, W3, cluster

WAYS = ("ipxe-exit", "ipxe-sanboot", "http-404")


def rack_with(method: str | None, of_pool: str | None = None) -> Rack:
    """Return a rack whose w1 leaves by `method`, and whose pools by `of_pool`."""
    made = cluster()
    machines = tuple(
        one.model_copy(update={"boot_from_disk_method": method if one.name == "w1" else None})
        for one in made.machines
    )
    pools = tuple(
        pool.model_copy(update={"boot_from_disk_method": of_pool} if of_pool else {}) for pool in made.pools
    )
    return Rack(cluster=made.model_copy(update={"machines": machines, "pools": pools}))


def commands(script: str) -> list[str]:
    return [line for line in script.splitlines() if not line.startswith(("#", "echo", ":", "sleep"))]


@pytest.mark.parametrize("platform", ["pcbios", "efi"])
def test_an_installed_machine_leaves_by_exit(platform: str) -> None:
    rack = rack_with("ipxe-exit")
    rack.tell("complete")

    script = rack.boot(platform=platform)

    assert "w1 is installed" in script
    assert commands(script) == ["exit 1"]


@pytest.mark.parametrize("platform", ["pcbios", "efi"])
def test_an_installed_machine_leaves_by_sanboot(platform: str) -> None:
    rack = rack_with("ipxe-sanboot")
    rack.tell("complete")

    script = rack.boot(platform=platform)

    assert commands(script) == ["sanboot --no-describe --drive 0x80 || goto failed", "exit 1"]
    assert "localboot" not in script


def test_an_installed_machine_leaves_by_a_404_and_its_boot_is_recorded() -> None:
    rack = rack_with("http-404")
    rack.tell("complete")

    answer = rack.public("/ipxe", query_string={"mac": W1, "platform": "efi"})

    assert (answer.status_code, answer.json) == (404, {"reason": "w1 is installed"})
    event = rack.site.ledger.events_of(W1)[-1]
    assert (event.what, event.decision) == ("network-boot", "local")


def test_our_own_first_script_learns_that_the_404_was_the_answer() -> None:
    """A script cannot see the status: it asks once more, and is told only where it is right."""
    rack = rack_with("http-404")
    ask = {"query_string": {"mac": W1, "platform": "efi"}}
    assert rack.public("/ipxe/leave", **ask).status_code == 404, "an armed machine has another answer"
    rack.tell("complete")

    answer = rack.public("/ipxe/leave", **ask)

    assert answer.status_code == 200
    assert commands(answer.text) == ["exit 1"]
    assert "w1 is installed" in answer.text
    for other in (W2, W3):
        assert rack.public("/ipxe/leave", query_string={"mac": other}).status_code == 404
    assert rack.public("/ipxe/leave", query_string={"mac": "nonsense"}).status_code == 400


@pytest.mark.parametrize("method", [None, "ipxe-exit", "ipxe-sanboot"])
def test_machines_that_leave_by_a_script_are_never_told_of_a_404(method: str | None) -> None:
    rack = rack_with(method)
    rack.tell("complete")

    assert rack.public("/ipxe/leave", query_string={"mac": W1}).status_code == 404
    assert rack.public("/ipxe", query_string={"mac": W1}).status_code == 200


def test_a_store_in_trouble_is_not_taken_for_a_way_to_the_disk() -> None:
    rack = rack_with("http-404")
    rack.tell("complete")
    rack.store.reads_fail = True

    for path in ("/ipxe", "/ipxe/leave"):
        assert rack.public(path, query_string={"mac": W1}).status_code == 503


@pytest.mark.parametrize("method", WAYS)
def test_the_machines_way_outranks_its_pools(method: str) -> None:
    rack = rack_with(method, of_pool="ipxe-sanboot" if method != "ipxe-sanboot" else "ipxe-exit")
    rack.tell("complete")
    answer = rack.public("/ipxe", query_string={"mac": W1, "platform": "efi"})

    assert (answer.status_code == 404) == (method == "http-404")
    assert ("sanboot" in answer.text) == (method == "ipxe-sanboot")


@pytest.mark.parametrize("method", WAYS)
def test_a_pools_way_is_that_of_its_machines(method: str) -> None:
    rack = rack_with(None, of_pool=method)
    rack.tell("complete")
    answer = rack.public("/ipxe", query_string={"mac": W1, "platform": "efi"})

    assert (answer.status_code == 404) == (method == "http-404")
    assert ("sanboot" in answer.text) == (method == "ipxe-sanboot")


@pytest.mark.parametrize("method", [None, *WAYS])
def test_an_armed_machine_is_installed_whatever_its_way_to_the_disk(method: str | None) -> None:
    assert "installing w1" in rack_with(method).boot()


@pytest.mark.parametrize(
    ("method", "status", "says"),
    [
        (None, 200, "exit 1"),
        ("ipxe-exit", 200, "exit 1"),
        ("ipxe-sanboot", 200, "sanboot"),
        ("http-404", 404, "w1 is retired"),
    ],
)
def test_a_retired_machine_leaves_by_its_way_and_nobody_looks_for_its_disk(
    method: str | None, status: int, says: str
) -> None:
    rack = rack_with(method)
    rack.operator("POST", "/v1/machines/w1/retire")

    answer = rack.public("/ipxe", query_string={"mac": W1, "platform": "efi"})

    assert answer.status_code == status, answer.text
    assert says in answer.text
    assert "localboot" not in answer.text
