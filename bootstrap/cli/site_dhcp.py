"""The verb for a site that keeps its own DHCP server: what to set there."""

import sys

import click

from bootstrap.cli.main import Call
from bootstrap.cli.results import emit
from bootstrap.errors import UsageError
from bootstrap.render.site_dhcp import HEADINGS, SERVERS, rows, site_options


@click.command("dhcp-options")
@click.argument("server", type=click.Choice(tuple(SERVERS)), required=False)
@click.pass_obj
def dhcp_options(call: Call, server: str | None) -> None:
    """Print what to set on the site's DHCP server (appliance.dhcp.mode: off), in the language of SERVER.

    Without SERVER it is a table of what each kind of firmware is to be told. Changes nothing.
    """
    cluster = call.cluster()
    mode = cluster.appliance.dhcp.mode
    if mode != "off":
        raise UsageError(
            f"appliance.dhcp.mode is {mode}: we tell the machines ourselves; write mode: off to have another "
            "DHCP server do it"
        )
    if server is not None:
        sys.stdout.write(site_options(cluster, server))
        return
    found = rows(cluster)
    keys = ("firmware", "arch", "vendorClass", "nextServer", "bootFile", "note")
    emit(call.output, [dict(zip(keys, row, strict=True)) for row in found], HEADINGS, found)
