"""/boot.ipxe, /ipxe and stage A: found, unknown, malformed, render fails, store broken."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bootstrap.records.model import Introduction
from tests.unit.web.conftest import Rack
from tests.unit.web.fakes import W1, W2, W3, cluster


def test_every_machine_is_asked_who_it_is(rack: Rack) -> None:
    script = rack.public("/boot.ipxe").text

    assert "#!ipxe" in script
    assert "http://10.77.0.1:8080/ipxe?mac=" in script


def test_an_armed_machine_gets_the_installer(rack: Rack) -> None:
    script = rack.boot()

    assert f"kernel http://10.77.0.1:8080/artifacts/sha256/{'a' * 64}" in script
    assert f"http://10.77.0.1:8080/artifacts/sha256/{'b' * 64}" in script
    assert f"firstlight.arm={rack.record().arm}" in script
    assert "installing w1, attempt 1 of 3" in script


def test_the_boot_is_recorded_with_what_the_machine_said(rack: Rack) -> None:
    rack.boot(
        mac=W1.replace(":", "-").upper(),
        platform="efi",
        arch="x86_64",
        uuid="4C4C4544-0051-3310-8051-B4C04F4A4D32",
        serial="SN  1\n2",
    )

    record = rack.record()
    assert record.firmware == "uefi"
    assert record.said == Introduction(
        uuid="4c4c4544-0051-3310-8051-b4c04f4a4d32", serial="SN 1 2", arch="x86_64", platform="efi"
    )
    event = rack.site.ledger.events_of(W1)[-1]
    assert (event.what, event.decision, event.who) == ("network-boot", "install", "machine")


@pytest.mark.parametrize("arch", ["arm64", "riscv64"])
def test_a_machine_of_another_processor_is_told_so_and_loads_nothing(rack: Rack, arch: str) -> None:
    script = rack.boot(platform="efi", arch=arch)

    assert f"the image of pool workers is for x86-64 machines, and this one is {arch}" in script
    assert "kernel" not in script
    assert "kernel" not in rack.boot("52:54:00:77:00:09", platform="efi", arch=arch)
    assert rack.record().state == "armed"
    assert "kernel" in rack.boot(platform="efi", arch="x86_64")


@pytest.mark.parametrize("arch", ["arm64", "riscv64"])
def test_an_unlisted_machine_of_another_processor_is_not_told_to_list_it(rack: Rack, arch: str) -> None:
    """Listed, it would wait for an image that there cannot be."""
    script = rack.boot("52:54:00:77:00:09", platform="efi", arch=arch)

    assert f"is not known, and no image is for its processor, {arch}: they are for x86-64" in script
    assert "machines:" not in script
    assert "this machine is left alone" in script
    assert "add it under machines:" in rack.boot("52:54:00:77:00:09", platform="efi", arch="x86_64")


def test_a_boot_alone_changes_no_state_and_spends_no_attempt(rack: Rack) -> None:
    for _ in range(5):
        rack.boot()

    assert (rack.record().state, rack.record().attempts) == ("armed", 0)


@pytest.mark.parametrize("platform", ["pcbios", "efi"])
def test_an_installed_machine_goes_to_its_disk(rack: Rack, platform: str) -> None:
    rack.tell("complete")

    script = rack.boot(platform=platform)

    assert "w1 is installed" in script
    assert ("sanboot" in script) == (platform == "pcbios")
    assert "kernel" not in script


def test_a_machine_that_is_not_armed_waits_and_shows_how_to_arm_it(rack: Rack) -> None:
    script = rack.boot(W2)

    assert "w2 is accepted - arm it: machine arm w2" in script
    assert "sleep" in script


def test_a_machine_that_waits_for_hours_fills_no_log(rack: Rack) -> None:
    for _ in range(100):
        rack.boot(W2)

    assert [event.what for event in rack.site.ledger.events_of(W2)] == ["accepted", "network-boot"]


def test_a_failed_machine_waits_and_shows_the_reason(rack: Rack) -> None:
    rack.tell("failed", message="no disk matches")

    assert "no disk matches" in rack.boot()


def test_without_an_image_the_machine_waits(rack: Rack) -> None:
    rack.image = None

    assert "image build" in rack.boot()


def test_an_unknown_machine_is_left_alone_and_recorded(rack: Rack) -> None:
    script = rack.boot(W3, serial="S3")

    assert f"{W3} is not in config.yaml" in script
    assert script.rstrip().endswith("exit 1")
    (stranger,) = rack.site.strangers.all()
    assert (stranger.mac, stranger.said.serial) == (W3, "S3")


def test_a_flood_of_unknown_machines_is_answered_and_not_written(rack: Rack) -> None:
    for n in range(300):
        rack.boot(f"52:54:00:cc:{n // 256:02x}:{n % 256:02x}")

    assert sum(1 for _ in rack.site.strangers.all()) == 200


@pytest.mark.parametrize(
    "query",
    [
        "",
        "mac=",
        "mac=52:54:00:aa:00",
        "mac=52:54:00:aa:00:zz",
        "mac=ff:ff:ff:ff:ff:ff",
        "mac=${net0/mac}",
        "mac=52-54-00-aa-00-01&platform=riscv",
        "mac=52-54-00-aa-00-01&arch=x86%2064;reboot",
        f"mac=52-54-00-aa-00-01&arch={'x' * 17}",
        f"mac=52-54-00-aa-00-01&serial={'x' * 513}",
    ],
)
def test_nonsense_is_a_bad_request_with_a_reason(rack: Rack, query: str) -> None:
    answer = rack.public(f"/ipxe?{query}")

    assert answer.status_code == 400
    assert answer.json is not None
    assert answer.json["reason"]


def test_a_known_machine_whose_script_fails_is_our_failure_and_not_a_404(
    rack: Rack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> str:
        raise ValueError("template")

    monkeypatch.setattr("web.boot.ipxe.install_script", broken)
    answer = rack.public(f"/ipxe?mac={W1}")

    assert answer.status_code == 500
    assert b"template" not in answer.data


def test_a_store_that_cannot_write_keeps_no_machine_from_booting(rack: Rack) -> None:
    rack.store.writes_fail = True

    assert "installing w1" in rack.boot()
    assert "not in config.yaml" in rack.boot(W3)


def test_a_store_that_cannot_read_is_a_503_to_ask_again(rack: Rack) -> None:
    rack.store.reads_fail = True

    answer = rack.public(f"/ipxe?mac={W1}")

    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert b"state.db" not in answer.data


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(max_size=600),
    key=st.sampled_from(["serial", "manufacturer", "product", "uuid", "arch", "mac"]),
)
def test_whatever_a_machine_says_its_script_has_the_same_lines(rack: Rack, text: str, key: str) -> None:
    honest = rack.public("/ipxe", query_string={"mac": W1, "platform": "efi"}).text
    answer = rack.public("/ipxe", query_string={"mac": W1, "platform": "efi", key: text})

    assert answer.status_code in (200, 400)
    if rack.record().state == "conflict":
        waits = rack.boot(W2).splitlines()
        assert answer.text.splitlines()[3:] == waits[3:]
        rack.operator("POST", "/v1/machines/w1/accept", json={"resolve": True})
        rack.operator("POST", "/v1/machines/w1/arm")
    elif answer.status_code == 200:
        assert answer.text == honest.replace(rack_arm(honest), rack_arm(answer.text))


def rack_arm(script: str) -> str:
    return re.search(r"firstlight\.arm=(\S+)", script)[1]  # type: ignore[index]


def test_a_uuid_that_makes_no_sense_is_none_and_the_machine_boots(rack: Rack) -> None:
    assert "installing w1" in rack.boot(uuid="not-a-uuid")
    assert rack.record().said.uuid == ""


def test_only_an_armed_or_installing_machine_gets_stage_a(rack: Rack) -> None:
    path = f"/v1/ignition/{W1.replace(':', '-')}"
    assert rack.public(path).data == b"live of w1"
    rack.begin()
    assert rack.public(path).data == b"live of w1"
    stranger = rack.public(f"/v1/ignition/{W3.replace(':', '-')}")
    rack.tell("complete")

    for hidden in (rack.public(path), rack.public(f"/v1/ignition/{W2.replace(':', '-')}")):
        assert (hidden.status_code, hidden.data) == (404, stranger.data)
    assert rack.public("/v1/ignition/nonsense").status_code == 400


def test_stage_a_has_an_etag(rack: Rack) -> None:
    path = f"/v1/ignition/{W1}"
    first = rack.public(path)

    again = rack.public(path, headers={"If-None-Match": first.headers["ETag"]})

    assert (again.status_code, again.data) == (304, b"")


def test_a_reload_brings_new_machines_and_documents(rack: Rack) -> None:
    rack.cluster = cluster({"name": "w3", "mac": W3}, {"name": "w2", "mac": W2, "pool": "spare"})
    assert rack.operator("POST", "/v1/reload").json == {"machines": 2}

    assert "installing w3" in rack.boot(W3)
    assert "w1 is no longer in the configuration" in rack.boot(W1)
    assert rack.public(f"/v1/ignition/{W1}").status_code == 404
    assert rack.machine("w1")["state"] == "retired"
