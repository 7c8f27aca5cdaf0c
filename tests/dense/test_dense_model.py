from dataclasses import replace

import pytest
import torch

from mmdiff_video.datasets.pictures.labelled import Classes, voc_colors
from mmdiff_video.dense.config import DenseConfig
from mmdiff_video.dense.model import parameter_counts
from mmdiff_video.dense.setup import resolve_dense_config, set_up_dense
from mmdiff_video.errors import InputError

CLASSES = Classes(("a", "b", "c"), voc_colors(3))


def resolve(tiny, *overrides: str) -> DenseConfig:
    return resolve_dense_config(None, ["backbone.name=nano-wan-random", *tiny, *overrides])


@pytest.mark.parametrize("task", ["seg", "depth", "saliency"])
@pytest.mark.parametrize("source", ["features", "latent"])
@pytest.mark.parametrize("frames", [1, 5])
def test_pictures_and_clips_end_in_maps_of_every_latent_frame(nano_wan, tiny, task, source, frames):
    setup = set_up_dense(resolve(tiny, f"task={task}", f"input={source}"), CLASSES, nano_wan)
    features = setup.source(torch.rand(2, 3, frames, 32, 48), ["a", "b"])
    output = setup.model(features)
    latent_frames = nano_wan.geometry.latent_frames(frames)
    assert output.shape[:3] == (2, setup.task.outputs, latent_frames)
    assert output.shape[4] * 32 == output.shape[3] * 48
    output.square().mean().backward()
    assert all(p.grad is not None for p in setup.model.head.parameters())


def test_a_latent_run_never_runs_the_transformer(nano_wan, tiny, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the transformer ran")

    setup = set_up_dense(resolve(tiny, "task=depth", "input=latent"), None, nano_wan)
    monkeypatch.setattr(nano_wan.pipeline.transformer, "forward", refuse)
    setup.model(setup.source(torch.rand(1, 3, 1, 32, 48), ["a"]))


@pytest.mark.parametrize("words", ["null", "[sofa,background]", "['<prompt>']"])
def test_concept_maps_reach_the_head_beside_every_layer(nano_wan, tiny, words):
    overrides = ("task=depth", "concept_maps=true", f"concepts={words}")
    setup = set_up_dense(resolve(tiny, *overrides), None, nano_wan)
    features = setup.source(torch.rand(1, 3, 1, 32, 48), ["a"])
    assert features.concepts is not None
    concepts = features.concepts.clone().requires_grad_()
    setup.model(replace(features, concepts=concepts)).sum().backward()
    assert concepts.grad is not None
    assert (concepts.grad.abs().sum((0, 2, 3, 4)) > 0).all()


@pytest.mark.parametrize("frames", [1, 5])
def test_dino_features_stand_beside_every_layer(nano_wan, tiny, dino_folder, frames):
    overrides = ("task=depth", f"dino={dino_folder}", "dino_layers=[1,3]")
    setup = set_up_dense(resolve(tiny, *overrides), None, nano_wan)
    video = torch.rand(2, 3, frames, 32, 48)
    output = setup.read(setup.model, video, ["a", "b"], None)
    assert output.shape[:3] == (2, 1, nano_wan.geometry.latent_frames(frames))
    output.square().mean().backward()
    assert setup.model.dino is not None
    assert setup.model.dino.weight.grad is not None
    assert setup.model.dino.weight.grad.abs().sum() > 0
    assert "DINO projection" in parameter_counts(setup.model)


def test_dino_features_go_through_the_runs_cache(nano_wan, tiny, dino_folder, tmp_path):
    overrides = ("task=depth", f"dino={dino_folder}")
    plain = set_up_dense(resolve(tiny, *overrides), None, nano_wan)
    cached = set_up_dense(resolve(tiny, *overrides, f"cache.dir={tmp_path}"), None, nano_wan)
    video = torch.rand(2, 3, 1, 32, 48)
    grid = nano_wan.geometry.token_grid(1, 32, 48)
    assert plain.dino is not None
    assert cached.dino is not None
    assert cached.source.cache is not None
    outputs = [cached.read(cached.model, video, ["a", "b"], None) for _ in range(2)]
    assert torch.equal(*outputs)
    assert (cached.source.cache.stats.hits, cached.source.cache.stats.misses) == (4, 4)
    assert torch.equal(cached.dino(video, grid), plain.dino(video, grid))
    stored = [path.stat().st_size for path in tmp_path.rglob("*.safetensors")]
    assert cached.bytes_per_view() < sum(stored) / 2 < cached.bytes_per_view() + 4096


def test_parameters_of_aggregators_and_head_are_counted_apart(nano_wan, tiny):
    setup = set_up_dense(resolve(tiny, "task=seg"), CLASSES, nano_wan)
    counts = parameter_counts(setup.model)
    assert counts["total"] == counts["aggregators"] + counts["head"]
    assert counts["total"] == sum(p.numel() for p in setup.model.parameters())
    assert counts["aggregators"] == sum(n for name, n in counts.items() if "of block" in name)
    latent = set_up_dense(resolve(tiny, "task=seg", "input=latent"), CLASSES, nano_wan)
    assert "latent projection" in parameter_counts(latent.model)


def test_gaps_are_filled_from_backbone_and_card(nano_wan, tiny):
    config = resolve(tiny, "task=depth", "data.name=nyu", "data.max_depth=8")
    data = set_up_dense(config, None, nano_wan).config.data
    assert (data.train_split, data.eval_split) == ("train", "test")
    assert (data.eval_crop, data.min_depth, data.max_depth) == ("eigen", 0.001, 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.height=30", "height 30"),
        ("data.name=vocc", "did you mean 'voc'"),
        ("head=dtp", "did you mean 'dpt'"),
        ("aggregation=median", "unknown aggregator 'median'"),
        ("backbone.taps=[99]", "99"),
        ("task=edges", "unknown task 'edges'"),
        ("input=pixels", "'features' or 'latent'"),
        ("data.views=0", "data.views is 0: it must be 1 or more"),
        ("concept_maps=true concepts=[sofa]", "one concept alone"),
        ("data.augment.crop=[0.9,0.5]", "least <= most"),
        ("data.min_depth=20", r"data\.min_depth 20 and data\.max_depth 10"),
        ("data.max_depth=0.1", r"data\.min_depth 0\.1 and data\.max_depth 0\.1"),
        ("data.min_depth=5 data.max_depth=2", r"data\.min_depth 5 and data\.max_depth 2"),
        ("data.min_depth=0", r"data\.min_depth is 0\.0"),
        ("data.max_depth=.inf", r"data\.max_depth is inf"),
        ("data.eval_crop=garg", "none, eigen"),
        ("data.heigth=32", "did you mean 'data.height'"),
    ],
)
def test_what_does_not_fit_is_refused(nano_wan, tiny, change, message):
    with pytest.raises(InputError, match=message):
        set_up_dense(resolve(tiny, "task=depth", *change.split()), None, nano_wan)


def test_concepts_of_a_latent_are_refused(tiny):
    with pytest.raises(InputError, match="concept_maps come from the transformer"):
        resolve(tiny, "input=latent", "concept_maps=true")


def test_dino_weights_that_are_not_there_are_one_sentence(nano_wan, tiny, tmp_path):
    (tmp_path / "empty").mkdir()
    config = resolve(tiny, "task=depth", f"dino={tmp_path / 'empty'}")
    with pytest.raises(InputError, match="cannot be loaded as a DINOv3 ViT"):
        set_up_dense(config, None, nano_wan)


@pytest.mark.parametrize("name", ["flux", "wan", "nano-flux"])
def test_shipped_configs_load_for_every_backbone(name):
    config = resolve_dense_config(None, [f"backbone.name={name}"])
    assert config.train.ema_decay >= 0.99
    assert config.head_lr_factor == 0.5
    assert config.data.views is not None
