"""Runs web and pxe as two containers: what each may see and do is one table; one module talks to podman or docker."""
