"""POST /v1/machines/<name>/driver: which GPU driver a machine is to have, that of its pool or another (gpu upgrade)."""

from typing import Annotated, Any

from flask import Response, jsonify
from pydantic import Field

from bootstrap.model import Pool
from bootstrap.records import gpus
from bootstrap.records.ledger import Change
from bootstrap.records.model import MachineRecord, Pin
from bootstrap.records.said import Said
from web.answers import Refusal
from web.bodies import said
from web.gpu_targets import row_of
from web.images import CachedImages
from web.listeners import Access, Routes
from web.operator import called, machine_json
from web.site import Site


class Order(Said):
    """What an operator orders: the title of a driver and the image that holds it; nothing for that of the pool."""

    driver: Annotated[str, Field(pattern=r"^([0-9]{3} \((open|closed)\))?$")] = ""
    image: Annotated[str, Field(pattern=r"^[0-9a-zA-Z._-]{0,128}$")] = ""


def add(routes: Routes, site: Site) -> None:
    """Add the operator's route."""

    @routes.post("/v1/machines/<name>/driver", Access.OPERATOR)
    def driver(name: str) -> Response:
        order, _ = said(Order)
        return jsonify(_ordered(site, called(site, name), order))


def _ordered(site: Site, record: MachineRecord, order: Order) -> dict[str, Any]:
    machine = site.cluster.machine_by_mac(record.mac)
    if machine is None:
        raise Refusal(409, f"{record.name} is no longer in the configuration")
    pin = Pin(driver=order.driver, image=order.image) if order.driver else None
    if pin is not None:
        _refuse_unknown(site, site.cluster.pool(machine.pool), pin)
    written = site.ledger.change(record.mac, lambda found, _: gpus.ordered(found, pin) if found else Change())
    return machine_json(site, written.record if written else record)


def _refuse_unknown(site: Site, pool: Pool, pin: Pin) -> None:
    """Return if the machine could have this driver, by what its system offers and by the image that is there.

    Raises:
        Refusal: 409 with the reason.
    """
    if row_of(pool, pin.driver) is None:
        raise Refusal(409, f"{pool.os.family} {pool.os.release} does not offer driver {pin.driver}")
    if pin.image and not (isinstance(site.images, CachedImages) and site.images.has(pin.image, pin.driver)):
        raise Refusal(409, f"image {pin.image} is not in the cache, or does not hold driver {pin.driver}")
