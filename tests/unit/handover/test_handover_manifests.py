"""What runs in the cluster is what the containers' one table says, by Kubernetes' own schemas."""

import json
from typing import Any

import kubernetes_validate
import pytest

from bootstrap.containers.table import CONTAINERS, Name
from bootstrap.handover import manifests, parcel
from bootstrap.kubernetes.releases import RELEASES
from tests import samples
from tests.unit.handover.rack import ID, IMAGE, cluster

GOLDEN = samples.GOLDEN / "handover"
CHECKED = [f"1.{minor}" for minor in RELEASES if minor >= 32]


def workload(part: Name) -> manifests.Workload:
    entries = {"run/web/bundle/a": parcel.Entry(b"a")}
    return manifests.Workload(
        handover=ID,
        node="w1",
        image=IMAGE.format(part),
        documents=parcel.packed(part, "documents", entries),
        state=parcel.packed(part, "state", {}),
    )


def deployment(part: Name) -> dict[str, Any]:
    return manifests.deployment(cluster(), part, workload(part))


def pod(part: Name) -> dict[str, Any]:
    return dict(deployment(part)["spec"]["template"]["spec"])


@pytest.mark.parametrize("part", CONTAINERS)
def test_a_part_gets_its_golden_deployment(part: Name, *, update_golden: bool) -> None:
    text = json.dumps(deployment(part), indent=1) + "\n"
    golden = GOLDEN / f"{part}.json"
    if update_golden:
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)

    assert text == golden.read_text()


@pytest.mark.parametrize("version", CHECKED)
def test_all_objects_are_right_by_the_schemas_of_every_supported_minor(version: str) -> None:
    secrets = [each for part in CONTAINERS for each in workload(part).documents.secrets()]
    for each in (manifests.namespace(), *map(deployment, CONTAINERS), *secrets):
        kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize("part", CONTAINERS)
def test_a_part_may_do_and_see_what_its_row_says_and_no_more(part: Name) -> None:
    row, spec = CONTAINERS[part], pod(part)
    (container,) = spec["containers"]
    confined = container["securityContext"]

    assert confined["capabilities"] == {"drop": ["ALL"]} | (
        {"add": [*row.capabilities]} if row.capabilities else {}
    )
    assert confined["readOnlyRootFilesystem"]
    assert not confined["allowPrivilegeEscalation"]
    assert (confined["runAsUser"], confined["runAsNonRoot"]) == (row.user or 0, row.user is not None)
    mounted = {each["mountPath"]: not each.get("readOnly", False) for each in container["volumeMounts"]}
    assert mounted == {mount.target: mount.is_writable for mount in row.mounts} | dict.fromkeys(
        row.tmpfs, True
    )
    volumes = {each["name"]: each for each in spec["volumes"]}
    assert {each["name"] for each in container["volumeMounts"]} < volumes.keys()
    assert not any(
        name.startswith(("parcel-", "node")) for name in (m["name"] for m in container["volumeMounts"])
    )
    assert not spec["automountServiceAccountToken"]


@pytest.mark.parametrize("part", CONTAINERS)
def test_there_is_never_a_second_one_beside_it(part: Name) -> None:
    spec = deployment(part)["spec"]

    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert spec["template"]["spec"]["nodeSelector"] == {"kubernetes.io/hostname": "w1"}
    assert spec["template"]["spec"]["hostNetwork"]
    ports = spec["template"]["spec"]["containers"][0]["ports"]
    assert ports
    assert all(port["hostPort"] == port["containerPort"] for port in ports)


def test_beside_a_site_s_server_its_port_is_taken_too() -> None:
    given = cluster()
    dhcp = given.appliance.dhcp.model_copy(update={"mode": "proxy"})
    beside = given.model_copy(update={"appliance": given.appliance.model_copy(update={"dhcp": dhcp})})

    found = manifests.deployment(beside, "pxe", workload("pxe"))["spec"]["template"]["spec"]["containers"]
    assert [port["containerPort"] for port in found[0]["ports"]] == [67, 69, 4011]


def test_another_content_is_another_pod() -> None:
    work = workload("web")
    other = parcel.packed("web", "documents", {"run/web/bundle/a": parcel.Entry(b"b")})
    changed = manifests.Workload(handover=ID, node="w1", image=work.image, documents=other, state=work.state)

    assert manifests.deployment(cluster(), "web", changed) != deployment("web")
