"""Verbs about GPUs: gpu status, gpu run-sample; gpu upgrade stands in a file of its own."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import click

from bootstrap.cli.gpu_upgrade import upgrade
from bootstrap.cli.machines import operator
from bootstrap.cli.main import Call
from bootstrap.cli.results import emit, stderr
from bootstrap.errors import FirstlightError
from bootstrap.gpu import sample
from bootstrap.gpu.mig import offered
from bootstrap.gpu.parting import in_short
from bootstrap.gpu.reported import Parted
from bootstrap.gpu.taint import RESOURCE, is_ours
from bootstrap.kubernetes.api import Api
from bootstrap.kubernetes.runtimes import NVIDIA, has_gpus
from bootstrap.kubernetes.sample import Wait, run
from bootstrap.leaving import administrator
from bootstrap.model import Cluster

HEADINGS = (
    "NODE",
    "GPU",
    "NAME",
    "BUS-ID",
    "DRIVER",
    "TEMP",
    "POWER",
    "MEMORY",
    "UTIL",
    "ECC",
    "PCIE",
    "MIG",
    "STATE",
)
UNKNOWN = "-"


@click.group()
def gpu() -> None:
    """Show the GPUs of all nodes, prove that pods get them, or bring another driver (docs/gpu-nodes.md)."""


gpu.add_command(upgrade)


@gpu.command()
@click.pass_obj
def status(call: Call) -> int:
    """Show every GPU of every node as its driver sees it, and what holds nodes back. Changes nothing.

    Exits 1 if a node is held back, has lost a GPU or is silent, or if the gate is in trouble.
    """
    appliance = operator(call)
    nodes, trouble = appliance.gpus(), appliance.gate_trouble()
    emit(call.output, nodes, HEADINGS, [row for node in nodes for row in rows(node)])
    held = held_lines(nodes, trouble)
    for line in held:
        stderr().print(line, style="bold red")
    return int(bool(held))


def rows(node: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return a row per GPU of a node; one for a node whose driver shows none."""
    cards, state = node["cards"], str(node["state"] or "not heard of")
    if not cards:
        blank = (UNKNOWN,) * (len(HEADINGS) - 2)
        return [(str(node["name"]), *blank, state)]
    parts = {one["index"]: in_short(Parted.model_validate(one)) for one in node.get("mig") or ()}
    return [(str(node["name"]), *cells(card), parts.get(card["index"], UNKNOWN), state) for card in cards]


def cells(card: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what is shown of a GPU, in the order and the units of nvidia-smi."""
    return (
        _amount(card["index"]),
        str(card["name"]),
        str(card["address"]),
        str(card["driver"]),
        _amount(card["temperature"], "C"),
        _pair(card["power"], card["mostPower"], "W"),
        _pair(card["memoryUsed"], card["memory"], "MiB"),
        _amount(card["use"], "%"),
        _amount(card["errors"]),
        f"gen{_amount(card['generation'])} x{_amount(card['width'])}",
    )


def held_lines(nodes: Sequence[Mapping[str, Any]], trouble: str = "") -> list[str]:
    """Return a line for the gate's `trouble`, and for each node that is silent, held back or has lost a GPU."""
    lines = [f"the gate could not look after nodes: {trouble}"] if trouble else []
    for node in nodes:
        if node["alarm"]:
            lines.append(f"{node['name']}: ALARM: {node['alarm']}")
        if node["part"]:
            lines.append(f"{node['name']}: held back: {node['verdict']}")
        if node.get("silent"):
            lines.append(f"{node['name']}: silent: {node['silent']}")
    return lines


def _amount(value: int | None, unit: str = "") -> str:
    return UNKNOWN if value is None else f"{value}{unit}"


def _pair(now: int | None, most: int | None, unit: str) -> str:
    return f"{_amount(now, unit)} / {_amount(most, unit)}"


@gpu.command("run-sample")
@click.option(
    "--image", default=sample.IMAGE, show_default=True, metavar="IMAGE", help="The container image to run."
)
@click.option(
    "--timeout", type=click.FloatRange(min=1, max=86400), default=600.0, show_default=True, metavar="SECONDS",
    help="How long to wait for its end.",
)  # fmt: skip
@click.option(
    "--runtime-class", metavar="NAME",
    help='The RuntimeClass of its pod, "" for none (default: nvidia where a pool installs CUDA).',
)  # fmt: skip
@click.argument("command", nargs=-1)
@click.pass_obj
def run_sample(
    call: Call, image: str, timeout: float, runtime_class: str | None, command: tuple[str, ...]
) -> int:
    """Run a Job that asks for one GPU, and print what it printed; COMMAND takes the place of its image's own.

    Where GPUs are parted and offered by profile (MIG), it asks for the smallest instance that a node can give out.

    Exits 0 if it Succeeded, 1 if it failed or found no GPU in time. The Job is gone afterwards.
    """
    cluster, console = call.cluster(), stderr()
    api = Api(administrator(cluster, call.place(cluster).work))
    try:
        wanted = sample.job(
            image=image,
            command=command,
            runtime_class=_runtime_class(cluster) if runtime_class is None else runtime_class,
            taints=[taint for pool in cluster.pools if pool.gpu for taint in pool.taints],
            resource=_resource(cluster, api),
        )
        ended = run(api, wanted, Wait(seconds=timeout, tell=lambda text: console.print(f"sample: {text}")))
    finally:
        api.close()
    if ended.seen.phase == sample.RUNNING:
        console.print(f"still running on {ended.seen.node} after {timeout:g} s; its output so far:")
    sys.stdout.write(ended.log)
    if ended.seen.phase == sample.PENDING:
        console.print(f"no GPU was given to it in {timeout:g} s: {ended.seen.reason}")
        _tell_held(call)
    return int(ended.seen.phase != sample.SUCCEEDED)


def _resource(cluster: Cluster, api: Api) -> str:
    """Return what the sample asks for; the cluster is asked where there is more than one answer.

    Raises:
        ApiError: it did not answer, or refuses us.
    """
    names = offered(cluster) or (RESOURCE,)
    if len(names) == 1:
        return names[0]
    free = (node for node in api.node_marks() if not any(map(is_ours, node.taints)))
    return sample.resource_among(names, [node.given() for node in free])


def _runtime_class(cluster: Cluster) -> str:
    return NVIDIA if has_gpus(cluster) else ""


def _tell_held(call: Call) -> None:
    """Say what holds nodes back, if the appliance is there to ask."""
    with suppress(FirstlightError):
        for line in held_lines(operator(call).gpus()):
            stderr().print(line)
