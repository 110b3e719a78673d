"""Verbs about the configuration itself: check, schema. Neither needs root."""

import sys

import click

from bootstrap import config
from bootstrap.cli.main import Call
from bootstrap.gpu.machine import choices as gpu_choices


@click.command()
@click.option(
    "--explain", metavar="KEY", help="Say where a value comes from: appliance.address, machines.w1, ..."
)
@click.pass_obj
def check(call: Call, explain: str | None) -> None:
    """Check the configuration and print every problem at once, with file, line and column."""
    if explain is not None:
        sys.stdout.write(config.explain(call.paths(), explain).rstrip("\n") + "\n")
        return
    cluster = call.cluster()
    from bootstrap.adding import given  # noqa: PLC0415  # the help of a verb needs none of it
    from bootstrap.adding.rendering import Given, chosen, warnings  # noqa: PLC0415  # as above

    given.check(cluster, call.base())
    kinds = f"{len(cluster.machines)} machines in {len(cluster.pools)} pools"
    sys.stdout.write(
        f"{' + '.join(map(str, call.paths()))}: cluster {cluster.metadata.name}, {kinds}, no problems\n"
    )
    sys.stdout.write("".join(f"{line}\n" for line in gpu_choices(cluster)))
    for one in chosen(cluster):
        sys.stdout.write("".join(f"{line}\n" for line in warnings(cluster, one, Given())))
    from bootstrap.mirror.adopt import not_yet  # noqa: PLC0415  # the help of a verb needs none of it

    sys.stdout.writelines(not_yet(cluster, call.base(), call.place(cluster).cache))


@click.command()
def schema() -> None:
    """Print the JSON Schema of the configuration (the file configs/config.schema.json)."""
    sys.stdout.write(config.schema_text())
