"""Stage A by HTTPS: the same documents, and every URL in them stays with HTTPS; plain HTTP is as it was."""

import re

import pytest

from bootstrap.artifacts import Artifact
from bootstrap.model import Cluster
from tests.unit.web.conftest import IMAGE, Rack
from tests.unit.web.fakes import W1, W2, W3, cluster

PLAIN, SECURE = "http://10.77.0.1:8080", "https://10.77.0.1:8443"
AUTHORITY = "initrd --name authority https://10.77.0.1:8443/provisioning-ca.crt /etc/ssl/certs/"


def asked(rack: Rack, path: str, listener: str = "machine", mac: str = W1, **query: str) -> str:
    words = {"mac": mac, "platform": "efi", **query}
    return rack.ask(listener, "GET", path, query_string=words).text


def hosts(script: str) -> set[str]:
    return set(re.findall(r"https?://[0-9.:]+", script))


def of_family(family: str, release: str) -> Cluster:
    base = cluster()
    pools = tuple(
        pool.model_copy(
            update={
                "os": pool.os.model_copy(update={"family": family, "release": release, "kernel": "server"})
            }
        )
        for pool in base.pools
    )
    return base.model_copy(update={"pools": pools})


@pytest.mark.parametrize("mac", [W1, W2, W3])
@pytest.mark.parametrize("after", ["", "complete", "failed"])
@pytest.mark.parametrize("path", ["/boot.ipxe", "/ipxe"])
def test_a_script_names_the_listener_that_it_was_asked_on(path: str, after: str, mac: str) -> None:
    """Install, start the disk, wait, leave alone: all that a machine can hear."""
    seen = {}
    for listener in ("public", "machine"):
        rack = Rack()
        if after:
            rack.tell(after)
        seen[listener] = asked(rack, path, listener, mac)

    assert hosts(seen["public"]) <= {PLAIN}
    assert hosts(seen["machine"]) <= {SECURE}
    without = re.sub(
        r"^(# What the live|initrd --name authority).*\n", "", seen["machine"], flags=re.MULTILINE
    )
    assert without.replace(SECURE, PLAIN) == seen["public"]


def test_an_installer_that_came_by_https_is_told_whom_to_believe(rack: Rack) -> None:
    script = asked(rack, "/ipxe")

    assert f"ignition.config.url={SECURE}/v1/ignition/{W1.replace(':', '-')}" in script
    assert AUTHORITY in script
    assert AUTHORITY not in asked(rack, "/ipxe", "public")


@pytest.mark.parametrize(
    ("family", "release"), [("flatcar", "4593.2.5"), ("fedora-coreos", "42.20250803.3.0")]
)
def test_where_the_live_system_cannot_be_told_it_fetches_its_document_by_http(
    family: str, release: str
) -> None:
    """Kernel and initrd are iPXE's, which trusts us; an initrd of a maker's has other places for certificates."""
    image = IMAGE.__class__(**{**vars(IMAGE), "rootfs": Artifact("d" * 64, 5)})
    rack = Rack(cluster=of_family(family, release), image=image)
    script = asked(rack, "/ipxe")

    assert f"kernel {SECURE}/artifacts/" in script
    assert f"initrd --name initrd {SECURE}/artifacts/" in script
    assert f"ignition.config.url={PLAIN}/v1/ignition/" in script
    assert "authority" not in script
    assert ("coreos.live.rootfs_url=" in script) == (family == "fedora-coreos")
    assert f"rootfs_url={SECURE}" not in script


def test_the_boot_is_recorded_as_any_other(rack: Rack) -> None:
    asked(rack, "/ipxe", serial="S1")

    event = rack.site.ledger.events_of(W1)[-1]
    assert (event.what, event.decision, rack.record().said.serial) == ("network-boot", "install", "S1")


@pytest.mark.parametrize("client", ["", "firstlight:pxe", "system:node:w1"])
def test_a_certificate_of_the_client_changes_nothing(client: str) -> None:
    """Stage A is everybody's: who shows a certificate is not told more, or anything else."""
    answers = []
    for headers in ({}, {"X-Firstlight-Client": client}):
        rack = Rack()
        paths = ("/boot.ipxe", f"/ipxe?mac={W1}&platform=efi", f"/v1/ignition/{W1}", f"/ipxe/leave?mac={W1}")
        answers.append([rack.ask("machine", "GET", path, headers=headers).data for path in paths])

    assert answers[0] == answers[1]


def test_the_document_is_the_same_by_both(rack: Rack) -> None:
    plain, secure = (rack.ask(one, "GET", f"/v1/ignition/{W1}") for one in ("public", "machine"))

    assert (plain.status_code, plain.data, plain.headers["ETag"]) == (
        200,
        secure.data,
        secure.headers["ETag"],
    )
