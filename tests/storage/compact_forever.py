"""Script: compact a run's masks and metrics again and again, until killed."""

import sys

from storage import MaskStore, MetricStore


def main() -> None:
    while True:
        MaskStore(sys.argv[1]).compact()
        MetricStore(sys.argv[1]).compact()
        print("compacted", flush=True)


if __name__ == "__main__":
    main()
