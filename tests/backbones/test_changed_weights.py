"""A backbone that is changed in memory has another fingerprint, and forgets what it encoded."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_cards import ROWS
from torch import nn

from mmdiff_video.backbones import Backbone, load_backbone
from mmdiff_video.backbones.registry import fingerprint
from mmdiff_video.features.cache import FeatureCache
from mmdiff_video.features.cached_extractor import CachedExtractor

SIZE = {"wan": (1, 3, 5, 32, 48), "flux": (1, 3, 1, 32, 48), "sd3": (1, 3, 1, 32, 48)}


class Adapted(nn.Module):
    """A LoRA beside a linear layer, as PEFT puts one in."""

    def __init__(self, base: nn.Linear, scale: float = 0.5, seed: int = 0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.base_layer = base
        self.lora_A = nn.ModuleDict({"own": nn.Linear(base.in_features, 2, bias=False)})
        self.lora_B = nn.ModuleDict({"own": nn.Linear(2, base.out_features, bias=False)})
        for matrix in self.parameters():
            if matrix is not base.weight and matrix is not base.bias:
                matrix.data = torch.randn(*matrix.shape, generator=generator)
        self.scaling = {"own": scale}
        self._disable_adapters = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        change = self.lora_B["own"](self.lora_A["own"](x)) * self.scaling["own"]
        return self.base_layer(x) + (0 if self._disable_adapters else change)


def linear(model: nn.Module) -> tuple[nn.Module, str, nn.Linear]:
    """The first linear layer of a model, and where it is."""
    name, layer = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear))
    parent, _, attribute = name.rpartition(".")
    return model.get_submodule(parent), attribute, layer


def put_beside(model: nn.Module, **settings: Any) -> Adapted:
    parent, name, layer = linear(model)
    adapted = Adapted(layer, **settings)
    setattr(parent, name, adapted)
    return adapted


def fuse(model: nn.Module) -> None:
    """As PEFT does, which torch does not count as written to."""
    weight = linear(model)[2].weight
    weight.data += torch.randn(len(weight), 1) @ torch.randn(1, weight.shape[1])


def write_one(model: nn.Module) -> None:
    with torch.no_grad():
        linear(model)[2].weight[1, 1] += 1


def replace_weight(model: nn.Module) -> None:
    layer = linear(model)[2]
    layer.weight = nn.Parameter(layer.weight * 1.01)


def load_others(model: nn.Module) -> None:
    model.load_state_dict({name: t * 1.01 for name, t in model.state_dict().items()})


def cast(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16()


MODELS = [
    (name, part)
    for name, row in ROWS.items()
    for part in row.components.models
    if (name, part) != ("wan", "vae")  # convolutions alone
]
CHANGES: list[Callable[[nn.Module], object]] = [
    put_beside,
    fuse,
    write_one,
    replace_weight,
    load_others,
    cast,
]


@pytest.fixture
def fresh(tiny_folders: dict[str, Path]) -> Callable[[str], Backbone]:
    return lambda family: load_backbone(tiny_folders[family], device="cpu")


@pytest.mark.parametrize("family", ROWS)
def test_use_does_not_change_the_fingerprint(fresh, tiny_folders, family: str) -> None:
    backbone = fresh(family)
    video = torch.rand(SIZE[family])
    backbone.extract(video, keys=["a"], concepts=["chair", "background"])
    backbone.decode(backbone.encode(video))
    backbone.generate("a chair", timesteps=[0.6], steps=3)
    assert backbone.fingerprint == fingerprint(tiny_folders[family])


@pytest.mark.parametrize(("family", "part"), MODELS, ids=str)
def test_a_lora_on_any_model_changes_the_fingerprint(fresh, family: str, part: str) -> None:
    backbone = fresh(family)
    seen = {backbone.fingerprint}
    for change in (put_beside, fuse):
        change(getattr(backbone.pipeline, part))
        seen.add(backbone.fingerprint)
    assert len(seen) == 3


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize(("family", "part"), [("flux", "transformer"), ("wan", "text_encoder")])
def test_a_change_of_weights_changes_the_fingerprint(fresh, family, part, change) -> None:
    backbone = fresh(family)
    before = backbone.fingerprint
    change(getattr(backbone.pipeline, part))
    assert backbone.fingerprint != before


def test_an_adapter_counts_with_its_weights_its_scale_and_whether_it_is_on(fresh) -> None:
    backbone = fresh("flux")
    transformer = backbone.pipeline.transformer
    parent, name, layer = linear(transformer)
    seen = {backbone.fingerprint}
    for adapted in (Adapted(layer), Adapted(layer, seed=1), Adapted(layer, scale=0.25)):
        setattr(parent, name, adapted)
        seen.add(backbone.fingerprint)
    getattr(parent, name)._disable_adapters = True
    seen.add(backbone.fingerprint)
    assert len(seen) == 5
    setattr(parent, name, layer)  # taken off again
    assert backbone.fingerprint == fresh("flux").fingerprint


def test_the_same_change_has_the_same_fingerprint_elsewhere(fresh) -> None:
    prints = set()
    for _ in range(2):
        backbone = fresh("wan")
        put_beside(backbone.pipeline.transformer)
        prints.add(backbone.fingerprint)
    assert len(prints) == 1


def other_scheduler(pipeline: Any) -> None:
    from diffusers import FlowMatchHeunDiscreteScheduler

    pipeline.scheduler = FlowMatchHeunDiscreteScheduler()


def other_schedule(pipeline: Any) -> None:
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, shift=7.0)


def more_words(pipeline: Any) -> None:
    pipeline.tokenizer.add_tokens(["<my-sofa>"])


def other_scale(pipeline: Any) -> None:
    pipeline.vae.register_to_config(scaling_factor=0.5)


@pytest.mark.parametrize("change", [other_scheduler, other_schedule, more_words, other_scale])
def test_a_change_beside_the_weights_changes_the_fingerprint(fresh, change) -> None:
    backbone = fresh("flux")
    before = backbone.fingerprint
    change(backbone.pipeline)
    assert backbone.fingerprint != before


@pytest.mark.parametrize("family", ROWS)
def test_prompts_are_encoded_again_after_a_change_of_their_encoder(fresh, family: str) -> None:
    backbone = fresh(family)
    before = backbone.encode_text(["a chair"]).tokens
    assert torch.equal(backbone.encode_text(["a chair"]).tokens, before)
    load_others(getattr(backbone.pipeline, [*ROWS[family].components.text_encoders][-1]))
    assert not torch.equal(backbone.encode_text(["a chair"]).tokens, before)


def test_features_under_an_adapter_have_entries_of_their_own(fresh, tmp_path: Path) -> None:
    backbone, video = fresh("flux"), torch.rand(SIZE["flux"])
    cached = CachedExtractor(backbone, FeatureCache(tmp_path, 1.0))
    taps = ["single.0"]
    plain = cached.extract(video, taps=taps, keys=["a"]).maps["single.0"]
    put_beside(backbone.pipeline.transformer, scale=5.0)
    adapted = cached.extract(video, taps=taps, keys=["a"]).maps["single.0"]
    expected = backbone.extract(video, taps=taps, keys=["a"]).maps["single.0"]
    assert not torch.allclose(adapted, plain, atol=1e-2)
    torch.testing.assert_close(adapted, expected, atol=0.05, rtol=0.02)


def test_a_copy_of_a_backbone_may_be_given_a_fingerprint(fresh) -> None:
    backbone = fresh("wan")
    other = copy.copy(backbone)
    other.fingerprint = "other"
    assert (other.fingerprint, backbone.fingerprint) != ("other", "other")
    assert other.fingerprint == "other"
