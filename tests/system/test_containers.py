"""web and pxe in real containers: built from nothing, small, confined, serving a machine, and gone when told."""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap.containers.table import CONTAINERS
from bootstrap.operator import Operator
from tests.system.container_bench import CANARY, GONE_SECONDS, MEGABYTE, Served, is_small_file
from tests.system.pxe_segment import KNOWN_ADDRESS, KNOWN_MAC, SERVER, DhcpClient, Options, wait_for
from tests.tier import Promise

pytestmark = [pytest.mark.system, pytest.mark.promise]

LARGEST = {"pxe": 120 * MEGABYTE, "web": 250 * MEGABYTE}
BIOS: Options = [("vendor_class_id", b"PXEClient:Arch:00000:UNDI:002001"), (93, b"\0\0")]
BUILT = re.compile(r"(pxe|web): (\S+), (\d+) MB, built in (\d+) s")


@pytest.fixture(name="client")
def fixture_client(running: Served) -> Iterator[DhcpClient]:
    made = DhcpClient(running.cable)
    yield made
    made.close()


def test_both_images_are_built_from_an_empty_store_and_small(bench: Served, promise: Promise) -> None:
    told = {part: (int(size), int(seconds)) for part, _, size, seconds in BUILT.findall(bench.built)}
    assert told.keys() == {"pxe", "web"}
    sizes = {part: bench.store.image(part)["Size"] for part in told}
    assert all(sizes[part] < LARGEST[part] for part in told), sizes

    promise(
        promise="containers small",
        asked="from an empty store: pxe under 120 MB, web under 250 MB",
        done="both built from Debian 13 and the package registries",
        found="; ".join(f"{part} {size} MB in {seconds} s" for part, (size, seconds) in sorted(told.items())),
    )


def test_images_say_what_they_are_and_how_they_are_asked(bench: Served) -> None:
    for part, row in CONTAINERS.items():
        found = bench.store.image(part)
        config = found["Config"]
        labels = {
            key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()
        }
        assert labels["title"] == f"firstlight {part}"
        assert labels["base.name"] == "docker.io/library/debian:trixie-slim"
        assert {"description", "revision", "version"} <= labels.keys()
        assert config["StopSignal"] == "SIGTERM"
        assert found["Healthcheck"]["Test"][-1] == part
        assert config.get("User", "") == (f"{row.user}:{row.user}" if row.user else "")


def test_no_layer_keeps_how_this_computer_reaches_its_registries(bench: Served) -> None:
    """The builds had CANARY in their pip.conf: a build of now fails on it if it were asked, and no image knows it."""
    for part in CONTAINERS:
        tag = bench.store.tag(part)
        root = Path(bench.store.podman("image", "mount", tag).strip())
        try:
            found = [
                path
                for path in root.rglob("*")
                if is_small_file(path) and CANARY.encode() in path.read_bytes()
            ]
            assert found == []
            assert not any((root / "run").rglob("secrets/*"))
            assert not (root / "usr/bin/perl").exists()
        finally:
            bench.store.podman("image", "unmount", tag)
        assert CANARY not in bench.store.podman("image", "inspect", tag)


def test_a_machine_gets_address_loader_script_and_tls(running: Served, client: DhcpClient) -> None:
    assert client.lease(KNOWN_MAC, BIOS) == KNOWN_ADDRESS
    loader = running.curl(f"tftp://{SERVER}/undionly.kpxe")
    inside = Path(f"/proc/{running.pid('pxe')}/root/usr/lib/ipxe/undionly.kpxe").read_bytes()
    assert hashlib.sha256(loader).digest() == hashlib.sha256(inside).digest()
    assert running.curl(f"http://{SERVER}:8080/boot.ipxe").startswith(b"#!ipxe")
    script = running.curl(f"http://{SERVER}:8080/ipxe?mac={KNOWN_MAC}&platform=pcbios")
    assert script.startswith(b"#!ipxe")
    assert running.curl(f"http://{SERVER}:8080/localboot.efi")[:2] == b"MZ"
    for name in ("ipxe-x86_64.efi", "ipxe-arm64.efi"):
        assert running.curl(f"http://{SERVER}:8080/loader/{name}")[:2] == b"MZ", name
    assert running.secure("/readyz") == b"ok\n"


def test_an_artifact_of_the_cache_is_served(running: Served) -> None:
    content = os.urandom(4096)
    path = running.site.cache / "sha256" / hashlib.sha256(content).hexdigest()
    path.write_bytes(content)
    assert running.curl(f"http://{SERVER}:8080/artifacts/sha256/{path.name}") == content


def test_pxe_reports_to_web_and_the_other_verbs_ask_as_ever(running: Served, client: DhcpClient) -> None:
    client.lease(KNOWN_MAC, BIOS)
    asked = Operator(running.work)
    assert wait_for(lambda: "pxe" in {event["who"] for event in asked.events(machine="w1")}, GONE_SECONDS)
    done = running.site.run("--output", "json", "status")
    assert ["w1"] == [machine["name"] for machine in json.loads(done.out)]


def test_health_is_what_the_image_says(running: Served) -> None:
    for part in CONTAINERS:
        command = running.store.image(part)["Healthcheck"]["Test"][1:]
        running.store.podman("exec", running.container(part), *command)


def test_changed_documents_reach_the_containers(running: Served) -> None:
    config = Path(running.site.configs[0])
    before = config.read_text()
    try:
        config.write_text(
            before + '  - {name: w2, mac: "52:54:00:77:00:02", pool: workers, address: 10.77.0.102}\n'
        )
        running.render()
        sums = running.work / "bundle" / "SHA256SUMS"
        copy = running.work / "run/web/bundle" / "SHA256SUMS"
        assert wait_for(lambda: copy.read_bytes() == sums.read_bytes(), GONE_SECONDS)
        Operator(running.work).reload()
        assert {machine["name"] for machine in Operator(running.work).machines()} == {"w1", "w2"}
        assert not (running.work / "run/web/bundle/pxe").is_dir() or not any(
            path.is_file() for path in (running.work / "run/web/bundle/pxe").iterdir()
        )
    finally:
        config.write_text(before)
        running.render()


def test_a_renewed_certificate_reaches_nginx(running: Served) -> None:
    def serial() -> bytes:
        shown = running.cable.in_client(
            "sh",
            "-c",
            f"openssl s_client -connect {SERVER}:8443 </dev/null 2>/dev/null | openssl x509 -noout -serial",
        )
        return shown.stdout.encode()

    before = serial()
    assert before.startswith(b"serial=")
    done = running.site.run("certs", "renew", "provisioning/server")
    assert done.code == 0, done.err
    assert wait_for(lambda: serial() not in (before, b""), GONE_SECONDS)


def test_it_ends_within_seconds_and_leaves_leases_only(
    running: Served, client: DhcpClient, promise: Promise
) -> None:
    address = client.lease("52:54:00:99:00:01", BIOS)
    seconds = running.stop()

    assert wait_for(running.is_clean, GONE_SECONDS), (
        running.store.containers(),
        list((running.work / "run").iterdir()),
    )
    assert address in (running.work / "run" / "leases").read_text()
    running.start()
    assert client.lease("52:54:00:99:00:02", BIOS) != address
    assert client.lease("52:54:00:99:00:01", BIOS) == address
    promise(
        promise="containers end",
        asked="gone after SIGTERM; addresses are remembered",
        done="one end and one new start",
        found=f"{seconds:.1f} s",
    )


def test_a_killed_serve_takes_its_containers_along(running: Served) -> None:
    assert running.process is not None
    running.process.kill()
    running.process.wait()

    assert wait_for(lambda: not running.store.containers(), GONE_SECONDS)
    assert running.site.run("down").code == 0
    assert running.is_clean()


def test_containers_whose_clients_were_killed_too_are_replaced_and_ended(
    running: Served, promise: Promise
) -> None:
    running.kill_all_but_containers()
    assert len(running.store.containers()) == 2
    left = running.pid("web")

    running.start()
    assert running.pid("web") != left
    assert "ended what a killed appliance had left" in running.text()

    running.kill_all_but_containers()
    assert len(running.store.containers()) == 2
    assert running.site.run("down").code == 0
    assert running.is_clean()
    promise(
        promise="containers killed",
        asked="nothing is left after the next start or `down`",
        done="serve killed; serve and both clients killed, twice",
        found="no container, process or file",
    )


def test_a_container_that_dies_is_started_again(running: Served) -> None:
    before = running.pid("pxe")
    os.kill(before, 9)

    assert wait_for(lambda: _pid_or_none(running) not in (None, 0, before), GONE_SECONDS)
    assert wait_for(running.is_ready, GONE_SECONDS)


def _pid_or_none(running: Served) -> int | None:
    try:
        return running.pid("pxe")
    except (AssertionError, ValueError):
        return None
