"""KEYS, STATE AND A SNAPSHOT OF ETCD IN ONE FILE, and the way back from it into an empty work folder."""
