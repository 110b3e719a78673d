"""An iPXE that trusts our authority takes all of stage A by HTTPS; one that trusts another takes nothing, and says so.

The server's side is asked with curl. The machines are emulated, with a real iPXE that can check P-256 (https_rack);
both start from a stick, and are switched on together.
"""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bootstrap import config
from bootstrap.keys import ensure_keys
from bootstrap.model import Cluster
from tests.system import https_rack
from tests.system.booting import DISK
from tests.system.install_rack import Rack, appliance
from tests.system.pxe_segment import SERVER, wait_for
from tests.system.relay_segment import Relayed, relayed

pytestmark = pytest.mark.system

DHCP = "{mode: server, range: [10.77.0.150, 10.77.0.199]}"
PLAIN, SECURE = f"http://{SERVER}:8080", f"https://{SERVER}:8443"
MACS = {name: f"52:54:00:77:0b:0{name[1:]}" for name in ("w1", "w2", "w3", "w4")}
ADDRESSES = {name: f"10.77.0.11{name[1:]}" for name in MACS}
LISTED = [
    f'{{name: {name}, mac: "{mac}", pool: workers, address: {ADDRESSES[name]}, '
    f"disk: {{select: {{serial: virtio-{name}}}}}}}"
    for name, mac in MACS.items()
]
BOOT_SECONDS = 600.0  # 45 MB by TLS through an emulated processor, and a kernel; 70 where processors are idle
CANNOT_VERIFY = 60  # curl(1): the certificate is not believed
NOT_FOUND = 22


@pytest.fixture(scope="module", name="network")
def fixture_network() -> Iterator[Relayed]:
    with relayed() as made:
        yield made


@pytest.fixture(scope="module", name="rack")
def fixture_rack(network: Relayed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    with appliance(network, tmp_path_factory.mktemp("https"), DHCP, LISTED) as made:
        yield made


@pytest.fixture(scope="module", name="consoles")
def fixture_consoles(
    network: Relayed, rack: Rack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Path]]:
    """w1 trusts our authority, w2 that of the same cluster made anew (the name is the same), w3 another cluster's."""
    bundle = rack.work / "bundle" / "appliance"
    cluster = config.load([rack.work.parent / "config.yaml"])
    other = cluster.model_copy(update={"metadata": cluster.metadata.model_copy(update={"name": "other"})})
    authorities = {
        "w1": (bundle / "provisioning-ca.crt").read_bytes(),
        "w2": authority_of(cluster, rack.work.parent / "anew"),
        "w3": authority_of(other, rack.work.parent / "other"),
    }
    with ExitStack() as stack:
        consoles = {}
        for name, authority in authorities.items():
            folder = tmp_path_factory.mktemp(name)
            https_rack.stick(folder / "stick", authority, (bundle / "loader.ipxe").read_text())
            one = https_rack.machine(network.near, "near0", folder, MACS[name], name=name, disk=DISK)
            consoles[name] = stack.enter_context(one)
        yield consoles
        for console in consoles.values():
            sys.stderr.write(console.read_text(errors="replace")[-4000:])


def authority_of(cluster: Cluster, folder: Path) -> bytes:
    return ensure_keys(cluster, folder, datetime.now(UTC)).keyring.public.certificates["provisioning/ca"]


def curl(network: Relayed, rack: Rack, *arguments: str, trusts: bool = True) -> tuple[int, str]:
    """Ask from the machines' side; return curl's exit code and the body."""
    ca = ("--cacert", str(rack.work / "bundle/appliance/provisioning-ca.crt")) if trusts else ()
    done = network.near.in_client("curl", "--silent", "--fail", "--max-time", "30", *ca, *arguments)
    return done.returncode, done.stdout


def lines(rack: Rack, name: str) -> list[dict[str, str]]:
    """Return what nginx's log has of a machine."""
    found = (json.loads(line) for line in rack.text("log/nginx-access.log").splitlines())
    return [line for line in found if line["address"] == ADDRESSES[name]]


def test_every_url_of_the_scripts_is_there_by_https_with_our_authority_alone(
    network: Relayed, rack: Rack
) -> None:
    code, first = curl(network, rack, f"{SECURE}/boot.ipxe")
    assert (0, {SECURE}) == (code, set(re.findall(r"https?://[0-9.:]+", first)))
    code, script = curl(network, rack, f"{SECURE}/ipxe?mac={MACS['w4']}&platform=efi")
    assert code == 0
    urls = [url for url in re.findall(r"https?://[^\s]+", script) if not url.endswith("/boot.ipxe")]
    kinds = [re.sub(r"[0-9a-f-]{17,}", "", url.removeprefix(SECURE)) for url in urls]

    assert ["/artifacts/sha256/", "/v1/ignition/", "/artifacts/sha256/", "/provisioning-ca.crt"] == kinds
    for url in urls:
        assert (url, 0) == (url, curl(network, rack, "--output", "/dev/null", url)[0])
        assert CANNOT_VERIFY == curl(network, rack, url, trusts=False)[0], url
    served = curl(network, rack, urls[-1])[1]
    assert served == (rack.work / "bundle/appliance/provisioning-ca.crt").read_text()


def test_what_sends_a_machine_to_its_disk_is_there_by_https(network: Relayed, rack: Rack) -> None:
    size = ("--output", "/dev/null", "--write-out", "%{size_download}")
    for name in ("localboot.efi", "localboot.pxe"):
        plain, secure = (curl(network, rack, *size, f"{base}/{name}") for base in (PLAIN, SECURE))
        assert plain == secure
        assert (plain[0], int(plain[1]) > 10_000) == (0, True)


def test_nothing_else_is_opened(network: Relayed, rack: Rack) -> None:
    """The routes of machines stay on HTTPS, the operator's on the socket, the authority off plain HTTP."""
    for url in (
        f"{PLAIN}/provisioning-ca.crt",
        f"{PLAIN}/v1/claim",
        f"{SECURE}/v1/machines",
        f"{SECURE}/loader/ipxe-x86_64.efi",
        f"{SECURE}/../pki/provisioning/server.key",
        f"{SECURE}/ipxe/refused",
    ):
        assert NOT_FOUND == curl(network, rack, "--path-as-is", url)[0], url


@pytest.mark.soak
def test_a_machine_that_trusts_us_loads_everything_by_https(rack: Rack, consoles: dict[str, Path]) -> None:
    """iPXE its scripts, kernel, initrd and the authority, and the live system its Ignition document, which is all."""

    def stage_a() -> list[dict[str, str]]:
        """Return its requests up to the one for its document."""
        asked = lines(rack, "w1")
        last = next((n for n, line in enumerate(asked) if "/v1/ignition/" in line["request"]), None)
        return [] if last is None else asked[: last + 1]

    assert wait_for(lambda: bool(stage_a()), BOOT_SECONDS), rack.story(consoles.values())
    told = [
        f"{line['listener']} {line['request'].split()[1].partition('?')[0]} {line['status']}"
        for line in stage_a()
    ]
    sys.stderr.write("\n".join(told))
    wanted = (
        "/boot.ipxe",
        "/ipxe",
        "/artifacts/sha256/",
        "/artifacts/sha256/",
        "/provisioning-ca.crt",
        "/v1/ignition/",
    )

    assert [re.sub(r"[0-9a-f-]{17,}", "", line) for line in told] == [
        f"machine {path} 200" for path in wanted
    ]
    assert wait_for(lambda: "fetched" in {event["what"] for event in rack.events("w1")})


@pytest.mark.soak
@pytest.mark.parametrize("name", ["w2", "w3"])
def test_a_machine_that_trusts_another_authority_is_named(
    rack: Rack, consoles: dict[str, Path], name: str
) -> None:
    """It takes no byte of ours, goes back to its firmware, and `machine explain` says why."""

    def diagnosis() -> str:
        found: str = rack.operator.story(name)["diagnosis"]["name"]
        return found

    named = wait_for(lambda: diagnosis() == "certificate-not-believed", BOOT_SECONDS)
    sys.stderr.write(json.dumps(rack.operator.story(name), indent=1))
    assert named, rack.story(consoles.values())
    gives_up = wait_for(lambda: "back to the firmware" in consoles[name].read_text(errors="replace"), 120)

    assert gives_up, rack.story(consoles.values())
    assert {line["request"].partition("?")[0] for line in lines(rack, name)} == {"GET /ipxe/refused"}
    assert "network-boot" not in {event["what"] for event in rack.events(name)}


@pytest.mark.promise
@pytest.mark.soak
def test_it_is_installed_and_goes_to_its_disk_by_https(rack: Rack, consoles: dict[str, Path]) -> None:
    rack.await_installed({"w1": consoles["w1"]})
    asked = {(line["listener"], line["request"].split()[1]) for line in lines(rack, "w1")}

    assert ("machine", "/localboot.efi") in asked
    assert not [
        path for listener, path in asked if listener == "public" and not path.startswith("/artifacts/")
    ]
