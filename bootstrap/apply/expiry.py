"""Which units of a host hold certificates that have ended, so that they are not well any more. Pure."""

from collections.abc import Iterator
from datetime import UTC, datetime

from bootstrap.apply.facts import Facts
from bootstrap.kubernetes.tree import HostTree, Unit
from certs.errors import RefusedRequest
from certs.requests import certificate_facts

_MARK = b"-----BEGIN CERTIFICATE-----"


def has_ended(tree: HostTree, unit: Unit, facts: Facts) -> bool:
    """Return whether a certificate that stands where `unit` reads one has ended by the host's own clock.

    Only those count that are about to be replaced, and of those only what the host shows: not those in kubeconfigs.
    """
    now = datetime.fromtimestamp(facts.clock, UTC)
    return any(end <= now for end in _ends(tree, unit, facts))


def _ends(tree: HostTree, unit: Unit, facts: Facts) -> Iterator[datetime]:
    for path, found in facts.files.items():
        content = found.content
        if path not in tree.files or content is None or _MARK not in content or not unit.is_touched_by(path):
            continue
        try:
            yield certificate_facts(content).not_after
        except RefusedRequest:
            continue  # damaged: what follows from that is no matter of time
