"""One connection to one API server: made for its own address, with what goes wrong in errors of our own.

Together with bootstrap/kubernetes/api.py it is the door to lightkube: nothing else knows of it.
"""

import ssl
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import httpx2
from lightkube import Client
from lightkube.config.kubeconfig import SingleConfig
from lightkube.config.models import Cluster, Context, User
from lightkube.core.exceptions import ApiError as Answered

from bootstrap.errors import ApiDown, ApiRefused
from bootstrap.kubernetes.access import Access

FIELD_MANAGER = "firstlight"
NOT_FOUND = 404
_NEVER_CONNECTED = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)

Result = TypeVar("Result")


class Unreached(Exception):  # noqa: N818  # the next address is tried
    """Nothing was sent."""


def client_of(access: Access, server: str, timeout: httpx2.Timeout) -> Client:
    """Return the client of one server; raises ApiRefused when a file of `access` cannot be used."""
    try:
        config = SingleConfig(
            context_name="firstlight",
            context=Context(cluster="firstlight", user="firstlight"),
            cluster=Cluster(server=server, certificate_auth=str(access.authority.absolute())),
            user=User(client_cert=str(access.certificate.absolute()), client_key=str(access.key.absolute())),
        )
        return Client(config, timeout=timeout, trust_env=False, field_manager=FIELD_MANAGER)
    except (OSError, ssl.SSLError) as error:
        raise ApiRefused(
            f"{access.certificate}, its key or {access.authority} cannot be used: {error}"
        ) from error


def answer_to(api: Client, method: str, path: str, sent: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document that is answered to any request, by the connections of the typed client."""
    http: Any = api._client  # noqa: SLF001  # lightkube has no way of its own for kinds that it has no model of
    answer = http._client.request(method, path, **sent)  # noqa: SLF001  # as above
    if answer.status_code == NOT_FOUND and "json" not in answer.headers.get("Content-Type", ""):
        raise ApiRefused(f"there is no /{path}", NOT_FOUND)  # a group of the API that is not there
    http.raise_for_status(answer)
    return dict(answer.json())


def told(act: Callable[[], Result], server: str) -> Result:
    """Return what `act` returns; say what went wrong in our own errors."""
    try:
        return act()
    except _NEVER_CONNECTED as error:
        raise Unreached from error
    except Answered as error:
        status = int(error.status.code or 0)
        if status >= 500:  # noqa: PLR2004  # RFC 9110: the server's own trouble
            raise ApiDown(f"{server}: {error.status.message}") from error
        raise ApiRefused(f"{server}: {error.status.message}", status) from error
    except httpx2.HTTPStatusError as error:
        raise ApiDown(f"{server}: status {error.response.status_code}") from error
    except httpx2.HTTPError as error:
        raise ApiDown(f"{server}: {type(error).__name__}: {error}") from error
