"""Brings control-plane hosts to their trees over SSH: a plan as data, then step by step; it may be cut anywhere."""
