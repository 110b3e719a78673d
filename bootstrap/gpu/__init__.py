"""WHICH NVIDIA DRIVER A MACHINE GETS, FROM WHERE, OR WHY NONE, AND WHETHER A NODE'S GPUS ARE WHAT THEY SHOULD BE.

`table` holds the facts with their sources, `rows` says what a row is. `resolver` chooses for GPUs, an operating system
and a pool's `gpu:` section, `nearest` finds what would work instead, and `machine` holds one machine against its pool.
`reported`, `smi` and `fabric` read what a node says, `gate` decides from that, `taint` is what follows for the node.
`rollout` says which nodes get another driver, and `mark` what that writes on them; `sample` is the Job that asks for
one GPU. All of it is pure.
Nothing is guessed: a GPU, a CUDA version or a release that is in no row is refused by name.
"""
