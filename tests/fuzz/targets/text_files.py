"""Captions, class names and lists of pictures."""

import json
import random
from pathlib import Path

from fuzz.harness import Case, require, require_sentence, target
from fuzz.mutate import break_bytes, break_text, same_text
from PIL import Image

from mmdiff_video.datasets.captions import CaptionFile, read_captions, write_captions
from mmdiff_video.datasets.loading import load_images
from mmdiff_video.datasets.names import key_of
from mmdiff_video.datasets.picture_files import PictureError, is_picture
from mmdiff_video.datasets.pictures.card import load_image_card
from mmdiff_video.datasets.pictures.labelled import LoadedImages, read_classes
from mmdiff_video.errors import InputError
from mmdiff_video.tasks import TASKS

_CAPTIONS = {"a": "A chair.", "b": 'Quotes " and \\ and }.', "clip é": "Ein Stuhl 😀\u2028hier."}


def _caption_text(rng: random.Random) -> str:
    entries = [{"key": key, "caption": text} for key, text in _CAPTIONS.items()]
    return "".join(json.dumps(e, ensure_ascii=rng.random() < 0.5) + "\n" for e in entries)


def _hard_captions(rng: random.Random, text: str) -> bytes:
    if rng.random() < 0.3:
        lines = text.encode().split(b"\n")
        hard = (
            *(b"[" * 5000, b'{"key": "x", "caption": NaN}', b'{"key": 1, "caption": "x"}', b"null"),
            *(b'{"key": "a", "caption": "x"}', b'{"key": "\\ud800", "caption": "x"}', b"\xff\xfe"),
            *(b'{"key": "x", "caption": "\\ud800"}', b'{"key": "", "caption": ""}', b'"x"', b"3"),
            *(b'{"key": "x", "key": "y", "caption": "x"}', b'{"a":' * 3000, b"1" * 5000, b"\0"),
        )
        lines.insert(rng.randint(0, len(lines)), rng.choice(hard))
        return b"\n".join(lines)
    return break_text(rng, text)


def _require_captions(captions: dict[str, str]) -> None:
    for key, caption in captions.items():
        require(isinstance(key, str), f"a key {key!r}")
        require(isinstance(caption, str), f"a caption {caption!r}")
        (key + caption).encode()  # a lone surrogate cannot be written, nor printed


@target(cases=100)
def captions(case: Case) -> None:
    """A broken captions.jsonl, or one that is only written otherwise."""
    rng = case.rng
    same = rng.random() < 0.15
    text = _caption_text(rng)
    data = same_text(rng, text) if same else _hard_captions(rng, text)
    path = case.folder / "captions.jsonl"
    path.write_bytes(data)
    case.note(data[:300])
    with case.refusable(InputError, naming=str(path)):
        found = read_captions(case.folder)
        _require_captions(found)
        lines = [line for line in data.split(b"\n") if line.strip(b"\xef\xbb\xbf").strip()]
        require(len(found) == len(lines), f"{len(found)} captions of {len(lines)} lines")
        require(not same or found == _CAPTIONS, f"other captions: {found}")
    require(not (same and case.refusal), f"a good file is refused: {case.refusal}")
    require(path.read_bytes() == data, "reading changed the file")


@target(cases=60)
def caption_writing(case: Case) -> None:
    """Captions are added to what a killed process, or a person, left; nothing of it is lost."""
    rng = case.rng
    path = case.folder / "captions.jsonl"
    data = _caption_text(rng).encode()
    torn = rng.random() < 0.5
    data = data[: rng.randint(0, len(data))] if torn else break_bytes(rng, data, 1)
    path.write_bytes(data)
    case.note(data[-200:])
    added = {"new": rng.choice(("x", "", "\u2028", "a\nb", "\0", '"}', "😀"))}
    with case.refusable(InputError, naming=str(path)):
        file = CaptionFile(case.folder)
        before = dict(file.captions)
        file.add(added, "model")
        require(read_captions(case.folder) == {**before, **added}, "what was added is not there")
        if torn:
            whole = data.rfind(b"\n") + 1
            require(path.read_bytes().startswith(data[:whole]), "whole lines have changed")
    require(not (torn and case.refusal), f"what a killed process left is refused: {case.refusal}")


@target(cases=20)
def caption_round_trip(case: Case) -> None:
    """Any text is read back as it was written."""
    rng = case.rng
    letters = 'ab\n\r\t"\\{}\0\u2028\u2029\x85é😀\ufeff \x1c'
    words = {
        "".join(rng.choices(letters, k=rng.randint(1, 6))): "".join(rng.choices(letters, k=9))
        for _ in range(5)
    }
    write_captions(case.folder, words)
    require(read_captions(case.folder) == words, f"{words} is read otherwise")


@target(cases=80)
def class_list(case: Case) -> None:
    """classes.txt: ids, names and colours."""
    rng = case.rng
    kind = rng.randrange(3)
    names = ["wall", "floor lamp", "chair", "Stuhl é"]
    lines = [
        (name, f"{i} {name}", f"{i} {name} {i} {2 * i} 255")[kind] for i, name in enumerate(names)
    ]
    same = rng.random() < 0.15
    text = "\n".join(lines) + "\n"
    data = same_text(rng, text) if same else break_text(rng, text)
    path = case.folder / "classes.txt"
    path.write_bytes(data)
    case.note(data[:200])
    with case.refusable(InputError, naming=str(path)):
        found = read_classes(path)
        require(2 <= len(found.names) <= 255, f"{len(found.names)} classes")
        require(len(found.colors) == len(found.names), "a colour for each class")
        require(all(0 <= c < 256 for rgb in found.colors for c in rgb), "a colour that is none")
        require(all(name.strip() for name in found.names), f"a class without a name: {found.names}")
        require(found.palette().shape == (256, 3), "no palette")
        require(not same or list(found.names) == names, f"other names: {found.names}")
    require(not (same and case.refusal), f"a good file is refused: {case.refusal}")


def _picture(path: Path, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (4, 3)).save(path)


def _require_pictures(loaded: LoadedImages, given: int) -> None:
    keys = [image.key for image in loaded.images]
    require(keys == sorted(set(keys)), f"keys {keys}")
    require(
        len(keys) + len(loaded.skipped) == given,
        f"{given} given, {len(keys)} usable and {len(loaded.skipped)} skipped",
    )
    for entry in loaded.skipped:
        require(entry.reason.strip(), f"{entry.key} is skipped without a reason")
        require_sentence(entry.reason)
    for image in loaded.images:
        try:
            image.read()
        except PictureError as error:
            require_sentence(str(error))


def _lines(data: bytes) -> int:
    """Lines of a list that are neither empty nor a comment, as any editor shows them."""
    text = data.decode("utf-8-sig", "replace").replace("\r\n", "\n")
    return sum(
        bool(line.strip()) and not f"{line.strip()} ".startswith("# ") for line in text.split("\n")
    )


@target(cases=30)
def voc_list(case: Case) -> None:
    """A list of Pascal VOC: names, or two paths a line."""
    rng = case.rng
    root = case.folder
    names = ["a", "b", "c d" if rng.random() < 0.1 else "c", "é"]
    for name in names:
        _picture(root / "JPEGImages" / f"{name}.jpg")
        _picture(root / "SegmentationClass" / f"{name}.png", "L")
    paths = rng.random() < 0.5
    text = "".join(
        f"/JPEGImages/{n}.jpg /SegmentationClass/{n}.png\n" if paths else f"{n}\n" for n in names
    )
    listed = root / "ImageSets" / "Segmentation" / "val.txt"
    listed.parent.mkdir(parents=True)
    same = rng.random() < 0.15 and "c d" not in names
    data = same_text(rng, text) if same else break_text(rng, text)
    listed.write_bytes(data)
    case.note(data[:200])
    with case.refusable(InputError, naming=(str(root), *names)):
        loaded = load_images(load_image_card("voc"), root, "val", TASKS["seg"].labels)
        _require_pictures(loaded, _lines(data))
        require(not same or not loaded.skipped, f"good pictures are skipped: {loaded.skipped}")
    require(not (same and case.refusal), f"a good list is refused: {case.refusal}")


@target(cases=30)
def nyu_list(case: Case) -> None:
    """A list of NYU: picture and depth paths."""
    rng = case.rng
    root = case.folder
    names = ["image/a", "kitchen/a", "b", "é"]
    for name in names:
        _picture(root / f"{name}.jpg")
        _picture(root / f"{name}.png", "I;16")
    text = "".join(f"{n}.jpg {n}.png{' 518.8' if rng.random() < 0.5 else ''}\n" for n in names)
    same = rng.random() < 0.15
    data = same_text(rng, text) if same else break_text(rng, text)
    (root / "test.txt").write_bytes(data)
    case.note(data[:200])
    with case.refusable(InputError, naming=(str(root), *(n.split("/")[-1] for n in names))):
        loaded = load_images(load_image_card("nyu"), root, "test", TASKS["depth"].labels)
        _require_pictures(loaded, _lines(data))
        require(not same or not loaded.skipped, f"good pictures are skipped: {loaded.skipped}")
    require(not (same and case.refusal), f"a good list is refused: {case.refusal}")


_NAMES = (
    *(
        "a.jpg",
        "A.JPG",
        "b.jpeg",
        "b.png",
        "c.webp",
        "d.tif",
        ".hidden.jpg",
        "e.txt",
        "f",
        "g.jpg.bak",
    ),
    *(
        "é.png",
        "e\u0301.png",
        "x y.bmp",
        "n\nl.png",
        "h.GIF",
        "._a.jpg",
        "1.jpg",
        "01.jpg",
        "\u202e.png",
    ),
)


@target(cases=50)
def picture_folders(case: Case) -> None:
    """Folders of pictures and labels whose names match, or do not."""
    rng = case.rng
    duts = rng.random() < 0.5
    part = case.folder / ("DUTS-TE" if duts else "test")
    folders = ("DUTS-TE-Image", "DUTS-TE-Mask") if duts else ("images", "masks")
    names = rng.sample(_NAMES, rng.randint(1, 8))
    for folder in folders:
        (part / folder).mkdir(parents=True)
    for name in names:
        place = part / folders[0] / name
        match rng.randrange(12):
            case 0:
                place.mkdir()
            case 1:
                place.symlink_to("nowhere")
            case _:
                place.write_bytes(rng.randbytes(9))
        if rng.random() < 0.8:
            (part / folders[1] / f"{place.stem}.png").write_bytes(rng.randbytes(9))
    case.note(names)
    if rng.random() < 0.1:
        (part / folders[1] / "alone.png").touch()
    there = [p for p in (part / folders[0]).iterdir() if is_picture(p)]
    pictures = {key_of(p.stem) for p in there}
    card = load_image_card("duts" if duts else "folders")
    with case.refusable(InputError, naming=str(case.folder), echoed=["n\nl"]):
        loaded = load_images(card, case.folder, "test", TASKS["saliency"].labels)
        keys = [*(image.key for image in loaded.images), *(entry.key for entry in loaded.skipped)]
        told = {key_of(key) for key in keys}
        require(told >= pictures, f"{sorted(pictures - told)} vanished")
        for image in loaded.images:
            try:
                image.read()
                require(False, "random bytes are read as a picture")
            except PictureError as error:
                require_sentence(str(error), ["n\nl"])
