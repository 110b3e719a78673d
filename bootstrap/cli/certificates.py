"""Verbs about certificates: certs status, certs renew."""

from datetime import UTC, datetime

import click

from bootstrap.cli.main import Call
from bootstrap.cli.passphrase import passphrase
from bootstrap.cli.results import emit, stderr
from bootstrap.errors import UsageError
from bootstrap.keys import key_status, renew_keys
from certs.status import Condition, StatusRow

HEADINGS = ("FILE", "STATUS", "CN", "SANS", "EXPIRES", "ISSUER")
EXIT_FAILED = 1
FINE = (Condition.OK, Condition.UNUSED)


@click.group()
def certs() -> None:
    """Show or renew the cluster's certificates."""


@certs.command()
@click.pass_obj
def status(call: Call) -> int:
    """Show each certificate: file, CN, SANs, expiry, issuer. Changes nothing. Exits 1 if one needs care."""
    cluster = call.cluster()
    found = key_status(cluster, call.place(cluster).work, datetime.now(UTC))
    data = [
        {
            "file": row.file,
            "status": row.condition.value,
            "commonName": row.common_name,
            "organization": row.organization,
            "sans": list(row.sans),
            "expires": row.expires.isoformat() if row.expires else None,
            "issuer": row.issuer,
        }
        for row in found
    ]
    emit(call.output, data, HEADINGS, map(cells, found))
    return EXIT_FAILED if any(row.condition not in FINE for row in found) else 0


def cells(row: StatusRow) -> tuple[str, ...]:
    """Return a certificate's cells under HEADINGS."""
    expires = f"{row.expires:%Y-%m-%d} ({row.left.days}d)" if row.expires and row.left is not None else "-"
    sans = ",".join(row.sans) or "-"
    return (row.file, row.condition.value, row.common_name or "-", sans, expires, row.issuer or "-")


@certs.command()
@click.argument("names", nargs=-1)
@click.option(
    "--apply", "and_apply", is_flag=True,
    help="Bring them to the control-plane hosts as well, as `apply` does.",
)  # fmt: skip
@click.option(
    "--limit", "limit", multiple=True, metavar="HOST",
    help="With --apply, only to this control-plane host; may be repeated.",
)  # fmt: skip
@click.pass_obj
def renew(call: Call, names: tuple[str, ...], and_apply: bool, limit: tuple[str, ...]) -> int:  # noqa: FBT001  # click calls it
    """Issue certificates again for the keys they have: all but the authorities, or just NAMES.

    It works also when all of them have expired. Hosts take them over with --apply, or with the verb `apply`.
    """
    from bootstrap.cli.apply import apply_to, must_have_hosts  # noqa: PLC0415  # the other verbs need no SSH

    cluster = call.cluster()
    if and_apply:
        must_have_hosts(cluster)
    elif limit:
        raise UsageError("--limit says which hosts get the certificates; it goes with --apply")
    place = call.place(cluster)
    with place.locked():
        done = renew_keys(cluster, place.work, datetime.now(UTC), passphrase(), names=names)
    for line in done.lines:
        stderr().print(line)
    if and_apply:
        return apply_to(call, cluster, limit)
    if cluster.control_plane.hosts:
        stderr().print("the control-plane hosts have the old ones still; to bring them the new ones: apply")
    return 0
