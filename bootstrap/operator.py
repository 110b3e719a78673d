"""Asks the running appliance, over the Unix socket that only its owner can open.

A loopback port would answer every user of the laptop; a socket file in a 0700 folder has an owner.
"""

import http.client
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from bootstrap.errors import PreflightError, ServeError, UsageError
from bootstrap.workplace import FENCE

SOCKET = Path("run/operator.sock")
RESTARTING = frozenset({502, 503, 504})  # nginx answers, what is behind it does not yet
TIMEOUT_SECONDS = 10.0  # a store that waits for a slow disk must not hang `status`


class NotRunning(ServeError):  # noqa: N818  # reads as a sentence where it is raised
    """No appliance answers on the socket, or only its nginx does."""


class Operator:
    """The operator API of one cluster's appliance, found through its work folder."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._socket = work / SOCKET

    def machines(self) -> list[dict[str, Any]]:
        """Return what the appliance knows of every machine, as JSON objects (docs/http.md)."""
        answer: list[dict[str, Any]] = self._json("GET", "/v1/machines")["machines"]
        return answer

    def strangers(self) -> list[dict[str, Any]]:
        """Return the machines that asked for a boot and that the configuration does not list."""
        answer: list[dict[str, Any]] = self._json("GET", "/v1/machines")["strangers"]
        return answer

    def hosts(self) -> list[dict[str, Any]]:
        """Return the control-plane hosts that are nodes, with what they have in common with machines."""
        answer: list[dict[str, Any]] = self._json("GET", "/v1/machines").get("hosts", [])
        return answer

    def gpus(self) -> list[dict[str, Any]]:
        """Return what is known of the GPUs of each machine whose pool has some."""
        answer: list[dict[str, Any]] = self._json("GET", "/v1/gpus")["nodes"]
        return answer

    def gate_trouble(self) -> str:
        """Return why the gate could not look after nodes with GPUs in its last round; empty if it could."""
        return str(self._json("GET", "/v1/gpus").get("trouble") or "")

    def alarms(self) -> list[dict[str, Any]]:
        """Return what is wrong with the network itself, such as a strange DHCP server."""
        answer: list[dict[str, Any]] = self._json("GET", "/v1/alarms")["alarms"]
        return answer

    def machine(self, name: str) -> dict[str, Any]:
        """Return what the appliance knows of the machine called `name`."""
        answer: dict[str, Any] = self._json("GET", f"/v1/machines/{quote(name, safe='')}")
        return answer

    def story(self, name: str) -> dict[str, Any]:
        """Return how the last boots of the machine called `name` went, and what most likely stands in its way."""
        answer: dict[str, Any] = self._json("GET", f"/v1/machines/{quote(name, safe='')}/story")
        return answer

    def act(self, name: str, action: str, *, recheck: bool = False) -> dict[str, Any]:
        """Do `action` (arm, retire) to the machine called `name`; return it as it is afterwards."""
        path = f"/v1/machines/{quote(name, safe='')}/{action}"
        answer: dict[str, Any] = self._json("POST", path, {"recheck": "true"} if recheck else None)
        return answer

    def order_driver(self, name: str, *, driver: str = "", image: str = "") -> dict[str, Any]:
        """Have the machine called `name` get its pool's GPU driver; or `driver`, from the image with key `image`."""
        path = f"/v1/machines/{quote(name, safe='')}/driver"
        answer: dict[str, Any] = self._json("POST", path, body={"driver": driver, "image": image})
        return answer

    def accept(self, name: str, *, pool: str, as_name: str, resolve: bool, recheck: bool) -> dict[str, Any]:
        """Accept the machine called `name` (a MAC address, if nobody listed it) into `pool` as `as_name`."""
        body = {"pool": pool, "name": as_name, "resolve": resolve, "recheck": recheck}
        path = f"/v1/machines/{quote(name, safe='')}/accept"
        answer: dict[str, Any] = self._json("POST", path, body=body)
        return answer

    def events(self, after: int = 0, machine: str | None = None) -> list[dict[str, Any]]:
        """Return the events with a sequence number above `after`, oldest first."""
        query = {"after": str(after)} | ({"machine": machine} if machine else {})
        answer: list[dict[str, Any]] = self._json("GET", "/v1/events", query)["events"]
        return answer

    def reload(self) -> None:
        """Tell the appliance to read the rendered documents again."""
        self._json("POST", "/v1/reload")

    def is_ready(self) -> bool:
        """Return whether the appliance answers and says that it is ready."""
        try:
            status, _ = self._ask("GET", "/readyz")
        except NotRunning:
            return False
        return status == http.HTTPStatus.OK

    def is_alive(self) -> bool:
        """Return whether the appliance answers at all, ready or not."""
        try:
            status, _ = self._ask("GET", "/livez")
        except NotRunning:
            return False
        return status == http.HTTPStatus.OK

    def _json(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> Any:
        said = json.dumps(body) if body is not None else None
        status, answer = self._ask(method, f"{path}?{urlencode(query)}" if query else path, said)
        told = f"the appliance answered {status} to {method} {path}"
        if status in RESTARTING:
            raise NotRunning(f"{told}: it is starting or stopping; see log/serve.log")
        if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
            raise ServeError(f"{told}; see log/serve.log")
        if status >= http.HTTPStatus.BAD_REQUEST:
            raise UsageError(_reason(answer) or told)
        return json.loads(answer) if answer else {}

    def _ask(self, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        connection = _UnixConnection(self._socket)
        try:
            connection.request(method, path, body, headers={"Host": "firstlight"})
            response = connection.getresponse()
            return response.status, response.read()
        except PermissionError as error:
            raise PreflightError(
                f"only the owner of {self._socket} may ask the appliance: run this as that user, usually root"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise NotRunning(
                f"the appliance does not answer on {self._socket} ({error}); {self._remedy()}"
            ) from error
        finally:
            connection.close()

    def _remedy(self) -> str:
        if (self._work / FENCE).exists():
            return "it was handed over to the cluster: ask it there, or bring it back (docs/handover.md)"
        return "start it: up"


def _reason(refusal: bytes) -> str:
    """Return why the appliance refused; nothing if nginx did, which answers in HTML."""
    try:
        return str(json.loads(refusal)["reason"])
    except (ValueError, TypeError, KeyError):
        return ""


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket, reached through its folder's descriptor: socket paths end at 107 bytes."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(TIMEOUT_SECONDS)
            self.sock.connect(f"/proc/self/fd/{folder}/{self._path.name}")
        finally:
            os.close(folder)
