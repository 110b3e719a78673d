"""WHICH NVIDIA DRIVER A MACHINE GETS, FROM WHERE, OR WHY NONE: facts as one table, and a pure choice from them.

`table` holds the facts with their sources, `rows` says what a row is. `resolver` chooses for GPUs, an operating system
and a pool's `gpu:` section, `nearest` finds what would work instead, and `machine` holds one machine against its pool.
Nothing is guessed: a GPU, a CUDA version or a release that is in no row is refused by name.
"""
