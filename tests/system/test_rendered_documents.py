"""Every rendered document passes its real checker: no error and no warning.

Needs root (mount and network namespaces of its own) and Debian's ignition, dnsmasq-base, nginx, systemd, openssl.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bootstrap import families, rooms
from bootstrap.config import parse_dump
from bootstrap.disk import write_bundle
from bootstrap.model import Cluster, Dhcp
from bootstrap.render.bundle import Bundle, render_bundle
from bootstrap.render.dnsmasq import dnsmasq_conf
from tests import samples

pytestmark = pytest.mark.system

DOCUMENTS = [
    (config, path) for config in samples.NAMES for path in samples.bundle(config) if path.endswith(".ign")
]


def run(*argv: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=60, **options
    )


def rendered(family: str) -> Bundle:
    """Return the lab's bundle with every machine of `family`, with time servers and a key."""
    tree = samples.cluster("lab").model_dump(mode="json", by_alias=True, exclude_none=True)
    tree["pools"][0]["os"] = {"family": family, "release": "1"}
    tree["appliance"]["ntp"] = ["10.77.0.1", "ntp.example.net"]
    tree["ssh"] = {"authorizedKeys": list(samples.cluster("ha").ssh.authorized_keys)}
    return render_bundle(parse_dump(samples.json_of(tree)), samples.KEYRING)


def with_dhcp(config: str, mode: str) -> Cluster:
    cluster = samples.cluster(config)
    dhcp = cluster.appliance.dhcp if mode == "server" else Dhcp.model_validate({"mode": mode})
    appliance = cluster.appliance.model_copy(update={"dhcp": dhcp.model_copy(update={"mode": mode})})
    return cluster.model_copy(update={"appliance": appliance})


def silent_from_ignition(document: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.ign").write_bytes(document)
    result = run("ignition-validate", tmp_path / "x.ign")

    assert result.stdout == ""
    assert result.returncode == 0


@pytest.mark.parametrize(("config", "path"), DOCUMENTS)
def test_ignition_accepts_the_documents_of_the_samples(config: str, path: str, tmp_path: Path) -> None:
    silent_from_ignition(samples.bundle(config)[path].content, tmp_path)


@pytest.mark.parametrize("kind", ["live", "installed"])
@pytest.mark.parametrize("family", rooms.names(families))
def test_ignition_accepts_the_documents_of_every_family(family: str, kind: str, tmp_path: Path) -> None:
    silent_from_ignition(rendered(family)[f"machines/w1/{kind}.ign"].content, tmp_path)


def test_the_checker_would_complain(tmp_path: Path) -> None:
    (tmp_path / "x.ign").write_text('{"ignition": {"version": "3.3.0"}, "storage": {"filez": []}}')

    assert "Unused key" in run("ignition-validate", tmp_path / "x.ign").stdout


@pytest.mark.parametrize("mode", ["server", "proxy", "off"])
@pytest.mark.parametrize("config", samples.NAMES)
def test_dnsmasq_accepts_its_file_in_every_mode(config: str, mode: str, tmp_path: Path) -> None:
    (tmp_path / "dnsmasq.conf").write_text(dnsmasq_conf(with_dhcp(config, mode)))
    result = run("dnsmasq", "--test", "-C", tmp_path / "dnsmasq.conf")

    assert result.stdout == "dnsmasq: syntax check OK.\n"
    assert result.returncode == 0


@pytest.fixture
def namespace() -> Iterator[str]:
    """Yield a network namespace in which only loopback is up; nginx binds its addresses even to test a file."""
    name = "fl-test-documents"
    subprocess.run(("ip", "netns", "add", name), check=True)
    try:
        subprocess.run(("ip", "-n", name, "link", "set", "lo", "up"), check=True)
        yield name
    finally:
        subprocess.run(("ip", "netns", "del", name), check=True)


@pytest.mark.parametrize("config", samples.NAMES)
def test_nginx_accepts_its_file(config: str, tmp_path: Path, namespace: str) -> None:
    write_bundle(tmp_path / "bundle", samples.bundle(config))
    for folder in ("run", "log", "pki/provisioning"):
        (tmp_path / folder).mkdir(parents=True)
    make_certificate(tmp_path / "pki/provisioning/server")
    address = samples.cluster(config).appliance.address.ip
    subprocess.run(("ip", "-n", namespace, "address", "add", f"{address}/32", "dev", "lo"), check=True)

    result = run(
        *("ip", "netns", "exec", namespace),
        *("nginx", "-t", "-p", ".", "-c", "bundle/web/nginx.conf"),
        cwd=tmp_path,
    )

    assert result.returncode == 0, result.stdout
    assert "[warn]" not in result.stdout
    assert "[emerg]" not in result.stdout


def make_certificate(path: Path) -> None:
    """Make a key and a self-signed certificate for a day, at path.key and path.crt."""
    files = ("-keyout", f"{path}.key", "-out", f"{path}.crt")
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "1", "-subj", "/CN=x")
    subprocess.run(("openssl", "req", "-x509", *kind, *files), check=True, capture_output=True)


# systemd wants to see the program that a unit starts: it gets it, in a mount namespace of its own.
VERIFY = """
mount -t tmpfs none /opt && mkdir /opt/firstlight || exit 90
for name in install report; do printf '#!/bin/sh\\n' >/opt/firstlight/$name && chmod 0755 /opt/firstlight/$name; done
exec systemd-analyze verify "$1"
"""


def units() -> dict[str, str]:
    """Return every unit with contents of ours in any document."""
    found: dict[str, str] = {}
    for family in rooms.names(families):
        for path, file in rendered(family).items():
            if path.endswith(".ign"):
                found |= {
                    name: unit["contents"]
                    for name, unit in samples.units_of(file.content).items()
                    if "contents" in unit
                }
    return found


def test_there_are_units_to_verify() -> None:
    assert sorted(units()) == ["firstlight-install.service", "firstlight-report.service"]


@pytest.mark.parametrize("name", ["firstlight-install.service", "firstlight-report.service"])
def test_systemd_accepts_every_unit(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(units()[name])
    result = run("unshare", "--mount", "sh", "-c", VERIFY, "verify", tmp_path / name)

    assert result.stdout == ""
    assert result.returncode == 0
