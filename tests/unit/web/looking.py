"""A rack whose appliance looks at machines that nobody listed."""

from typing import Any

from bootstrap.model import Cluster
from tests.unit.web.conftest import Rack
from tests.unit.web.fakes import W3, cluster
from web.site import Rendered

CA = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


class LookingRack(Rack):
    """A rack whose appliance looks at machines that nobody listed; its pool `workers` describes those of Maker."""

    def rendered(self) -> Rendered:
        found = super().rendered()
        return Rendered(found.cluster, found.documents, found.shared, CA)

    def found(self, mac: str = W3, address: str = "10.77.0.150", **more: Any) -> Any:
        inventory = {"cpus": 64, "vendor": "Maker", "gpus": [GPU] * 8} | more
        body = {"mac": mac, "image": "b" * 64, "address": address, "inventory": inventory}
        return self.ask("machine", "POST", "/v1/discovery", json=body)

    def next(self, mac: str = W3, image: str = "b" * 64) -> dict[str, Any]:
        answer = self.ask("machine", "GET", f"/v1/discovery/{mac.replace(':', '-')}?image={image}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json or {})

    def accept(self, mac: str = W3, **body: Any) -> Any:
        return self.operator("POST", f"/v1/machines/{mac}/accept", json=body)

    def strangers(self) -> list[dict[str, Any]]:
        return list((self.operator("GET", "/v1/machines").json or {})["strangers"])


GPU = {"address": "0000:41:00.0", "vendor": "10de", "device": "2330"}
BMC_SCREEN = {"address": "0000:02:00.0", "vendor": "1a03", "device": "2000"}


def matching(*, accepts: bool, **match: Any) -> Cluster:
    plain = cluster().model_dump(mode="json", by_alias=True, exclude_none=True)
    plain["pools"][0] |= {"match": match, "autoAccept": accepts}
    return Cluster.model_validate(plain)
