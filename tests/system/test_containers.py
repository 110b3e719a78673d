"""web and pxe in real containers: built from nothing, small, confined, serving a machine, and gone when told."""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap.containers.table import CONTAINERS, KEYS, PXE, Mount
from bootstrap.operator import Operator
from tests.system.container_bench import CANARY, GONE_SECONDS, Served, Store, served, store
from tests.system.pxe_segment import KNOWN_ADDRESS, KNOWN_MAC, SERVER, DhcpClient, Options, wait_for
from tests.tier import Promise

pytestmark = [pytest.mark.system, pytest.mark.promise]

MEGABYTE = 10**6
LARGEST = {"pxe": 120 * MEGABYTE, "web": 250 * MEGABYTE}
BIOS: Options = [("vendor_class_id", b"PXEClient:Arch:00000:UNDI:002001"), (93, b"\0\0")]
BUILT = re.compile(r"(pxe|web): (\S+), (\d+) MB, built in (\d+) s")


@pytest.fixture(scope="module", name="engine")
def fixture_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with store(tmp_path_factory.mktemp("store")) as made:
        yield made


@pytest.fixture(scope="module", name="bench")
def fixture_bench(engine: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An appliance whose images were built from an empty store; it does not run."""
    with served(engine, tmp_path_factory.mktemp("boxes")) as made:
        # Built where there is a network; the cable's namespace has none.
        done = made.site.run("serve", "--prepare")
        assert done.code == 0, done.err
        made.log.write_text(done.err)
        yield made


@pytest.fixture(name="running")
def fixture_running(bench: Served) -> Served:
    """The appliance, running; started when it does not."""
    if bench.process is None or bench.process.poll() is not None:
        bench.start()
    return bench


@pytest.fixture(name="client")
def fixture_client(running: Served) -> Iterator[DhcpClient]:
    made = DhcpClient(running.cable)
    yield made
    made.close()


def test_both_images_are_built_from_an_empty_store_and_small(bench: Served, promise: Promise) -> None:
    told = {part: (int(size), int(seconds)) for part, _, size, seconds in BUILT.findall(bench.text())}
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
                if _is_small_file(path) and CANARY.encode() in path.read_bytes()
            ]
            assert found == []
            assert not any((root / "run").rglob("secrets/*"))
            assert not (root / "usr/bin/perl").exists()
        finally:
            bench.store.podman("image", "unmount", tag)
        assert CANARY not in bench.store.podman("image", "inspect", tag)


def _is_small_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size < MEGABYTE


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


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def members(pid: int) -> list[int]:
    """Return all processes of the container whose first process is `pid`."""
    own = Path(f"/proc/{pid}/ns/pid").readlink()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "ns/pid").readlink() == own:
                found.append(int(folder.name))
        except OSError:
            continue
    return found


CAPABILITY_BITS = {
    "KILL": 5,
    "SETGID": 6,
    "SETUID": 7,
    "NET_BIND_SERVICE": 10,
    "NET_ADMIN": 12,
    "NET_RAW": 13,
}
"""capability.h of Linux."""


@pytest.mark.parametrize("part", CONTAINERS)
def test_no_process_has_more_rights_than_its_row(running: Served, part: str) -> None:
    row = CONTAINERS[part]  # type: ignore[index]  # pytest knows no literals
    allowed = sum(1 << CAPABILITY_BITS[name] for name in row.capabilities)
    found = [status(pid) for pid in members(running.pid(part))]

    assert len(found) >= 3
    for each in found:
        for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(each[kind], 16) & ~allowed == 0, (each["Name"], kind, each[kind])
        assert each["NoNewPrivs"] == "1"
        if row.user is not None:
            assert {*each["Uid"].split(), *each["Gid"].split()} == {str(row.user)}, each["Name"]
    if part == "pxe":
        dnsmasq = next(each for each in found if each["Name"] == "dnsmasq")
        assert "0" not in dnsmasq["Uid"].split()


@pytest.mark.parametrize("part", CONTAINERS)
def test_the_root_is_read_only_and_the_mounts_are_those_of_the_row(running: Served, part: str) -> None:
    row = CONTAINERS[part]  # type: ignore[index]  # as above
    lines = (line.split() for line in Path(f"/proc/{running.pid(part)}/mountinfo").read_text().splitlines())
    mounts = {words[4]: words[5].split(",") for words in lines}

    assert "ro" in mounts["/"]
    ours = {target: options for target, options in mounts.items() if target.startswith(("/work", "/cache"))}
    assert ours.keys() == {mount.target for mount in row.mounts}
    for mount in row.mounts:
        assert ("rw" if mount.is_writable else "ro") in ours[mount.target], mount
    for target in row.tmpfs:
        assert {"rw", "nosuid", "nodev", "noexec"} <= set(mounts[target])
    done = running.store.podman(
        "exec", running.container(part), "sh", "-c", "echo x > /etc/x || echo refused"
    )
    assert done == "refused\n"


def test_the_containers_share_no_folder() -> None:
    def sources(mounts: tuple[Mount, ...]) -> set[str]:
        return {f"{mount.root}/{mount.path}" for mount in mounts}

    assert sources(CONTAINERS["pxe"].mounts).isdisjoint(sources(CONTAINERS["web"].mounts))


@pytest.mark.parametrize("part", CONTAINERS)
def test_no_authority_s_key_is_visible(running: Served, part: str) -> None:
    root = Path(f"/proc/{running.pid(part)}/root")
    visible = [
        path for top in ("work", "cache", "opt", "etc", "tmp", "run") for path in (root / top).rglob("*")
    ]
    keys = {str(path.relative_to(root / "work/pki")) for path in visible if path.suffix == ".key"}
    assert keys == {name for name in KEYS[part] if name.endswith(".key")} & keys  # type: ignore[index]  # as above
    assert keys

    secrets = [path.read_bytes() for path in (running.work / "pki").rglob("ca.key")]
    secrets += [path.read_bytes() for path in (running.work / "pki").rglob("*-ca.key")]
    assert len(secrets) >= 4
    contents = [path.read_bytes() for path in visible if _is_small_file(path)]
    assert not any(secret in content for secret in secrets for content in contents)
    others = {name for name in KEYS if name != part}
    for other in others:
        foreign = [(running.work / "pki" / name) for name in KEYS[other] if name.endswith(".key")]
        assert not any(path.read_bytes() in contents for path in foreign if path.exists())


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


@pytest.fixture(scope="module", name="prepared")
def fixture_prepared(bench: Served) -> Served:
    """Everything but running containers."""
    if bench.process is not None and bench.process.poll() is None:
        bench.stop()
    assert bench.site.run("serve", "--prepare").code == 0
    return bench


@pytest.mark.parametrize("missing", PXE.capabilities)
def test_with_one_capability_less_pxe_does_not_do_its_work(
    prepared: Served, missing: str, promise: Promise
) -> None:
    began = time.monotonic()
    probe = () if missing == "NET_RAW" else ("--no-probe",)
    found = attempt(prepared, missing, probe)

    assert found, f"without {missing} it serves and ends as ever"
    promise(
        promise=f"containers capability {missing}",
        asked="without it pxe does not start, or does not end its dnsmasq",
        done=f"one start of {time.monotonic() - began:.0f} s",
        found=found,
    )


def attempt(bench: Served, missing: str, words: tuple[str, ...]) -> str:
    """Run pxe without a capability; return what does not work, or nothing."""
    name = f"attempt-{missing.lower().replace('_', '-')}"
    row = CONTAINERS["pxe"]
    volumes = [
        f"--volume={bench.work / mount.path}:{mount.target}:{'rw' if mount.is_writable else 'ro'}"
        for mount in row.mounts
    ]
    ready = bench.work / "run/pxe/run/pxe.ready"
    ready.unlink(missing_ok=True)
    try:
        bench.store.podman(
            *("run", "--detach", f"--name={name}", f"--network=ns:/run/netns/{bench.cable.server}"),
            *("--read-only", "--read-only-tmpfs=false", "--no-healthcheck", "--cap-drop=ALL"),
            *(f"--cap-add={each}" for each in row.capabilities if each != missing),
            *("--security-opt=no-new-privileges", "--tmpfs=/run:rw,noexec", "--tmpfs=/tmp:rw,noexec"),
            *volumes,
            bench.store.tag("pxe"),
            *words,
        )
        served_at_all = wait_for(lambda: ready.exists() or not _runs(bench, name), GONE_SECONDS)
        assert served_at_all, bench.store.podman("logs", name)
        if not _runs(bench, name):
            return "does not start"
        began = time.monotonic()
        bench.store.podman("stop", "--time=20", name)
        code = bench.store.podman("inspect", "--format", "{{.State.ExitCode}}", name).strip()
        return (
            ""
            if code == "0" and time.monotonic() - began < 5
            else f"ends with {code} after {time.monotonic() - began:.0f} s"
        )
    finally:
        bench.store.podman("rm", "--force", name, check=False)


def _runs(bench: Served, name: str) -> bool:
    return bench.store.podman("inspect", "--format", "{{.State.Running}}", name).strip() == "true"
