"""A person presses the button: says which, and never claims that it was done."""

from bootstrap.errors import PowerUnsupported
from bootstrap.model.machine import ManualPower
from bootstrap.power import PowerDriver, PowerState


class Manual(PowerDriver[ManualPower]):
    """Has no way to the machine."""

    def state(self) -> PowerState:
        """Return that nobody can tell."""
        return PowerState.UNKNOWN

    def on(self) -> None:
        """Ask a person."""
        raise self._by_hand("on")

    def off(self) -> None:
        """Ask a person."""
        raise self._by_hand("off")

    def cycle(self) -> None:
        """Ask a person."""
        raise self._by_hand("off and on")

    def _by_hand(self, what: str) -> PowerUnsupported:
        return PowerUnsupported(
            f"{self.target.name}: no power driver; switch it {what} by hand, "
            "or write `power:` for it in the configuration"
        )


PLUGIN = Manual
