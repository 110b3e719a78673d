"""TELLS HOW A MACHINE'S LAST BOOTS WENT, from the first packet up, and what most likely stands in its way.

Pure: from what pxe, nginx and the ledger saw (`steps`), parted into boots (`boots`), to a diagnosis by a table of rules
(`rules`, `diagnosis`). Nothing here decides what a machine gets, but for `breaker`, which may only make it wait.
"""
