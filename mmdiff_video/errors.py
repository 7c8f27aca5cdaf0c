"""The one exception that commands turn into a sentence instead of a traceback."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """A user's mistake: the message says what is wrong, where, and what to do.

    Commands print it as ``error: ...`` and exit with status 2. Everything else that escapes a
    command is a bug and keeps its traceback.
    """


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> InputError:
    """Build the error for a name that is not in a table: nearest match first, then all of them."""
    names = list(valid)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f"did you mean '{nearest[0]}'? " if nearest else ""
    return InputError(f"unknown {kind} '{name}': {hint}valid: {', '.join(names)}")
