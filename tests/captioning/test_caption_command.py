"""`caption` as a user types it: the file that training reads, and going on after a kill."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmdiff_video.captioning.subjects import find_subjects
from mmdiff_video.cli import main
from mmdiff_video.datasets.captions import CAPTIONS_FILE, read_captions
from mmdiff_video.datasets.clips.card import load_card
from mmdiff_video.datasets.loading import load_images, load_split
from mmdiff_video.datasets.pictures.card import load_image_card
from mmdiff_video.locks import sole_writer
from mmdiff_video.rooms.make import make_rooms
from mmdiff_video.tasks import labels_of


@pytest.fixture(scope="module")
def stills(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("stills") / "rooms"
    make_rooms(root, layout="folders", scenes=5, width=64, height=48, jobs=1)
    (root / CAPTIONS_FILE).unlink()
    return root


@pytest.fixture
def root(stills, tmp_path) -> Path:
    return Path(shutil.copytree(stills, tmp_path / "rooms"))


def caption(root: Path, model: Path | str, *more: str, data: str = "folders") -> int:
    command = ["caption", "--data", data, "--data-root", str(root), "--model", str(model)]
    return main([*command, "--max-new-tokens", "6", "--batch-size", "2", *more])


def test_training_reads_what_was_written(root, vlm, capsys):
    assert caption(root, vlm) == 0
    said = capsys.readouterr().out
    assert "5 captions" in said
    assert "0 were there, 0 are still to come, 0 skipped" in said
    lines = [json.loads(line) for line in (root / CAPTIONS_FILE).read_text().splitlines()]
    assert len(lines) == 5
    assert all(line["model"] == str(vlm) and len(line["caption"].split()) == 6 for line in lines)
    by_key = {line["key"]: line["caption"] for line in lines}
    for split, task in (("train", "depth"), ("test", "seg")):
        for image in load_images(load_image_card("folders"), root, split, labels_of(task)).images:
            assert image.caption == by_key[image.key]


def test_two_captioners_of_one_file_do_not_write_into_each_other(root, vlm, capsys):
    with sole_writer(root / CAPTIONS_FILE, "caption"):
        assert caption(root, vlm) == 2
        assert "captions.jsonl' is in use by another process" in capsys.readouterr().err
        assert not (root / CAPTIONS_FILE).exists()
    assert caption(root, vlm, "--limit", "2") == 0
    assert len(read_captions(root)) == 2


def test_a_killed_run_goes_on_and_ends_with_the_same_file(root, vlm, capsys):
    assert caption(root, vlm) == 0
    file = root / CAPTIONS_FILE
    whole = file.read_bytes()
    capsys.readouterr()
    file.write_bytes(whole[: whole.index(b"\n", 200) - 9])  # torn in the middle of a line
    left = file.read_bytes().count(b"\n")
    assert caption(root, vlm) == 0
    said = capsys.readouterr().out
    assert f"{5 - left} captions" in said
    assert f"{left} were there" in said
    assert file.read_bytes() == whole


def test_a_torn_line_is_not_trained_on_in_silence(root, vlm, capsys):
    assert caption(root, vlm, "--limit", "1") == 0
    file = root / CAPTIONS_FILE
    file.write_bytes(file.read_bytes()[:-9])
    assert main(["data", "check", "folders", "--data-root", str(root), "--out", str(root)]) == 2
    assert "line 1" in (said := capsys.readouterr().err)
    assert "mends it" in said


def test_nothing_to_do_needs_no_model_and_own_captions_stay(root, vlm, capsys):
    own = {"key": "train00001", "caption": "Mine."}
    (root / CAPTIONS_FILE).write_text(json.dumps(own))  # an editor left no newline
    assert caption(root, vlm) == 0
    captions = read_captions(root)
    assert len(captions) == 5
    assert captions["train00001"] == "Mine."
    assert caption(root, "nowhere") == 0
    assert "0 captions" in capsys.readouterr().out.splitlines()[-1]


def test_a_limit_stops_early(root, vlm, capsys):
    assert caption(root, vlm, "--limit", "3") == 0
    assert "2 are still to come" in capsys.readouterr().out
    assert len(read_captions(root)) == 3
    assert caption(root, vlm, "--limit", "3") == 0
    assert len(read_captions(root)) == 5


def test_broken_pictures_are_skipped_and_named(root, vlm, capsys):
    (root / "train/images/train00001.jpg").write_bytes(b"\xff\xd8\xff")
    for kind in ("labels", "depth", "masks", "normals"):
        (root / f"train/{kind}/train00002.png").unlink()
    (root / "train/depth/train00003.png").unlink()  # it still has labels
    assert caption(root, vlm) == 0
    said = capsys.readouterr().out
    assert "2 skipped" in said
    assert "skipped train00001: train00001.jpg is not a picture" in said
    assert "skipped train00002: no file" in said
    assert set(read_captions(root)) == {"train00000", "train00003", "test00000"}


def test_a_model_that_says_nothing_leaves_no_empty_caption(root, vlm, tmp_path, capsys):
    dumb = Path(shutil.copytree(vlm, tmp_path / "dumb"))
    settings = json.loads((dumb / "generation_config.json").read_text())
    (dumb / "generation_config.json").write_text(
        json.dumps(settings | {"suppress_tokens": None, "forced_eos_token_id": 1})
    )
    assert caption(root, dumb, "--max-new-tokens", "1") == 2
    assert "skipped test00000: the model said nothing" in capsys.readouterr().out
    assert read_captions(root) == {}


def test_two_pictures_of_one_name_are_not_confused(root, vlm, capsys):
    for kind, suffix in (("images", "jpg"), ("labels", "png"), ("depth", "png"), ("masks", "png")):
        folder = root / "test" / kind
        (folder / f"test00000.{suffix}").rename(folder / f"train00000.{suffix}")
    assert caption(root, vlm) == 0
    assert "skipped test:train00000: split 'train' has another picture" in capsys.readouterr().out
    assert len(read_captions(root)) == 4


def test_clips_are_captioned_by_their_middle_frame(tmp_path, vlm):
    root = make_rooms(tmp_path / "clips", scenes=2, frames=9, width=64, height=48, jobs=1)
    (root / CAPTIONS_FILE).unlink()
    assert caption(root, vlm, data="re10k") == 0
    clips = [clip for s in ("train", "test") for clip in load_split(load_card("re10k"), root, s)[0]]
    assert all(clip.caption for clip in clips)
    subjects = find_subjects("re10k", root).found
    for clip, subject in zip(clips, subjects, strict=True):
        assert subject.key == clip.key
        assert np.array_equal(subject.read(), clip.read([4])[0])


def test_a_picture_in_several_lists_is_captioned_once(tmp_path, vlm, capsys):
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("a", "b"):
        Image.new("RGB", (20, 20)).save(tmp_path / f"JPEGImages/{name}.jpg")
        Image.new("L", (20, 20)).save(tmp_path / f"SegmentationClass/{name}.png")
    for split, names in (("train", "a\n"), ("val", "b\n"), ("trainval", "a\nb\n")):
        (tmp_path / f"ImageSets/Segmentation/{split}.txt").write_text(names)
    assert caption(tmp_path, vlm, data="voc") == 0
    assert "2 captions" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--data", "coco"], "unknown data set 'coco'"),
        (["--data-root", "nowhere"], "data root 'nowhere' is not a folder"),
        (["--data", "duts"], "no folder"),
        (["--limit", "0"], "--limit must be at least 1"),
        (["--model", "nowhere"], "'nowhere' is no folder of an image-text-to-text model"),
    ],
)
def test_mistakes_are_one_sentence(root, vlm, capsys, more, message):
    assert caption(root, vlm, *more) == 2
    assert message in capsys.readouterr().err
    assert not (root / CAPTIONS_FILE).exists()


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        main(["caption", "--help"])
    text = capsys.readouterr().out
    for words in ("captions.jsonl", "middle frame", "goes on with the same command", "gated"):
        assert words in text
