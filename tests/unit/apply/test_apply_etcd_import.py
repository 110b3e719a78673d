"""The door to etcd: its library wants another protobuf than the usual one, and is slow to import."""

import os
import subprocess
import sys

from bootstrap.environment import ROOT

VARIABLE = "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"


def run(code: str, **more: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE} | more
    done = subprocess.run(
        (sys.executable, "-W", "error", "-c", code),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_library_comes_with_the_protobuf_that_it_can_use() -> None:
    code = "from bootstrap import etcd; etcd.library(); from google.protobuf.internal import api_implementation as a"

    assert run(f"{code}; print(a.Type())") == "python"


def test_without_the_library_nothing_slow_is_imported() -> None:
    code = "import sys; from bootstrap import etcd; print({'grpc', 'etcd3', 'google.protobuf'} & set(sys.modules))"

    assert run(code) == "set()"


def test_another_protobuf_that_was_first_is_told() -> None:
    code = "import google.protobuf.message; from bootstrap import errors, etcd\n"
    tried = "try: etcd.library()\nexcept errors.EtcdError as error: print(error)"

    assert VARIABLE in run(code + tried, **{VARIABLE: "upb"})
