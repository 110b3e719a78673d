"""The bundle as a whole: its paths, its digest, and that no secret gets in or out."""

from collections.abc import Callable
from typing import Any

import pytest

from bootstrap.config import parse_dump
from bootstrap.errors import RenderError
from bootstrap.model import Cluster
from bootstrap.render.bundle import File, digest, refuse_secrets, render_bundle
from certs.keyring import Keyring, PublicKeyring
from certs.secret import Secret
from tests import samples

CANARY = b"canary-7f3a9c"


def test_the_bundle_of_the_lab_has_these_documents() -> None:
    assert list(samples.bundle("lab")) == [
        "appliance/cluster.json",
        "appliance/loader.ipxe",
        "appliance/provisioning-ca.crt",
        "hosts/m1/host.ign",
        "hosts/m1/meta-data",
        "hosts/m1/user-data",
        "machines/w1/installed.ign",
        "machines/w1/live.ign",
        "machines/w2/installed.ign",
        "machines/w2/live.ign",
        "pxe/dnsmasq.conf",
        "web/boot.ipxe",
        "web/nginx.conf",
    ]


def test_a_bundle_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        samples.bundle("lab")["x"] = File(b"")  # type: ignore[index]


def test_the_appliance_reads_the_cluster_that_was_rendered() -> None:
    assert parse_dump(samples.bundle("ha")["appliance/cluster.json"].content) == samples.cluster("ha")


def test_the_digest_is_of_paths_modes_and_contents() -> None:
    bundle = {"a": File(b"1"), "b": File(b"2")}

    assert digest(bundle) == digest(dict(reversed(bundle.items())))
    others = (
        {"a": File(b"1"), "c": File(b"2")},
        {"a": File(b"1"), "b": File(b"3")},
        {"a": File(b"1", 0o600), "b": File(b"2")},
        {"a": File(b"1")},
        {"a": File(b"12"), "b": File(b"")},
    )
    assert len({digest(other) for other in (bundle, *others)}) == 6


def with_machine(secret: Any) -> Cluster:
    cluster = samples.cluster("lab")
    machine = cluster.machines[0].model_copy(update={"name": secret})
    return cluster.model_copy(update={"machines": (machine, *cluster.machines[1:])})


def with_key(secret: Any) -> Cluster:
    cluster = samples.cluster("lab")
    ssh = cluster.ssh.model_copy(update={"authorized_keys": (secret,)})
    return cluster.model_copy(update={"ssh": ssh})


def with_label(secret: Any) -> Cluster:
    cluster = samples.cluster("lab")
    pool = cluster.pools[0].model_copy(update={"labels": {"a": secret}})
    return cluster.model_copy(update={"pools": (pool,)})


@pytest.mark.parametrize(
    ("hide", "where"),
    [
        (with_machine, "input.machines.0.name"),
        (with_key, "input.ssh.authorized_keys.0"),
        (with_label, "input.pools.0.labels.a"),
    ],
)
def test_a_secret_anywhere_in_the_cluster_stops_the_rendering(
    hide: Callable[[Any], Cluster], where: str
) -> None:
    with pytest.raises(RenderError, match="is a secret") as failure:
        render_bundle(hide(Secret(CANARY)), samples.KEYRING)

    assert str(failure.value).startswith(where)
    assert CANARY.decode() not in str(failure.value)


def test_a_keyring_with_private_keys_is_refused() -> None:
    keyring = Keyring(public=samples.KEYRING, keys={"provisioning/server": Secret(CANARY)})

    with pytest.raises(RenderError):
        render_bundle(samples.cluster("lab"), keyring)  # type: ignore[arg-type]


def test_without_the_provisioning_ca_there_is_no_bundle() -> None:
    with pytest.raises(RenderError, match="provisioning/ca"):
        render_bundle(samples.cluster("lab"), PublicKeyring(certificates={}, public_keys={}))


def test_no_other_certificate_of_the_keyring_gets_into_a_document() -> None:
    keyring = PublicKeyring(
        certificates={**samples.KEYRING.certificates, "admin": b"admin-" + CANARY}, public_keys={"sa": CANARY}
    )

    assert render_bundle(samples.cluster("lab"), keyring) == samples.bundle("lab")


@pytest.mark.parametrize("name", samples.NAMES)
def test_no_document_holds_a_private_key(name: str) -> None:
    for path, file in samples.bundle(name).items():
        texts = [file.content]
        if path.endswith(".ign"):
            texts += [text.encode() for text, _ in samples.files_of(file.content).values()]
        assert not [text for text in texts if b"PRIVATE KEY" in text], path


def test_plain_values_hold_no_secret() -> None:
    refuse_secrets({"a": [1, "x", None, (b"y", {"b": 2.5})]})


def test_a_cluster_of_a_thousand_machines_renders_in_seconds() -> None:
    cluster = samples.cluster("lab")
    machines = tuple(
        cluster.machines[0].model_copy(
            update={"name": f"w{n}", "mac": f"52:54:00:00:{n >> 8:02x}:{n & 255:02x}", "address": None}
        )
        for n in range(1000)
    )

    bundle = render_bundle(cluster.model_copy(update={"machines": machines}), samples.KEYRING)

    assert len(bundle) == 2009
