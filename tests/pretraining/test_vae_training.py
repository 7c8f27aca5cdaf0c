import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from disc_clips import Discs, overrides
from tiny_cards import tiny_card

from mmdiff_video.cli import main
from mmdiff_video.errors import InputError
from mmdiff_video.pretraining.coders import ImageCoder, WanCoder, new_coder
from mmdiff_video.pretraining.config import VAELossConfig
from mmdiff_video.pretraining.latents import encoder_digest
from mmdiff_video.pretraining.vae import latent_statistics
from mmdiff_video.pretraining.vae_loss import VAELoss, gradient_error, to_video
from mmdiff_video.pretraining.wan_vae import decode_clip, encode_clip
from mmdiff_video.training import checkpoints
from recon.perceptual import WEIGHTS_VARIABLE

PATCHED = {
    "dim_mult": [1, 2, 2],
    "temperal_downsample": [True, True],
    "patch_size": 2,
    "in_channels": 12,
    "out_channels": 12,
    "is_residual": True,
}
WAN_2_1 = {"dim_mult": [1, 2, 4, 4]}


@pytest.mark.parametrize("architecture", [PATCHED, WAN_2_1], ids=["patched", "wan-2.1"])
@pytest.mark.parametrize("frames", [1, 9])
def test_a_whole_clip_at_once_equals_four_frames_at_a_time(architecture: dict, frames: int):
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    vae = AutoencoderKLWan(base_dim=4, z_dim=16, num_res_blocks=1, **architecture)
    video = torch.rand(2, 3, frames, 16, 24) * 2 - 1
    with torch.no_grad():
        parameters = encode_clip(vae, video)
        assert torch.allclose(parameters, vae.encode(video).latent_dist.parameters, atol=1e-5)
        latent = parameters[:, :16]
        theirs = vae.decode(latent).sample
        assert torch.allclose(decode_clip(vae, latent).clamp(-1, 1), theirs, atol=1e-5)


@pytest.mark.parametrize("name", ["nano-wan", "nano-flux"])
def test_a_fresh_vae_hides_little_of_its_latent_in_noise(name: str):
    torch.manual_seed(0)
    coder = new_coder(tiny_card(name))
    frames = 5 if name == "nano-wan" else 1
    mean, log_variance = coder.posterior(torch.rand(2, 3, frames, 32, 32) * 2 - 1)
    assert mean.shape == ((2, 64, 2, 4, 4) if name == "nano-wan" else (2, 16, 1, 4, 4))
    assert (log_variance / 2).exp().mean() < 0.2 * mean.std()


@pytest.mark.parametrize("name", ["nano-wan", "nano-flux"])
def test_a_frozen_encoder_keeps_all_latents_and_the_decoder_sees_no_noise(name: str):
    torch.manual_seed(0)
    coder = new_coder(tiny_card(name))
    coder.freeze_encoder()
    video = torch.rand(2, 3, 1, 32, 32) * 2 - 1
    before = coder.posterior(video)[0]
    optimizer = torch.optim.SGD([p for p in coder.parameters() if p.requires_grad], lr=0.1)
    outputs = [coder(video)[0] for _ in range(2)]
    assert torch.equal(*outputs)
    (outputs[0] - video).square().mean().backward()
    optimizer.step()
    assert torch.equal(coder.posterior(video)[0], before)
    assert not torch.equal(coder(video)[0], outputs[0])
    coder.freeze_encoder(False)
    assert all(p.requires_grad for p in coder.parameters())


def test_image_latents_are_scaled_in_the_weights_and_pictures_stay_the_same():
    torch.manual_seed(0)
    coder = new_coder(tiny_card("nano-flux")).eval().requires_grad_(False)
    assert isinstance(coder, ImageCoder)
    video = torch.rand(8, 3, 1, 32, 32) * 2 - 1
    mean, log_variance = coder.posterior(video)
    pictures = coder.decode(mean)
    per_channel = mean.transpose(0, 1).flatten(1)
    coder.normalize(per_channel.mean(1), per_channel.std(1))
    scaled, scaled_log_variance = coder.posterior(video)
    assert torch.allclose(coder.decode(scaled), pictures, atol=1e-4)
    assert torch.allclose(scaled.transpose(0, 1).flatten(1).std(1), torch.ones(16), atol=1e-3)
    # the posterior keeps its noise in units of the latent
    gained = scaled_log_variance - log_variance
    wanted = -2 * per_channel.std(1).log()
    assert torch.allclose(gained.mean((0, 2, 3, 4)), wanted, atol=1e-3)
    config = coder.vae.config
    assert config.scaling_factor == 1
    assert config.shift_factor == pytest.approx(float(scaled.mean()), abs=1e-3)


def test_latent_statistics_are_those_of_all_latents_together(discs: Discs, tmp_path: Path):
    from mmdiff_video.pretraining.corpus import Corpus, CorpusConfig, make_corpus

    config = CorpusConfig(
        dir=str(tmp_path), train_clips=3, val_clips=1, frames=5, height=16, width=16, shard_clips=2
    )
    corpus = Corpus(make_corpus(config, discs), "train", 3)
    coder = new_coder(tiny_card("nano-wan")).eval()
    assert isinstance(coder, WanCoder)
    mean, std = latent_statistics(coder, corpus, clips=100)
    clips = torch.stack([torch.from_numpy(corpus.clip(i).copy()) for i in range(3)])
    values = coder.posterior(to_video(clips))[0].detach().transpose(0, 1).flatten(1)
    assert torch.allclose(mean, values.mean(1), atol=1e-4)
    assert torch.allclose(std, values.std(1, correction=0), atol=1e-4)


def test_gradient_error_ignores_a_constant_offset_and_sees_blur():
    video = torch.rand(1, 3, 2, 16, 16)
    assert gradient_error(video + 0.3, video).abs().max() < 1e-6
    blurred = torch.nn.functional.avg_pool3d(video, (1, 3, 3), 1, (0, 1, 1))
    assert gradient_error(blurred, video).shape == (2,)
    assert gradient_error(blurred, video).min() > 0.1


def test_a_wrong_file_of_lpips_is_one_sentence(monkeypatch, tmp_path):
    (tmp_path / "vgg16.pth").write_bytes(b"hello")
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / "vgg16.pth"))
    with pytest.raises(InputError, match=r"vgg16.pth' cannot be used"):
        VAELoss(VAELossConfig(perceptual=1), torch.device("cpu"))


def test_the_logarithm_weighs_the_same_gain_in_decibel_alike():
    video = torch.randint(0, 256, (1, 2, 16, 16, 3), dtype=torch.uint8)
    truth = to_video(video)
    loss = VAELoss(VAELossConfig(perceptual=0), torch.device("cpu"))
    noise = torch.randn_like(truth)

    def log_mse(scale: float, first: float) -> float:
        errors = scale * noise
        errors[:, :, 0] *= first  # of two frames
        found = loss(lambda _: (truth + errors, torch.zeros(1), torch.zeros(1)), video)  # type: ignore
        return float(found[1]["log_mse"])

    assert log_mse(0, 1) == pytest.approx(math.log(5e-6), abs=1e-3)
    gain = log_mse(0.4, 1) - log_mse(0.2, 1)
    assert gain == pytest.approx(math.log(4), abs=1e-3)
    easy_first = log_mse(0.4, 0.1) - log_mse(0.4, 0.05)
    assert easy_first == pytest.approx(math.log(4) / 2, abs=2e-2)


STAGES = (
    "stages=[{name: first, steps: 20, batch_size: 2, frames: FRAMES, crop: 16, lr: 5.0e-3,"
    " half_size: 0.5}, {name: second, steps: 2, batch_size: 1, frames: FRAMES, crop: 32,"
    " lr: 1.0e-3, schedule: cosine, loss: {perceptual: 0, log_mse: 0.1}}]"
)


@pytest.mark.parametrize("backbone", ["nano-wan", "nano-flux"])
def test_a_tiny_training_learns_and_resumes_to_the_same_weights(
    discs: Discs, backbone: str, tmp_path: Path
):
    stages = STAGES.replace("FRAMES", "5" if backbone == "nano-wan" else "1")
    settings = [*overrides(backbone, tmp_path / "corpus"), stages, "train.preview_every=4"]
    settings += ["train.ema_decay=0.5", "decoder_base_dim=null"]

    def train(run: Path, *extra: str) -> None:
        command = ["pretrain", "vae", "--backbone", backbone, "--out", str(run), *extra]
        assert main([*command, *settings, "loss.perceptual=0"]) == 0

    train(tmp_path / "whole")
    lines = (tmp_path / "whole" / "first" / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line) for line in lines]
    losses = [line["loss"] for line in steps if "loss" in line]
    scores = [line["val_psnr"] for line in steps if "val_psnr" in line]
    assert len(scores) == 5
    assert scores[-1] > scores[0] + 0.5
    assert (tmp_path / "whole" / "first" / "previews" / "step-000020.png").is_file()

    report = json.loads((tmp_path / "whole" / "report.json").read_text())
    assert report["steps"] == {"first": 20, "second": 2}
    assert report["perceptual_term"] is False
    assert report["val"]["clips"] == 4
    assert (tmp_path / "whole" / "vae" / "config.json").is_file()

    # killed after step 16 of the first stage, with what comes later not there yet
    broken = tmp_path / "broken"
    shutil.copytree(tmp_path / "whole", broken)
    shutil.rmtree(broken / "second")
    shutil.rmtree(broken / "vae")
    shutil.rmtree(broken / "first" / "checkpoints" / "step-000020")
    train(broken, "--resume")
    for stage in ("first", "second"):
        ours, theirs = (
            (checkpoints(run / stage)[-1] / "ema.safetensors").read_bytes()
            for run in (broken, tmp_path / "whole")
        )
        assert ours == theirs

    train(tmp_path / "more", "--init", str(tmp_path / "whole"))
    first = (tmp_path / "more" / "first" / "metrics.jsonl").read_text().splitlines()[0]
    assert json.loads(first)["loss"] < losses[0]
    origin = json.loads((tmp_path / "more" / "report.json").read_text())["began_as"]
    normalization = report["normalization"]
    assert origin == {"weights": "whole", "normalization": normalization, **report}


def test_a_run_goes_on_with_a_wider_decoder_where_the_narrow_one_ended(
    discs: Discs, tmp_path: Path
):
    def train(run: Path, *extra: str) -> list[dict]:
        settings = [*overrides("nano-wan", tmp_path / "corpus"), "train.preview_every=1"]
        command = ["pretrain", "vae", "--backbone", "nano-wan", "--out", str(run), *extra]
        assert main([*command, *settings, "loss.perceptual=0", "train.ema_decay=0"]) == 0
        lines = (run / "a" / "metrics.jsonl").read_text().splitlines()
        return [line for line in map(json.loads, lines) if "val_psnr" in line]

    stage = "stages=[{{name: a, steps: {}, frames: 5, crop: 16, lr: {}, decoder_only: {}}}]"
    narrow = train(tmp_path / "narrow", stage.format(20, 1e-2, "false"), "decoder_base_dim=4")
    init = ("--init", str(tmp_path / "narrow"))
    wide = train(tmp_path / "wide", *init, stage.format(1, 1e-6, "true"), "decoder_base_dim=null")
    assert wide[0]["val_psnr"] == pytest.approx(narrow[-1]["val_psnr"], abs=0.05)
    configs = [
        json.loads((tmp_path / n / "vae/config.json").read_text()) for n in ("narrow", "wide")
    ]
    assert [config["decoder_base_dim"] for config in configs] == [4, 8]
    for name in ("latents_mean", "latents_std"):  # a DiT on them works with either decoder
        assert configs[0][name] == configs[1][name]
    assert encoder_digest(tmp_path / "narrow/vae") == encoder_digest(tmp_path / "wide/vae")


def test_mistakes_cost_one_sentence(discs: Discs, tmp_path: Path, capsys: pytest.CaptureFixture):
    def fails(*arguments: str) -> str:
        capsys.readouterr()
        command = ["pretrain", "vae", "--out", str(tmp_path / "run"), *arguments]
        assert main([*command, *overrides("nano-wan", tmp_path / "corpus")]) == 2
        return capsys.readouterr().err

    assert "did you mean 'nano-wan'" in fails("--backbone", "nano-wann")
    wan = ("--backbone", "nano-wan")
    assert "nothing to resume in" in fails(*wan, "--resume")
    assert "multiple of 16" in fails(*wan, "stages=[{name: a, crop: 20}]")
    assert "different names" in fails(*wan, "stages=[{name: a}, {name: a}]")
    assert "unknown config key 'stages.0.stepz'" in fails(*wan, "stages=[{name: a, stepz: 20}]")
    assert "no 'vae' to start from" in fails(*wan, "--init", str(tmp_path))
    flux = ("--backbone", "nano-flux", "decoder_base_dim=8")
    assert "decoder_base_dim is for nano-wan only" in fails(*flux)
    assert "decoder_base_dim is 0" in fails(*wan, "decoder_base_dim=0")
    assert "crop of 5 x 64 x 64" in fails(*wan, "stages=[{name: a, frames: 5, crop: 64}]")


def test_what_images_taught_holds_every_fourth_frame_of_a_clip():
    torch.manual_seed(0)
    card = tiny_card("nano-wan")
    card = replace(card, vae=card.vae | {"is_residual": False})  # its shortcuts average over time
    coder = new_coder(card).eval().requires_grad_(False)
    clip = torch.rand(1, 3, 5, 32, 32) * 2 - 1
    mean, _ = coder.posterior(clip)
    for latent_frame, frame in ((0, 0), (1, 4)):
        alone, _ = coder.posterior(clip[:, :, frame : frame + 1])
        assert torch.allclose(mean[:, :, latent_frame], alone[:, :, 0], atol=1e-5)
    shown = coder.decode(mean)
    for frame in range(1, 5):
        assert torch.allclose(shown[:, :, frame], coder.decode(mean[:, :, 1:])[:, :, 0], atol=1e-5)
