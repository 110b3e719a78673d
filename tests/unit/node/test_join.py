"""configs/node/join against the real application over TLS: real keys, real requests, real certificates."""

import stat
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from bootstrap.states import State
from certs.requests import certificate_facts
from tests.unit.node.appliance import Node
from tests.unit.web.joining import DOWN, csr


def test_a_machine_joins_with_a_key_that_it_makes_itself(machine: Node) -> None:
    done = machine.join()

    assert done.returncode == 0, done.stderr
    assert machine.rack.record().state is State.JOINED
    claim = machine.rack.record().claim
    assert claim is not None
    assert certificate_facts(machine.pem.read_bytes()).fingerprint == claim.key
    assert machine.calls() == ["--no-block restart kubelet.service kube-proxy.service"]


def test_kubelet_finds_certificate_and_key_where_its_own_rotation_puts_them(machine: Node) -> None:
    machine.join()

    assert machine.pem.is_symlink()
    target = machine.pem.readlink()
    assert target.name.startswith("kubelet-client-20")
    text = machine.pem.read_text()
    assert text.index("BEGIN CERTIFICATE") < text.index("BEGIN PRIVATE KEY")
    for file in (target, machine.folder / "state/node.key"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    check = ("openssl", "pkey", "-in", str(machine.pem), "-noout")
    assert subprocess.run(check, check=False).returncode == 0


def test_a_node_that_has_its_certificate_asks_nobody(machine: Node) -> None:
    machine.join()
    machine.calls()
    before = machine.rack.site.ledger.last_event()

    assert machine.join(FL_ETC=str(machine.folder / "etc")).returncode == 0
    assert machine.rack.site.ledger.last_event() == before
    assert machine.calls() == ["--no-block start kubelet.service kube-proxy.service"]


def test_a_lost_answer_costs_nothing(machine: Node) -> None:
    """The certificate was made, and the power went before it was on the disk."""
    machine.join()
    machine.pem.unlink()

    assert machine.join().returncode == 0
    assert machine.rack.kube.made == 1
    assert machine.rack.alarms() == []


def test_a_certificate_that_ran_out_is_claimed_again_with_the_same_key(machine: Node) -> None:
    machine.rack.clock.now -= timedelta(days=30)
    assert machine.join().returncode == 0
    key = (machine.folder / "state/node.key").read_bytes()
    old = machine.pem.readlink()
    machine.rack.clock.now += timedelta(days=30)

    assert machine.join().returncode == 0

    assert (machine.folder / "state/node.key").read_bytes() == key
    assert machine.rack.kube.made == 2
    assert machine.rack.alarms() == []
    assert machine.pem.readlink() != old or machine.rack.kube.made == 2
    assert "restart" in machine.calls()[-1]


def test_while_the_cluster_is_down_it_waits_and_says_so(machine: Node) -> None:
    machine.rack.kube.trouble = DOWN

    done = machine.join()

    assert done.returncode == 1  # the test lets it try three times; on a machine it goes on
    assert done.stderr.count("waiting: waits for the API server") >= 1
    assert "API server" in machine.rack.machine()["message"]
    machine.rack.kube.trouble = None
    assert machine.join().returncode == 0


def test_a_server_that_does_not_answer_is_asked_again(machine: Node) -> None:
    env = (machine.folder / "etc/node.env").read_text()
    (machine.folder / "etc/node.env").write_text(env.replace(machine.server, "https://127.0.0.1:9"))

    done = machine.join()

    assert (done.returncode, done.stderr.count("the appliance does not answer")) == (1, 3)
    assert not machine.pem.exists()


def test_a_server_of_another_authority_gets_nothing(machine: Node, tmp_path: Path) -> None:
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=mallory -keyout"
    other = (*make.split(), str(tmp_path / "m.key"), "-out", str(machine.folder / "etc/provisioning-ca.crt"))
    subprocess.run(other, check=True, capture_output=True)

    done = machine.join()

    assert done.returncode == 1
    assert machine.rack.record().claim is None
    assert "certificate" in done.stderr


def test_a_refusal_is_shown_and_the_key_stays(machine: Node) -> None:
    machine.rack.claim(csr(number=9))

    done = machine.join()

    assert done.returncode == 1
    assert "refuses (status 409)" in done.stderr
    assert "quarantined" in done.stderr
    assert (machine.folder / "state/node.key").stat().st_size > 0
    assert machine.rack.record().state is State.QUARANTINED


def test_without_its_arm_it_does_nothing(machine: Node) -> None:
    (machine.folder / "etc/arm").unlink()

    done = machine.join()

    assert (done.returncode, "is missing" in done.stderr) == (1, True)
    assert not (machine.folder / "state/node.key").exists()


def test_an_openssl_that_adds_attributes_by_itself_is_overruled(machine: Node) -> None:
    settings = machine.folder / "openssl.cnf"
    settings.write_text(
        "[req]\ndistinguished_name=dn\nreq_extensions=ext\nattributes=at\n[dn]\n[at]\nchallengePassword=x\n"
        "[ext]\nsubjectAltName=DNS:kubernetes\n"
    )

    done = machine.join(OPENSSL_CONF=str(settings))

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("clock", "is_set"), [("2001-01-01", True), ("2040-01-01", False)])
def test_a_clock_before_the_authority_was_made_is_set(machine: Node, clock: str, is_set: bool) -> None:  # noqa: FBT001  # a table
    tool = machine.folder / "bin/date"
    tool.write_text(
        f'#!/bin/sh\nif [ "$*" = +%s ]; then exec /bin/date -u -d {clock} +%s; fi\nexec /bin/date "$@"\n'
    )
    tool.chmod(0o755)

    done = machine.join()

    assert done.returncode == 0
    assert ("setting it to" in done.stderr) is is_set


CURL = """#!/bin/sh
for word; do [ "$word" = --insecure ] && exec /usr/bin/curl "$@"; done
[ -e "$FAKE/clock-is-wrong" ] || exec /usr/bin/curl "$@"
for word; do case $word in */livez) exit "$(cat "$FAKE/clock-is-wrong")" ;; esac; done
echo "curl: (60) certificate is not yet valid" >&2
exit 60
"""


@pytest.mark.parametrize(("livez", "steps"), [("0", 2), ("60", 3)])
def test_a_clock_that_is_behind_follows_the_date_of_the_pinned_server_only(
    machine: Node, livez: str, steps: int
) -> None:
    """A server whose certificate is not good at its own Date is somebody else: the clock goes back.

    The first step of each is to the day on which the authority was made.
    """
    (machine.folder / "clock-is-wrong").write_text(livez)
    for name, text in {"curl": CURL, "date": DATE}.items():
        (machine.folder / "bin" / name).write_text(text)
        (machine.folder / "bin" / name).chmod(0o755)

    done = machine.join(FL_TRIES="1")

    assert done.returncode == 1
    assert done.stderr.count("setting it to") == steps
    assert ("not good at that time either" in done.stderr) is (steps == 3)


DATE = """#!/bin/sh
[ "$*" = +%s ] && exec /bin/date -d '1 hour ago' +%s
exec /bin/date "$@"
"""
