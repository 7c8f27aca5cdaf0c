"""Names in any alphabet, case and spelling, and lists of them: found, or left out with a reason."""

import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmdiff_video.datasets.lists import read_list, two_paths
from mmdiff_video.datasets.loading import find_images, load_images
from mmdiff_video.datasets.names import shown
from mmdiff_video.datasets.picture_files import PictureError
from mmdiff_video.datasets.pictures.card import load_image_card
from mmdiff_video.datasets.pictures.labelled import LoadedImages, read_classes
from mmdiff_video.datasets.roots import find_root
from mmdiff_video.errors import InputError
from mmdiff_video.rooms.check import check_any
from mmdiff_video.tasks import labels_of

NFC, NFD = (unicodedata.normalize(form, "café straße å") for form in ("NFC", "NFD"))
LONG = "a" * 300
LABELS = {
    "seg": np.ones((4, 6), np.uint8),
    "depth": np.full((4, 6), 2000, np.uint16),
    "saliency": np.full((4, 6), 255, np.uint8),
}


def save(path: Path, task: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((4, 6, 3), np.uint8) if task is None else LABELS[task]
    kind = {".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}
    Image.fromarray(values).save(path, kind.get(path.suffix.lower(), "PNG"))
    return path


def load(name: str, root: Path, task: str) -> LoadedImages:
    """Load what is usable of the first split, and read it."""
    card = load_image_card(name)
    loaded = find_images(card, root, card.train, labels_of(task))
    for image in loaded.images:
        image.read()
    return loaded


def keys(loaded: LoadedImages) -> list[str]:
    return [image.key for image in loaded.images]


def folders(root: Path, pictures: list[str], labels: list[str], task: str = "saliency") -> Path:
    for name in pictures:
        save(root / "train" / "images" / name)
    for name in labels:
        save(root / "train" / labels_of(task).folder / name, task)
    (root / "classes.txt").write_text("a\nb\n")
    return root


def voc(root: Path, pictures: list[str], labels: list[str], lines: str | bytes) -> Path:
    for name in pictures:
        save(root / "JPEGImages" / name)
    for name in labels:
        save(root / "SegmentationClass" / name, "seg")
    listed = root / "ImageSets" / "Segmentation" / "train.txt"
    listed.parent.mkdir(parents=True)
    listed.write_bytes(lines.encode() if isinstance(lines, str) else lines)
    return root


def nyu(root: Path, pairs: list[tuple[str, str]], lines: str | bytes) -> Path:
    for image, depth in pairs:
        save(root / image)
        save(root / depth, "depth")
    (root / "train.txt").write_bytes(lines.encode() if isinstance(lines, str) else lines)
    return root


@pytest.mark.parametrize(
    ("picture", "label"),
    [
        ("0.jpg", "0.PNG"),
        ("0.JPEG", "0.png"),
        ("0.Jpg", "0.TIF"),
        ("my living room.jpg", "my living room.Png"),
        ("2007_000001.v2.jpg", "2007_000001.v2.png"),
        ("客厅.png", "客厅.png"),
        (f"{NFC}.jpg", f"{NFD}.png"),
        (f"{NFD}.jpg", f"{NFC}.tiff"),
        (" a\u00a0b\u2028c.jpg", " a\u00a0b\u2028c.png"),
    ],
)
@pytest.mark.parametrize("task", LABELS)
def test_names_of_folders(tmp_path, picture, label, task):
    root = folders(tmp_path, [picture], [label], task)
    loaded = load("folders", root, task)
    assert keys(loaded) == [unicodedata.normalize("NFC", Path(picture).stem)]
    assert not loaded.skipped


def test_hidden_files_and_those_of_macos_are_not_there(tmp_path):
    root = folders(tmp_path, ["a.jpg"], ["a.png"])
    for folder in ("images", "masks"):
        for name in (".DS_Store", "._a.jpg", "._a.png", ".hidden.png", "Thumbs.db"):
            (root / "train" / folder / name).write_bytes(b"\0\5\x16\7")
    loaded = load("folders", root, "saliency")
    assert (keys(loaded), loaded.skipped) == (["a"], [])


def test_what_is_not_known_or_not_read_has_a_reason(tmp_path):
    root = folders(
        tmp_path,
        ["a.jpg", "a.png", "b.jpg", "c.jpg", "d.jpg", f"{NFC}.jpg", f"{NFD}.jpg", "fine.jpg"],
        ["a.png", "b.png", "b.PNG", "c.tif", "e.png", f"{NFC}.png", "fine.png", "fine.tif"],
    )
    (root / "train/masks/d.mat").write_text("")
    (root / "train/images/e.heic").write_text("")
    (root / "train/images/f.GIF").write_text("")
    loaded = load("folders", root, "saliency")
    assert keys(loaded) == ["c", "fine"]
    reasons = dict(loaded.skipped)
    assert reasons.keys() == {"a", "b", "d", "e", "f", unicodedata.normalize("NFC", NFC)}
    assert "'a.jpg' and 'a.png' lie side by side" in reasons["a"]
    assert "'b.PNG' and 'b.png' lie side by side" in reasons["b"]
    assert reasons["d"].endswith("d.png' (but 'd.mat')")
    assert ".heic is not read; make it a JPEG or PNG" in reasons["e"]
    assert ".GIF is not read" in reasons["f"]


def test_links_in_a_circle_and_folders_called_pictures(tmp_path):
    root = folders(tmp_path, ["a.jpg"], ["a.png", "b.png", "c.png"])
    (root / "train/images/b.jpg").symlink_to("b.jpg")
    (root / "train/images/c.jpg").mkdir()
    loaded = load("folders", root, "saliency")
    assert keys(loaded) == ["a"]
    assert [key for key, reason in loaded.skipped if "no file" in reason] == ["b", "c"]


def test_names_that_are_not_utf_8_are_reported_in_text(tmp_path):
    name = os.fsdecode(b"stra\xdfe")
    root = folders(tmp_path / os.fsdecode(b"\xe9"), ["a.jpg", f"{name}.jpg"], ["a.png", "b.png"])
    save(root / "train/masks" / f"{name}.png", "saliency")
    save(root / "train/images" / f"{name}2.jpg")
    loaded = load("folders", root, "saliency")
    assert keys(loaded) == ["a", "stra\\udcdfe"]
    report = check_any("folders", root, tmp_path / "out")
    assert "stra\\udcdfe2: no file" in report.table().encode().decode()
    assert "stra\\\\udcdfe2" in (tmp_path / "out/report.json").read_text()


VOC_LINES = "2007_000001\nholiday photo\nmy living room.jpg\n客厅\n"
VOC_NAMES = ["2007_000001", "holiday photo", "my living room", "客厅"]


@pytest.mark.parametrize(
    ("encode", "suffixes"),
    [
        (lambda text: text, (".jpg", ".png")),
        (lambda text: text.replace("\n", "\r\n"), (".JPEG", ".PNG")),
        (lambda text: b"\xef\xbb\xbf" + text.encode(), (".JPG", ".Tif")),
        (lambda text: f"# made by hand\n\n{text}\n \n\t\n", (".png", ".bmp")),
    ],
)
def test_names_in_lists_of_voc(tmp_path, encode, suffixes):
    images, labels = ([f"{name}{suffix}" for name in VOC_NAMES] for suffix in suffixes)
    loaded = load("voc", voc(tmp_path, images, labels, encode(VOC_LINES)), "seg")
    assert keys(loaded) == sorted(VOC_NAMES)
    assert not loaded.skipped


def test_paths_in_lists_of_voc(tmp_path):
    names = ["a", "my room", NFC, "sub/b"]
    root = voc(
        tmp_path,
        [f"{name}.jpg" for name in names],
        [f"{name}.png" for name in names],
        "/JPEGImages/a.jpg /SegmentationClass/a.png\n"
        "JPEGImages/my room.jpg SegmentationClass/my room.png\n"
        f"JPEGImages/{NFD}.JPG\tSegmentationClass/{NFD}.PNG\n"
        "sub/b\n",
    )
    loaded = load("voc", root, "seg")
    assert keys(loaded) == sorted(["a", "my room", unicodedata.normalize("NFC", NFC), "sub/b"])
    assert not loaded.skipped


def test_lines_of_voc_that_cannot_be_used(tmp_path):
    secret = save(tmp_path / "secret.jpg")
    save(tmp_path / "secret.png", "seg")
    lines = [
        "a",
        "a",
        "missing",
        "no such photo",
        "../../secret",
        "../../secret.jpg ../../secret.png",
        "JPEGImages/../../secret.jpg SegmentationClass/a.png",
        f"{secret} {secret.with_suffix('.png')}",
        LONG,
        f"{LONG}.jpg {LONG}.png",
        "a\0b",
        "2008_000001 -1",
        "/",
    ]
    root = voc(tmp_path / "voc", ["a.jpg"], ["a.png"], "\n".join(lines))
    loaded = load("voc", root, "seg")
    assert keys(loaded) == ["a"]
    assert [key for key, _ in loaded.skipped] == [shown(line) for line in lines[1:]]
    reasons = [reason for _, reason in loaded.skipped]
    assert reasons[0] == "it comes twice, and is taken once"
    assert all("leads out of" in reasons[i] for i in (3, 4, 5))
    assert all("no file" in reasons[i] for i in (1, 2, 6, 7, 8, 9, 10, 11))


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("a_rgb.jpg a_depth.png", "a_rgb"),
        ("kitchen/a.jpg kitchen/a.png 518.8579", "kitchen/a"),
        ("image/my room.jpg depth/my room.png", "my room"),
        ("/image/a b.jpg  /depth/a  b.png\t518.8579 7", "a b"),
        ("my image.jpg copy.jpg my depth.png", "my image.jpg copy"),
        (f"{NFD}.jpg {NFD}.PNG", unicodedata.normalize("NFC", NFC)),
        ("a.jpg a.npy 3", "a"),
    ],
)
def test_lines_of_nyu(tmp_path, line, key):
    suffixes = ((".jpg",), (".png", ".npy"))
    image, depth = next(
        pair for pair in two_paths(line, suffixes) if "copy" not in line or "copy" in pair[0]
    )
    save(tmp_path / "nyu" / image.lstrip("/"))
    target = tmp_path / "nyu" / depth.lstrip("/")
    if target.suffix == ".npy":
        np.save(target, LABELS["depth"])
    else:
        save(target, "depth")
    loaded = load("nyu", nyu(tmp_path / "nyu", [], f"{line}\r\n\n"), "depth")
    assert (keys(loaded), loaded.skipped) == ([key], [])


def test_lines_of_nyu_that_cannot_be_used(tmp_path):
    save(tmp_path / "secret.jpg")
    save(tmp_path / "secret.png", "depth")
    lines = [
        "a.jpg a.png",
        "../secret.jpg ../secret.png",
        "only.jpg",
        "a.jpg None 721.5",
        "b.jpg a.png",
        f"{LONG}.jpg a.png",
        "a.jpg a.png",
    ]
    root = nyu(tmp_path / "nyu", [("a.jpg", "a.png")], "\n".join(lines))
    loaded = load("nyu", root, "depth")
    assert keys(loaded) == ["a"]
    assert [key for key, _ in loaded.skipped] == [*lines[1:6], "a"]
    reasons = [reason for _, reason in loaded.skipped]
    assert "leads out of" in reasons[0]
    assert "has not the paths" in reasons[1]
    assert "has not the paths" in reasons[2]
    assert "no file" in reasons[3]
    assert "taken once" in reasons[5]


def test_links_in_a_data_set_may_lead_elsewhere(tmp_path):
    save(tmp_path / "elsewhere/a.jpg")
    root = voc(tmp_path / "voc", [], ["a.png"], "a\n")
    (root / "JPEGImages").symlink_to(tmp_path / "elsewhere")
    assert keys(load("voc", root, "seg")) == ["a"]


def test_folders_of_nyu(tmp_path):
    for name in ("1_rgb.jpg", "2_rgb.PNG", "3_rgb.jpg", "3_rgb.png", "4_rgb.jpg"):
        save(tmp_path / "train" / name)
    for name in ("1_depth.PNG", "2_depth.tif", "3_depth.png", "5_depth.png"):
        save(tmp_path / "train" / name, "depth")
    (tmp_path / "train/._1_rgb.jpg").write_text("")
    loaded = load("nyu", tmp_path, "depth")
    assert keys(loaded) == ["1", "2"]
    assert [key for key, _ in loaded.skipped] == ["3", "4", "5"]


@pytest.mark.parametrize("name", ["voc", "nyu", "classes"])
def test_lists_in_another_encoding_name_file_and_line(tmp_path, name):
    content = "fine.jpg fine.png\nstraße.jpg d.png\n".encode("latin-1")
    where = r"train\.txt', line 2: not UTF-8"
    if name == "classes":
        root = folders(tmp_path, ["a.jpg"], ["a.png"], "seg")
        (root / "classes.txt").write_bytes(content)
        where = r"classes\.txt', line 2: not UTF-8"
    else:
        root = voc(tmp_path, [], [], content) if name == "voc" else nyu(tmp_path, [], content)
    card, task = (
        ("folders", "seg") if name == "classes" else (name, "seg" if name == "voc" else "depth")
    )
    with pytest.raises(InputError, match=where):
        load(card, root, task)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("² sky\n1 b\n", ("² sky", "b")),
        ("٣ sky\n① b\n", ("٣ sky", "① b")),
        ("\ufeff0 Straße\r\n1 客厅\r\n\r\n", ("Straße", "客厅")),
        ("a ² ³ ¹\nb 300 300 300\n", ("a ² ³ ¹", "b 300 300 300")),
        (f"a\n{'9' * 5000} b\n", ("a", f"{'9' * 5000} b")),
        ("# id name\n0 a\n1 b\n", ("a", "b")),
    ],
)
def test_classes_are_named_in_any_alphabet(tmp_path, text, names):
    (tmp_path / "classes.txt").write_bytes(text.encode())
    classes = read_classes(tmp_path / "classes.txt")
    assert classes.names == names
    assert not classes.colors_are_known


def test_captions_are_found_in_either_spelling(tmp_path):
    root = folders(tmp_path, [f"{NFC}.jpg"], [f"{NFC}.png"])
    line = json.dumps({"key": NFD, "caption": "A café."})
    (root / "captions.jsonl").write_text(f"{line}\n")
    assert load("folders", root, "saliency").images[0].caption == "A café."


def test_the_check_names_all_that_is_left_out_even_if_nothing_is_left(tmp_path):
    root = voc(tmp_path / "voc", ["a.jpg"], [], "\n".join(f"photo {i}" for i in range(30)))
    card = load_image_card("voc")
    with pytest.raises(InputError, match="no usable picture in split 'train'"):
        load_images(card, root, "train", labels_of("seg"))
    report = check_any("voc", root, tmp_path / "out")
    assert report.usable == 0
    written = json.loads((tmp_path / "out/report.json").read_text())
    assert len(written["splits"][0]["skipped"]) == 30


def test_the_check_meets_what_training_would(tmp_path):
    names = ["fine", "cut", "bomb", "size", "bright", "elongated"]
    root = folders(tmp_path / "own", [f"{n}.jpg" for n in names], [f"{n}.png" for n in names])
    images, masks = root / "train/images", root / "train/masks"
    (images / "cut.jpg").write_bytes((images / "cut.jpg").read_bytes()[:200])
    (images / "bomb.jpg").write_bytes(b"P6 50000 50000 255 ")
    Image.fromarray(np.zeros((5, 6), np.uint8)).save(masks / "size.png")
    Image.fromarray(np.full((4, 6), 7, np.uint8)).save(masks / "bright.png")
    for path in (images / "elongated.jpg", masks / "elongated.png"):
        Image.fromarray(np.zeros((2, 900), np.uint8)).save(path)
    report = check_any("folders", root, tmp_path / "out")
    (split,) = (s for s in report.splits if s.task == "saliency" and s.split == "train")
    reasons = dict(split.skipped)
    assert split.usable == 1
    assert "cut short" in reasons["cut"]
    assert "too many pixels" in reasons["bomb"]
    assert "its label 6x5" in reasons["size"]
    assert "largest value" in reasons["bright"]
    assert "more than 50 times" in reasons["elongated"]


@pytest.mark.parametrize("root", ["missing", LONG, "a\0b", os.fsdecode(b"\xe9")])
def test_a_root_that_is_no_folder_is_one_sentence(root):
    with pytest.raises(InputError, match="is not a folder") as caught:
        find_root(load_image_card("voc"), root)
    assert str(caught.value).encode()


def test_comments_and_odd_characters_in_lists(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("#\n# x\n#1 photo\na\u2028b\n\x0bc\x85d \n", encoding="utf-8")
    assert read_list(path) == [(3, "#1 photo"), (4, "a\u2028b"), (5, "c\x85d")]
    with pytest.raises(InputError, match="cannot be read"):
        read_list(tmp_path)


def test_a_mat_of_nyu_that_is_damaged_or_other(tmp_path):
    h5py = pytest.importorskip("h5py")
    from scipy.io import savemat

    path, card = tmp_path / "nyu_depth_v2_labeled.mat", load_image_card("nyu")
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="damaged or no labelled NYU file"):
        load_images(card, tmp_path, "train", labels_of("depth"))
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros((4, 3, 6, 5))
        file["depths"] = np.ones((4, 6, 5), np.float32)
    found = load_images(card, tmp_path, "train", labels_of("depth")).images
    with pytest.raises(PictureError, match=r"picture 1 cannot be read.*images are uint8"):
        found[0].read()
    for numbers in ([[0], [1]], [[1], [5]]):
        savemat(tmp_path / "splits.mat", {"trainNdxs": numbers})
        with pytest.raises(InputError, match="of 1 to 4"):
            load_images(card, tmp_path, "train", labels_of("depth"))
    with pytest.raises(InputError, match="damaged or no split"):
        load_images(card, tmp_path, "test", labels_of("depth"))
    (tmp_path / "splits.mat").write_bytes(b"MATLAB 5.0 MAT-file" + b"\xff" * 300)
    with pytest.raises(InputError, match="damaged or no split"):
        load_images(card, tmp_path, "train", labels_of("depth"))
