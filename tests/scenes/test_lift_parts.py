"""Parts of labelling a scene: depths up to units, axes of normals, tasks that no scene takes."""

import math

import pytest
import torch
from torch.nn import functional as F

from mmdiff_video.errors import InputError
from mmdiff_video.scenes.labels.depth_agreement import DepthAgreement
from mmdiff_video.scenes.labels.tasks import LIFTED, check_task
from recon.rotations import matrices_from_quats

RNG = torch.Generator().manual_seed(0)
DEPTH = 1 + 4 * torch.rand(30, 40, generator=RNG)
EVERYWHERE = torch.ones(30, 40, dtype=torch.bool)


def agreement(*pairs, held_out: bool = False) -> DepthAgreement:
    found = DepthAgreement()
    for scene, head in pairs:
        found.add(scene, head, EVERYWHERE, held_out=held_out)
    return found


@pytest.mark.parametrize("scale", [1e-3, 0.5, 1.0, 40.0])
def test_depths_in_other_units_agree(scale: float):
    found = agreement((DEPTH, scale * DEPTH))
    assert found.scale() == pytest.approx(scale)
    figures = found.figures(held_out=False)
    assert figures is not None
    assert figures["AbsRel"] == pytest.approx(0, abs=1e-6)
    assert figures["delta1"] == 1


def test_one_scale_is_that_of_the_whole_scene():
    """One view of three is seen 1.5 times too far: one scale cannot mend that."""
    figures = agreement((DEPTH, DEPTH), (DEPTH, DEPTH), (DEPTH, 1.5 * DEPTH)).figures(
        held_out=False
    )
    assert figures is not None
    assert figures["AbsRel"] == pytest.approx((1 - 1 / 1.5) / 3, rel=1e-4)
    assert figures["delta1"] == pytest.approx(2 / 3)
    assert figures["AbsRel aligned"] == pytest.approx(0, abs=1e-6)


def test_a_shift_is_forgiven_where_it_says_so():
    figures = agreement((DEPTH, 2 * DEPTH + 3)).figures(held_out=False)
    assert figures is not None
    assert figures["AbsRel"] > 0.05
    assert figures["AbsRel aligned"] == pytest.approx(0, abs=1e-5)
    assert figures["delta1 aligned"] == 1


@pytest.mark.parametrize("hole", [0.0, -1.0, math.nan, math.inf])
def test_depth_that_is_not_known_does_not_count(hole: float):
    spoiled = DEPTH.clone()
    spoiled[:10] = hole
    figures = agreement((DEPTH, spoiled)).figures(held_out=False)
    assert figures is not None
    assert figures["AbsRel"] == pytest.approx(0, abs=1e-6)
    assert agreement((torch.zeros_like(DEPTH), DEPTH)).figures(held_out=False) is None


def test_held_out_views_do_not_set_the_scale():
    found = agreement((DEPTH, 2 * DEPTH))
    found.add(DEPTH, 4 * DEPTH, EVERYWHERE, held_out=True)
    assert found.scale() == pytest.approx(2)
    figures = found.figures(held_out=True)
    assert figures is not None
    assert figures["AbsRel"] == pytest.approx(0.5)


def test_a_flat_view_can_be_aligned():
    figures = agreement((torch.ones(30, 40), torch.full((30, 40), 2.0))).figures(held_out=False)
    assert figures is not None
    assert figures["AbsRel aligned"] == pytest.approx(0, abs=1e-6)


def test_nothing_compared_gives_no_figures():
    assert DepthAgreement().scale() is None
    assert DepthAgreement().figures(held_out=False) is None


@pytest.mark.parametrize("seed", range(4))
def test_normals_go_to_the_world_and_come_back(seed: int):
    rng = torch.Generator().manual_seed(seed)
    viewmat = torch.eye(4)
    viewmat[:3, :3] = matrices_from_quats(torch.randn(4, generator=rng))
    output = torch.randn(3, 5, 7, generator=rng)
    task = LIFTED["normals"]
    world = task.maps(output, viewmat)
    vectors = F.normalize(output, dim=0).movedim(0, -1)
    # n_world = R^T n_camera, written out
    expected = torch.einsum("ji,hwj->hwi", viewmat[:3, :3], vectors)
    torch.testing.assert_close(world, expected)
    back = task.prediction(0.3 * world, viewmat)
    torch.testing.assert_close(back, F.normalize(output, dim=0), rtol=1e-4, atol=1e-5)


def test_classes_are_decided_by_the_mean_of_the_probabilities():
    """Two views that are sure outvote three that hardly are."""
    sure, unsure = torch.tensor([0.0, 6.0]), torch.tensor([0.2, 0.0])
    task = LIFTED["seg"]
    maps = [task.maps(o[:, None, None], torch.eye(4)) for o in (sure, sure, unsure, unsure, unsure)]
    mean = torch.stack(maps).mean(0)
    assert int(task.prediction(mean, torch.eye(4))) == 1


def test_a_task_that_no_scene_takes_is_refused():
    for name in ("seg", "saliency", "normals", "depth"):
        check_task(name, "run")
    with pytest.raises(
        InputError, match=r"'run' is a head for age, .*: seg, saliency, normals, dep"
    ):
        check_task("age", "run")
