"""A strange DHCP server, as pxe tells of it and the operator sees it."""

from typing import Any

from bootstrap.records.ledger import UNKNOWN
from tests.unit.web.conftest import Rack

MAC = "02:00:00:00:00:03"
TEXT = f"another DHCP server answers: 10.77.0.3 (MAC {MAC}), which offers 10.77.0.200"


def tell(rack: Rack, **sighting: Any) -> int:
    headers = {"X-Firstlight-Client": "firstlight:pxe"}
    body = [{"mac": MAC, "arch": None, "server": "10.77.0.3", **sighting}]
    return rack.ask("machine", "POST", "/v1/pxe/events", json=body, headers=headers).status_code


def alarms(rack: Rack) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (rack.operator("GET", "/v1/alarms").json or {})["alarms"]
    return found


def test_a_strange_server_is_shown_until_it_is_gone(rack: Rack) -> None:
    assert alarms(rack) == []
    for _ in range(3):
        assert tell(rack, kind="rogue-dhcp", detail=TEXT) == 200
    assert [(alarm["kind"], alarm["text"]) for alarm in alarms(rack)] == [("rogue-dhcp", TEXT)]

    assert tell(rack, kind="rogue-dhcp-gone", detail="it answers no more") == 200
    assert alarms(rack) == []
    told = [(event.what, event.machine, event.reason) for event in rack.site.ledger.events_of(UNKNOWN)]
    assert told == [("alarm", MAC, TEXT), ("alarm-cleared", MAC, "it answers no more")]


def test_two_servers_are_two_alarms(rack: Rack) -> None:
    tell(rack, kind="rogue-dhcp", detail=TEXT)
    tell(rack, kind="rogue-dhcp", detail="another", server="10.77.0.4")
    tell(rack, kind="rogue-dhcp-gone", detail="it answers no more")

    assert [alarm["text"] for alarm in alarms(rack)] == ["another"]


def test_what_is_no_address_is_refused(rack: Rack) -> None:
    assert tell(rack, kind="rogue-dhcp", detail=TEXT, server="../machine/x") == 400
    assert alarms(rack) == []
