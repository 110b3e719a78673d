"""Every family, release, generation and CUDA version at once: each answer is a route or a reason, as committed here."""

from collections.abc import Iterator
from itertools import groupby, product
from pathlib import Path

import pytest

from bootstrap.config.cross.pools import families
from bootstrap.gpu.choosing import Choice
from bootstrap.gpu.resolver import Answer, Refusal, for_any, resolve
from bootstrap.gpu.rows import Product, Route
from bootstrap.gpu.table import BY_CUDA, BY_KEY, CUDA, OPEN_BY_DEFAULT, PRODUCTS
from bootstrap.image.recipe import Options, suite
from bootstrap.model import Gpu, Os

GOLDEN = Path(__file__).parent / "gpu" / "answers.txt"
RELEASES = {
    "debian": ("11", "12", "13", "14", "stable"),
    "fedora-coreos": ("42.20250803.3.0", "stable"),
    "flatcar": ("3602.2.0", "3637.0.0", "4081.3.6", "4344.0.0", "4593.0.0", "4593.2.5", "9999.0.0", "stable"),
}
SYSTEMS = [(family, release) for family in RELEASES for release in RELEASES[family]]
ALIKE = {("debian", "11"), ("debian", "12"), ("flatcar", "4593.0.0")}
"""Systems whose answers are those of another one; they are left out of the golden table."""
MACHINES = {
    "any": (),
    **{
        key: (BY_KEY[key].ids[0],)
        for key in (
            "k80", "m40", "p100-pcie", "v100-sxm2-16gb", "t4", "a100-sxm4-80gb", "l40s", "h100-sxm", "h200-nvl",
            "b200", "b300", "gh200",
        )
    },
    "a100 + k80": ("20b2", "102d"),
    "h100 + k80": ("2330", "102d"),
    "h100 + a100": ("2330", "20b2"),
    "v100 + b200": ("1db1", "2901"),
    "h100 + unknown": ("2330", "ffff"),
}  # fmt: skip
VERSIONS = (None, *(row.version for row in CUDA), "12.7", "99.9")


def _answer(devices: tuple[str, ...], family: str, release: str, cuda: str | None) -> Answer:
    os, gpu = Os(family=family, release=release), Gpu(cuda_version=cuda)
    return resolve(devices, os, gpu) if devices else for_any(os, gpu)


def _table() -> Iterator[str]:
    """Yield the golden table: neighbouring CUDA versions with one answer are one line."""
    systems = (system for system in SYSTEMS if system not in ALIKE)
    for (family, release), (name, devices) in product(systems, MACHINES.items()):
        yield f"{family} {release}, {name}"
        answers = [(cuda or "none", _text(devices, family, release, cuda)) for cuda in VERSIONS]
        for text, same in groupby(answers, key=lambda one: one[1]):
            versions = [cuda for cuda, _ in same]
            span = versions[0] if len(versions) == 1 else f"{versions[0]} to {versions[-1]}"
            yield f"    {span}: {text}"


def _text(devices: tuple[str, ...], family: str, release: str, cuda: str | None) -> str:
    """Return an answer; the version that was asked for is a star, so that alike answers are."""
    return str(_answer(devices, family, release, cuda)).replace(f"CUDA {cuda} ", "CUDA * ")


def test_the_table_of_answers_is_the_committed_one(*, update_golden: bool) -> None:
    text = "\n".join(_table()) + "\n"
    if update_golden:
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text)

    assert text.splitlines() == GOLDEN.read_text().splitlines()


def test_the_table_asks_every_family_of_operating_systems() -> None:
    assert set(RELEASES) == set(families())


@pytest.mark.parametrize("system", SYSTEMS, ids="-".join)
def test_every_product_with_every_cuda_version_gets_a_route_or_a_reason(system: tuple[str, str]) -> None:
    for one, cuda in product(PRODUCTS, VERSIONS):
        answer = _answer(one.ids[:1], *system, cuda)

        assert isinstance(answer, (Choice, Refusal))
        assert "\n" not in str(answer)
        if isinstance(answer, Choice):
            _assert_right(answer, one, cuda)
        else:
            assert answer.reason
            _assert_true(answer.nearest, one, system, cuda)


def _assert_right(answer: Choice, gpu: Product, cuda: str | None) -> None:
    """Assert what must hold of every choice, whatever led to it."""
    row = answer.source
    assert gpu.first <= row.branch <= (gpu.last or row.branch)
    assert row.flavour in gpu.generation.flavours
    assert not row.broken
    assert row.names or row.route is Route.SERVICE
    assert cuda is None or row.branch >= BY_CUDA[cuda].branch
    if len(gpu.generation.flavours) == 2 and row.route is Route.SYSEXT:
        assert (row.flavour == "open") is (row.branch >= OPEN_BY_DEFAULT)


def _assert_true(advice: str, gpu: Product, system: tuple[str, str], cuda: str | None) -> None:
    """Assert that who follows the advice gets a driver: its words are taken at their word."""
    if "cudaVersion: " in advice:
        better = _answer(gpu.ids[:1], *system, advice.partition('"')[2].partition('"')[0])
    elif "os: {" in advice:
        inside = advice.partition("os: {")[2].partition("}")[0]
        family, _, release = inside.removeprefix("family: ").partition(", release: ")
        without = " without cudaVersion" in advice
        better = _answer(gpu.ids[:1], family, release.split()[0].strip('"'), None if without else cuda)
    else:
        assert advice == "write installCuda: false for no driver"
        return
    assert isinstance(better, Choice), (gpu.key, cuda, advice, str(better))
    if "os: {family: debian" in advice:
        assert suite(Options(release=better.source.since)), advice
