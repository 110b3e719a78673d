"""KNOWS WHAT A CLUSTER IS: one config.yaml in, everything that follows from it out."""
