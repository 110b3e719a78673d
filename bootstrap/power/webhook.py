"""Something of the user's own that is called by URL: a smart plug, a home automation, a script behind a server."""

from http import HTTPStatus

import requests

from bootstrap.errors import PowerError, PowerUnsupported
from bootstrap.model.machine import WebhookPower
from bootstrap.power import PowerState, ToldPower
from bootstrap.secret_file import secret_in

CONNECT_SECONDS = 8.0
LONGEST_ANSWER = 4096


class Webhook(ToldPower[WebhookPower]):
    """POSTs a small JSON document that names the machine and the action; every 2xx is done."""

    def ask(self) -> tuple[str, str] | None:
        """Return what `status` answers."""
        status = self.power.status
        return None if status is None else (status, self._call("GET", status, "status"))

    def tell(self, wanted: PowerState) -> None:
        """Call `on` or `off`."""
        self._call("POST", self.power.on if wanted is PowerState.ON else self.power.off, wanted.value)

    def netboot(self) -> None:
        """Call `netboot`."""
        if self.power.netboot is None:
            raise PowerUnsupported(
                f"{self.target.name}: its webhook has no URL for that; write power.netboot, "
                "or put the network first in the machine's boot order"
            )
        self._call("POST", self.power.netboot, "netboot")

    def _call(self, method: str, url: str, action: str) -> str:
        """Return the text of the answer; redirects are not followed: they could carry the token elsewhere."""
        told = {"machine": self.target.name, "mac": self.target.machine.mac, "action": action}
        try:
            with requests.request(
                method,
                url,
                json=told if method == "POST" else None,
                headers=self._headers(),
                timeout=(CONNECT_SECONDS, max(1.0, self.deadline.left())),
                allow_redirects=False,
                stream=True,
            ) as answer:
                self._check(url, answer)
                return next(answer.iter_content(LONGEST_ANSWER), b"").decode(errors="replace")
        except requests.RequestException as error:
            raise PowerError(
                f"{self.target.name}: no whole answer from {url} ({type(error).__name__}); "
                "check the URL and its server"
            ) from error

    def _headers(self) -> dict[str, str]:
        if self.power.token_file is None:
            return {}
        token = secret_in(self.target.base / self.power.token_file, "the webhook's token")
        return {"Authorization": f"Bearer {token.reveal().decode()}"}

    def _check(self, url: str, answer: requests.Response) -> None:
        if answer.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise PowerError(
                f"{self.target.name}: {url} refuses the token ({answer.status_code}); check power.tokenFile"
            )
        if not HTTPStatus.OK <= answer.status_code < HTTPStatus.MULTIPLE_CHOICES:
            raise PowerError(
                f"{self.target.name}: {url} answers {answer.status_code} {answer.reason}; see that server's log"
            )


PLUGIN = Webhook
