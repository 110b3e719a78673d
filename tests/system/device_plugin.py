"""A device plugin that registers at a kubelet as NVIDIA's does, for tests: GPUs that are numbers.

`python -m tests.system.device_plugin FOLDER COUNT [SECONDS]`: FOLDER is kubelet's folder of sockets. It speaks
v1beta1 of k8s.io/kubelet/pkg/apis/deviceplugin over gRPC; the messages are few and small, so they are written out here:
a field is its number and kind in one byte, its length, its bytes (protobuf.dev, "Encoding").
"""

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

RESOURCE, SOCKET, VERSION = "nvidia.com/gpu", "nvidia-gpu.sock", "v1beta1"
LONGEST = 600.0
_LENGTH_DELIMITED = 2


def field(number: int, content: bytes | str) -> bytes:
    """Return a field of text, bytes or a message, shorter than 128 bytes."""
    value = content.encode() if isinstance(content, str) else content
    assert len(value) < 128
    return bytes((number << 3 | _LENGTH_DELIMITED, len(value))) + value


def fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the fields of a message that holds only such."""
    while message:
        tag, length = message[0], message[1]
        yield tag >> 3, message[2 : 2 + length]
        message = message[2 + length :]


def register_request() -> bytes:
    """Return RegisterRequest{version, endpoint, resource_name}."""
    return field(1, VERSION) + field(2, SOCKET) + field(3, RESOURCE)


def devices(count: int) -> bytes:
    """Return ListAndWatchResponse{devices: [Device{ID, health}]}."""
    return b"".join(field(1, field(1, f"GPU-{n}") + field(2, "Healthy")) for n in range(count))


def allocated(request: bytes) -> bytes:
    """Return AllocateResponse{container_responses: [{envs}]}: a container is told its GPUs as NVIDIA's runtime is."""
    answers = []
    for _, container in fields(request):
        names = ",".join(value.decode() for _, value in fields(container))
        answers.append(field(1, field(1, field(1, "NVIDIA_VISIBLE_DEVICES") + field(2, names))))
    return b"".join(answers)


class Plugin(grpc.GenericRpcHandler):  # type: ignore[misc]  # it has no types
    """The service v1beta1.DevicePlugin."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.over = threading.Event()

    def service(self, call: Any) -> Any:
        method = call.method.rpartition("/")[2]
        if method == "ListAndWatch":
            return grpc.unary_stream_rpc_method_handler(self._watch)
        answer = {"Allocate": allocated}.get(method, lambda _: b"")
        return grpc.unary_unary_rpc_method_handler(lambda request, _: answer(request))

    def _watch(self, request: bytes, context: Any) -> Iterator[bytes]:
        del request, context
        yield devices(self._count)
        self.over.wait()


def main() -> None:
    """Serve, register, say so, and stay until the time is over or we are ended."""
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    seconds = float(sys.argv[3]) if len(sys.argv) > 3 else LONGEST
    plugin, own = Plugin(count), folder / SOCKET
    own.unlink(missing_ok=True)
    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((plugin,))
    server.add_insecure_port(f"unix:{own}")
    server.start()
    try:
        with grpc.insecure_channel(f"unix:{folder / 'kubelet.sock'}") as channel:
            register = channel.unary_unary(f"/{VERSION}.Registration/Register")
            register(register_request(), timeout=20)
        sys.stdout.write("registered\n")
        sys.stdout.flush()
        plugin.over.wait(seconds)
    finally:
        plugin.over.set()
        server.stop(1).wait()
        own.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
