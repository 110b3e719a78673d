#!/usr/bin/env python3
"""Hands the command line to bootstrap.cli, inside the environment that bootstrap.environment prepares."""

import sys

from bootstrap import environment


def main() -> int:
    """Run firstlight and return its exit code."""
    environment.enter(__file__, sys.argv[1:])
    from bootstrap.cli import run  # noqa: PLC0415  # its dependencies exist only from here on

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
