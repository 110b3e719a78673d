"""Documents of one's own are read as kubectl reads them, and what is wrong has file, line and column."""

from pathlib import Path

import pytest

from bootstrap.adding import given
from bootstrap.config.manifests import documents
from bootstrap.errors import ConfigError
from tests.unit.addons.worlds import cluster_with

HEAD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0644", 420),
        ("yes", True),
        ("off", False),
        ("1.20", 1.2),
        ("8080:45", "8080:45"),
        ("52:54:00", "52:54:00"),
        ("2026-11-23", "2026-11-23"),
        ("0x1F", 31),
        ("1e3", 1000.0),
        ("10m", "10m"),
        ("~", None),
        ("", None),
        ('"0644"', "0644"),
        ("y", "y"),
    ],
)
def test_scalars_are_what_kubectl_takes_them_for(text: str, value: object) -> None:
    (found,) = documents(f"{HEAD}x: {text}\n".encode(), "a.yaml")

    assert found.value["x"] == value
    assert type(found.value["x"]) is type(value)


def test_several_documents_lists_anchors_and_empty_ones() -> None:
    items = "kind: List\napiVersion: v1\nitems:\n- {apiVersion: v1, kind: A, metadata: {name: b}}\n"
    text = f"---\n# nothing\n---\n{HEAD}---\n{items}"
    text += "---\n" + HEAD.replace("name: a", "name: c") + "data: &d {x: '1'}\nbinaryData: *d\n"
    found = documents(text.encode(), "a.yaml")

    assert [(one.value["metadata"]["name"], one.line) for one in found] == [("a", 4), ("b", 8), ("c", 13)]
    assert found[2].value["binaryData"] == {"x": "1"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: [", "a.yaml:2:1: is not YAML"),
        ("kind: A\n", "a.yaml:1:1: has no apiVersion; write it as a text"),
        (f"{HEAD}---\n- 1\n", "a.yaml:5:1: is no mapping; write a Kubernetes object"),
        ("apiVersion: v1\nkind: A\nmetadata: {generateName: a-}\n", "a.yaml:1:1: A has no metadata.name"),
        ("apiVersion: v1\nkind: A\nmetadata: {name: 5}\n", "a.yaml:1:1: A has no metadata.name"),
        (
            f"{HEAD}data:\n  x: a\n  x: b\n",
            "a.yaml:6:3: the key 'x' is here twice (first in line 5); remove one",
        ),
        (f"{HEAD}x: !!binary aGk=\n", "a.yaml:1:1: holds what JSON has not"),
        (f"{HEAD}x: .inf\n", None),
        (f"{HEAD}x: !!python/none\n", "a.yaml:4:4: is not YAML"),
        ("a: &a\n  b: *a\n", "a.yaml:1:1: "),
        (f"{HEAD}metadata2: {{namespace: 1}}\n", None),
        ("\xff", "a.yaml:1:1: "),
        ("kind: AList\napiVersion: v1\nitems: 5\n", "a.yaml:1:1: AList has no metadata.name"),
        ("kind: AList\napiVersion: v1\nitems: [5]\n", "a.yaml:1:1: is no mapping"),
        (
            "apiVersion: v1\nkind: A\nmetadata: {name: a, labels: [b]}\n",
            "a.yaml:1:1: A a: metadata.labels is no",
        ),
        (
            "apiVersion: v1\nkind: A\nmetadata: {name: a, namespace: 1}\n",
            "a.yaml:1:1: A a: metadata.namespace is no",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, line: str | None) -> None:
    if line is None:
        assert documents(text.encode(), "a.yaml")
        return
    with pytest.raises(ConfigError) as caught:
        documents(text.encode("latin-1"), "a.yaml")

    assert str(caught.value).startswith(line)


def test_few_lines_of_aliases_do_not_stand_for_billions() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(ConfigError, match="aliases stand for too many values"):
        documents((HEAD + "\n".join(lines)).encode(), "a.yaml")


def test_files_come_in_the_order_of_their_names_and_others_are_left(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    for name in ("20-b.yml", "10-a.yaml", "readme.txt", "30.json"):
        (folder / name).write_text(HEAD)
    cluster = cluster_with({"manifests": {"directory": "site"}})
    found = given.given(cluster, tmp_path / "work", tmp_path)

    assert [Path(name).name for name, _ in found.folders["site"]] == ["10-a.yaml", "20-b.yml", "30.json"]
    assert found.kubelet_ca == ""


def test_a_folder_that_is_not_there_or_empty_or_holds_something_else_is_a_problem(tmp_path: Path) -> None:
    cluster = cluster_with({"manifests": {"directory": "site"}})
    with pytest.raises(
        ConfigError, match=r"site:1:1: cannot be read: No such file or directory; write a folder"
    ):
        given.check(cluster, tmp_path)
    (tmp_path / "site").mkdir()
    with pytest.raises(ConfigError, match=r"site:1:1: holds no file that ends with \.yaml, \.yml, \.json"):
        given.check(cluster, tmp_path)
    (tmp_path / "site" / "a.yaml").write_text("kind: A\n")
    with pytest.raises(ConfigError, match=r"site/a\.yaml:1:1: has no apiVersion"):
        given.check(cluster, tmp_path)
