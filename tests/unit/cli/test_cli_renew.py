"""`certs renew`: what it says must follow, and `--apply`, which does that too."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bootstrap.cli import apply, certificates
from bootstrap.config import load
from bootstrap.keys import key_status
from bootstrap.model import Cluster
from certs.status import Condition

Firstlight = Callable[..., Any]


@pytest.fixture(name="options")
def fixture_options(firstlight: Firstlight, configs: Path, tmp_path: Path) -> tuple[str, ...]:
    """The options of a cluster that has its certificates."""
    options = ("--config", str(configs / "example.yaml"))
    assert firstlight(*options, "render", "--output", tmp_path / "out").code == 0
    return options


@pytest.fixture(name="applied")
def fixture_applied(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The hosts that were named each time something was applied; some of them failed."""
    limits: list[tuple[str, ...]] = []

    def apply_to(call: Any, cluster: Cluster, limit: tuple[str, ...]) -> int:
        del call, cluster
        limits.append(limit)
        return 3

    monkeypatch.setattr(apply, "apply_to", apply_to)
    return limits


def test_what_must_follow_is_said(
    firstlight: Firstlight, options: tuple[str, ...], applied: list[tuple[str, ...]]
) -> None:
    done = firstlight(*options, "certs", "renew", "apiserver")

    assert (done.code, applied) == (0, [])
    assert done.err.splitlines()[-1] == (
        "the control-plane hosts have the old ones still; to bring them the new ones: apply"
    )


def test_apply_follows_with_its_own_exit_code(
    firstlight: Firstlight, options: tuple[str, ...], applied: list[tuple[str, ...]]
) -> None:
    assert firstlight(*options, "certs", "renew", "--apply").code == 3
    assert firstlight(*options, "certs", "renew", "--apply", "--limit", "m1", "--limit", "m2").code == 3
    assert applied == [(), ("m1", "m2")]


def test_a_limit_without_apply_renews_nothing(
    firstlight: Firstlight, options: tuple[str, ...], deploy: Path
) -> None:
    before = (deploy / "rack1" / "pki" / "apiserver.crt").read_bytes()

    done = firstlight(*options, "certs", "renew", "--limit", "m1")

    assert done.code == 2
    assert "it goes with --apply" in done.err
    assert (deploy / "rack1" / "pki" / "apiserver.crt").read_bytes() == before


def test_without_hosts_there_is_nothing_to_apply_to_and_nothing_is_renewed(
    firstlight: Firstlight, options: tuple[str, ...], deploy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = load([Path(options[1])])
    bare = cluster.model_copy(
        update={"control_plane": cluster.control_plane.model_copy(update={"hosts": ()})}
    )
    monkeypatch.setattr("bootstrap.config.load", lambda _: bare)
    before = (deploy / "rack1" / "pki" / "admin.crt").read_bytes()

    done = firstlight(*options, "certs", "renew", "--apply")

    assert done.code == 2
    assert "controlPlane.hosts names no host" in done.err
    assert (deploy / "rack1" / "pki" / "admin.crt").read_bytes() == before


@pytest.mark.usefixtures("applied")
def test_a_year_and_a_day_later_one_command_issues_everything_again(
    firstlight: Firstlight, options: tuple[str, ...], deploy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = datetime.now(UTC) + timedelta(days=366)

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return later.astimezone(tz)

    monkeypatch.setattr(certificates, "datetime", Later)
    cluster, work = load([Path(options[1])]), deploy / "rack1"
    before = {row.file: row.condition for row in key_status(cluster, work, later)}

    firstlight(*options, "certs", "renew", "--apply")

    after = {row.file: row.condition for row in key_status(cluster, work, later)}
    assert sum(condition is Condition.EXPIRED for condition in before.values()) > 10
    assert set(after.values()) == {Condition.OK}
