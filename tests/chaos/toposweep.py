"""The command line, with a lock that is renewed more often and expires sooner.

A driver on another host cannot see that the lock's holder is dead: it waits until the lock expires,
which takes a minute.
"""

import storage.lock
from sweeps.cli import main

RENEW_EVERY_S = 2.0
EXPIRES_AFTER_S = 15.0

if __name__ == "__main__":
    storage.lock.RENEW_EVERY_S = RENEW_EVERY_S
    storage.lock.EXPIRES_AFTER_S = EXPIRES_AFTER_S
    main()
