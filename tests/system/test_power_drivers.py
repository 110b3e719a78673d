"""Each power driver against a real peer: what all are asked, and what may be wrong with a BMC, a strip or a wire."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import pytest

from bootstrap.power import PowerState
from bootstrap.switching import GRACE_SECONDS, Outcome, switch
from tests.power_questions import QUESTIONS, Act, Peer, one_clear_line
from tests.power_targets import secret, target_of
from tests.system.power_cuts import after, half, half_after, silent_tcp, silent_udp, tcp_proxy, udp_proxy
from tests.system.power_peers import PASSWORD, WRONG, IpmiPeer, PduPeer, RedfishPeer

pytestmark = pytest.mark.system

PEERS = {"ipmi": IpmiPeer, "redfish": RedfishPeer, "pdu": PduPeer}
SECONDS = 9.0  # for what fails: longer than any try, shorter than any driver's own time
ENDING_SECONDS = 5.0  # to start and to end a process on a busy computer

RealPeer = IpmiPeer | RedfishPeer | PduPeer


@pytest.fixture(scope="module", name="peers")
def fixture_peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, RealPeer]]:
    folder = tmp_path_factory.mktemp("power")
    with (
        IpmiPeer(folder / "ipmi").serving() as ipmi,
        RedfishPeer(folder / "redfish").serving() as redfish,
        PduPeer(folder / "pdu").serving() as pdu,
    ):
        yield {"ipmi": ipmi, "redfish": redfish, "pdu": pdu}


def do(peer: RealPeer, action: str, seconds: float | None = None, **differs: Any) -> Outcome:
    """Do `action` to the peer's machine in a process of its own, as the command line does."""
    return switch([target_of({**peer.power, **differs}, peer.folder)], action, seconds)[0]


def failed(peer: RealPeer, action: str, *words: str, **differs: Any) -> str:
    """Do what cannot be done; check that it ends in time with one clear line, and return that."""
    began = time.monotonic()
    outcome = do(peer, action, SECONDS, **differs)

    assert time.monotonic() - began < SECONDS + GRACE_SECONDS + ENDING_SECONDS
    assert outcome.state is PowerState.UNKNOWN
    one_clear_line(outcome.error, *words)
    assert PASSWORD not in outcome.error
    assert WRONG not in outcome.error
    return outcome.error


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.__name__)
@pytest.mark.parametrize("name", PEERS)
def test_each_driver_does_what_all_do(
    name: str, question: Callable[[Peer, Act], None], peers: dict[str, RealPeer]
) -> None:
    peer = peers[name]

    def act(action: str) -> tuple[str, str]:
        outcome = do(peer, action)
        return outcome.state.value, outcome.error

    question(peer, act)


@pytest.mark.parametrize("action", ["status", "on"])
@pytest.mark.parametrize(
    ("name", "key", "words"),
    [
        ("ipmi", "passwordFile", ("refuses user 'admin'", "power.user")),
        ("redfish", "passwordFile", ("refuses user 'admin'", "power.user")),
        ("pdu", "communityFile", ("community", "never answered")),
    ],
)
def test_a_wrong_password_is_told(
    name: str, key: str, words: tuple[str, ...], action: str, peers: dict[str, RealPeer]
) -> None:
    peer = peers[name]
    peer.put(on=False)

    failed(peer, action, *words, **{key: secret(peer.folder, "wrong", WRONG)})

    assert not peer.is_on()
    assert peer.orders() == 0


@pytest.mark.parametrize("name", ["ipmi", "redfish"])
def test_an_unknown_user_is_told(name: str, peers: dict[str, RealPeer]) -> None:
    failed(peers[name], "status", "refuses user 'nobody'", user="nobody")


def test_a_community_that_may_only_read_is_told(peers: dict[str, RealPeer]) -> None:
    peer = peers["pdu"]
    peer.put(on=False)
    reader = secret(peer.folder, "reader", "reader")

    assert do(peer, "status", communityFile=reader).state is PowerState.OFF
    failed(peer, "on", "outlet 7", "write access", communityFile=reader)
    assert peer.orders() == 0


def test_an_outlet_that_is_not_there_is_told(peers: dict[str, RealPeer]) -> None:
    failed(peers["pdu"], "status", "no outlet 99", outlet=99)


def test_a_secret_that_others_can_read_is_not_used(peers: dict[str, RealPeer]) -> None:
    peer = peers["ipmi"]
    outcome = do(peer, "status", passwordFile=secret(peer.folder, "open", PASSWORD, 0o644))

    assert "other users can read the BMC's password; chmod 600" in outcome.error


def test_a_weak_cipher_suite_is_refused_unless_it_was_asked_for(peers: dict[str, RealPeer]) -> None:
    peer = peers["ipmi"]
    peer.put(on=False)

    failed(peer, "on", "only cipher suite 3", "write cipherSuite: 3", cipherSuite=17)
    assert peer.orders() == 0


def test_a_certificate_that_nobody_vouches_for_is_refused(peers: dict[str, RealPeer]) -> None:
    failed(peers["redfish"], "on", "nobody vouches", "power.caFile", caFile=None)


def test_a_system_that_is_not_there_is_told(peers: dict[str, RealPeer]) -> None:
    failed(peers["redfish"], "status", "no such system", "power.system", system="other")


def test_a_system_can_be_named(peers: dict[str, RealPeer]) -> None:
    peer = peers["redfish"]
    peer.put(on=True)

    assert do(peer, "status", system="27946b59-9e44-4fa7-8e91-f3527a1ef094").state is PowerState.ON


def at_port(peer: RealPeer, port: int) -> dict[str, Any]:
    """Return what differs in the configuration if the peer is reached through another port."""
    return {"address": f"https://127.0.0.1:{port}"} if isinstance(peer, RedfishPeer) else {"port": port}


@pytest.mark.parametrize("name", PEERS)
def test_nobody_there_is_told(name: str, peers: dict[str, RealPeer]) -> None:
    peer = peers[name]
    with silent_tcp() as one, silent_udp() as two:
        closed = {one, two}
    failed(peer, "on", "check power.address", **at_port(peer, min(closed)))


@pytest.mark.parametrize("name", PEERS)
def test_silence_is_told(name: str, peers: dict[str, RealPeer]) -> None:
    peer = peers[name]
    with silent_tcp() if name == "redfish" else silent_udp() as port:
        failed(peer, "on", "check", **at_port(peer, port))


def wires(name: str, port: int) -> dict[str, AbstractContextManager[int]]:
    """Return the ways in which an answer of a peer may stop half way."""
    if name == "redfish":
        return {
            "in the handshake": tcp_proxy(port, 300, hangs=False),
            "in the handshake, then silence": tcp_proxy(port, 300, hangs=True),
            "in an answer": tcp_proxy(port, 1600, hangs=False),
            "in an answer, then silence": tcp_proxy(port, 1600, hangs=True),
        }
    return {
        "each cut in half": udp_proxy(port, half),
        "the second cut in half": udp_proxy(port, half_after(1)),
        "the sixth cut in half": udp_proxy(port, half_after(5)),
        "silence after the first": udp_proxy(port, after(1)),
        "silence after the fifth": udp_proxy(port, after(5)),
    }


@pytest.mark.parametrize("action", ["status", "cycle"])
@pytest.mark.parametrize(
    ("name", "wire"),
    [(name, wire) for name in PEERS for wire in wires(name, 9)],
)
def test_an_answer_that_stops_half_way_is_told(
    name: str, wire: str, action: str, peers: dict[str, RealPeer]
) -> None:
    """What was read is right, or there is one clear line; a half answer is never taken for a whole one."""
    peer = peers[name]
    peer.put(on=True)
    began = time.monotonic()
    with wires(name, peer.port)[wire] as port:
        outcome = do(peer, action, SECONDS, **at_port(peer, port))

    assert time.monotonic() - began < SECONDS + GRACE_SECONDS + ENDING_SECONDS
    if not outcome.error:
        assert outcome.state is PowerState.ON
        assert peer.is_on()
        return
    assert outcome.state is PowerState.UNKNOWN
    one_clear_line(outcome.error)


def test_a_strip_keeps_the_outlet_off_for_as_long_as_it_was_told(peers: dict[str, RealPeer]) -> None:
    peer = peers["pdu"]
    assert isinstance(peer, PduPeer)
    peer.put(on=True)

    assert do(peer, "cycle", offSeconds=4).error == ""

    (off_at, off), (on_at, on) = peer.moves()
    assert (off, on) == ("0", "1")
    assert on_at - off_at >= 4


def test_machines_are_switched_side_by_side_and_each_has_its_own_end(
    peers: dict[str, RealPeer], tmp_path: Path
) -> None:
    good, dead = peers["ipmi"], peers["pdu"]
    good.put(on=False)
    with silent_udp() as port:
        targets = [
            target_of({**dead.power, "port": port}, dead.folder),
            target_of(good.power, good.folder, "w2"),
            target_of(None, tmp_path),
        ]
        silent, done, manual = switch(targets, "on", SECONDS)

    assert "no whole answer" in silent.error
    assert (done.name, done.state, done.error) == ("w2", PowerState.ON, "")
    assert "by hand" in manual.error
    assert good.is_on()


def seen_of_processes() -> bytes:
    """Return the command lines and environments of all processes of this computer."""
    found = []
    for file in (path / name for path in Path("/proc").glob("[0-9]*") for name in ("cmdline", "environ")):
        with suppress(OSError):
            found.append(file.read_bytes())
    return b"\n".join(found)


@pytest.mark.parametrize("name", PEERS)
def test_a_password_is_in_no_command_line_and_no_environment(name: str, peers: dict[str, RealPeer]) -> None:
    peer = peers[name]
    with silent_tcp() if name == "redfish" else silent_udp() as port, ThreadPoolExecutor(1) as pool:
        target = target_of({**peer.power, **at_port(peer, port)}, peer.folder)
        working = pool.submit(switch, [target], "status", 3.0)
        looks = []
        while not working.done():
            looks.append(seen_of_processes())
            time.sleep(0.2)

    assert len(looks) > 5
    assert all(b"python" in look for look in looks)
    assert not any(PASSWORD.encode() in look for look in looks)
    assert PASSWORD not in repr(working.result())
