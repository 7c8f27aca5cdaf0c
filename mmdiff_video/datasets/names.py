"""Names of files as strangers write them: hidden, not UTF-8, composed one way or the other."""

import unicodedata

_MOST_BYTES = 200  # file systems take 255, and results add to a key


def is_hidden(name: str) -> bool:
    """Whether a name is that of a hidden file, as macOS leaves one (``._a.txt``) beside each."""
    return name.startswith(".")


def composed(name: str) -> str:
    """The one of several spellings that look alike (Unicode's NFC); macOS may write another."""
    return unicodedata.normalize("NFC", name)


def printable(text: str) -> str:
    """Write what a terminal or UTF-8 cannot show as an escape.

    >>> printable("caf\\udce9")
    'caf\\\\udce9'
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def key_problem(key: str) -> str | None:
    """Say why a name cannot be a key, by which results are named and chance is seeded."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "its name is not UTF-8: rename it"
    if key in ("", ".", "..") or "/" in key or "\0" in key:
        return "its name is no file's name: rename it"
    if size > _MOST_BYTES:
        return f"its name has {size} bytes, more than {_MOST_BYTES}: rename it"
    return None
