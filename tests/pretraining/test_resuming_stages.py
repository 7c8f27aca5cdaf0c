"""What a pretraining goes on with: its stages, its precision, weights that are as they were."""

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from disc_clips import Discs, overrides
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_cards import tiny_card
from torch import nn

from mmdiff_video.backbones.nano.parts import load_vae, new_vae
from mmdiff_video.cli import main
from mmdiff_video.errors import InputError
from mmdiff_video.pretraining.config import StageConfig, vae_config
from mmdiff_video.pretraining.latents import encoder_digest
from mmdiff_video.pretraining.runs import open_run, starting_weights, train_stages
from mmdiff_video.pretraining.sealed import seal_weights
from mmdiff_video.training import TrainConfig, precision
from mmdiff_video.training.checkpoint import save_checkpoint


def stopped_at(run: Path, step: int) -> nn.Module:
    model = nn.Linear(2, 2)
    optimizer = TrainConfig().make_optimizer(model, {})
    save_checkpoint(run, step, model, copy.deepcopy(model), optimizer, {"usable": 0}, keep=1)
    return model


@pytest.mark.parametrize(
    ("done", "left_out", "trained"),
    [
        (2, '{"step": 2, "samples": 1, "skipped": []}', False),
        (2, '{"samples": 1, "skipped": []}', False),  # of version 0.2.0
        (2, None, True),  # killed between the last checkpoint and what comes after it
        (2, '{"step": 1, "samples": 1, "skipped": []}', True),  # stopped, resumed, then killed
        (2, "[]", True),
        (1, '{"step": 1, "samples": 1, "skipped": []}', True),
        (0, None, True),
    ],
)
def test_a_stage_is_done_when_all_that_comes_after_its_last_step_is_there(
    tmp_path: Path, done: int, left_out: str | None, trained: bool
):
    model = stopped_at(tmp_path / "a", done) if done else nn.Linear(2, 2)
    if left_out is not None:
        (tmp_path / "a" / "skipped.json").write_text(left_out)
    asked = []

    def trainer(stage: StageConfig, run: Path, resume: bool):
        asked.append((stage.name, resume))
        return SimpleNamespace(fit=lambda: SimpleNamespace(finished=False))

    stages = [StageConfig(name="a", steps=2)]
    finished = train_stages(stages, tmp_path, model, trainer)  # type: ignore[arg-type]
    assert asked == ([("a", done > 0)] if trained else [])
    assert finished != trained


def config_of(tmp_path: Path, *more: str):
    given = [*overrides("nano-wan", tmp_path / "corpus"), "train.precision=auto", *more]
    return vae_config("nano-wan", None, [*given, "stages=[{name: a, steps: 4}]"])


@pytest.mark.parametrize(("first", "then"), [(9.0, 0.0), (0.0, 9.0)])
def test_a_pretraining_keeps_to_the_precision_that_it_chose(
    discs: Discs, tmp_path: Path, monkeypatch, first: float, then: float
):
    chosen = "bf16" if first else "fp32"
    run = tmp_path / "run"
    monkeypatch.setattr(precision, "cpu_bf16_gain", lambda: first)
    assert open_run(config_of(tmp_path), run, resume=False).train.precision == chosen
    assert f"precision: {chosen}" in (run / "config.yaml").read_text()
    monkeypatch.setattr(precision, "cpu_bf16_gain", lambda: then)  # on another machine
    (run / ".partial-0000-config.yaml").touch()
    assert open_run(config_of(tmp_path), run, resume=True).train.precision == chosen
    assert not list(run.glob(".partial-*"))


def test_fewer_steps_than_a_stage_has_done_are_refused(discs: Discs, tmp_path: Path):
    run = tmp_path / "run"
    open_run(config_of(tmp_path), run, resume=False)
    stopped_at(run / "a", 5)
    before = (run / "config.yaml").read_text()
    with pytest.raises(InputError, match=r"5 steps are done already, and stages.a.steps is 4"):
        open_run(config_of(tmp_path), run, resume=True)
    assert (run / "config.yaml").read_text() == before


@pytest.fixture
def vae(tmp_path: Path) -> Path:
    """A finished VAE's folder, in a run."""
    torch.manual_seed(0)
    folder = tmp_path / "run" / "vae"
    new_vae(tiny_card("nano-wan")).save_pretrained(folder)
    seal_weights(folder)
    return folder


def test_sealed_weights_are_those_of_diffusers(vae: Path):
    (file,) = vae.glob("*.safetensors")
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    assert metadata["format"] == "pt"
    assert "checksum" in metadata
    loaded = load_vae(vae, "WanPipeline")
    torch.manual_seed(0)
    for name, tensor in new_vae(tiny_card("nano-wan")).state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


@pytest.mark.parametrize("place", [0.3, 0.6, 0.99])
def test_damaged_weights_are_not_started_from(vae: Path, place: float, capsys):
    (file,) = vae.glob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= 0x10
    file.write_bytes(content)
    for opens in (lambda: starting_weights(vae.parent, "vae"), lambda: encoder_digest(vae)):
        with pytest.raises(InputError, match=r"vae' is damaged .*restore it from a copy"):
            opens()
    out = ["--out", str(vae.parent.parent / "new")]
    command = ["pretrain", "dit", "--backbone", "nano-wan", *out, f"vae={vae.parent}"]
    assert main(command) == 2
    assert "is damaged" in capsys.readouterr().err


def test_weights_without_a_checksum_are_started_from(vae: Path):
    (file,) = vae.glob("*.safetensors")
    sealed = encoder_digest(vae)
    save_file(load_file(file), file, {"format": "pt"})
    assert starting_weights(vae.parent, "vae") == vae
    assert encoder_digest(vae) == sealed
