"""WHAT STANDS ON CONTROL-PLANE HOSTS AND ON NODES: units, flags, certificates and configs, as trees of files."""
