"""Captions of clips and pictures: ``captions.jsonl`` in a data root, one JSON object per line.

    {"key": "0a1b2c", "caption": "A purple chair on a dotted rug."}

A frozen backbone is prompted with the caption of what it is shown (the paper captions real pictures
with a vision-language model); without the file a fixed prompt does. ``mmdiff-video caption`` writes
the file line by line, and puts the model's name into each.
"""

import json
import os
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mmdiff_video.datasets.names import spelling
from mmdiff_video.errors import InputError
from mmdiff_video.files import parse_json, write_text

CAPTIONS_FILE = "captions.jsonl"

_CUT_SHORT = ": the line is cut short; `mmdiff-video caption` with this data root mends it"


def read_captions(root: Path) -> dict[str, str]:
    """Read the captions of a data root, by key; empty where there is no file.

    Raises:
        InputError: the file cannot be read; or a line that is no such object, or a key that comes
            twice, with its number.
    """
    path = Path(root) / CAPTIONS_FILE
    captions: dict[str, str] = {}
    for number, line in enumerate(_read(path).removeprefix(BOM_UTF8).split(b"\n"), start=1):
        if not line.strip():
            continue
        if (entry := _parse(line)) is None:
            raise InputError(
                f'{path}, line {number}: expected {{"key": "...", "caption": "..."}},'
                f" found {line.decode(errors='replace')[:60]!r}"
                f"{_CUT_SHORT if _is_torn(line) else ''}"
            )
        key, caption = entry
        if key in captions:
            raise InputError(f"{path}, line {number}: a second caption for '{key}'")
        captions[key] = caption
    return captions


def caption_finder(root: Path) -> Callable[[str], str | None]:
    """Read the captions of a data root; what is returned finds the caption of a key.

    A key that is spelt with other Unicode characters that look the same is found as well.

    Raises:
        InputError: as :func:`read_captions`.
    """
    captions = read_captions(root)
    alike = {spelling(key): caption for key, caption in captions.items()}
    return lambda key: captions.get(key, alike.get(spelling(key)))


def mirrored_caption(caption: str) -> str:
    """Say right for left and left for right.

    >>> mirrored_caption("A lamp to the left of a bed; Left: a rug.")
    'A lamp to the right of a bed; Right: a rug.'
    """
    other = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}
    return re.sub(r"\b([Ll]eft|[Rr]ight)\b", lambda match: other[match[0]], caption)


class CaptionFile:
    """The captions of a data root, to which lines are added while they come.

    Opening it mends the end: a last line that a killed process left torn is cut off.

    Args:
        root: the data root.

    Raises:
        InputError: as :func:`read_captions`; or the file cannot be written.

    Attributes:
        path: of the file, which may not be there yet.
        captions: all of them, by key.
    """

    def __init__(self, root: Path):
        self.path = Path(root) / CAPTIONS_FILE
        with _writing(self.path):
            _mend(self.path)
        self.captions = read_captions(root)

    def add(self, captions: Mapping[str, str], model: str) -> None:
        """Append captions of keys that have none yet, each line naming the ``model`` that made it.

        Raises:
            InputError: the file cannot be written.
        """
        assert not captions.keys() & self.captions.keys()
        lines = [_line(key=k, caption=caption, model=model) for k, caption in captions.items()]
        with _writing(self.path), self.path.open("a", encoding="utf-8", newline="\n") as file:
            file.write("".join(lines))
        self.captions.update(captions)


def write_captions(root: Path, captions: Mapping[str, str]) -> None:
    """Write the captions of a data root, in order of their keys."""
    lines = (_line(key=key, caption=captions[key]) for key in sorted(captions))
    write_text(Path(root) / CAPTIONS_FILE, "".join(lines))


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write '{path}': {error.strerror or error}") from None


def _mend(path: Path) -> None:
    """End the file with a newline: cut off a torn last line, complete a whole one."""
    if not path.is_file():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    last = content[whole:]
    if _is_torn(last):
        with path.open("r+b") as file:
            file.truncate(whole)
    elif last:
        with path.open("ab") as file:
            file.write(b"\n")


def _read(path: Path) -> bytes:
    """All of the file; nothing where there is none."""
    if not os.path.lexists(path):
        return b""
    if not path.is_file():
        raise InputError(f"'{path}' is no file, or a link that leads nowhere: remove it")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror or error}") from None


def _parse(line: bytes) -> tuple[str, str] | None:
    """Key and caption of a line; None where it is no such object."""
    try:
        entry = parse_json(line.decode())
        key, caption = entry["key"], entry["caption"]
        if isinstance(key, str) and isinstance(caption, str):
            # JSON can spell halves of characters, which no text encoder takes; in a key they may
            # only stand for the bytes of a file's name
            caption.encode()
            key.encode(errors="surrogateescape")
            return key, caption
    except (ValueError, TypeError, KeyError):
        pass
    return None


def _line(**entry: str) -> str:
    """A line of the file; keys may be names that are not UTF-8, whose bytes JSON can escape."""
    text = json.dumps(entry, ensure_ascii=False) + "\n"
    return text.encode(errors="backslashreplace").decode()


def _is_torn(line: bytes) -> bool:
    """Whether a line is the beginning of an object only; any other mistake is a person's."""
    try:
        parse_json(line.decode())
    except ValueError as error:
        inside_string = str(error).startswith("Unterminated string")  # where "}" ends nothing
        return line.startswith(b"{") and (inside_string or not line.rstrip().endswith(b"}"))
    return False
