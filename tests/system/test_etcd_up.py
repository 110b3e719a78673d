"""`up` with `store: etcd`, as a person runs it, and a second web beside it from a copy of the work folder.

What is copied and how the second web is started is what docs/stores.md says. Real etcd, nginx and dnsmasq; the
machines' requests come over HTTP and HTTPS, to one replica and the other in turns.
"""

import http.client
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from bootstrap.backup.archive import read_archive
from bootstrap.backup.manifest import STATE
from tests.system.etcd_members import Members, members
from tests.system.etcd_rack import Replica, ip
from tests.system.fleet_rig import FORGOTTEN_SOCKETS
from tests.system.fleet_site import HTTP, HTTPS, SERVER, Answer, Site, asked, mac_of, site, wait_for
from tests.system.pxe_segment import inside

pytestmark = [pytest.mark.system, FORGOTTEN_SOCKETS]

ROOT = Path(__file__).resolve().parents[2]
HERE, THERE = "10.80.1.1", "10.80.1.2"  # the wire between the two computers; etcd is at the first one's end
W0, NEW = mac_of(0), "52:54:00:7b:00:01"
READY_SECONDS, HEARD_SECONDS = 90.0, 20.0
ETCD = """appliance:
  store: etcd
  etcd:
    endpoints: [{urls}]
    caFile: {pki}/ca.crt
    certFile: {pki}/healthcheck-client.crt
    keyFile: {pki}/healthcheck-client.key
"""


def copied_names() -> list[str]:
    """Return what each appliance needs of the work folder, by the document."""
    text = (ROOT / "docs" / "stores.md").read_text()
    found = re.search(r"each needs a copy of the work folder's (.*?), as far as they are there", text)
    assert found
    return [name.rstrip("/") for name in re.findall(r"`([^`]+)`", found[1])]


@dataclass(frozen=True)
class Pair:
    """The appliance that `up` has started, and the web beside it."""

    site: Site
    etcd: Members
    other: Replica

    @property
    def one(self) -> str:
        return self.site.client

    @property
    def two(self) -> str:
        return self.other.namespace

    def ask(self, at: str, method: str, path: str, body: Any = None, *, port: int = HTTPS) -> Answer:
        """Ask as a machine does, from the namespace `at`, where one of the two webs is the appliance."""
        with inside(at):
            connection = (
                http.client.HTTPSConnection(SERVER, port, timeout=30, context=self.site.trusted())
                if port == HTTPS
                else http.client.HTTPConnection(SERVER, port, timeout=30)
            )
            return asked(connection, method, path, body)

    def boot(self, at: str, mac: str) -> str:
        answer = self.ask(at, "GET", f"/ipxe?mac={mac.replace(':', '-')}&platform=efi", port=HTTP)
        assert answer.status == 200, answer
        return answer.body.decode()

    def tell(self, at: str, what: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.ask(at, "POST", f"/v1/{what}", body)
        assert answer.status == 200, answer
        found: dict[str, Any] = json.loads(answer.body)
        return found

    def shown_there(self, name: str) -> dict[str, Any]:
        answer = self.other.ask("GET", f"/v1/machines/{name}")
        return dict(json.loads(answer.body)) if answer.status == 200 else {}

    def verb(self, *words: str) -> str:
        """Run a verb of deploy.py beside the appliance, and return what it says."""
        done = self.site.run(*words)
        assert done.returncode == 0, done.stderr
        return done.stderr


@contextmanager
def wire(here: str, there: str) -> Iterator[None]:
    """Lay a wire from the appliance to another computer, which has the appliance's address too."""
    ip("netns", "add", there)
    try:
        ip("link", "add", "pair0", "netns", here, "type", "veth", "peer", "pair1", "netns", there)
        for namespace, card, address in ((here, "pair0", HERE), (there, "pair1", THERE)):
            ip("-n", namespace, "link", "set", "lo", "up")
            ip("-n", namespace, "address", "add", f"{address}/30", "dev", card)
            ip("-n", namespace, "link", "set", card, "up")
        ip("-n", there, "address", "add", f"{SERVER}/32", "dev", "lo")
        yield
    finally:
        subprocess.run(("ip", "netns", "delete", there), check=False, capture_output=True, timeout=30)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("up")
    there = f"fletcd{os.getpid()}"
    with ExitStack() as stack:
        here = stack.enter_context(site(folder, 2, Site))
        stack.enter_context(wire(here.server, there))
        places = {"m1": IPv4Address(HERE)}
        etcd = stack.enter_context(
            members(folder / "etcd", "m1", hosts=places, namespaces={"m1": here.server})
        )
        config = folder / "c.yaml"
        section = ETCD.format(urls=", ".join(etcd.urls), pki=etcd.folder / "pki" / "etcd")
        config.write_text(config.read_text().replace("appliance:\n", section, 1))
        here.up()
        work = folder / "other"
        work.mkdir(mode=0o700)
        for name in copied_names():
            source = here.work / name
            if source.exists():
                (shutil.copytree if source.is_dir() else shutil.copy2)(source, work / name)
        other = Replica("other", work, folder / "cache", there, folder / "other.log")
        stack.callback(other.stop)
        other.start()
        wait_for(other.is_ready, READY_SECONDS, other.text)
        yield Pair(here, etcd, other)


def test_a_machine_is_armed_at_one_installs_through_both_and_status_shows_it(pair: Pair) -> None:
    pair.verb("machine", "arm", "w0", "--yes")
    arm = pair.shown_there("w0")["arm"]
    assert f"firstlight.arm={arm}" in pair.boot(pair.two, W0)
    assert f"firstlight.arm={arm}" in pair.boot(pair.one, W0)

    granted = pair.tell(pair.two, "machine/begin", {"mac": W0, "arm": arm, "nonce": "n1"})
    again = pair.tell(pair.one, "machine/begin", {"mac": W0, "arm": arm, "nonce": "n1"})
    numbers = [
        pair.tell(at, "machine/events", {"mac": W0, "arm": arm, **report})["seq"]
        for at, report in (
            (pair.one, {"kind": "progress", "stage": "write", "percent": 50}),
            (pair.two, {"kind": "complete"}),
            (pair.one, {"kind": "booted", "address": "10.79.6.1"}),
        )
    ]

    assert granted["attempt"] == again["attempt"] == 1
    assert numbers == sorted(set(numbers))
    told = pair.site.run("status").stderr
    (row,) = (line for line in told.splitlines() if line.startswith("w0 "))
    assert "installed" in row
    assert "is installed" in pair.boot(pair.two, W0)
    assert pair.shown_there("w0")["state"] == "installed"


def test_a_machine_that_the_verb_accepts_is_the_other_webs_within_seconds(pair: Pair) -> None:
    pair.boot(pair.two, NEW)
    pair.verb("machine", "accept", NEW, "--pool", "workers", "--name", "w7")

    wait_for(lambda: bool(pair.shown_there("w7")), HEARD_SECONDS, pair.other.text)
    arm = pair.shown_there("w7")["arm"]
    assert f"firstlight.arm={arm}" in pair.boot(pair.two, NEW)
    assert f"firstlight.arm={arm}" in pair.boot(pair.one, NEW)


def test_the_state_is_in_etcd_alone_and_goes_into_a_backup(pair: Pair) -> None:
    file = pair.site.folder / "backup.tar.gz"

    pair.verb("backup", str(file))

    assert STATE in {member.path for member in read_archive(file).members}
    assert not (pair.site.work / STATE).exists()
    assert not (pair.other.work / STATE).exists()


def test_up_again_changes_nothing_and_down_leaves_nothing(pair: Pair) -> None:
    pair.verb("up", "--no-wait")  # renders the machine that was accepted
    assert "nothing changed" in pair.verb("up", "--no-wait")

    pair.verb("down")

    assert set(pair.site.pids()) == {process.pid for process in pair.etcd.processes.values()}
    assert pair.other.is_ready()
    assert pair.shown_there("w0")["state"] == "installed"
