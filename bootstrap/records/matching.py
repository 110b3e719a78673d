"""Which pools describe a machine that nobody listed, by its inventory: pure."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from bootstrap.model import Cluster, Pool
from bootstrap.model.pool import Match
from bootstrap.records.inventory import Inventory


def matches(match: Match, found: Inventory) -> bool:
    """Return whether every rule of `match` holds; a rule about what the machine did not say does not hold."""
    amounts = (
        (match.gpus, found.nvidia_gpus),
        (match.cpus, found.cpus),
        (match.memory, found.memory),
    )
    texts = ((match.manufacturer, found.vendor), (match.product, found.product), (match.serial, found.serial))
    return all(rule is None or (value is not None and rule.holds(value)) for rule, value in amounts) and all(
        rule is None or (bool(text) and fnmatchcase(text.lower(), rule.lower())) for rule, text in texts
    )


def matching_pools(cluster: Cluster, found: Inventory) -> Sequence[Pool]:
    """Return the pools whose `match` describes the machine, in the order of the configuration."""
    return [pool for pool in cluster.pools if pool.match is not None and matches(pool.match, found)]
