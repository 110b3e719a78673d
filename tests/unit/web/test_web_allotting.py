"""Several appliances on one store give each node one pod subnet, whoever asks first."""

import re
from pathlib import Path

import pytest

from bootstrap.accepted import composed
from bootstrap.allotment import FILE, pod_subnets, record
from bootstrap.errors import StateError
from bootstrap.kubernetes.pod_network import laid_out
from bootstrap.kubernetes.subnets import dump, parse
from bootstrap.model import Cluster
from bootstrap.records.documents import NODE
from bootstrap.records.model import Accepted
from bootstrap.render.node import Joining, own_document, shared_document
from bootstrap.state import Put
from bootstrap.state.memory import MemoryStore
from tests.unit.web.fakes import cluster
from tests.unit.web.looking import CA
from web.allotting import SUBNETS, ReadJoining, allotted
from web.app import create_site
from web.composing import refuse_moved_subnets
from web.site import Rendered, Site


def asker(store: MemoryStore, work: Path) -> ReadJoining:
    work.mkdir(exist_ok=True)

    def ask(whole: Cluster) -> Joining | None:
        pod_subnets(whole, work)
        return None

    return allotted(store, work, ask)


def with_machines(*names: str) -> Cluster:
    more = [
        Accepted(mac=f"52:54:00:bb:00:{at:02x}", name=name, pool="workers") for at, name in enumerate(names)
    ]
    return composed(cluster(), more)


def numbers(work: Path) -> dict[str, int]:
    return parse((work / FILE).read_bytes())


def test_who_comes_second_gets_the_numbers_of_the_first(tmp_path: Path) -> None:
    store, one, other = MemoryStore(), tmp_path / "one", tmp_path / "other"
    asker(store, one)(with_machines("zebra"))
    asker(store, one)(with_machines("ape", "zebra"))

    asker(store, other)(with_machines("ape", "zebra"))

    assert numbers(one) == numbers(other) == {"w1": 0, "w2": 1, "zebra": 2, "ape": 3}


def test_two_that_meet_new_nodes_at_once_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, one, other = MemoryStore(), tmp_path / "one", tmp_path / "other"
    asker(store, one)(cluster())
    real, done = store.commit, list[bool]()

    def overtaken(writes: list[Put]) -> int:
        if not done:
            done.append(True)
            asker(store, other)(with_machines("zebra"))
        return real(writes)

    monkeypatch.setattr(store, "commit", overtaken)
    asker(store, one)(with_machines("ape", "zebra"))

    assert numbers(one) == {"w1": 0, "w2": 1, "zebra": 2, "ape": 3}
    entry = store.get(SUBNETS)
    assert entry is not None
    assert parse(entry.value) == numbers(one)


def test_a_number_that_another_has_is_given_up(tmp_path: Path) -> None:
    store, one, other = MemoryStore(), tmp_path / "one", tmp_path / "other"
    asker(store, one)(with_machines("zebra"))
    other.mkdir()
    pod_subnets(with_machines("ape"), other)

    asker(store, other)(with_machines("ape", "zebra"))

    assert numbers(other) == {"w1": 0, "w2": 1, "zebra": 2, "ape": 3}


def test_a_damaged_allotment_is_named_and_nothing_given_out(tmp_path: Path) -> None:
    store = MemoryStore()
    store.commit([Put(key=SUBNETS, value=b"[]")])

    with pytest.raises(StateError, match="meta/pod-subnets in the store is damaged"):
        asker(store, tmp_path / "one")(cluster())
    assert not (tmp_path / "one" / FILE).exists()


# --- what was rendered with other numbers -----------------------------------------------------------------------


def bridged() -> Cluster:
    """Return three listed machines whose pods are on a bridge of each node."""
    listed = [
        {"name": f"w{at}", "mac": f"52:54:00:aa:00:0{at}", "address": f"10.77.0.{50 + at}"}
        for at in range(1, 4)
    ]
    plain = cluster(*listed, hosts=1).model_dump(mode="json", by_alias=True, exclude_none=True)
    plain["kubernetes"]["cni"] = {"plugin": "bridge"}
    return Cluster.model_validate(plain)


class Computer:
    """A work folder whose documents are rendered as its list of pod subnets is; web starts there over `store`."""

    def __init__(self, store: MemoryStore, work: Path, numbers: dict[str, int]) -> None:
        self.store, self.work = store, work
        work.mkdir()
        record(work, numbers)

    def joining(self, whole: Cluster) -> Joining:
        return Joining(authority=b"pem", binaries={}, network=laid_out(whole, pod_subnets(whole, self.work)))

    def render(self) -> Rendered:
        whole, found = bridged(), self.joining(bridged())
        nodes = {(one.mac, NODE): own_document(whole, one, found) for one in whole.machines}
        return Rendered(whole, nodes, shared_document(found), CA)

    def start(self, rendered: Rendered) -> Site:
        return create_site(
            self.store,
            images=lambda _: None,
            read_rendered=lambda: rendered,
            is_nginx_up=lambda: True,
            read_joining=allotted(self.store, self.work, self.joining),
        )

    def served(self, site: Site, mac: str) -> str:
        document = site.documents.get(mac, NODE)
        assert document is not None
        (subnet,) = set(re.findall(r"10\.2\.\d+\.0/24", document.content.decode()))
        return str(subnet)


def test_two_nodes_never_have_one_pod_subnet_when_a_computer_with_an_older_list_takes_over(
    tmp_path: Path,
) -> None:
    store = MemoryStore()
    new = Accepted(mac="52:54:00:bb:00:01", name="m-x", pool="workers", address="10.77.0.60")
    store.commit(
        [
            Put(key=f"accepted/{new.mac}", value=new.to_bytes()),
            Put(key=SUBNETS, value=dump({"w1": 0, "w2": 1, "m-x": 2})),
        ]
    )
    late = Computer(store, tmp_path / "late", {"w1": 0, "w2": 1})
    stale = late.render()  # w3 is new there, and gets number 2

    for _ in range(2):
        with pytest.raises(StateError) as told:
            late.start(stale)
        assert "10.77.0.53 10.2.2.0/24 -> 10.2.3.0/24" in str(told.value)
        assert "run deploy.py render again" in str(told.value)

    site = late.start(late.render())
    assert late.served(site, "52:54:00:aa:00:03") == "10.2.3.0/24"
    assert late.served(site, new.mac) == "10.2.2.0/24"


def test_a_pod_subnet_that_somebody_else_routes_stops_nothing() -> None:
    other = Joining(authority=b"pem", binaries={}, network=laid_out(cluster(), {"w1": 5}))
    here = Joining(authority=b"pem", binaries={}, network=laid_out(cluster(), {"w1": 6}))

    refuse_moved_subnets(shared_document(other), here)
    refuse_moved_subnets(shared_document(other), None)
