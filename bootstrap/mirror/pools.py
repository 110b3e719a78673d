"""Which releases of an operating system the pools run."""

from bootstrap.model import Cluster


def releases(cluster: Cluster, family: str) -> tuple[str, ...]:
    """Return the releases of `family`, each once, in the order of the pools."""
    return tuple(dict.fromkeys(pool.os.release for pool in cluster.pools if pool.os.family == family))
