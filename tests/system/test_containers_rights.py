"""What the containers may do and see is what their table says, and each capability of pxe is needed."""

import time
from pathlib import Path

import pytest

from bootstrap.containers.table import CONTAINERS, KEYS, PXE, Mount
from tests.system.container_bench import GONE_SECONDS, Served, is_small_file
from tests.system.pxe_segment import wait_for
from tests.tier import Promise

pytestmark = [pytest.mark.system, pytest.mark.promise]


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
    contents = [path.read_bytes() for path in visible if is_small_file(path)]
    assert not any(secret in content for secret in secrets for content in contents)
    others = {name for name in KEYS if name != part}
    for other in others:
        foreign = [(running.work / "pki" / name) for name in KEYS[other] if name.endswith(".key")]
        assert not any(path.read_bytes() in contents for path in foreign if path.exists())


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
