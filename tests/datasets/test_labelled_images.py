"""Readers of labelled pictures: layouts, and what is wrong with broken ones."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmdiff_video.cli import main
from mmdiff_video.datasets.loading import PICTURE_READERS, load_images
from mmdiff_video.datasets.picture_files import PictureError, read_rgb
from mmdiff_video.datasets.pictures.card import image_card_names, load_image_card
from mmdiff_video.datasets.pictures.labelled import Classes, read_classes, voc_colors
from mmdiff_video.errors import InputError
from mmdiff_video.rooms.check import check_any
from mmdiff_video.rooms.classes import CLASSES
from mmdiff_video.rooms.make import make_rooms
from mmdiff_video.tasks import TASKS, labels_of
from mmdiff_video.tasks.depth import read_depth
from mmdiff_video.tasks.saliency import read_mask
from mmdiff_video.tasks.seg import read_classes as read_labels

TWO = Classes(("a", "b"), voc_colors(2))


@pytest.fixture(scope="module")
def stills(tmp_path_factory) -> Path:
    """Procedural rooms as own folders: four pictures in train and one in test, 48x32."""
    root = tmp_path_factory.mktemp("stills") / "rooms"
    return make_rooms(root, layout="folders", scenes=5, width=48, height=32, jobs=1)


@pytest.fixture
def copy(stills, tmp_path) -> Path:
    import shutil

    return Path(shutil.copytree(stills, tmp_path / "rooms"))


def save(array: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def problem(image) -> str:
    with pytest.raises(PictureError) as caught:
        image.read()
    return str(caught.value)


@pytest.mark.parametrize("name", image_card_names())
def test_shipped_cards_load_and_name_a_reader(name):
    card = load_image_card(name)
    assert card.name == name
    assert card.reader in PICTURE_READERS
    assert set(card.tasks) <= TASKS.keys()


def test_rooms_have_all_labels_of_one_picture(stills):
    card = load_image_card("rooms")
    found = {task: load_images(card, stills, "train", labels_of(task)) for task in card.tasks}
    read = {task: loaded.images[0].read() for task, loaded in found.items()}
    assert all(np.array_equal(image, read["seg"][0]) for image, _ in read.values())
    assert read["seg"][1].max() < len(CLASSES)
    assert found["seg"].classes.names[8] == "chair"
    assert found["seg"].classes.colors[8] == CLASSES[8].color
    assert 0.3 < read["depth"][1].min() < read["depth"][1].max() < 12
    assert set(np.unique(read["saliency"][1])) == {0.0, 1.0}
    assert all(len(image.caption.split()) > 3 for image in found["seg"].images)


def test_a_seeded_choice_is_part_of_the_whole(stills):
    card = load_image_card("rooms")
    every = {image.key for image in load_images(card, stills, "train", labels_of("depth")).images}
    some = load_images(card, stills, "train", labels_of("depth"), max_images=2, split_seed=3).images
    again = load_images(
        card, stills, "train", labels_of("depth"), max_images=2, split_seed=3
    ).images
    assert [i.key for i in some] == [i.key for i in again]
    assert len(some) == 2
    assert {i.key for i in some} < every
    with pytest.raises(InputError, match="max_images is 0"):
        load_images(card, stills, "train", labels_of("depth"), max_images=0)


def test_wrong_tasks_and_splits_are_refused(stills):
    with pytest.raises(InputError, match="DUTS has no labels for depth"):
        load_images(load_image_card("duts"), stills, "train", labels_of("depth"))
    with pytest.raises(InputError, match="unknown split 'val'"):
        load_images(load_image_card("rooms"), stills, "val", labels_of("depth"))


def test_what_is_missing_is_skipped_with_a_reason(copy):
    (copy / "train/labels/train00001.png").unlink()
    (copy / "train/images/train00002.jpg").unlink()
    loaded = load_images(load_image_card("rooms"), copy, "train", labels_of("seg"))
    assert [image.key for image in loaded.images] == ["train00000", "train00003"]
    reasons = dict(loaded.skipped)
    assert "no file" in reasons["train00001"]
    assert "no picture for" in reasons["train00002"]


def test_an_empty_or_missing_folder_is_one_sentence(tmp_path):
    card = load_image_card("folders")
    with pytest.raises(InputError, match=r"no folder '.*images'; Own folders must lie so"):
        load_images(card, tmp_path, "train", labels_of("depth"))
    for folder in ("images", "depth"):
        (tmp_path / "train" / folder).mkdir(parents=True)
    with pytest.raises(InputError, match="there is no picture in"):
        load_images(card, tmp_path, "train", labels_of("depth"))
    with pytest.raises(InputError, match=r"classes\.txt"):
        load_images(card, tmp_path, "train", labels_of("seg"))


def test_voc_lists_folders_and_classes(tmp_path):
    root = tmp_path / "VOCdevkit/VOC2012"
    for name in ("a", "b"):
        save(np.zeros((4, 6, 3), np.uint8), root / f"JPEGImages/{name}.jpg")
        save(np.full((4, 6), 20, np.uint8), root / f"SegmentationClass/{name}.png")
        save(np.full((4, 6), 255, np.uint8), root / f"SegmentationClassAug/{name}.png")
    lists = root / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nb\n\n")
    (lists / "trainaug.txt").write_text("/JPEGImages/a.jpg /SegmentationClassAug/a.png\nb\nc\n")
    card = load_image_card("voc")
    train = load_images(card, tmp_path, "train", labels_of("seg"))
    assert [image.key for image in train.images] == ["a", "b"]
    assert train.images[0].read()[1].tolist() == [[[20] * 6] * 4]
    assert len(train.classes.names) == 21
    assert train.classes.colors[15] == (192, 128, 128)  # person, as VOC paints it
    augmented = load_images(card, tmp_path, "trainaug", labels_of("seg"))
    assert all((image.read()[1] == 255).all() for image in augmented.images)
    assert [key for key, _ in augmented.skipped] == ["c"]
    with pytest.raises(InputError, match=r"no list '.*val\.txt'"):
        load_images(card, tmp_path, "val", labels_of("seg"))


def test_nyu_lists_and_folders(stills, tmp_path):
    make_rooms(tmp_path / "lists", layout="nyu", scenes=2, width=32, height=32, jobs=1)
    card = load_image_card("nyu")
    listed = load_images(card, tmp_path / "lists", "train", labels_of("depth")).images
    assert [image.key for image in listed] == ["train00000"]
    assert listed[0].caption
    depth = np.array([[0, 1500, 65535]], np.uint16)
    save(np.zeros((1, 3, 3), np.uint8), tmp_path / "pairs/test/000123_rgb.png")
    save(depth, tmp_path / "pairs/test/000123_depth.png")
    (pair,) = load_images(card, tmp_path / "pairs", "test", labels_of("depth")).images
    assert pair.key == "000123"
    np.testing.assert_allclose(pair.read()[1], [[[0, 1.5, 65.535]]], rtol=1e-6)


def test_nyu_mat_gives_upright_pictures_and_the_official_split(tmp_path):
    h5py = pytest.importorskip("h5py")
    from scipy.io import savemat

    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (10, 3, 6, 4), dtype=np.uint8)  # [N, 3, W, H]
    depths = rng.random((10, 6, 4), dtype=np.float32)
    with h5py.File(tmp_path / "nyu_depth_v2_labeled.mat", "w") as file:
        file["images"], file["depths"] = images, depths + 1
        file["rawDepths"] = depths
    card = load_image_card("nyu")
    train, test = (load_images(card, tmp_path, s, labels_of("depth")) for s in ("train", "test"))
    assert (len(train.images), len(test.images)) == (8, 2)
    assert not {i.key for i in train.images} & {i.key for i in test.images}
    assert len({image.pair.place for image in train.images + test.images}) == 10
    assert "not the official split" in train.note
    savemat(tmp_path / "splits.mat", {"trainNdxs": [[1], [3]], "testNdxs": [[2]]})
    (only,) = load_images(card, tmp_path, "test", labels_of("depth")).images
    image, depth = only.read()
    assert np.array_equal(only.pair.read_image(), image)
    assert image.shape == (4, 6, 3)
    assert image[2, 5].tolist() == images[1, :, 5, 2].tolist()
    assert depth[0, 2, 5] == depths[1, 5, 2]


def test_damage_and_misfits_have_a_sentence_each(copy, tmp_path):
    card = load_image_card("rooms")
    jpeg = copy / "train/images/train00000.jpg"
    jpeg.write_bytes(jpeg.read_bytes()[:300])
    save(np.zeros((9, 9), np.uint8), copy / "train/labels/train00001.png")
    save(np.full((32, 48), 20, np.uint8), copy / "train/labels/train00002.png")
    save(np.zeros((32, 48, 3), np.uint8), copy / "train/labels/train00003.png")
    seg = [problem(image) for image in load_images(card, copy, "train", labels_of("seg")).images]
    assert "cut short or damaged" in seg[0]
    assert seg[1] == "the picture is 48x32 pixels, its label 9x9"
    assert "label 20, but there are 20 classes" in seg[2]
    assert "RGB picture with only void" in seg[3]

    save(np.zeros((32, 48), np.uint8), copy / "train/depth/train00001.png")
    depth = load_images(card, copy, "train", labels_of("depth")).images
    assert "8-bit" in problem(depth[1])
    save(np.ones((32, 48), np.uint8), copy / "train/masks/train00001.png")
    masks = load_images(card, copy, "train", labels_of("saliency")).images
    assert "a mask holds 0 and 255" in problem(masks[1])

    report = check_any("rooms", copy, tmp_path / "out")
    written = json.loads((tmp_path / "out/report.json").read_text())
    counts = {(r["split"], r["task"]): (r["usable"], len(r["skipped"])) for r in written["splits"]}
    assert counts["train", "seg"] == (0, 4)
    assert counts["train", "depth"] == (2, 2)
    assert counts["test", "seg"] == (1, 0)
    assert report.usable == 0 + 2 + 2 + 3 + 4


def test_pictures_of_every_kind_become_rgb(tmp_path):
    grey = save(np.array([[0, 128]], np.uint8), tmp_path / "grey.png")
    assert read_rgb(grey).tolist() == [[[0] * 3, [128] * 3]]
    deep = save(np.array([[0, 257, 65535]], np.uint16), tmp_path / "deep.png")
    assert read_rgb(deep)[0, :, 0].tolist() == [0, 1, 255]
    clear = save(np.array([[[9, 9, 9, 0], [9, 9, 9, 255]]], np.uint8), tmp_path / "clear.png")
    assert read_rgb(clear).tolist() == [[[255] * 3, [9] * 3]]
    turned = Image.new("RGB", (4, 2))
    turned.getexif()[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=turned.getexif())
    assert read_rgb(tmp_path / "turned.jpg").shape == (2, 4, 3)
    assert read_rgb(tmp_path / "turned.jpg", upright=True).shape == (4, 2, 3)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(PictureError, match=r"text\.png is not a picture"):
        read_rgb(tmp_path / "text.png")
    with pytest.raises(PictureError, match="no file"):
        read_rgb(tmp_path / "missing.png")


def test_labels_masks_and_depth_of_odd_kinds(tmp_path):
    bilevel = tmp_path / "bilevel.png"
    Image.fromarray(np.array([[False, True]])).save(bilevel)
    assert read_labels(bilevel, TWO).tolist() == [[[0, 1]]]
    assert read_mask(bilevel).tolist() == [[[0, 1]]]
    soft = save(np.array([[127, 129, 255]], np.uint8), tmp_path / "soft.png")
    assert read_mask(soft).tolist() == [[[0, 1, 1]]]
    with pytest.raises(PictureError, match="a mask holds 0 and 255"):
        read_mask(save(np.array([[300]], np.uint16), tmp_path / "mask16.png"))
    units = save(np.array([[512]], np.uint16), tmp_path / "units.png")
    assert read_depth(units, 1 / 256).tolist() == [[[2.0]]]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("sky\nbuilding\n", ("sky", "building")),
        ("0 wall 174 199 232\n1 floor 1 2 3\n", ("wall", "floor")),
        ("0 traffic light\n1 potted plant\n", ("traffic light", "potted plant")),
    ],
)
def test_class_files(tmp_path, text, names):
    path = tmp_path / "classes.txt"
    path.write_text(text)
    classes = read_classes(path)
    assert classes.names == names
    assert classes.palette()[255].tolist() == [224, 224, 192]
    assert len(classes.colors) == 2


@pytest.mark.parametrize("text", ["", "one\n", "0 a\n2 b\n", "0 a 1 2 3\n1 b\n"])
def test_broken_class_files_are_refused(tmp_path, text):
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(InputError, match=r"classes\.txt"):
        read_classes(tmp_path / "classes.txt")


def test_vocs_palette():
    assert voc_colors(4) == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))


def test_the_commands_know_both_kinds_of_data_set(stills, tmp_path, capsys):
    assert main(["data", "list"]) == 0
    listed = capsys.readouterr().out
    assert "nyu: NYU Depth v2 (depth)" in listed
    assert "re10k" in listed
    assert main(["data", "show", "rooms"]) == 0
    shown = capsys.readouterr().out
    assert "RealEstate10K layout" in shown
    assert "data show folders" in shown
    command = ["data", "check", "rooms", "--data-root", str(stills), "--out", str(tmp_path)]
    assert main(command) == 0
    assert "train (saliency)" in capsys.readouterr().out
    assert main(["data", "check", "nyv", "--data-root", str(stills)]) == 2
    assert "did you mean 'nyu'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("card", "folder", "task", "train", "test"),
    [
        ("voc", "voc_camvid", "seg", 367, 101),
        ("duts", "duts_ecssd", "saliency", 800, 100),
        ("nyu", "depth", "depth", 175, 30),
    ],
)
def test_real_sets_are_read_whole(real_data, card, folder, task, train, test):
    card = load_image_card(card)
    for split, count in ((card.train, train), (card.held_out, test)):
        loaded = load_images(card, real_data / folder, split, labels_of(task))
        assert len(loaded.images) == count
        assert not loaded.skipped
        image, label = loaded.images[count // 2].read()
        assert image.shape[:2] == label.shape[1:]
        assert image.std() > 5
