"""THE MIRROR: one folder with all that a cluster is made from, each file signed or summed, to start with no internet.

What is wanted follows from the configuration alone (wanted.py, sources/); the shell asks, fetches and checks (pull.py).
"""
