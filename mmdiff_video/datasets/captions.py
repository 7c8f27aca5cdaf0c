"""Captions of clips and images: ``captions.jsonl`` in a data root, one JSON object per line.

    {"key": "0a1b2c", "caption": "A purple chair on a dotted rug."}

A frozen backbone is prompted with the caption of what it is shown (the paper captions real images
with a vision-language model); without the file a fixed prompt does.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from mmdiff_video.errors import InputError
from mmdiff_video.files import write_text

CAPTIONS_FILE = "captions.jsonl"


def read_captions(root: Path) -> dict[str, str]:
    """Read the captions of a data root, by key; empty where there is no file.

    Raises:
        InputError: a line that is no such object, or a key that comes twice; with its number.
    """
    path = Path(root) / CAPTIONS_FILE
    if not path.is_file():
        return {}
    captions: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            key, caption = entry["key"], entry["caption"]
        except (ValueError, TypeError, KeyError):
            key = caption = None
        if not isinstance(key, str) or not isinstance(caption, str):
            raise InputError(
                f'{path}, line {number}: expected {{"key": "...", "caption": "..."}},'
                f" found {line[:60]!r}"
            )
        if key in captions:
            raise InputError(f"{path}, line {number}: a second caption for '{key}'")
        captions[key] = caption
    return captions


def write_captions(root: Path, captions: Mapping[str, str]) -> None:
    """Write the captions of a data root, in order of their keys."""
    lines = (
        json.dumps({"key": key, "caption": captions[key]}, ensure_ascii=False) + "\n"
        for key in sorted(captions)
    )
    write_text(Path(root) / CAPTIONS_FILE, "".join(lines))
