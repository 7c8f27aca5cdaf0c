"""Lists of a data set's pictures and classes: text files with one of them a line."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from mmdiff_video.datasets.names import shown
from mmdiff_video.errors import InputError
from mmdiff_video.files import read_text


def read_list(path: Path) -> list[tuple[int, str]]:
    """Read the lines of a list with their numbers; empty ones and comments (``# ...``) left out.

    Raises:
        InputError: it cannot be read, or is not UTF-8.
    """
    try:
        text = read_text(path)
    except OSError as error:
        raise InputError(f"'{shown(path)}' cannot be read: {error.strerror}") from None
    # not splitlines, which takes characters that names may hold for ends of lines
    lines = enumerate((line.strip() for line in text.split("\n")), start=1)
    return [(number, line) for number, line in lines if line and not f"{line} ".startswith("# ")]


def two_paths(
    line: str, suffixes: tuple[Sequence[str], Sequence[str]]
) -> Iterator[tuple[str, str]]:
    """Split a line into two paths, in each way in which it can be read.

    Paths may hold spaces. What follows them does not count: depth lists end with focal lengths.

    Args:
        line: of a list.
        suffixes: in lower case, how the first and the second path end.
    """
    ends: list[int] = []
    for word in line.split():
        ends.append(line.index(word, ends[-1] if ends else 0) + len(word))
    for i, first in enumerate(ends):
        if line[:first].lower().endswith(tuple(suffixes[0])):
            for second in ends[i + 1 :]:
                if line[:second].lower().endswith(tuple(suffixes[1])):
                    yield line[:first], line[first:second].strip()
