"""The same questions to every addon, for every supported minor of Kubernetes: the file that is there is tested."""

import copy
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
import kubernetes_validate
import pytest

import bootstrap.addons
from bootstrap import rooms
from bootstrap.adding.record import LABEL
from bootstrap.adding.rendering import addon, choose, documents
from bootstrap.addons import Object
from bootstrap.kubernetes.releases import minor_of
from bootstrap.model import addons as model
from tests.unit.addons.worlds import CASES, GIVEN, OPTIONS, VERSIONS, cluster_with

NAMES = rooms.names(bootstrap.addons)
UNPINNED = {
    "docker.io/library/traefik:v2.11.35",
    "quay.io/metallb/controller:v0.12.1",
    "quay.io/metallb/speaker:v0.12.1",
    "registry.k8s.io/nfd/node-feature-discovery:v0.17.3",
}
"""Images whose digest could not be looked up: docs/addons.md names them."""
TAGGED = re.compile(
    r"[a-z0-9.-]+\.[a-z]+/[a-z0-9/._-]+:[A-Za-z0-9._-]*\d[A-Za-z0-9._-]*(@sha256:[0-9a-f]{64})?"
)
FIRST_CHECKED = 32
"""kubernetes-validate has the schemas from here on; those of v1.20 are asked of a real API server."""


def made(name: str, options: Mapping[str, Any], version: str) -> tuple[Object, ...]:
    cluster = cluster_with({name: options}, version=version)
    (one,) = choose(cluster, (name,))
    return documents(cluster, one, GIVEN)


def strict(schema: Any) -> Any:
    """Return a CRD's schema that refuses fields which it does not name."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: strict(value) for key, value in schema.items()}
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if "properties" in schema and isinstance(schema.get("type"), str) and not is_open:
        found["additionalProperties"] = False
    return found


def validate(made: tuple[Object, ...], version: str) -> None:
    """Validate each object strictly: by Kubernetes' own schemas, or by that of its definition among `made`."""
    schemas = {
        (each["spec"]["group"], row["name"], each["spec"]["names"]["kind"]): row["schema"]["openAPIV3Schema"]
        for each in made
        if each["kind"] == "CustomResourceDefinition"
        for row in each["spec"]["versions"]
    }
    for each in made:
        group, _, api = each["apiVersion"].rpartition("/")
        schema = copy.deepcopy(schemas.get((group, api, each["kind"])))
        if schema is None:
            kubernetes_validate.validate(each, version, strict=True)
            continue
        del schema["properties"]["metadata"]
        known = {**schema, "properties": {**schema["properties"], "metadata": {}}}
        jsonschema.Draft202012Validator(strict(known)).validate(each)


def containers(made: tuple[Object, ...]) -> Iterator[Mapping[str, Any]]:
    for each in made:
        yield from each.get("spec", {}).get("template", {}).get("spec", {}).get("containers", ())


def test_every_addon_of_the_configuration_is_a_file_and_has_options_to_test() -> None:
    assert NAMES == model.names()
    assert set(OPTIONS) == set(NAMES)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda value: str(value)[:40])
def test_it_renders_objects_with_kind_and_name_each_once(name: str, options: Any, version: str) -> None:
    found = made(name, options, version)

    assert found
    identities = [
        (each["apiVersion"], each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"])
        for each in found
    ]
    assert len(set(identities)) == len(identities)
    assert made(name, options, version) == found
    assert {each["metadata"]["labels"][LABEL] for each in found} == {name}


@pytest.mark.parametrize("version", [each for each in VERSIONS if minor_of(each) >= FIRST_CHECKED])
@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda value: str(value)[:40])
def test_it_is_right_by_the_schemas_of_the_minor(name: str, options: Any, version: str) -> None:
    validate(made(name, options, version), f"1.{minor_of(version)}")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "manifests"])
def test_its_images_are_those_that_it_names_and_pinned(name: str, version: str) -> None:
    named = {image.pinned for image in addon(name).images(minor_of(version))}

    assert {one["image"] for one in containers(made(name, OPTIONS[name][0], version))} == named
    for image in named:
        assert TAGGED.fullmatch(image), image
        assert "@sha256:" in image or image in UNPINNED, image


@pytest.mark.parametrize("name", [name for name in NAMES if name != "manifests"])
def test_its_pods_ask_for_what_they_need_and_are_fetched_once(name: str) -> None:
    for one in containers(made(name, OPTIONS[name][0], VERSIONS[-1])):
        assert one["imagePullPolicy"] == "IfNotPresent"
        assert set(one["resources"]["requests"]) == {"cpu", "memory"}
        assert "privileged" not in json.dumps(one["securityContext"])


def test_a_field_that_nobody_knows_is_found() -> None:
    """The validation of this file has teeth: for a Kubernetes kind, and for one of a definition."""
    coredns, metallb = made("coredns", {}, VERSIONS[-1]), made("metallb", OPTIONS["metallb"][0], VERSIONS[-1])
    for found, kind in ((coredns, "Deployment"), (metallb, "IPAddressPool")):
        wrong = copy.deepcopy(found)
        next(each for each in wrong if each["kind"] == kind)["spec"]["adresses"] = ["10.0.0.1"]
        with pytest.raises(
            (jsonschema.ValidationError, kubernetes_validate.ValidationError), match="adresses"
        ):
            validate(wrong, "1.37")
