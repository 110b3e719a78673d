"""The issued files in the hands of OpenSSL, over real sockets; and in those of a run that is killed."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certs.keystore import Keystore
from certs.secret import Secret
from certs.wanted import Use
from tests.unit.certs import samples

pytestmark = pytest.mark.system

NOW = datetime.now(UTC)
ROOT = Path(__file__).parents[2]
NOBODY = 65534
SERVERS = [row.name for row in samples.LEAVES if Use.SERVER in row.uses]
CLIENTS = [row.name for row in samples.LEAVES if Use.CLIENT in row.uses]

RIGHT = [
    ("etcd/server-m1", "etcd/ca", "apiserver-etcd-client", "m1"),
    ("etcd/peer-m1", "etcd/ca", "etcd/peer-m2", "192.168.1.10"),
    ("apiserver", "ca", "admin", "kubernetes.default.svc.cluster.local"),
    ("apiserver", "front-proxy-ca", "front-proxy-client", "10.3.0.1"),
    ("provisioning/server", "provisioning/ca", "provisioning/pxe", "10.77.0.1"),
]
WRONG = [
    ("etcd/server-m1", "etcd/ca", "admin", "m1"),  # another authority's client
    ("apiserver", "front-proxy-ca", "admin", "kubernetes"),  # the front proxy is nobody's kubectl
    ("apiserver", "ca", "apiserver", "kubernetes"),  # a server as client
    ("admin", "ca", "scheduler", ""),  # a client as server
    ("provisioning/server", "provisioning/ca", None, "10.77.0.1"),  # no certificate at all
    ("provisioning/server", "provisioning/ca", "provisioning/pxe", "10.77.0.2"),  # another address
    ("etcd/server-m1", "etcd/ca", "apiserver-etcd-client", "m2"),  # another name
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("openssl") / "pki"
    samples.ensure(folder, now=NOW)
    return folder


def _openssl(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = ("openssl", *(str(each) for each in arguments))
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=20)


def _verify(folder: Path, leaf: str, *more: str, authority: str = "") -> str:
    issuer = authority or samples.leaf(leaf).issuer
    answer = _openssl(
        "verify", "-x509_strict", "-CAfile", folder / f"{issuer}.crt", *more, folder / f"{leaf}.crt"
    )
    assert (answer.returncode == 0) == answer.stdout.endswith(": OK\n")
    return "OK" if answer.returncode == 0 else answer.stderr


def _name_check(name: str) -> tuple[str, str]:
    is_address = ":" in name or re.fullmatch(r"[0-9.]+", name)
    return ("-verify_ip" if is_address else "-verify_hostname", name)


@pytest.mark.parametrize("name", samples.CAS)
def test_openssl_takes_the_authorities(folder: Path, name: str) -> None:
    file = folder / f"{name}.crt"

    assert _openssl("verify", "-x509_strict", "-check_ss_sig", "-CAfile", file, file).returncode == 0


@pytest.mark.parametrize("leaf", SERVERS)
def test_openssl_takes_servers_by_each_name_and_by_no_other(folder: Path, leaf: str) -> None:
    for name in samples.leaf(leaf).sans:
        assert _verify(folder, leaf, "-purpose", "sslserver", *_name_check(name)) == "OK"
    for name in ("evil.example", "192.0.2.1"):
        assert "mismatch" in _verify(folder, leaf, "-purpose", "sslserver", *_name_check(name))


@pytest.mark.parametrize("leaf", CLIENTS)
def test_openssl_takes_clients(folder: Path, leaf: str) -> None:
    assert _verify(folder, leaf, "-purpose", "sslclient") == "OK"


@pytest.mark.parametrize("leaf", [row.name for row in samples.LEAVES])
def test_openssl_refuses_the_wrong_purpose_authority_and_time(folder: Path, leaf: str) -> None:
    uses = samples.leaf(leaf).uses
    if Use.CLIENT not in uses:
        assert "unsuitable certificate purpose" in _verify(folder, leaf, "-purpose", "sslclient")
    if Use.SERVER not in uses:
        assert "unsuitable certificate purpose" in _verify(folder, leaf, "-purpose", "sslserver")
    for authority in samples.CAS:
        if authority != samples.leaf(leaf).issuer:
            assert "unable to get local issuer" in _verify(folder, leaf, authority=authority)
    for days, said in ((366, "expired"), (-3, "not yet valid")):
        moment = int((NOW + timedelta(days=days)).timestamp())
        assert said in _verify(folder, leaf, "-attime", str(moment))


def test_a_machine_two_days_behind_takes_the_provisioning_server(folder: Path) -> None:
    moment = int((NOW - timedelta(hours=47, minutes=59)).timestamp())

    assert _verify(folder, "provisioning/server", "-attime", str(moment)) == "OK"


@pytest.mark.parametrize("name", [*samples.CAS, *(row.name for row in samples.LEAVES)])
def test_openssl_reads_each_key_and_finds_its_certificate(folder: Path, name: str) -> None:
    key = folder / f"{name}.key"
    public = _openssl("pkey", "-in", key, "-pubout").stdout

    assert _openssl("pkey", "-in", key, "-noout", "-check").returncode == 0
    assert public == _openssl("x509", "-in", folder / f"{name}.crt", "-noout", "-pubkey").stdout
    assert "BEGIN PUBLIC KEY" in public


def test_openssl_opens_sealed_keys_with_the_passphrase_only(tmp_path: Path) -> None:
    samples.ensure(tmp_path, now=NOW, passphrase=Secret(b"correct horse"))
    for name in samples.KEPT_CAS:
        key = tmp_path / f"{name}.key"
        assert (
            _openssl("pkey", "-in", key, "-passin", "stdin", "-noout", stdin="correct horse\n").returncode
            == 0
        )
        assert _openssl("pkey", "-in", key, "-passin", "stdin", "-noout", stdin="wrong\n").returncode != 0


@contextmanager
def _server(folder: Path, server: str, clients: str) -> Iterator[str]:
    """Run an OpenSSL server on a free port of the loopback; it sends lines back reversed. Yield its address."""
    command = ("openssl", "s_server", "-accept", "127.0.0.1:0", "-rev", "-x509_strict", "-Verify", "1")
    process = subprocess.Popen(
        [
            *command,
            "-verify_return_error",
            *("-cert", folder / f"{server}.crt", "-key", folder / f"{server}.key"),
            *("-CAfile", folder / f"{clients}.crt"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = next(line for line in process.stdout if line.startswith("ACCEPT "))
        yield line.split()[1]
    finally:
        process.kill()
        process.communicate()


def _talks(folder: Path, pair: tuple[str, str | None], *, at: str, name: str, version: str) -> bool:
    """Tell whether a client got a line through to the server called `name` and back, both sides verified."""
    server, client = pair
    authority = samples.leaf(server).issuer
    shown = ("-cert", f"{folder}/{client}.crt", "-key", f"{folder}/{client}.key") if client else ()
    answer = _openssl(
        *("s_client", "-connect", at, "-quiet", "-x509_strict", "-verify_return_error"),
        *("-CAfile", folder / f"{authority}.crt", *shown, version),
        *(_name_check(name) if name else ()),
        stdin="firstlight\nCLOSE\n",  # the server ends the session at CLOSE
    )
    return "thgiltsrif" in answer.stdout


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("case", RIGHT, ids="-".join)
def test_right_pairs_talk_over_a_real_socket(
    folder: Path, case: tuple[str, str, str, str], version: str
) -> None:
    server, clients, client, name = case
    with _server(folder, server, clients) as address:
        assert _talks(folder, (server, client), at=address, name=name, version=version)


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("case", WRONG, ids=lambda case: "-".join(str(each) for each in case))
def test_wrong_pairs_do_not(folder: Path, case: tuple[str, str, str | None, str], version: str) -> None:
    server, clients, client, name = case
    with _server(folder, server, clients) as address:
        assert not _talks(folder, (server, client), at=address, name=name, version=version)


def test_expired_pairs_do_not_talk_and_do_after_renewal(tmp_path: Path) -> None:
    samples.ensure(tmp_path, now=NOW - timedelta(days=400))
    pair = ("etcd/server-m1", "apiserver-etcd-client")
    with _server(tmp_path, pair[0], "etcd/ca") as address:
        assert not _talks(tmp_path, pair, at=address, name="m1", version="-tls1_3")

    Keystore(tmp_path).renew(samples.ROWS, NOW)

    with _server(tmp_path, pair[0], "etcd/ca") as address:
        assert _talks(tmp_path, pair, at=address, name="m1", version="-tls1_3")


RUN = """
import sys, datetime, pathlib
sys.path.insert(0, sys.argv[1])
from tests.unit.certs import samples
print("go", flush=True)
samples.ensure(pathlib.Path(sys.argv[2]))
print("done", flush=True)
"""


def test_a_run_killed_at_any_moment_is_finished_by_the_next(tmp_path: Path) -> None:
    files = 2 * len(samples.ROWS)
    cut = [_kill_and_finish(tmp_path / str(count), count) for count in range(1, files, 2)]

    assert sum(cut) >= files // 6, "the kills came too late to prove anything"


def _kill_and_finish(folder: Path, count: int) -> bool:
    """Kill a run once it has made `count` files, finish it; tell whether the kill left work to do."""
    run = subprocess.Popen((sys.executable, "-c", RUN, ROOT, folder), stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    assert run.stdout.readline() == "go\n"
    deadline = time.monotonic() + 20
    while _count(folder) < count and time.monotonic() < deadline:
        pass
    run.send_signal(signal.SIGKILL)
    run.communicate()
    left = samples.tree(folder) if folder.exists() else {}
    whole = {name: content for name, content in left.items() if not name.endswith(".new")}
    keyring = samples.ensure(folder)

    after = samples.tree(folder)
    assert {name: after[name] for name in whole} == whole
    assert not [name for name in after if name.endswith(".new")]
    assert samples.ensure(folder).news == ()
    for row in samples.LEAVES:
        issuer = samples.certificate(folder, row.issuer)
        samples.certificate(folder, row.name).verify_directly_issued_by(issuer)
    return bool(keyring.news)


def _count(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def test_nobody_can_read_a_key() -> None:
    assert os.geteuid() == 0, "this test becomes nobody: run it as root"
    base = Path(tempfile.mkdtemp())
    base.chmod(0o755)
    before = os.umask(0)
    try:
        folder = base / "work" / "pki"
        samples.ensure(folder)
        listed = _as_nobody("find", str(base), "-type", "f")
        # Even where the folders were opened by mistake, the key files hold.
        for path in (folder.parent, folder, folder / "etcd", folder / "provisioning"):
            path.chmod(0o755)
        found = _as_nobody("sh", "-c", f"cat {folder}/*.key {folder}/*/*.key")
        certificates = _as_nobody("sh", "-c", f"cat {folder}/*.crt")
    finally:
        os.umask(before)
        shutil.rmtree(base)

    assert not listed
    assert not found
    assert "BEGIN CERTIFICATE" in certificates


def _as_nobody(*command: str) -> str:
    answer = subprocess.run(
        command,
        user=NOBODY,
        group=NOBODY,
        extra_groups=(),
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    return answer.stdout
