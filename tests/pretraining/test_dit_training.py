import json
import shutil
from pathlib import Path

import pytest
import torch
from disc_clips import Discs, overrides
from torch._dynamo.utils import counters

from mmdiff_video.backbones import load_backbone
from mmdiff_video.cli import main
from mmdiff_video.pretraining.export import GOLDEN, golden_forward
from mmdiff_video.training import checkpoints

STAGES = {
    "nano-wan": "stages=[{name: clips, steps: 12, batch_size: 4, lr: 1.0e-2},"
    " {name: pictures, steps: 2, batch_size: 2, lr: 1.0e-3, latent_frames: 1},"
    " {name: more, steps: 1, batch_size: 2, lr: 1.0e-3, half_size: true, corpus: {train_clips: 9,"
    " val_clips: 2, frames: 1, height: 64, width: 64}}]",
    "nano-flux": "stages=[{name: small, steps: 12, batch_size: 4, lr: 1.0e-2, half_size: true},"
    " {name: guidance, steps: 2, batch_size: 2, lr: 1.0e-3, objective: guidance}]",
}


def pretrain(part: str, backbone: str, run: Path, *extra: str) -> None:
    settings = overrides(backbone, run.parent / "corpus")
    command = ["pretrain", part, "--backbone", backbone, "--out", str(run)]
    assert main([*command, *settings, *extra]) == 0


def vae(backbone: str, folder: Path) -> str:
    frames = 5 if backbone == "nano-wan" else 1
    stage = f"stages=[{{name: a, steps: 2, frames: {frames}, crop: 16}}]"
    pretrain(
        "vae", backbone, folder / "vae-run", stage, "loss.perceptual=0", "decoder_base_dim=null"
    )
    return f"vae={folder / 'vae-run'}"


@pytest.mark.parametrize("backbone", list(STAGES))
def test_a_tiny_training_learns_resumes_and_becomes_a_backbone(
    discs: Discs, backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture
):
    settings = [vae(backbone, tmp_path), STAGES[backbone], "sample_steps=2", "train.ema_decay=0.5"]
    whole = tmp_path / "whole"
    pretrain("dit", backbone, whole, *settings, "train.preview_every=3")

    first = "clips" if backbone == "nano-wan" else "small"
    lines = (whole / first / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line) for line in lines]
    losses = [line["loss"] for line in steps if "loss" in line]
    validation = [line["val_loss"] for line in steps if "val_loss" in line]
    assert validation[-1] < 0.9 * validation[0]  # after 12 steps, and after 3
    for name in ("val_loss", "val_loss_shuffled", "val_loss_empty", "val_margin_error"):
        assert steps[-1][name] > 0
    assert steps[-1]["val_margin"] == pytest.approx(
        steps[-1]["val_loss_shuffled"] - steps[-1]["val_loss"], abs=1e-5
    )
    assert (whole / first / "previews" / "step-000012.png").is_file()
    report = json.loads((whole / "report.json").read_text())
    assert report["clips"][first] == 6
    assert report["clips"].get("more", 9) == 9  # a corpus of its own
    assert report["val"]["val_loss"] < 1.1 * validation[0]  # whatever the other stages did

    # killed after step 8; the latents that are there already are not made again
    broken = tmp_path / "broken"
    shutil.copytree(whole, broken)
    shutil.rmtree(broken / first / "checkpoints" / "step-000012")
    latents = sorted((tmp_path / "corpus").glob("latents-*/*.npy"))
    times = [path.stat().st_mtime_ns for path in latents]
    pretrain("dit", backbone, broken, *settings, "train.preview_every=3", "--resume")
    assert [path.stat().st_mtime_ns for path in latents] == times
    ours, theirs = (
        (checkpoints(run / first)[-1] / "ema.safetensors").read_bytes() for run in (broken, whole)
    )
    assert ours == theirs

    exported = tmp_path / "exported"
    assert main(["pretrain", "export", str(whole), "--out", str(exported)]) == 0
    loaded = load_backbone(exported, device="cpu")
    assert not loaded.untrained
    golden = json.loads((exported / GOLDEN).read_text())
    for name, values in golden_forward(loaded).items():
        assert torch.allclose(torch.tensor(values), torch.tensor(golden[name]), atol=1e-3)
    assert "| dit |" in (exported / "README.md").read_text()

    from diffusers import DiffusionPipeline

    stock = DiffusionPipeline.from_pretrained(exported, torch_dtype=torch.float32)
    video = {"num_frames": 5, "guidance_scale": 1.0} if backbone == "nano-wan" else {}
    stock(prompt="a red ball", height=32, width=32, num_inference_steps=2, **video)

    pretrain("dit", backbone, tmp_path / "more", *settings, "--init", str(exported))
    more = (tmp_path / "more" / first / "metrics.jsonl").read_text().splitlines()
    assert json.loads(more[0])["loss"] < losses[0]
    for state in ("finished", "unfinished"):
        out = tmp_path / state
        assert main(["pretrain", "export", str(tmp_path / "more"), "--out", str(out)]) == 0
        rows = (out / "README.md").read_text().splitlines()
        assert [row[: row.index(" |", 1)] for row in rows if row.startswith("| dit")] == [
            "| dit, before",
            "| dit",
        ]
        (tmp_path / "more" / "report.json").unlink(missing_ok=True)

    capsys.readouterr()
    assert main(["pretrain", "export", str(whole), "--out", str(exported)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_mistakes_cost_one_sentence(discs: Discs, tmp_path: Path, capsys: pytest.CaptureFixture):
    def fails(*arguments: str) -> str:
        capsys.readouterr()
        assert main(["pretrain", *arguments]) == 2
        return capsys.readouterr().err

    dit = ("dit", "--backbone", "nano-wan", "--out", str(tmp_path / "run"))
    settings = overrides("nano-wan", tmp_path / "corpus")
    assert "no 'vae' to start from" in fails(*dit, *settings, f"vae={tmp_path}")
    assert "did you mean 'flow.shift'" in fails(*dit, "flow.shft=2")
    trained = vae("nano-wan", tmp_path)
    assert "nothing to resume in" in fails(*dit, *settings, trained, "--resume")
    assert "no 'transformer' to start from" in fails(
        *dit, *settings, trained, "--init", str(tmp_path)
    )
    out = ("--out", str(tmp_path / "exported"))
    assert "no run in" in fails("export", str(tmp_path), *out)
    assert "no checkpoint in this run" in fails("export", str(tmp_path / "run"), *out)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile wants a C++ compiler")
def test_compiled_blocks_learn_the_same(discs: Discs, tmp_path: Path):
    settings = [
        vae("nano-wan", tmp_path),
        "stages=[{name: clips, steps: 3, batch_size: 4, lr: 1.0e-2}]",
        "train.preview_every=0",
        "train.log_every=1",
    ]
    losses = {}
    counters.clear()
    for compiled in ("false", "true"):
        run = tmp_path / compiled
        pretrain("dit", "nano-wan", run, *settings, f"compile={compiled}")
        lines = (run / "clips" / "metrics.jsonl").read_text().splitlines()
        losses[compiled] = [json.loads(line)["loss"] for line in lines]
        compiled_any = bool(counters["stats"]["unique_graphs"])
        assert compiled_any == (compiled == "true")
    assert losses["true"] == pytest.approx(losses["false"], rel=1e-4)
