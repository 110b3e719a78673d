"""Changes of what running nodes are served: by the configuration, or by what a mistake in a rendering would be."""

from collections.abc import Callable
from dataclasses import replace

from bootstrap.disk import write_bundle
from bootstrap.operator import Operator
from bootstrap.render.bundle import File
from bootstrap.status import behind
from tests.system.spine import Site, wait_for

FOLLOW_SECONDS = 400.0
"""The timer's pause, a restart of kubelet under emulation, and twice that for a configuration that is no good."""

LABELLED = """
pools:
  - name: workers
    labels: {rack: a7}
    taints: [{key: later, effect: PreferNoSchedule}]
"""
"""A layer that gives the nodes of a pool a label and a taint."""


def with_overlay(site: Site, text: str) -> Site:
    """Return `site` with one more configuration file, of another folder, laid over the others."""
    path = site.deploy / "overlay.yaml"
    path.write_text(text)
    return replace(site, configs=(*site.configs, str(path)))


def serve_edited(site: Site, document: str, edit: Callable[[bytes], bytes]) -> None:
    """Serve another text of one rendered `document` (a path below bundle/), under right sums."""
    bundle = site.work / "bundle"
    found = {
        str(path.relative_to(bundle)): File(path.read_bytes(), path.stat().st_mode & 0o777)
        for path in bundle.rglob("*")
        if path.is_file() and path.name != "SHA256SUMS"
    }
    before = found[document]
    after = replace(before, content=edit(before.content))
    assert after != before
    assert write_bundle(bundle, {**found, document: after})
    Operator(site.work).reload()


def follow(site: Site, *names: str) -> None:
    """Wait until the nodes of `names` have confirmed that they run what is planned for them."""

    def all_do() -> bool:
        return all(is_up_to_date(site, name) for name in names)

    wait_for(all_do, f"{names} run what is planned", timeout=FOLLOW_SECONDS)


def follow_now(site: Site, *names: str) -> None:
    """Have the nodes of `names` ask at once, as their timers would within a minute or so, and wait for them."""
    for name in names:
        site.in_machine(name, "systemctl", "start", "--no-block", "firstlight-sync.service")
    follow(site, *names)


def is_up_to_date(site: Site, name: str) -> bool:
    """Return whether the machine has confirmed the revision that is planned for it."""
    machine = site.machine(name)
    return machine["running"] is not None and machine["running"]["revision"] == machine["planned"]


def behind_of(site: Site, name: str) -> str:
    """Return what `status` adds to the machine's message when it does not run what is planned."""
    return behind(site.machine(name))


def units_started(site: Site, name: str, *units: str) -> dict[str, str]:
    """Return when each of `units` of the machine was started, in microseconds since its boot."""
    words = ("show", "--property=ActiveEnterTimestampMonotonic", "--value")
    return dict(zip(units, site.in_machine(name, "systemctl", *words, *units).split(), strict=True))
