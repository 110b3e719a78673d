"""The nginx.conf of a cluster: TLS, artifacts, and the fact of which door a request came through."""

from bootstrap.model import Cluster
from bootstrap.templates import render


def nginx_conf(cluster: Cluster) -> str:
    """Return nginx.conf, to be run as `nginx -p . -c bundle/web/nginx.conf` in the work folder.

    Needed there at run time: `run/`, `log/`, `run/artifacts` (a link to the cache that holds `sha256/`), and
    no stale `run/operator.sock`.
    """
    appliance = cluster.appliance
    return render(
        "nginx/nginx.conf.j2",
        address=appliance.address.ip,
        http_port=appliance.http_port,
        https_port=appliance.https_port,
    )
