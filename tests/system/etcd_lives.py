"""Machines that are armed, install and claim through two replicas at once, with every request in one history.

Each request goes to a replica by the throw of a die, as a balancer would send it; one that is not answered, or with
503, is sent to the other. Some machines have a rival: a second system with a key of its own.
"""

import http.client
import json
import random
import ssl
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from certs.requests import client_request
from tests.history import OK, History
from tests.system.etcd_rack import HTTPS, Rack, Replica
from tests.system.fleet_site import Answer, asked
from tests.system.pxe_segment import inside
from tests.system.web_bench import ADDRESS

PATIENCE_SECONDS = 120.0
LONGEST_SECONDS = 300.0
REPORTS, CLAIMS = 4, 6
PAUSE = (0.1, 0.6)  # a life lasts longer than a fault begins


def mac_of(number: int) -> str:
    return f"52:54:00:7a:{number >> 8:02x}:{number & 255:02x}"


def macs(count: int) -> dict[str, str]:
    return {f"w{number}": mac_of(number) for number in range(count)}


class Key:
    """A node's own key, and the body with which it claims."""

    def __init__(self, name: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{name}"),
        ]
        made = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name(subject))
            .sign(key, hashes.SHA256())
        )
        self.pem = made.public_bytes(Encoding.PEM)
        self.fingerprint = client_request(self.pem, name).fingerprint


@dataclass(frozen=True, kw_only=True)
class Question:
    """One request: `named` is what the history says of it."""

    who: str
    what: str
    path: str
    body: Any
    named: dict[str, Any]


class Wire:
    """The way of one machine, or of the operator, to both replicas."""

    def __init__(self, rack: Rack, history: History, dice: random.Random) -> None:
        self._rack = rack
        self._history = history
        self._dice = dice
        self.seed = dice.getrandbits(64)
        work = rack.replicas[0].work
        self._trusted = ssl.create_default_context(cafile=str(work / "bundle/appliance/provisioning-ca.crt"))

    def until_answered(self, question: Question) -> Answer:
        """Ask one replica after the other until one answers with something else than trouble."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        replicas = self._dice.sample(self._rack.replicas, k=len(self._rack.replicas))
        while True:
            for replica in replicas:
                answer = self.once(replica, question)
                if answer.status and answer.status < 500 and answer.status not in (408, 429):
                    return answer
            assert time.monotonic() < deadline, f"{question}: {answer}"
            time.sleep(self._dice.uniform(0.1, 0.4))

    def once(self, replica: Replica, question: Question) -> Answer:
        """Ask one replica, and note what it answers; status 0 if nothing came."""
        with self._history.call(question.who, question.what, **question.named) as call:
            try:
                answer = self._asked(replica, question)
            except (OSError, http.client.HTTPException) as error:
                return Answer(0, {}, repr(error).encode())
            found = json.loads(answer.body) if answer.status == OK else None
            call.answered(answer.status, found)
            return answer

    def armed(self, name: str, mac: str) -> str:
        """Have the operator arm a machine, and return the arm."""
        path, named = f"/v1/machines/{name}/arm", {"name": name, "mac": mac}
        answer = self.until_answered(Question(who="operator", what="arm", path=path, body=None, named=named))
        assert answer.status == OK, answer
        return str(json.loads(answer.body)["arm"])

    def _asked(self, replica: Replica, question: Question) -> Answer:
        if question.who == "operator":
            return replica.ask("POST", question.path, question.body)
        with inside(replica.namespace):
            connection = http.client.HTTPSConnection(ADDRESS, HTTPS, timeout=20, context=self._trusted)
            return asked(connection, "POST", question.path, question.body)


class Life:
    """One machine from its order to its claim; `rivals` come with a key of their own."""

    def __init__(self, wire: Wire, number: int, *, rivals: int) -> None:
        self.name, self.mac = f"w{number}", mac_of(number)
        self._wire = wire
        self._keys = [Key(self.name) for _ in range(1 + rivals)]
        self._arm = ""
        self._dice = random.Random(f"{wire.seed}/{number}")

    def run(self) -> None:
        self._arm = self._wire.armed(self.name, self.mac)
        begun = self._ask("begin", "/v1/machine/begin", {"nonce": f"n{self.mac[-5:].replace(':', '')}"})
        assert begun.status == OK, begun
        for number in range(REPORTS):
            time.sleep(self._dice.uniform(*PAUSE))
            self._report("progress", stage="write", percent=20 * number)
        self._report("complete")
        self._report("booted")
        threads = [threading.Thread(target=self._claim, args=(key,)) for key in self._keys]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _claim(self, key: Key) -> None:
        for _ in range(CLAIMS):
            time.sleep(self._dice.uniform(*PAUSE))
            body = {"mac": self.mac, "arm": self._arm, "csr": key.pem.decode()}
            named = {"name": self.name, "mac": self.mac, "arm": self._arm, "key": key.fingerprint}
            asked_ = Question(who=self.name, what="claim", path="/v1/claim", body=body, named=named)
            self._wire.until_answered(asked_)

    def _report(self, kind: str, **more: Any) -> None:
        self._ask("report", "/v1/machine/events", {"kind": kind, **more}, kind=kind)

    def _ask(self, what: str, path: str, more: dict[str, Any], **also: Any) -> Answer:
        body = {"mac": self.mac, "arm": self._arm, **more}
        named = {"name": self.name, "mac": self.mac, "arm": self._arm, **also}
        named |= {"nonce": more["nonce"]} if "nonce" in more else {}
        return self._wire.until_answered(
            Question(who=self.name, what=what, path=path, body=body, named=named)
        )


class Pulse:
    """Reports without a pause through one replica, and knows the longest time without an acknowledgement."""

    def __init__(self, wire: Wire, replica: Replica, number: int) -> None:
        self._wire, self._replica = wire, replica
        name, mac, nonce = f"w{number}", mac_of(number), f"pulse{number}"
        named = {"name": name, "mac": mac, "arm": wire.armed(name, mac)}
        own = {"mac": mac, "arm": named["arm"]}
        begin = Question(
            who=name,
            what="begin",
            path="/v1/machine/begin",
            body={**own, "nonce": nonce},
            named={**named, "nonce": nonce},
        )
        assert wire.until_answered(begin).status == OK
        self._question = Question(
            who=name,
            what="report",
            path="/v1/machine/events",
            body={**own, "kind": "progress", "stage": "write", "percent": 1},
            named={**named, "kind": "progress"},
        )
        self._is_over = threading.Event()
        self._last = time.monotonic()
        self.longest = 0.0
        self.count = 0
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def since(self) -> float:
        """Begin to measure anew; return the longest silence until now."""
        found = max(self.longest, time.monotonic() - self._last)
        self.longest, self._last = 0.0, time.monotonic()
        return found

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join(60)

    def _run(self) -> None:
        while not self._is_over.wait(0.2):
            if self._wire.once(self._replica, self._question).status == OK:
                now = time.monotonic()
                self.longest, self._last = max(self.longest, now - self._last), now
                self.count += 1


class Living:
    """Runs lives, so many at once, in threads."""

    def __init__(self, lives: Sequence[Life], at_once: int) -> None:
        self._waiting = list(lives)
        self._problems: list[BaseException] = []
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._work) for _ in range(at_once)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._waiting.clear()
        for thread in self._threads:
            thread.join(LONGEST_SECONDS)

    def finish(self) -> None:
        """Wait until all have come to their end."""
        for thread in self._threads:
            thread.join(LONGEST_SECONDS)
        assert not any(thread.is_alive() for thread in self._threads)
        assert not self._problems, self._problems[:3]

    def _work(self) -> None:
        while life := self._next():
            try:
                life.run()
            except BaseException as error:  # noqa: BLE001  # the test's own thread reads it
                self._problems.append(error)

    def _next(self) -> Life | None:
        with self._lock:
            return self._waiting.pop() if self._waiting and not self._problems else None
