"""Likenesses of what power drivers speak to: real programs and sockets where no root is needed, fakes elsewhere."""

import json
import os
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sushy

from bootstrap.power import PowerState, ipmi, lab, pdu
from tests.power_questions import NETBOOT, OFF, ON, STATE
from tests.power_targets import secret

LOOPBACK = "127.0.0.1"
ALL = frozenset({ON, OFF, STATE, NETBOOT})


class Likeness(ABC):
    """A machine in memory, and the orders that came."""

    can = ALL

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.base, self.monkeypatch = base, monkeypatch
        self.put(on=False)

    @property
    @abstractmethod
    def power(self) -> dict[str, Any]: ...

    def put(self, *, on: bool) -> None:
        self.on, self.ordered, self.boot = on, 0, ""

    def order(self, *, on: bool) -> None:
        self.on, self.ordered = on, self.ordered + 1

    def is_on(self) -> bool:
        return self.on

    def orders(self) -> int:
        return self.ordered

    def netboots(self) -> bool:
        return self.boot == "network"

    @contextmanager
    def serving(self) -> Iterator[None]:
        yield


class Manual(Likeness):
    can = frozenset()
    power = {"driver": "manual"}  # noqa: RUF012  # never changed


class Lab(Likeness):
    power = {"driver": "lab"}  # noqa: RUF012  # never changed

    @contextmanager
    def serving(self) -> Iterator[None]:
        peer = self

        class Rack:
            def __init__(self, *_: object) -> None:
                """Take the cluster and its work folder."""

            def states(self) -> dict[str, PowerState]:
                return {"w1": PowerState.ON if peer.on else PowerState.OFF}

            def power_on(self, name: str) -> None:
                assert name == "w1"
                if not peer.on:
                    peer.order(on=True)

            def power_off(self, name: str) -> None:
                assert name == "w1"
                if peer.on:
                    peer.order(on=False)

            def netboot(self, name: str) -> None:
                assert name == "w1"
                peer.boot = "network"

        self.monkeypatch.setattr(lab, "Rack", Rack)
        self.monkeypatch.setattr(os, "geteuid", lambda: 0)
        yield


class Ipmi(Likeness):
    sessions = 0

    def hang_up(self) -> None:
        self.sessions -= 1

    @property
    def power(self) -> dict[str, Any]:
        file = secret(self.base, "password", "pw")
        return {"driver": "ipmi", "address": LOOPBACK, "user": "admin", "passwordFile": file}

    @contextmanager
    def serving(self) -> Iterator[None]:
        peer = self

        class Command:
            def __init__(self, *, bmc: str, port: int, userid: str, password: str) -> None:
                assert (bmc, port, userid, password) == (LOOPBACK, 623, "admin", "pw")
                self.ipmi_session = SimpleNamespace(attemptedhash=256, logout=peer.hang_up)
                peer.sessions += 1

            def get_power(self) -> dict[str, str]:
                return {"powerstate": "on" if peer.on else "off"}

            def set_power(self, wanted: str) -> None:
                if (wanted == "on") is not peer.on:  # pyghmi looks first
                    peer.order(on=wanted == "on")

            def set_bootdev(self, device: str, *, persist: bool, uefiboot: bool) -> None:
                assert (persist, uefiboot) == (False, True)
                peer.boot = device

        self.monkeypatch.setattr(ipmi, "Command", Command)
        yield


class Redfish(Likeness):
    @property
    def power(self) -> dict[str, Any]:
        file = secret(self.base, "password", "pw")
        return {"driver": "redfish", "address": "https://bmc", "user": "admin", "passwordFile": file}

    @contextmanager
    def serving(self) -> Iterator[None]:
        peer = self

        class System:
            power_state = sushy.PowerState.POWERING_ON

            def refresh(self, *, force: bool) -> None:
                assert force
                self.power_state = sushy.PowerState.ON if peer.on else sushy.PowerState.OFF

            def reset_system(self, reset: sushy.ResetType) -> None:
                peer.order(on=reset is sushy.ResetType.ON)

            def set_system_boot_options(self, *, target: object, enabled: object) -> None:
                assert enabled is sushy.BootSourceOverrideEnabled.ONCE
                peer.boot = "network" if target is sushy.BootSource.PXE else str(target)

        root = SimpleNamespace(get_system=lambda _: System())
        self.monkeypatch.setattr(sushy, "Sushy", lambda *_, **__: root)
        yield


class Pdu(Likeness):
    can = ALL - {NETBOOT}

    @property
    def power(self) -> dict[str, Any]:
        file = secret(self.base, "community", "pw")
        return {"driver": "pdu", "address": LOOPBACK, "outlet": 7, "communityFile": file, "offSeconds": 0}

    @contextmanager
    def serving(self) -> Iterator[None]:
        async def exchange(_: object, community: str, oid: Any, value: int | None) -> tuple[int, int]:
            del oid
            assert community == "pw"
            if value is not None:
                self.order(on=value == 1)
            return 0, 1 if self.on else 2

        self.monkeypatch.setattr(pdu.Pdu, "_exchange", exchange)
        yield


class WakeOnLan(Likeness):
    can = frozenset({ON})

    @property
    def power(self) -> dict[str, Any]:
        return {"driver": "wake-on-lan", "broadcast": LOOPBACK, "port": self.wire.getsockname()[1]}

    @contextmanager
    def serving(self) -> Iterator[None]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as self.wire:
            self.wire.bind((LOOPBACK, 0))
            self.wire.setblocking(False)
            yield

    def is_on(self) -> bool:
        """Return whether it is on by now: it wakes up at the address of its own card."""
        self.orders()
        return self.on

    def orders(self) -> int:
        """Count each burst of packets once."""
        heard = set()
        while True:
            try:
                heard.add(self.wire.recv(1024))
            except BlockingIOError:
                break
        if heard:
            assert heard == {b"\xff" * 6 + bytes.fromhex("525400770001") * 16}
            self.order(on=True)
        return self.ordered


class Webhook(Likeness):
    @property
    def power(self) -> dict[str, Any]:
        place = f"http://{LOOPBACK}:{self.port}"
        urls = {name: f"{place}/{name}" for name in ("on", "off", "status", "netboot")}
        return {"driver": "webhook", "tokenFile": secret(self.base, "token", "pw"), **urls}

    @contextmanager
    def serving(self) -> Iterator[None]:
        peer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # the name that http.server calls
                self.answer(b"on\n" if peer.on else b"off\n")

            def do_POST(self) -> None:  # the name that http.server calls
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                action = asked.pop("action")
                assert asked == {"machine": "w1", "mac": "52:54:00:77:00:01"}
                assert self.path == f"/{action}"
                if action == "netboot":
                    peer.boot = "network"
                else:
                    peer.order(on=action == "on")
                self.answer(b"")

            def answer(self, text: bytes) -> None:
                allowed = self.headers["Authorization"] == "Bearer pw"
                self.send_response(200 if allowed else 401)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                return

        with ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
            self.port = server.server_address[1]
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()


class Command(Likeness):
    @property
    def power(self) -> dict[str, Any]:
        words = {
            "on": "test $FIRSTLIGHT_MACHINE = w1 && echo on >power && echo on >>orders",
            "off": "test $FIRSTLIGHT_MAC = 52:54:00:77:00:01 && echo off >power && echo off >>orders",
            "status": "cat power",
            "netboot": "echo network >boot",
        }
        return {"driver": "command", **{name: ["/bin/sh", "-c", text] for name, text in words.items()}}

    def put(self, *, on: bool) -> None:
        (self.base / "power").write_text("on\n" if on else "off\n")
        (self.base / "orders").write_text("")

    def is_on(self) -> bool:
        return (self.base / "power").read_text() == "on\n"

    def orders(self) -> int:
        return len((self.base / "orders").read_text().split())

    def netboots(self) -> bool:
        return (self.base / "boot").read_text() == "network\n"


LIKENESSES: dict[str, type[Likeness]] = {
    "manual": Manual,
    "lab": Lab,
    "ipmi": Ipmi,
    "redfish": Redfish,
    "pdu": Pdu,
    "wake-on-lan": WakeOnLan,
    "webhook": Webhook,
    "command": Command,
}
