"""BRINGS ADDONS TO THE CLUSTER: which are configured, what they are made of, and what of it is in the cluster."""
