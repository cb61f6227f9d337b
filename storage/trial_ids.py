"""Trial ids: 12 hex digits, and nothing else, since they become names of files."""

import re

from storage.errors import InputError

_TRIAL_ID = re.compile(r"[0-9a-f]{12}")


def is_trial_id(text: object) -> bool:
    """Whether `text` is 12 lower-case hex digits."""
    return isinstance(text, str) and _TRIAL_ID.fullmatch(text) is not None


def check_trial_id(text: object) -> str:
    """`text` itself.

    Raises:
        InputError: it is no trial id.
    """
    if not is_trial_id(text):
        raise InputError(f"trial_id {text!r} is not 12 hex digits (0-9, a-f)")
    return str(text)
