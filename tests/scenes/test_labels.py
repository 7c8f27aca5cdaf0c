"""Labels on disk: what comes back, what is refused, and how Gaussians are painted."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from mmdiff_video.datasets.pictures.labelled import Classes
from mmdiff_video.errors import InputError
from mmdiff_video.scenes.labels.stored import (
    UNSEEN,
    HeadLabels,
    SceneLabels,
    label_colors,
    load_gaussians,
    load_labels,
    save_labels,
)
from mmdiff_video.tensors import load_tensors, save_tensors
from recon.gaussians import Gaussians
from recon.io.ply import save_ply

CLASSES = Classes(("wall", "floor", "sofa"), ((255, 0, 0), (0, 255, 0), (0, 0, 255)))
PROBABILITIES = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.0, 0.1, 0.9], [0.0, 0.0, 0.0]])
WEIGHT = torch.tensor([5.0, 0.25, 1e-6, 0.0])


def write_scene(folder: Path, count: int = 4, seed: int = 0) -> Gaussians:
    rng = torch.Generator().manual_seed(seed)
    gaussians = Gaussians(
        torch.randn(count, 3, generator=rng),
        torch.randn(count, 4, generator=rng),
        torch.rand(count, 3, generator=rng),
        torch.full((count,), 0.5),
        torch.rand(count, 3, generator=rng),
    )
    folder.mkdir(exist_ok=True)
    save_ply(folder / "scene.ply", gaussians)
    return load_gaussians(folder)


def seg(channels: Tensor = PROBABILITIES, classes: Classes | None = CLASSES) -> HeadLabels:
    return HeadLabels("runs/seg", channels.half(), classes)


def labelled(folder: Path, **heads: HeadLabels) -> Path:
    gaussians = write_scene(folder)
    save_labels(folder, SceneLabels(heads or {"seg": seg()}, WEIGHT), gaussians)
    return folder


def test_labels_come_back_as_they_were(tmp_path: Path):
    normals = HeadLabels("runs/normals", torch.randn(4, 3).half(), None)
    found = load_labels(labelled(tmp_path, seg=seg(), normals=normals))
    assert found is not None
    assert list(found.heads) == ["seg", "normals"]
    torch.testing.assert_close(found.heads["seg"].channels, PROBABILITIES.half(), rtol=0, atol=0)
    torch.testing.assert_close(found.heads["normals"].channels, normals.channels, rtol=0, atol=0)
    torch.testing.assert_close(found.weight, WEIGHT, rtol=0, atol=0)
    assert found.heads["seg"].classes == CLASSES
    assert found.heads["normals"].classes is None
    assert found.heads["seg"].run == "runs/seg"


def test_gaussians_have_the_colour_of_their_class_and_grey_where_nobody_looked(tmp_path: Path):
    colors = label_colors(labelled(tmp_path))
    assert colors is not None
    assert colors.dtype == torch.uint8
    assert colors.tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255], [UNSEEN] * 3]


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("saliency", torch.rand(4, 1)),
        ("normals", torch.randn(4, 3)),
        ("normals", torch.zeros(4, 3)),
    ],
)
def test_other_heads_paint_in_colours_too(tmp_path: Path, name: str, channels: Tensor):
    colors = label_colors(labelled(tmp_path, **{name: HeadLabels("run", channels.half(), None)}))
    assert colors is not None
    assert colors.shape == (4, 3)
    assert colors[3].tolist() == [UNSEEN] * 3


def test_classes_come_before_other_heads(tmp_path: Path):
    saliency = HeadLabels("run", torch.rand(4, 1).half(), None)
    colors = label_colors(labelled(tmp_path, saliency=saliency, seg=seg()))
    assert colors is not None
    assert colors[0].tolist() == [255, 0, 0]


def test_a_scene_without_labels_has_none(tmp_path: Path):
    write_scene(tmp_path)
    assert load_labels(tmp_path) is None
    assert label_colors(tmp_path) is None


@pytest.mark.parametrize("count", [1, 3, 5, 400])
def test_labels_of_another_number_of_gaussians_are_refused(tmp_path: Path, count: int):
    labelled(tmp_path)
    write_scene(tmp_path, count)
    with pytest.raises(InputError, match=f"labels 4 Gaussians and .*holds {count}: it is of anoth"):
        label_colors(tmp_path)


@pytest.mark.parametrize("change", ["other places", "another order"])
def test_labels_of_other_gaussians_are_refused(tmp_path: Path, change: str):
    labelled(tmp_path)
    if change == "another order":
        save_ply(tmp_path / "scene.ply", load_gaussians(tmp_path)[torch.tensor([1, 0, 2, 3])])
    else:
        write_scene(tmp_path, seed=1)
    with pytest.raises(InputError, match="the scene was changed since; label the scene anew"):
        load_labels(tmp_path)


def test_new_colours_do_not_make_it_another_scene(tmp_path: Path):
    labelled(tmp_path)
    old = load_gaussians(tmp_path)
    save_ply(
        tmp_path / "scene.ply",
        Gaussians(old.means, old.quats, old.scales, old.opacities, old.colors * 0),
    )
    assert load_labels(tmp_path) is not None


@pytest.mark.parametrize("cut", [0, 1, 7, 100, -1])
def test_a_file_cut_short_is_refused(tmp_path: Path, cut: int):
    file = labelled(tmp_path) / "labels.safetensors"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"holds no labels, .*mmdiff-video lift"):
        load_labels(tmp_path)


def test_a_flipped_bit_is_refused(tmp_path: Path):
    file = labelled(tmp_path) / "labels.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 4
    file.write_bytes(bytes(content))
    with pytest.raises(InputError, match="checksum"):
        load_labels(tmp_path)


def bad_files() -> dict:
    """What to change in tensors and metadata -> what the refusal says."""

    def tensor(name, value):
        return lambda tensors, _: tensors.update({name: value})

    def heads(value):
        return lambda _, metadata: metadata.update(heads=value)

    nan = PROBABILITIES.half().clone()
    nan[0, 0] = torch.nan
    return {
        "no weight": (lambda t, _: t.pop("weight"), "lacks 'weight'"),
        "no channels": (lambda t, _: t.pop("seg.channels"), "lacks 'seg.channels'"),
        "no heads": (lambda _, m: m.pop("heads"), "lacks 'heads'"),
        "heads of nothing": (heads("{}"), "names no heads"),
        "heads in a list": (heads("[1]"), "names no heads"),
        "heads that are numbers": (heads('{"seg": 3}'), "holds no labels"),
        "no JSON": (heads("{"), "holds no labels"),
        "a stranger's head": (heads('{"age": {}}'), "labels for 'age'"),
        "no classes": (heads('{"seg": {"run": "", "classes": null}}'), "names no classes"),
        "classes of normals": (
            lambda t, m: (
                m.update(heads=m["heads"].replace('"seg"', '"normals"')),
                t.update({"normals.channels": t["seg.channels"]}),
            ),
            "normals has none",
        ),
        "too few channels": (tensor("seg.channels", torch.rand(4, 2)), "2 channels of seg, not 3"),
        "channels of fewer": (tensor("seg.channels", torch.rand(3, 3)), "do not fit its 4 weights"),
        "channels of one": (tensor("seg.channels", torch.rand(4)), "do not fit its 4 weights"),
        "whole channels": (tensor("seg.channels", torch.ones(4, 3).long()), "do not fit"),
        "NaN": (tensor("seg.channels", nan), "hold NaN or infinity"),
        "infinite weight": (tensor("weight", torch.full((4,), torch.inf)), "weights are not"),
        "weights in a table": (tensor("weight", torch.ones(4, 1)), "weights are not"),
    }


@pytest.mark.parametrize("case", bad_files())
def test_a_file_that_makes_no_sense_is_refused_in_a_sentence(tmp_path: Path, case: str):
    change, said = bad_files()[case]
    file = labelled(tmp_path) / "labels.safetensors"
    tensors, metadata = load_tensors(file)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    change(tensors, metadata)
    save_tensors(file, tensors, metadata)
    with pytest.raises(InputError, match=said) as refused:
        load_labels(tmp_path)
    assert "\n" not in str(refused.value)
    assert "mmdiff-video lift" in str(refused.value)


def test_a_file_without_a_checksum_is_refused(tmp_path: Path):
    from safetensors.torch import save_file

    file = labelled(tmp_path) / "labels.safetensors"
    tensors, metadata = load_tensors(file)
    save_file({name: t.clone() for name, t in tensors.items()}, file, metadata)
    with pytest.raises(InputError, match="checksum"):
        load_labels(tmp_path)


def test_a_folder_that_is_no_scene_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"no scene: it has no scene\.ply"):
        load_gaussians(tmp_path)
    (tmp_path / "scene.ply").write_bytes(b"ply\n")
    with pytest.raises(InputError, match="not a PLY file"):
        load_gaussians(tmp_path)
