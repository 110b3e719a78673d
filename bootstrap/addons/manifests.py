"""Documents of your own, as they stand in a folder: what kubectl apply would take, flannel's and cilium's among it."""

from collections.abc import Iterable

from bootstrap.addons import Addon, Asked, Object
from bootstrap.config.manifests import documents as parsed


def documents(asked: Asked) -> Iterable[Object]:
    """Return the documents of all files, in the order of the files' names.

    Raises:
        ConfigError: a file holds something else; it names file, line and column.
    """
    return [found.value for name, data in asked.files for found in parsed(data, name)]


PLUGIN = Addon(title="documents of yours", documents=documents)
