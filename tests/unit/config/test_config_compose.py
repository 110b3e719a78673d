"""Reading a file: places, limits, and that nothing but our errors comes out of any text."""

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bootstrap import config
from bootstrap.config import compose
from bootstrap.config.compose import LARGEST_FILE
from bootstrap.config.tree import Position, Scalar, find, key_position, plain
from bootstrap.errors import ConfigError
from bootstrap.model import Cluster

CONFIGS = Path(__file__).parents[3] / "configs"
EXAMPLE = (CONFIGS / "example.yaml").read_bytes()


@pytest.fixture(params=["libyaml", "pure"])
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test with libyaml's parser and with the one in Python."""
    kind = yaml.CSafeLoader if request.param == "libyaml" else yaml.SafeLoader
    monkeypatch.setattr(compose, "_LOADER", kind)
    return str(request.param)


@pytest.mark.usefixtures("loader")
def test_every_value_knows_its_place() -> None:
    tree, problems = compose.compose('a: 1\nb:\n  - {c: "ä", d: e}\n'.encode(), "x.yaml")

    assert tree is not None
    assert problems == ()
    assert plain(tree) == {"a": 1, "b": [{"c": "ä", "d": "e"}]}
    assert find(tree, ("b", 0, "d")) == Scalar(Position("x.yaml", 3, 17), "e", "e")
    assert key_position(tree, ("b", 0, "d")) == Position("x.yaml", 3, 14)


@pytest.mark.usefixtures("loader")
def test_the_pure_loader_reads_the_example_too() -> None:
    tree, problems = compose.compose(EXAMPLE, "example.yaml")

    assert problems == ()
    assert tree is not None
    assert find(tree, ("machines", 0, "mac")) == Scalar(
        Position("example.yaml", find(tree, ("machines", 0, "mac")).position.line, 10),  # type: ignore[union-attr]
        "52:54:00:aa:00:01",
        "52:54:00:aa:00:01",
    )


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "a: b: c",
        "\ta: 1",
        "a: 'b",
        "- a\nb: c",
        "a: *b",
        "%YAML 9.9\n---\na: 1",
        "!x a",
        "a: @b",
        "? [a]\n: b",
    ],
)
def test_bad_yaml_is_one_located_line_each(text: str) -> None:
    _, problems = compose.compose(text.encode(), "x.yaml")

    assert len(problems) == 1
    assert "\n" not in str(problems[0])
    assert problems[0].line >= 1
    assert problems[0].column >= 1


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 20_000, "- " * 50_000, "? " * 20_000])
def test_deep_nesting_ends_early(text: str) -> None:
    _, problems = compose.compose(text.encode(), "x.yaml")

    assert len(problems) == 1


def test_a_byte_order_mark_and_dos_line_ends_are_harmless() -> None:
    tree, problems = compose.compose(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n", "x.yaml")

    assert problems == ()
    assert tree is not None
    assert plain(tree) == {"a": 1, "b": 2}


def test_a_huge_file_is_not_read() -> None:
    _, problems = compose.compose(b"#" * (LARGEST_FILE + 1), "x.yaml")

    assert str(problems[0]) == "x.yaml:1:1: is larger than 16 MiB; is it a configuration? check the name"


def test_aliases_keep_working() -> None:
    tree, problems = compose.compose(b"a: &x {b: 1}\nc: [*x, *x]\n", "x.yaml")

    assert problems == ()
    assert tree is not None
    assert plain(tree) == {"a": {"b": 1}, "c": [{"b": 1}, {"b": 1}]}


def _only_ours(data: bytes, folder: Path) -> None:
    file = folder / "config.yaml"
    file.write_bytes(data)
    try:
        assert isinstance(config.load([file]), Cluster)
    except ConfigError as error:
        problems = error.problems
    else:
        return
    assert problems
    assert all("\n" not in str(problem) and problem.line > 0 and problem.message for problem in problems)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.one_of(
        st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))
    )
)
@example(data=b"\xff\xfe")
@example(data=b"&a [*a]")
@example(data=b"--- !!binary x\n...\n--- a")
def test_garbage_gives_only_our_errors(data: bytes, tmp_path: Path) -> None:
    _only_ours(data, tmp_path)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.integers(0, len(EXAMPLE) - 1),
    length=st.integers(0, 40),
    new=st.one_of(
        st.binary(max_size=8),
        st.sampled_from(
            [
                b"[",
                b"{",
                b": ",
                b"- ",
                b"null",
                b"&a ",
                b"*a",
                b"!!int ",
                b"\n",
                b"\t",
                b"1.30",
                b"true",
                b"[[]]",
            ]
        ),
    ),
)
def test_a_damaged_example_gives_only_our_errors(start: int, length: int, new: bytes, tmp_path: Path) -> None:
    _only_ours(EXAMPLE[:start] + new + EXAMPLE[start + length :], tmp_path)


_LEAF = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(["10.2.0.0/16", "w1", "flatcar"]),
)
_KEYS = st.sampled_from(
    [
        "name",
        "mac",
        "pool",
        "address",
        "disk",
        "select",
        "power",
        "driver",
        "ipmi",
        "metallb",
        "addresses",
        "os",
        "range",
        "[key]",
        "dhcp",
        "hosts",
        "members",
        "machines",
        "disks",
        "serial",
        "labels",
        "match",
        "gpus",
        "etcd",
        "loader",
        "bios",
        "url",
    ]
)
_TREE = st.recursive(
    _LEAF,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(_KEYS, below, max_size=4),
    max_leaves=12,
)
_SECTIONS = st.sampled_from(
    [
        "metadata",
        "kubernetes",
        "controlPlane",
        "etcd",
        "appliance",
        "pools",
        "machines",
        "ssh",
        "addons",
        "images",
        "mirror",
        "lab",
    ]
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sections=st.dictionaries(_SECTIONS, _TREE, min_size=1, max_size=4))
def test_wrong_shapes_give_only_our_errors(sections: dict[str, object], tmp_path: Path) -> None:
    base = yaml.safe_load(EXAMPLE)
    _only_ours(yaml.safe_dump({**base, **sections}).encode(), tmp_path)
