"""Answers a machine's first packets: lease, loader, and the way on to iPXE's script."""
