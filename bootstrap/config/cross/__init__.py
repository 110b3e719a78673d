"""RULES ACROSS FIELDS: each looks at the tree as it stands, so that one wrong value hides no other."""

from bootstrap.config.cross import addons, addresses, appliance, dhcp, gpus, kubernetes, lab, names, pools
from bootstrap.config.cross.view import View
from bootstrap.config.tree import Tree
from bootstrap.errors import Problem

RULES = (
    *names.RULES,
    *addresses.RULES,
    *dhcp.RULES,
    *appliance.RULES,
    *pools.RULES,
    *gpus.RULES,
    *lab.RULES,
    *kubernetes.RULES,
    *addons.RULES,
)


def check(tree: Tree) -> list[Problem]:
    """Return what is wrong in `tree` beyond single values."""
    view = View(tree)
    return [problem for rule in RULES for problem in rule(view)]
