"""MOVES THE APPLIANCE INTO THE CLUSTER THAT IT MADE, AND BACK: never two that answer, never a CA's key."""
