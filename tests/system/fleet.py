"""Simulated machines: each boots, installs and starts from its disk, over the real wire, with the real retries.

A machine does in order what firmware, iPXE, the installer and the installed system do, and notes every request in
one History. What is not answered (no connection, 5xx, 408, 429) is asked again after a short pause; another 4xx is
an answer, after which the machine starts anew, as the installer restarts a machine.
"""

import hashlib
import http.client
import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.history import OK, History
from tests.system.fleet_site import (
    HTTP,
    HTTPS,
    SERVER,
    Answer,
    Connection,
    Site,
    asked,
    mac_of,
    name_of,
)
from tests.system.fleet_wire import Card, Firmware, Lease, NoAnswer, tftp
from tests.system.pxe_segment import inside

LOADERS = {0: "undionly.kpxe", 7: "snponly.efi"}
BIOS, UEFI = 0, 7
AGAIN = frozenset({408, 429})
PATIENCE_SECONDS = 300.0  # the real installer asks for half an hour, iPXE for ever
LONGEST_PAUSE_SECONDS = 2.0
MOST_BOOTS = 100
CHUNK_BYTES = 64 * 1024
POWER_CUTS = 0.05
_NEXT_STEP = re.compile(r"firstlight\.arm=(?P<arm>[0-9a-f-]{36})")
Talk = Callable[[], http.client.HTTPConnection]


class Restart(Exception):  # noqa: N818  # no error: what a refused or broken machine does next
    """The machine starts anew."""


class GivenUp(AssertionError):  # noqa: N818  # reads as a sentence where it is raised
    """A machine was not answered for so long that a person would be called."""


class Machine:
    """One machine of the rack; `run` is one life from arming to the report of the installed system."""

    def __init__(self, site: Site, card: Card, history: History, number: int, dice: random.Random) -> None:
        self.name, self.mac = name_of(number), mac_of(number)
        self._site = site
        self._card = card
        self._history = history
        self._dice = dice
        self._arch = (BIOS, UEFI)[number % 2]
        self._arm = ""
        self._lease: Lease | None = None
        self._trusted = site.trusted()
        self.boots = 0
        self.lives = 0

    def run(self) -> None:
        """Be armed, and boot until the installed system has reported."""
        self._order_arm()
        self._boot_until_up()

    def _boot_until_up(self) -> None:
        for _ in range(MOST_BOOTS):
            self.boots += 1
            try:
                if self._boot():
                    self.lives += 1
                    return
            except Restart:
                continue
            except NoAnswer:
                time.sleep(self._dice.uniform(0.1, 1.0))
        raise GivenUp(f"{self.name}: {MOST_BOOTS} boots and no end")

    def _boot(self) -> bool:
        """Boot once from the network; return whether the installed system came up."""
        self._load_ipxe()
        decision = self._ask_what_to_do()
        if decision == "install":
            self._install()
            return False
        if decision == "local":
            self._come_up()
            return True
        if decision == "wait":
            self._order_arm()
        return False

    def _load_ipxe(self) -> None:
        first = self._leased(b"")
        assert first.boot_file == LOADERS[self._arch], (self.name, first)
        if self.boots == 1 or self._dice.random() < 0.05:
            tftp(first.server, first.boot_file, first.address)
        self._lease = self._leased(b"iPXE")
        assert self._lease.boot_file.endswith("/boot.ipxe"), (self.name, self._lease)

    def _leased(self, user_class: bytes) -> Lease:
        with self._history.call(self.name, "lease", mac=self.mac) as call:
            lease = self._card.lease(Firmware(self.mac, self._arch, user_class), self._dice)
            call.answered(OK, {"address": lease.address})
        return lease

    def _ask_what_to_do(self) -> str:
        self._must(self._plain("/boot.ipxe", "script"))
        platform = "pcbios" if self._arch == BIOS else "efi"
        path = f"/ipxe?mac={self.mac.replace(':', '-')}&platform={platform}&arch=x86_64&uuid="
        answer = self._plain(path, "boot", read=_decision)
        self._must(answer)
        told = _decision(answer)
        self._arm = told.get("arm", self._arm)
        return str(told["decision"])

    def _install(self) -> None:
        self._must(self._plain(f"/v1/ignition/{self.mac.replace(':', '-')}", "ignition"))
        self._report(
            "facts",
            message=f"boot {self.boots} of {self.name}",
            facts={"firmware": "bios" if self._arch == BIOS else "uefi", "cpus": 2},
        )
        nonce = f"n{self._dice.getrandbits(60):x}"
        body = {
            "mac": self.mac,
            "arm": self._arm,
            "nonce": nonce,
            "disk": {"path": "/dev/vda", "size": 1 << 33},
        }
        answer = self._secure(
            "POST", "/v1/machine/begin", "begin", body, read=json_of, arm=self._arm, nonce=nonce
        )
        self._must(answer)
        grant = json_of(answer)
        self._progress("write", 5)
        self._perhaps_lose_power()
        self._write_image(grant["image"])
        self._progress("config", 85)
        path = grant["config"]["url"].partition(f":{HTTPS}")[2]
        self._must(self._secure("GET", path, "config", read=_digest, arm=self._arm))
        self._perhaps_lose_power()
        self._progress("finish", 95)
        self._report("complete")

    def _perhaps_lose_power(self) -> None:
        if self._dice.random() < POWER_CUTS:
            raise Restart

    def _write_image(self, image: dict[str, Any]) -> None:
        """Fetch the image in pieces; one that is lost is asked for again, as the installer does."""
        path, digest = image["url"].partition(f":{HTTP}")[2], hashlib.sha256()
        for start in range(0, image["size"], CHUNK_BYTES):
            end = min(start + CHUNK_BYTES, image["size"]) - 1
            answer = self._plain(path, "chunk", span=(start, end))
            if answer.status != 206 or len(answer.body) != end - start + 1:
                raise GivenUp(f"{self.name}: bytes {start}-{end}: {answer.status}, {len(answer.body)} bytes")
            digest.update(answer.body)
        with self._history.call(self.name, "image", mac=self.mac, arm=self._arm) as call:
            call.answered(OK, {"sha256": digest.hexdigest()})

    def _come_up(self) -> None:
        assert self._lease is not None
        self._report("booted", address=self._lease.address)
        self._read()

    def _read(self) -> None:
        """Have the operator look at this machine."""
        self._must(self._operator("GET", f"/v1/machines/{self.name}", "read", read=_state))

    def _order_arm(self) -> str:
        """Have the operator arm this machine, and return the arm that it got."""
        answer = self._operator("POST", f"/v1/machines/{self.name}/arm", "arm", read=json_of)
        self._must(answer)
        return str(json_of(answer)["arm"])

    def _report(self, kind: str, **more: Any) -> None:
        body = {"mac": self.mac, "arm": self._arm, "kind": kind, **more}
        path = "/v1/machine/events"
        named = {"arm": self._arm, "kind": kind} | ({"text": more["message"]} if "message" in more else {})
        self._must(self._secure("POST", path, "report", body, read=json_of, **named))

    def _progress(self, stage: str, percent: int) -> None:
        """Tell once how far it is; nobody waits for an answer."""
        body = {"mac": self.mac, "arm": self._arm, "kind": "progress", "stage": stage, "percent": percent}
        path, more = "/v1/machine/events", {"arm": self._arm, "kind": "progress"}
        self._secure("POST", path, "report", body, read=json_of, tries=1, **more)

    def _must(self, answer: Answer) -> None:
        if answer.status != OK:
            raise Restart

    def _plain(
        self, path: str, what: str, *, read: "Read | None" = None, span: tuple[int, int] | None = None
    ) -> Answer:
        def connect() -> http.client.HTTPConnection:
            return http.client.HTTPConnection(SERVER, HTTP, timeout=20, source_address=self._source)

        headers = {"Range": f"bytes={span[0]}-{span[1]}"} if span else {}
        return self._ask(Question(connect, "GET", path, what, read=read, headers=headers))

    def _secure(self, method: str, path: str, what: str, body: Any = None, **more: Any) -> Answer:
        def connect() -> http.client.HTTPConnection:
            return http.client.HTTPSConnection(
                SERVER, HTTPS, timeout=20, source_address=self._source, context=self._trusted
            )

        settings = {name: more.pop(name) for name in ("read", "tries") if name in more}
        return self._ask(Question(connect, method, path, what, body, arguments=more, **settings))

    def _operator(self, method: str, path: str, what: str, read: "Read") -> Answer:
        socket = self._site.work / "run/operator.sock"
        return self._ask(Question(lambda: Connection(socket), method, path, what, read=read))

    @property
    def _source(self) -> tuple[str, int]:
        assert self._lease is not None
        return (self._lease.address, 0)

    def _ask(self, question: "Question") -> Answer:
        """Ask until there is an answer; each try is a call of its own in the history."""
        deadline, pause = time.monotonic() + PATIENCE_SECONDS, 0.1
        for number in range(question.tries):
            answer = self._once(question)
            if answer.status and answer.status < 500 and answer.status not in AGAIN:
                return answer
            if time.monotonic() > deadline:
                raise GivenUp(f"{self.name}: {question.what}: no answer to {number + 1} tries: {answer}")
            if number + 1 < question.tries:
                time.sleep(self._dice.uniform(0.5, 1.0) * pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        return answer

    def _once(self, question: "Question") -> Answer:
        who, read = "operator" if question.what in ("arm", "read") else self.name, question.read
        named = {"mac": self.mac, "name": self.name, **question.arguments}
        with self._history.call(who, question.what, **named) as call:
            try:
                answer = asked(
                    question.talk(), question.method, question.path, question.body, question.headers
                )
            except (OSError, http.client.HTTPException) as error:
                return Answer(0, {}, repr(error).encode())
            call.answered(answer.status, read(answer) if read and answer.status == OK else None)
            return answer


Read = Callable[[Answer], dict[str, Any]]


@dataclass(frozen=True)
class Question:
    """One request, asked at most `tries` times; `read` is what of the answer goes into the history."""

    talk: Talk
    method: str
    path: str
    what: str
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    read: Read | None = None
    tries: int = 1000
    arguments: Mapping[str, Any] = field(default_factory=dict)


def json_of(answer: Answer) -> dict[str, Any]:
    """Return the JSON object of an answer."""
    value: dict[str, Any] = json.loads(answer.body)
    return value


def _digest(answer: Answer) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(answer.body).hexdigest()}


def _state(answer: Answer) -> dict[str, Any]:
    found = json_of(answer)
    return {name: found[name] for name in ("state", "attempts", "arm")}


def _decision(answer: Answer) -> dict[str, Any]:
    script = answer.body.decode()
    if found := _NEXT_STEP.search(script):
        return {"decision": "install", "arm": found["arm"]}
    if "sanboot" in script or "localboot" in script:
        return {"decision": "local"}
    return {"decision": "wait" if "asking again in" in script else "leave"}


class Fleet:
    """All machines at once, each in a thread; they go on living until told that it is enough."""

    def __init__(
        self,
        site: Site,
        history: History,
        kinds: Sequence[type[Machine]],
        dice: random.Random,
        *,
        first: int = 0,
    ) -> None:
        self._site = site
        self._is_enough = threading.Event()
        self.problems: list[BaseException] = []
        with inside(site.client):
            self._card = Card("cli0")
        self.machines = [
            kind(site, self._card, history, number, random.Random(dice.getrandbits(64)))
            for number, kind in enumerate(kinds, start=first)
        ]
        self._threads = [
            threading.Thread(target=self._live, args=(machine,), name=machine.name)
            for machine in self.machines
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def finish(self, seconds: float) -> None:
        """Let each machine end the life it is in; fail if one does not in time, or had a problem."""
        self._is_enough.set()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        alive = [thread.name for thread in self._threads if thread.is_alive()]
        assert not alive, f"{len(alive)} machines did not finish: {alive[:8]}"
        assert not self.problems, self.problems[:5]

    def close(self) -> None:
        self._is_enough.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(PATIENCE_SECONDS)
        self._card.close()

    @property
    def lives(self) -> int:
        return sum(machine.lives for machine in self.machines)

    @property
    def boots(self) -> int:
        return sum(machine.boots for machine in self.machines)

    def _live(self, machine: Machine) -> None:
        try:
            with inside(self._site.client):
                while True:
                    machine.run()
                    if self._is_enough.wait(random.uniform(1.0, 5.0)):
                        return
        except BaseException as error:  # noqa: BLE001  # the test's own thread reads it
            self.problems.append(error)


@contextmanager
def fleet(
    site: Site,
    history: History,
    kinds: int | Sequence[type[Machine]],
    dice: random.Random,
    *,
    first: int = 0,
) -> Iterator[Fleet]:
    """Run machines of a site that is up, so many or of these kinds; they have ended when the block is left.

    The first of them is the site's machine number `first`.
    """
    made = Fleet(site, history, (Machine,) * kinds if isinstance(kinds, int) else kinds, dice, first=first)
    try:
        made.start()
        yield made
    finally:
        made.close()
