"""Wait until so many nodes of a Ray cluster are alive, without joining it.

python -m tests.chaos.wait_for_nodes HOST:PORT N SECONDS
"""

import sys
import time

from ray._raylet import GcsClient

ALIVE = 0


def main() -> None:
    """Exit code 1 when the number is another one to the end."""
    address, wanted, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    deadline = time.monotonic() + seconds
    client = GcsClient(address=address)
    while True:
        nodes = client.get_all_node_info().values()
        alive = [node.node_manager_address for node in nodes if node.state == ALIVE]
        if len(alive) == wanted:
            return
        if time.monotonic() > deadline:
            sys.exit(f"alive: {', '.join(alive)}")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
