import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from tiny_cards import tiny_card

from mmdiff_video.backbones import UNTRAINED_NOTICE, load_backbone
from mmdiff_video.backbones.nano import build as nano
from mmdiff_video.backbones.nano import parts
from mmdiff_video.backbones.nano.text import WORDS, clip_tokenizer, unigram_tokenizer


@pytest.mark.parametrize("name", ["nano-wan-random", "nano-flux-random"])
def test_random_backbone(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        backbone = load_backbone(name, device="cpu")
    assert backbone.untrained
    assert UNTRAINED_NOTICE in caplog.text

    folder = nano.build_cached(name)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert size < 40e6

    # random, but alive: latents of about unit scale, maps that vary over the picture and with t
    frames = 5 if backbone.geometry.is_video else 1
    pictures = nano._pictures(2, 96).flip(0)
    video = torch.stack([pictures.roll(f, -1) for f in range(frames)], dim=2)
    features = backbone.extract(video, timesteps=[0.78, 0.001], keys=["a", "b"])
    assert 0.5 < features.latent.std() < 2
    for m in features.maps.values():
        assert m.isfinite().all()
        assert m.std(dim=(3, 4, 5)).median() > 0.1
        assert (m[:, 0] - m[:, 1]).std() > 0.1 * m.std()
        assert (m[0] - m[1]).std() > 0.1 * m.std()


def test_building_twice_at_once_gives_one_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MMDIFF_CACHE", str(tmp_path))
    builds: list[Path] = []

    def small(card: object, folder: Path) -> dict[str, int]:
        builds.append(folder)
        assert folder.parent == tmp_path / "backbones"
        while len(builds) < 2:  # both are under way before either is done
            pass
        (folder / "model_index.json").write_text("{}")
        return {}

    monkeypatch.setattr(nano, "build", small)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(nano.build_cached, ["nano-wan"] * 2)
    assert first == second
    assert len(builds) == 2
    assert [path.name for path in (tmp_path / "backbones").iterdir()] == [first.name]
    assert (first / "model_index.json").read_text() == "{}"


def test_a_failed_build_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MMDIFF_CACHE", str(tmp_path))

    def full(card: object, folder: Path) -> dict[str, int]:
        (folder / "half").write_text("x")
        raise OSError("disk full")

    monkeypatch.setattr(nano, "build", full)
    with pytest.raises(OSError, match="disk full"):
        nano.build_cached("nano-flux")
    assert not list((tmp_path / "backbones").iterdir())


def test_tokenizers_know_caption_words_and_spell_the_rest(tmp_path: Path) -> None:
    t5, clip = unigram_tokenizer(), clip_tokenizer(tmp_path)
    assert t5.tokenize("a red ball in a room") == ["▁a", "▁red", "▁ball", "▁in", "▁a", "▁room"]
    assert t5.tokenize("A Red ball") == t5.tokenize("a red ball")
    assert t5.unk_token_id not in t5('Zyx-42, "quoted" ~ {prompt}!').input_ids
    assert t5("room").input_ids[-1] == t5.eos_token_id
    for word in WORDS:
        assert clip.tokenize(word) == [f"{word}</w>"]
        assert t5.tokenize(word) == [f"▁{word}"]
    ids = clip("a zebra, 42!").input_ids
    assert (ids[0], ids[-1]) == (clip.bos_token_id, clip.eos_token_id)
    assert clip.decode(ids[1:-1]).replace(" ", "") == "azebra,42!"


def test_tokenizers_load_back_as_they_were(tiny_folders: dict[str, Path]) -> None:
    from transformers import AutoTokenizer

    prompt = "a red ball, filmed at 24 frames"
    for folder in (tiny_folders["wan"] / "tokenizer", tiny_folders["flux"] / "tokenizer_2"):
        assert AutoTokenizer.from_pretrained(folder)(prompt) == unigram_tokenizer()(prompt)


def test_a_wan_that_predicts_clean_samples_answers_with_the_velocity_to_them(tmp_path: Path):
    nano.build(tiny_card("nano-wan"), tmp_path / "folder")
    backbone = load_backbone(tmp_path / "folder", device="cpu")
    scheduler = backbone.pipeline.scheduler
    assert scheduler.config.prediction_type == "sample"
    noisy = torch.randn(2, backbone.geometry.channels, 2, 4, 4)
    t, text = torch.tensor([0.2, 0.9]), backbone.encode_text(["a room"])
    velocity = backbone.velocity(noisy, t, text, None)
    scheduler.register_to_config(prediction_type="flow_prediction")  # as Wan 2.1 has it
    predicted = backbone.velocity(noisy, t, text, None)
    assert torch.allclose(noisy - t.reshape(2, 1, 1, 1, 1) * velocity, predicted, atol=1e-5)


def test_a_projected_clip_gives_its_pooled_text_at_its_own_width(tmp_path: Path) -> None:
    tokenizer = clip_tokenizer(tmp_path)
    encoder = parts._KINDS["projected_clip"].encoder(tokenizer, 16, 2)
    assert type(encoder).__name__ == "CLIPTextModelWithProjection"
    found = encoder(torch.tensor([tokenizer("a red ball").input_ids]), output_hidden_states=True)
    assert found.text_embeds.shape == (1, 16)
    assert [h.shape for h in found.hidden_states] == [(1, 5, 16)] * 3
