"""MAKES KEYS AND CERTIFICATES; knows nothing of machines, SSH or HTTP."""
