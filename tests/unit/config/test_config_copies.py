"""A copy of a cluster is looked up anew."""

from tests import samples


def test_a_copy_with_other_pools_does_not_answer_with_those_of_before() -> None:
    cluster = samples.cluster("lab")
    before = cluster.pool(cluster.pools[0].name)  # looked up, and known from now on
    other = before.model_copy(update={"arm": "manual"})

    copied = cluster.model_copy(update={"pools": (other, *cluster.pools[1:])})

    assert copied.pool(before.name) is other
    assert cluster.pool(before.name) is before
