"""Asks containerd's CRI (k8s.io/cri-api v1) over its socket; the few messages are written by hand."""

from pathlib import Path

import grpc

SERVICE = "/runtime.v1.RuntimeService/"
HOST_NETWORK = 2  # NamespaceMode NODE


def field(number: int, value: bytes | str | int) -> bytes:
    """Return one field of a protobuf message: an integer under 128, or bytes shorter than that."""
    if isinstance(value, int):
        return bytes((number << 3, value))
    content = value.encode() if isinstance(value, str) else value
    assert len(content) < 128
    return bytes((number << 3 | 2, len(content))) + content


class Cri:
    """A connection to the CRI at `socket`."""

    def __init__(self, socket: Path) -> None:
        self._channel = grpc.insecure_channel(f"unix:{socket}")

    def status(self) -> str:
        """Return the status with containerd's own configuration in it, as JSON among bytes."""
        return self._ask("Status", field(1, 1)).decode(errors="replace")

    def sandbox(self, name: str, handler: str) -> str:
        """Start a pod's sandbox on the host's network with a runtime; return the error, empty if there was none."""
        metadata = field(1, name) + field(2, name) + field(3, "default")
        linux = field(2, field(1, field(1, HOST_NETWORK)))
        config = field(1, metadata) + field(8, linux)
        try:
            self._ask("RunPodSandbox", field(1, config) + field(2, handler))
        except grpc.RpcError as error:
            return str(error.details())
        return ""

    def close(self) -> None:
        """End the connection."""
        self._channel.close()

    def _ask(self, method: str, message: bytes) -> bytes:
        call = self._channel.unary_unary(f"{SERVICE}{method}")
        answer: bytes = call(message, timeout=60, wait_for_ready=True)
        return answer
