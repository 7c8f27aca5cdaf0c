"""What `predict` takes, and that no result takes the place of another."""

import os
from itertools import chain
from pathlib import Path

import pytest

from mmdiff_video.dense.inputs import find_inputs
from mmdiff_video.dense.results import results_of


def test_a_result_is_named_as_its_input(tmp_path: Path):
    (tmp_path / "in").mkdir()
    paths = [tmp_path / name for name in ("photo.JPG", "walk.mp4", "in/a.png", "in/b.mov")]
    for path in paths:
        path.touch()
    found, skipped = find_inputs([*paths[:2], tmp_path / "in"])
    assert not skipped
    assert [str(one.place) for one in found] == ["photo", "walk", "in/a", "in/b"]


@pytest.mark.parametrize(
    "names",
    [
        ["x/a.jpg", "y/a.jpg"],
        ["a.jpg", "a.png"],
        ["a.jpg", "A.JPG", "a.png"],
        ["x/a.jpg", "y/a.jpg", "a.jpg-2.png"],
        ["a.jpg", "a_overlay.jpg"],
        ["a.mp4", "a.jpg", "a_overlay.mov"],
        ["report.json.mp4", "a.jpg"],
        ["a.png.mp4", "a.jpg"],
        ["a.npy.mov", "a.jpg"],
        ["a.jpg", "x/a.jpg.png", "y/a.jpg.png"],
    ],
    ids=" ".join,
)
def test_no_two_inputs_write_one_file(tmp_path: Path, names: list[str]):
    paths = [tmp_path / name for name in names]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found, skipped = find_inputs(paths)
    assert not skipped
    assert [one.path for one in found] == paths
    results = [str(r).casefold() for one in found for r in results_of(one.place, one.video)]
    assert len(set(results)) == len(results)
    assert "report.json" not in results


def test_folders_of_one_name_and_a_video_of_that_name_are_told_apart(tmp_path: Path):
    for folder in ("x/in", "y/in"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.jpg").touch()
    (tmp_path / "in.mp4").touch()
    found, _ = find_inputs([tmp_path / name for name in ("x/in", "in.mp4", "y/in")])
    claims = list(chain.from_iterable(results_of(one.place, one.video) for one in found))
    assert len(set(claims)) == len(claims)
    assert Path("in") not in claims
    assert all(".." not in one.place.parts for one in found)


@pytest.mark.parametrize("given", [".", "..", "x/..", "link"])
def test_folders_of_any_spelling_get_a_place_inside(tmp_path: Path, monkeypatch, given: str):
    (tmp_path / "here" / "x").mkdir(parents=True)
    (tmp_path / "here" / "a.jpg").touch()
    (tmp_path / "a.jpg").touch()
    (tmp_path / "here" / "link").symlink_to("..", target_is_directory=True)
    monkeypatch.chdir(tmp_path / "here")
    (found,), _ = find_inputs([Path(given)])
    assert found.place.parts in (("here", "a"), (tmp_path.name, "a"))


def test_an_input_given_twice_is_one(tmp_path: Path):
    (tmp_path / "a.jpg").touch()
    found, _ = find_inputs([tmp_path / "a.jpg", tmp_path / "a.jpg"])
    assert len(found) == 1


def test_what_is_no_input_has_a_reason_and_the_rest_goes_on(tmp_path: Path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.jpg").touch()
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "gone.mp4").symlink_to("nowhere.mp4")
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").touch()
    (tmp_path / "around").symlink_to("around")
    long = tmp_path / f"{'n' * 300}.jpg"
    others = [tmp_path / name for name in ("empty", "list.txt", "around", "missing.jpg")]
    found, skipped = find_inputs([folder, *others, long])
    assert [one.path.name for one in found] == ["good.jpg"]
    reasons = {Path(key).name: reason for key, reason in skipped}
    assert reasons.keys() == {
        "loop.jpg",
        "gone.mp4",
        "folder.png",
        "pipe.png",
        *(path.name for path in (*others, long)),
    }
    assert "link that leads nowhere" in reasons["loop.jpg"]
    assert "link that leads nowhere" in reasons["around"]
    assert "no picture and no video" in reasons["empty"]
    assert "there is no" in reasons["missing.jpg"]
