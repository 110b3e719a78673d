"""T-00: the eight holes of the certificate service that this kind of appliance once had, each tried on ours.

There, any caller of `GET /genkey?workerId=..&workerIP=..` got a new private key of the API server's own name, signed
for ten years with the cluster's CA key in the same process; the query went into `rm -r`, and any
`X-Forwarded-For` was believed.
"""

import builtins
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from bootstrap.errors import ServeError
from bootstrap.keys import ensure_keys
from bootstrap.states import State
from certs.requests import certificate_facts
from tests.unit.certs import crafted
from tests.unit.web.fakes import W1, W3
from tests.unit.web.joining import LIFE, JoiningRack, csr
from web.app import create_app
from web.credentials import Credentials

LISTENERS = ("public", "machine")
GENKEY = ("/genkey", "/genkey/w1", "/v1/genkey", "/v1/claim", "/v1/claim/w1")


@pytest.fixture
def rack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JoiningRack:
    """An appliance in a real work folder, with a machine that may claim."""
    made = JoiningRack()
    ensure_keys(made.cluster, tmp_path, datetime.now(UTC))
    monkeypatch.chdir(tmp_path)
    made.install()
    return made


def asked(rack: JoiningRack, path: str, method: str = "GET", **more: Any) -> list[TestResponse]:
    return [rack.ask(listener, method, path, **more) for listener in LISTENERS]


def test_1_nobody_gets_a_key_for_asking(rack: JoiningRack) -> None:
    """No route makes one: there is nothing to call, whoever asks."""
    for path in GENKEY:
        for method in ("GET", "POST", "PUT"):
            for answer in asked(rack, f"{path}?workerId=w1&workerIP=10.77.0.101", method):
                assert answer.status_code in (400, 404), (path, method)
                assert b"PRIVATE KEY" not in answer.data


def test_2_no_answer_ever_holds_a_private_key(rack: JoiningRack) -> None:
    """The right claim gets a certificate for the key that it brought, and no key."""
    answer = rack.claim()

    assert answer.status_code == 200
    assert b"PRIVATE" not in answer.data
    claim = rack.record().claim
    assert claim is not None
    facts = certificate_facts((answer.json or {})["certificate"].encode())
    assert facts.fingerprint == claim.key
    assert all(rack.ask("public", "POST", "/v1/claim", json={}).status_code == 404 for _ in range(3))


@pytest.mark.parametrize(
    "name", ["kube-apiserver", "kubernetes-admin", "system:kube-controller-manager", "system:node:w2"]
)
@pytest.mark.parametrize("group", ["system:masters", "system:nodes", "kubeadm:cluster-admins"])
def test_3_nobody_becomes_the_api_server(rack: JoiningRack, name: str, group: str) -> None:
    rdns = (((crafted.O, crafted.UTF8, group.encode()),), ((crafted.CN, crafted.UTF8, name.encode()),))

    answer = rack.claim(crafted.right("w1", rdns=rdns).pem().decode())

    assert answer.status_code == 400
    assert rack.kube.requests == {}
    assert rack.record().claim is None


def test_4_the_process_reads_no_key_of_an_authority(
    rack: JoiningRack, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real_open, real_os_open = builtins.open, os.open

    def noted(path: Any, *more: Any, **named: Any) -> Any:
        read.append(str(path))
        return real_open(path, *more, **named)

    def os_noted(path: Any, *more: Any, **named: Any) -> Any:
        read.append(str(path))
        return real_os_open(path, *more, **named)

    monkeypatch.setattr(builtins, "open", noted)
    monkeypatch.setattr(os, "open", os_noted)
    for file in Path("pki").rglob("*ca.key"):
        file.unlink()  # and it works without them

    assert Credentials()(rack.cluster) is not None
    assert rack.claim().status_code == 200
    assert not [path for path in read if path.endswith(("ca.key", "sa.key", "admin.key"))]


def test_5_a_certificate_is_good_for_a_week_and_not_for_ten_years(rack: JoiningRack) -> None:
    """The fake cluster asserts that exactly this life is asked for."""
    facts = certificate_facts((rack.claim().json or {})["certificate"].encode())

    assert facts.not_after - rack.clock.now <= LIFE == timedelta(days=7)


@pytest.mark.parametrize(
    "where",
    [
        "../pki",
        "..%2f..%2fpki",
        "/etc",
        "w1;rm -r .",
        "$(rm -r .)",
        "`reboot`",
        "w1\n-rf",
        "....//pki",
        "%00",
    ],
)
def test_6_what_a_query_says_names_no_file(rack: JoiningRack, where: str) -> None:
    before = {str(path) for path in Path().rglob("*")}

    for path in (*GENKEY, "/ipxe", "/v1/machine/kubelet", "/v1/machine/config", f"/v1/ignition/{where}"):
        for answer in asked(
            rack, path, query_string={"workerId": where, "workerIP": where, "mac": where, "arm": where}
        ):
            assert answer.status_code in (200, 400, 404), (path, answer.status_code)
            assert b"PRIVATE" not in answer.data
    for body in ({"mac": where}, {"mac": W1, "arm": where, "csr": csr()}):
        assert rack.ask("machine", "POST", "/v1/claim", json=body).status_code == 400
    assert {str(path) for path in Path().rglob("*")} == before


def test_7_there_is_no_debugger(rack: JoiningRack, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("/console", "/?__debugger__=yes&cmd=resource&f=style.css", "/v1/claim?__debugger__=yes"):
        assert all(answer.status_code == 404 for answer in asked(rack, path))
    rack.kube.trouble = ValueError("our bug")
    answer = rack.claim()
    assert answer.status_code == 500
    assert b"Traceback" not in answer.data
    assert b"our bug" not in answer.data
    monkeypatch.setenv("FLASK_DEBUG", "1")
    with pytest.raises(ServeError, match="FLASK_DEBUG"):
        create_app(rack.site)


@pytest.mark.parametrize(
    "header", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Firstlight-Address", "Client-IP"]
)
def test_8_an_address_in_a_header_makes_nobody_somebody(rack: JoiningRack, header: str) -> None:
    """Who claims is told by arm and key; where a request says that it comes from counts for nothing."""
    headers = {header: "10.77.0.101"}
    body = {"mac": W3, "arm": rack.record().arm, "csr": csr()}
    assert rack.ask("machine", "POST", "/v1/claim", json=body, headers=headers).status_code == 404
    assert rack.claim().status_code == 200

    answer = rack.ask(
        "machine",
        "POST",
        "/v1/claim",
        json={"mac": W1, "arm": rack.record().arm, "csr": csr(number=1)},
        headers=headers,
    )

    assert answer.status_code == 409
    assert rack.record().state is State.QUARANTINED
