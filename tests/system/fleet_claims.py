"""Simulated machines that become nodes: each makes its own key, claims its certificate, and uses it.

Key and request are made by the functions of configs/node/join, as on a real node; what follows is the same protocol,
with every request in the history. A machine is armed once: whatever happens, it has one key and one certificate.
"""

import http.client
import json
import os
import re
import ssl
import subprocess
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from bootstrap.kubernetes.access import Signer
from certs.requests import certificate_facts, client_request
from tests.history import OK, History
from tests.history_claims import REFUSED
from tests.history_order import LATER
from tests.system.claim_plane import PORT, Plane
from tests.system.fleet import PATIENCE_SECONDS, GivenUp, Machine, Question, json_of
from tests.system.fleet_cluster import PLANE
from tests.system.fleet_site import HTTPS, ROOT, SERVER, Answer, address_of
from tests.system.fleet_wire import Lease
from tests.system.pxe_segment import inside

NOT_FOUND, FORBIDDEN = 404, 403
LOST_CERTIFICATES = 0.3
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
JOIN = ROOT / "configs/node/join"
_MADE = '. "$1" && load && make_key && make_request && cat "$work/body"'
_USER = re.compile(r'User "(?P<user>[^"]*)"')


class Disk:
    """What an installed system keeps: the key that it made, and the certificate that it got."""

    def __init__(self, folder: Path, name: str, mac: str) -> None:
        self._folder = folder
        self._name, self._mac = name, mac
        self.key = ""
        self.trusted: ssl.SSLContext | None = None

    def request(self, arm: str) -> dict[str, Any]:
        """Return the body of a claim, made by the script of real nodes; the key is made the first time."""
        etc, work = self._folder / "etc", self._folder / "work"
        for folder in (etc, work):
            folder.mkdir(parents=True, exist_ok=True)
        server = f"https://{SERVER}:{HTTPS}"
        (etc / "node.env").write_text(f"NODE_NAME={self._name}\nNODE_MAC={self._mac}\nNODE_SERVER={server}\n")
        (etc / "arm").write_text(arm)
        made = self._run("sh", "-c", _MADE, "sh", JOIN, FL_SOURCE_ONLY="1", work=work)
        body: dict[str, Any] = json.loads(made)
        self.key = client_request(body["csr"].encode(), self._name).fingerprint
        return body

    def join(self, authority: Path) -> str:
        """Run the script of real nodes until it has a certificate, and return that in PEM; `authority` is pinned."""
        (self._folder / "etc/provisioning-ca.crt").write_bytes(authority.read_bytes())
        current, programs = self._folder / "pki/kubelet-client-current.pem", self._folder / "bin"
        current.unlink(missing_ok=True)
        programs.mkdir(exist_ok=True)
        for name, text in (("systemctl", "exit 0"), ("nap", 'sleep "$(($1 > 2 ? 2 : $1))"')):
            (programs / name).write_text(f"#!/bin/sh\n{text}\n")
            (programs / name).chmod(0o755)
        path = f"{programs}:{os.environ['PATH']}"
        self._run("sh", JOIN, PATH=path, FL_SLEEP="nap", FL_SET_CLOCK="true")
        return current.read_text().partition("-----BEGIN PRIVATE KEY-----")[0]

    def _run(self, *argv: str | Path, **more: str | Path) -> str:
        """Run something of a node's with its folders on this disk, and return what it prints."""
        own = {"FL_ETC": self._folder / "etc", "FL_STATE": self._folder, "FL_PKI": self._folder / "pki"}
        done = subprocess.run(
            argv,
            env={**os.environ, **{name: str(value) for name, value in {**own, **more}.items()}},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def keep(self, granted: dict[str, str]) -> None:
        """Keep a certificate, and be ready to call the API server with it."""
        certificate = self._folder / "node.crt"
        certificate.write_text(granted["certificate"])
        trusted = ssl.create_default_context(cadata=granted["ca"])
        trusted.load_cert_chain(certificate, self._folder / "node.key")
        self.trusted = trusted


class Node(Machine):
    """A machine that is armed once, and from then on joins whenever it comes up."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.disk = self._disk("own")

    @property
    def has_joined(self) -> bool:
        """Return whether it got a certificate."""
        return self.disk.trusted is not None

    @property
    def is_settled(self) -> bool:
        """Return whether it is in the end what it is to be."""
        return self.has_joined

    def run(self) -> None:
        """Boot until the node has done what a node does; the first time after it was armed."""
        if not self._arm:
            self._arm = self._order_arm()
        self._boot_until_up()

    def _order_arm(self) -> str:
        if self.disk.key:
            raise GivenUp(f"{self.name} has claimed, and is told to wait for an order")
        return super()._order_arm()

    def _come_up(self) -> None:
        super()._come_up()
        self._join()

    def _join(self) -> None:
        """Claim, unless there is a certificate already; sometimes it did not get onto the disk in time."""
        if not self.has_joined or self._dice.random() < LOST_CERTIFICATES:
            answer = self._claim(self.disk)
            if answer.status != OK:
                raise GivenUp(f"{self.name} may not join: {answer}")
            self.disk.keep(json_of(answer))
        self._use()
        self._confirm()
        self._read()

    def _claim(self, disk: Disk) -> Answer:
        """Claim as long as the answer is to come later, and return the one that is not."""
        body, deadline = disk.request(self._arm), time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            more = {"arm": self._arm, "key": disk.key}
            answer = self._secure("POST", "/v1/claim", "claim", body, read=_granted, **more)
            if answer.status != LATER:
                return answer
            time.sleep(_wait_of(answer))
        raise GivenUp(f"{self.name}: no certificate in {PATIENCE_SECONDS:.0f} s: {answer}")

    def _use(self) -> None:
        """Ask the API server for the own lease, which is a node's right, and for another's, which is not."""
        own, other = self._lease_of(self.name), self._lease_of("another")
        if (own.status, other.status) != (NOT_FOUND, FORBIDDEN):
            raise GivenUp(f"{self.name}: the API server answers {own} and {other}")
        told = _USER.search(json_of(other)["message"])
        with self._history.call(self.name, "use", name=self.name, key=self.disk.key) as call:
            call.answered(OK, {"user": told["user"] if told else ""})

    def _lease_of(self, name: str) -> Answer:
        def connect() -> http.client.HTTPConnection:
            trusted = self.disk.trusted
            return http.client.HTTPSConnection(
                PLANE, PORT, timeout=20, context=trusted, source_address=self._source
            )

        return self._ask(Question(connect, "GET", f"{LEASES}/{name}", "api"))

    def _confirm(self) -> None:
        """Tell which revision of its documents it runs."""
        revision = f"{self._dice.getrandbits(256):064x}"
        body = {"mac": self.mac, "arm": self._arm, "revision": revision}
        more = {"arm": self._arm, "kind": "synced", "text": revision[:12]}
        self._must(self._secure("POST", "/v1/machine/kubelet", "report", body, read=json_of, **more))

    def _disk(self, whose: str) -> Disk:
        return Disk(self._site.folder / "disks" / self.name / whose, self.name, self.mac)


class Scripted(Node):
    """A machine on which the whole script of real nodes runs, with its own openssl, curl and pauses (at most 2 s)."""

    def _claim(self, disk: Disk) -> Answer:
        disk.request(self._arm)
        work = self._site.work
        named = {"name": self.name, "mac": self.mac, "arm": self._arm, "key": disk.key}
        with self._history.call(self.name, "claim", **named) as call:
            certificate = disk.join(work / "bundle/appliance/provisioning-ca.crt")
            call.answered(OK, {"key": certificate_facts(certificate.encode()).fingerprint})
        granted = {"certificate": certificate, "ca": (work / "pki/ca.crt").read_text()}
        return Answer(OK, {}, json.dumps(granted).encode())


class Contested(Node):
    """A machine as which a second system claims too, with a key of its own: before it, after it, or at once."""

    _is_refused = False

    @property
    def is_settled(self) -> bool:
        """Return whether it was refused: nobody joins as a machine that two keys claim to be."""
        return self._is_refused

    def run(self) -> None:
        """Live once: afterwards it is quarantined, and a person has to look."""
        if not self.lives:
            super().run()

    def _join(self) -> None:
        both = [self.disk, self._disk("rival")]
        self._dice.shuffle(both)
        if self._dice.random() < 0.5:
            with ThreadPoolExecutor(len(both)) as pool:
                list(pool.map(self._claim, both))
        again = [self._claim(disk).status for disk in (*both, *both)]
        if again[-2:] != [REFUSED, REFUSED]:
            raise GivenUp(f"{self.name}: two keys, and in the end the answers are {again}")
        self._is_refused = True
        self._read()


class Late(Node):
    """A machine whose disk was written elsewhere: it only comes up from it, and joins."""

    def _boot(self) -> bool:
        address = address_of(int(self.name.removeprefix("w")))
        self._lease = Lease(address=address, server=SERVER, boot_file="")
        self._come_up()
        return True


def note_requests(history: History, plane: Plane) -> None:
    """Note every certificate request that the cluster knows of."""
    with inside(plane.namespace), plane.api("admin") as api:
        for signer in Signer:
            for request in api.signing_requests(signer):
                wanted = x509.load_pem_x509_csr(request.request)
                node = str(wanted.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
                node = node.removeprefix("system:node:")
                key = client_request(request.request, node).fingerprint
                if request.certificate:
                    key = certificate_facts(request.certificate).fingerprint
                history.saw(
                    "request",
                    {"name": request.name, "node": node, "key": key, "signed": bool(request.certificate)},
                )


def unfinished(machines: Iterable[Machine]) -> list[str]:
    """Return the machines that never got to the end of what they do."""
    return [one.name for one in machines if not (isinstance(one, Node) and one.lives and one.is_settled)]


def _wait_of(answer: Answer) -> float:
    """Return for how many seconds a machine that is told to come later is to wait (RFC 9110, 10.2.3)."""
    return float(next(value for name, value in answer.headers.items() if name.lower() == "retry-after"))


def _granted(answer: Answer) -> dict[str, Any]:
    return {"key": certificate_facts(json_of(answer)["certificate"].encode()).fingerprint}
