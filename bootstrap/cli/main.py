"""The command `deploy.py` and its verbs; a verb's module is imported when the verb is used."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bootstrap.errors import UsageError
from bootstrap.workplace import Workplace, default_deploy

if TYPE_CHECKING:
    from bootstrap.model import Cluster

VERSION = "0.1.0"
DEFAULT_CONFIG = Path("config.yaml")

# verb -> (module, attribute, what it does and changes)
VERBS = {
    "up": (
        "run",
        "up",
        "Do all steps, from check over apply to serve; wait for the machines.",
    ),
    "down": (
        "run",
        "down",
        "Stop the appliance and the lab; keeps keys, state and disks in the work folder.",
    ),
    "serve": ("run", "serve", "Run the appliance in the foreground. Needs root."),
    "status": ("machines", "status", "Show every machine. Changes nothing."),
    "machine": (
        "machines",
        "machine",
        "List, show, arm or retire machines. An armed machine's disk is erased at its next boot.",
    ),
    "power": (
        "power",
        "power",
        "Switch machines on and off, cycle them, or let them boot from the network next.",
    ),
    "gpu": (
        "gpus",
        "gpu",
        "Show GPUs (`status`), run a Job on one (`run-sample`), or bring another driver (`upgrade`, erases disks).",
    ),
    "events": ("machines", "events", "Show what happened, oldest first. Changes nothing."),
    "check": ("configuration", "check", "Check the configuration: every problem at once. Changes nothing."),
    "schema": (
        "configuration",
        "schema",
        "Print the JSON Schema of the configuration, for editors. Changes nothing.",
    ),
    "render": ("documents", "render", "Write every document into a folder; makes the keys that are missing."),
    "dhcp-options": (
        "site_dhcp",
        "dhcp_options",
        "Print what to set on a DHCP server that is not ours. Changes nothing.",
    ),
    "plan": ("documents", "plan", "Show what `up` would change, with a diff. Changes nothing."),
    "apply": (
        "apply",
        "apply",
        "Bring the control-plane hosts to the configuration over SSH; restarts only what changed.",
    ),
    "addon": (
        "addons",
        "addon",
        "List, compare, apply or remove what runs on top of the cluster, or print it (`render`).",
    ),
    "kubeconfig": (
        "kubeconfig",
        "kubeconfig",
        "Print the administrator's kubeconfig, or put it into your own (--merge).",
    ),
    "certs": ("certificates", "certs", "Show certificates, or issue them again (`renew`)."),
    "backup": (
        "backup",
        "backup",
        "Write keys, state and a snapshot of etcd to one file, for its owner alone.",
    ),
    "restore": (
        "backup",
        "restore",
        "Bring keys and state back from a backup; ends every arm. Of etcd it changes nothing.",
    ),
    "handover": (
        "handover",
        "handover",
        "Move the appliance into the cluster (--to cluster), or bring it back (--back). Needs root.",
    ),
    "image": ("images", "image", "Build or list operating system images. `build` needs root."),
    "mirror": (
        "mirror",
        "mirror",
        "Fetch all that the cluster is made from into one folder, read it again, or list it.",
    ),
    "store": (
        "store",
        "store",
        "Move the state of the machines to etcd or back (`migrate`). The appliance must be down.",
    ),
    "lab": ("lab", "lab", "Use the virtual rack: up, down, exec, console, power. Needs root."),
}


@dataclass(frozen=True)
class Call:
    """What the options before the verb said."""

    configs: tuple[Path, ...]
    deploy: Path
    output: str

    def paths(self) -> tuple[Path, ...]:
        """Return the configuration files, `config.yaml` here if none was named.

        Raises:
            UsageError: none was named and there is no `config.yaml`.
        """
        if self.configs:
            return self.configs
        if DEFAULT_CONFIG.is_file():
            return (DEFAULT_CONFIG,)
        raise UsageError(
            "no configuration: write --config FILE (start from configs/example.yaml or configs/lab.yaml)"
        )

    def cluster(self) -> "Cluster":
        """Return the cluster that the files describe, with the machines that were accepted since.

        Raises:
            ConfigError: the files have problems.
            StateError: the list of accepted machines is damaged.
        """
        from bootstrap import accepted  # noqa: PLC0415  # pydantic is slow to import, --help must not pay
        from bootstrap.config import load  # noqa: PLC0415  # as above
        from bootstrap.containers.serving import bring_back  # noqa: PLC0415  # as above

        cluster = load(self.paths())
        place = self.place(cluster)
        bring_back(place)
        return accepted.composed(cluster, accepted.read(place.work))

    def base(self) -> Path:
        """Return the folder where relative paths of the cluster begin: that of the last file."""
        from bootstrap.config import base_of  # noqa: PLC0415  # as above

        return base_of(self.paths())

    def place(self, cluster: "Cluster") -> Workplace:
        """Return the folders of `cluster`."""
        return Workplace(self.deploy, cluster.metadata.name)


class LazyVerbs(click.Group):
    """Knows each verb's help line, and imports its module only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order people meet them."""
        del ctx
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of `cmd_name`."""
        del ctx
        if cmd_name not in VERBS:
            return None
        module, attribute, _ = VERBS[cmd_name]
        command: click.Command = getattr(importlib.import_module(f"bootstrap.cli.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of verbs without importing any."""
        del ctx
        with formatter.section("Verbs"):
            formatter.write_dl([(verb, text) for verb, (_, _, text) in VERBS.items()])


@click.group(
    cls=LazyVerbs,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Exit codes: 0 done, 1 failed, 2 configuration or usage, 3 partly done, 70 our bug, 130 interrupted.",
)
@click.option(
    "--config",
    "configs",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The cluster's configuration; give it again to lay another file over it (default: config.yaml).",
)
@click.option(
    "--deploy",
    type=click.Path(path_type=Path, file_okay=False),
    default=default_deploy,
    show_default="deploy/ of this checkout",
    help="Where everything generated goes: <folder>/<cluster>/.",
)
@click.option(
    "--output",
    "-o",
    type=click.Choice(["table", "json", "yaml"]),
    default="table",
    show_default=True,
    help="How results are printed on stdout.",
)
@click.version_option(VERSION, prog_name="firstlight")
@click.pass_context
def cli(ctx: click.Context, configs: Sequence[Path], deploy: Path, output: str) -> None:
    """Turn powered-off servers into a Kubernetes cluster.

    Without a verb: `up`, which does every step and waits until the machines are there. Running it again
    changes nothing. `down` stops what `up` left running.
    """
    ctx.obj = Call(configs=tuple(configs), deploy=deploy.resolve(), output=output)
    if ctx.invoked_subcommand is None:
        command = cli.get_command(ctx, "up")
        assert command is not None  # noqa: S101  # it is in the table above
        ctx.exit(ctx.invoke(command))
