"""Whether the control plane is healthy: each unit by what it says of itself, and the whole by a write and a read."""

import json
import secrets
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from bootstrap import etcd
from bootstrap.apply import endpoint
from bootstrap.apply.asking import Identity, Question, ask
from bootstrap.environment import ROOT
from bootstrap.errors import ApplyError
from bootstrap.kubernetes.access import Access
from bootstrap.kubernetes.marks import Marks
from bootstrap.model.kubernetes import Host
from bootstrap.ssh import Connections
from certs.secret import Secret

POLL_SECONDS = 0.5
SLACK_SECONDS = 30.0  # for a process to start and to end, beyond what it may take itself
ACTIVE_SECONDS = 1.0  # a unit that dies at once is still "active" at the moment of its start

CONTROLLER_MANAGER_PORT = 10257
SCHEDULER_PORT = 10259


Binder: TypeAlias = Callable[[], tuple[bytes, Secret]]
"""Makes a certificate and its key, in PEM, that may do anything for some minutes."""


class _Forbidden(ApplyError):  # noqa: N818  # the binder's turn, if there is one
    """The API server knows us and does not let us."""


@dataclass(frozen=True, kw_only=True)
class ClusterProber:
    """Asks the units of `hosts`; what is not the cluster's own (`etcd_client`, `access`) is asked of systemd.

    `etcd_members` are names of hosts; `wrap` puts a command onto the hosts' network. Hosts that are nodes must be Ready
    in the end where one `awaits_ready`, else registered.
    """

    connections: Connections
    hosts: Mapping[str, Host]
    etcd_members: tuple[str, ...]
    etcd_client: etcd.Credentials | None
    access: Access | None
    api_port: int
    wrap: Callable[[Sequence[str]], Sequence[str]]
    seconds: float = 120.0
    awaits_ready: bool = True

    def healthy(self, host: str, unit: str) -> None:
        """Return when `unit` on `host` is healthy.

        Raises:
            ApplyError: it is not, after `seconds`.
        """
        asked = {
            "etcd.service": self._etcd if self.etcd_client else None,
            "kube-apiserver.service": self._api_server if self.access else None,
            "kube-controller-manager.service": self._https(CONTROLLER_MANAGER_PORT),
            "kube-scheduler.service": self._https(SCHEDULER_PORT),
        }.get(unit)
        deadline = time.monotonic() + self.seconds
        question = asked or (lambda name: self._active(name, unit))
        while said := question(host):
            if time.monotonic() > deadline:
                raise ApplyError(
                    f"{unit} on {host} is not healthy after {self.seconds:.0f} s: {said}; "
                    f"look at `journalctl -u {unit}` there, then run this again"
                )
            time.sleep(POLL_SECONDS)

    def etcd_writes(self) -> None:
        """Have all members healthy, and a key written and read back through each.

        Raises:
            ApplyError: one is not, or did not.
        """
        unwell = self._ask_etcd("healthy", self.etcd_members, self.seconds)
        for name, why in unwell.items():
            raise ApplyError(f"etcd member {name} is not healthy: {why}; run `apply` again when it is")
        self._ask_etcd("probe", (), etcd.ANSWER_SECONDS)

    def leave(self, host: str) -> None:
        """Take the node of `host` out of the cluster.

        Raises:
            ApplyError: pods stay, no API server answers, or there is nobody to ask.
        """
        if self.access is None:
            raise ApplyError(f"host {host}: node {host} cannot leave its cluster: there is no API to ask")
        self._ask_api(endpoint.Question(self.access, (), "", self.seconds, leaving=host))

    def api_writes(
        self,
        objects: Sequence[Mapping[str, Any]],
        marks: Mapping[str, Marks],
        binder: Binder | None,
        nodes: Sequence[str] = (),
    ) -> list[str]:
        """Bring `objects` and the nodes' `marks` to the cluster, write and read through each API server.

        Returns what changed. The hosts called `nodes` must be nodes by then.

        `binder` is asked for a certificate when administrators have no power yet.

        Raises:
            ApplyError: it did not work in time.
        """
        assert self.access is not None  # noqa: S101  # asked only where there is one
        question = endpoint.Question(self.access, objects, secrets.token_hex(8), self.seconds, marks)
        question = replace(question, nodes=tuple(nodes), awaits_ready=self.awaits_ready)
        try:
            answer = self._ask_api(question)
        except _Forbidden:
            if binder is None:
                raise
            answer = self._ask_api(replace(question, binder=binder()))
        return [str(name) for name in answer]

    def _ask_api(self, question: endpoint.Question) -> Any:
        seconds = self.seconds + SLACK_SECONDS
        return self._child(endpoint.argv(), question.to_json(), "the API servers", seconds)

    def _etcd(self, host: str) -> str:
        unwell: dict[str, str] = self._ask_etcd("healthy", (host,), etcd.ANSWER_SECONDS)
        return unwell.get(host, "")

    def _ask_etcd(self, what: str, names: tuple[str, ...], seconds: float) -> Any:
        assert self.etcd_client is not None  # noqa: S101  # asked only where there is one
        addresses = {name: f"{self.hosts[name].address}:{etcd.PORT}" for name in self.etcd_members}
        question = etcd.Question(what, addresses, self.etcd_client, names, seconds)
        return self._child(etcd.argv(), question.to_json(), "etcd", seconds + SLACK_SECONDS)

    def _child(self, argv: Sequence[str], stdin: bytes, what: str, seconds: float) -> Any:
        """Return the answer of one of our own commands, run on the hosts' network."""
        try:
            done = subprocess.run(
                self.wrap(argv), cwd=ROOT, input=stdin, capture_output=True, timeout=seconds, check=False
            )
            answer = json.loads(done.stdout)
        except subprocess.TimeoutExpired as error:
            raise ApplyError(f"{what}: no answer within {seconds:.0f} s; run this again") from error
        except ValueError as error:
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise ApplyError(f"{what}: the probe did not run: {''.join(last)}") from error
        if "error" in answer:
            kind = _Forbidden if answer.get("status") == endpoint.FORBIDDEN else ApplyError
            raise kind(f"{answer['error']}; look at the units on the hosts, then run this again")
        return answer["answer"]

    def _api_server(self, host: str) -> str:
        assert self.access is not None  # noqa: S101  # asked only where there is one
        identity = Identity(self.access.authority, self.access.certificate, self.access.key)
        address = str(self.hosts[host].address)
        return ask(self.connections, self.hosts[host], Question(address, self.api_port, "/readyz", identity))

    def _https(self, port: int) -> Callable[[str], str]:
        question = Question("127.0.0.1", port, "/healthz")
        return lambda host: ask(self.connections, self.hosts[host], question)

    def _active(self, host: str, unit: str) -> str:
        show = f"systemctl show -p ActiveState,Type,Result -- {unit}"
        argv = ("sh", "-c", f"{show}; sleep {ACTIVE_SECONDS}; echo; {show}")
        done = self.connections.run(self.hosts[host], argv, what=f"asking for {unit}", timeout=SLACK_SECONDS)
        texts = done.stdout.decode(errors="replace").split("\n\n")
        return "" if len(texts) > 1 and all(map(_is_fine, texts)) else f"systemd says {texts[-1].split()}"


def _is_fine(text: str) -> bool:
    """Return whether systemd's properties are those of a unit that runs, or that has done its work."""
    lines = text.split()
    return "ActiveState=active" in lines or {"Type=oneshot", "Result=success"} <= set(lines)
