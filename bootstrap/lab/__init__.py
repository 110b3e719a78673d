"""A RACK THAT IS NOT THERE: virtual machines and hosts on a private network of this computer, as a rack would behave.

Nothing in here knows what is installed on the machines, and no packet leaves the network namespace.
"""
