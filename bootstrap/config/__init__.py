"""THE CONFIGURATION: YAML files in, a Cluster or every Problem out."""

from bootstrap.config.dump import dump, parse_dump
from bootstrap.config.loading import load

__all__ = ["dump", "load", "parse_dump"]
