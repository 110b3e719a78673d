"""TURNS A CLUSTER INTO DOCUMENTS: pure functions from checked values to bytes."""
