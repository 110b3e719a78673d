"""ANSWERS A MACHINE'S HTTP REQUESTS, keeps the state of all machines, and tells the operator about it."""
