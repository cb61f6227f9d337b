"""`ray start`, but patient: on a busy machine a node takes longer than the half minute it is given.

python -m tests.chaos.start_ray SECONDS WORDS...
"""

import sys
import time
from typing import Any

from ray._private import services
from ray.scripts.scripts import main

_get_node = services.get_node


def get_node_in_time(gcs_address: str, node_id: str) -> Any:
    """What `services.get_node` gives, once it does."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return _get_node(gcs_address, node_id)
        except RuntimeError:  # not registered yet, or not told in time
            if time.monotonic() > deadline:
                raise


if __name__ == "__main__":
    SECONDS = float(sys.argv.pop(1))
    sys.argv.insert(1, "start")
    services.get_node = get_node_in_time
    main()
