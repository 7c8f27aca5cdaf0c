"""What reaches the vision-language model, and what is said of a folder that is none."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_vlm import WORDS

from mmdiff_video.captioning.captioner import DEFAULT_MODEL, load_captioner
from mmdiff_video.errors import InputError


def pictures(*sizes: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (*size, 3), dtype=np.uint8) for size in sizes]


def test_each_picture_gets_a_line_of_its_own_words(vlm):
    captioner = load_captioner(str(vlm), max_new_tokens=12)
    shown = pictures((20, 40), (60, 30), (28, 28))
    captions = captioner(shown)
    for caption in captions:
        assert len(caption.split()) == 12
        assert set(caption.split()) <= set(WORDS)
    assert len(set(captions)) == 3
    assert captioner(shown) == captions
    assert [captioner([picture])[0] for picture in shown] == captions


def test_instruction_and_picture_reach_the_model(vlm):
    captioner = load_captioner(str(vlm), instruction="say what the room is", max_new_tokens=2)
    seen: dict[str, torch.Tensor] = {}

    def watch(module: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        for name in ("input_ids", "pixel_values"):
            if kwargs.get(name) is not None:
                seen.setdefault(name, kwargs[name])

    captioner.model.register_forward_pre_hook(watch, with_kwargs=True)
    captioner.model.model.vision_tower.register_forward_pre_hook(watch, with_kwargs=True)
    (picture,) = pictures((28, 28))
    captioner([picture])
    tokens = captioner.processor.tokenizer.convert_ids_to_tokens(seen["input_ids"][0])
    assert tokens == [
        *("<bos>", "<start_of_turn>", "user", "<start_of_image>"),
        *["<image_soft_token>"] * 4,
        *("<end_of_image>", "say", "what", "the", "room", "<unk>", "<end_of_turn>"),
        *("<start_of_turn>", "model"),
    ]
    expected = torch.from_numpy(picture).permute(2, 0, 1) / 127.5 - 1
    torch.testing.assert_close(seen["pixel_values"][0], expected)


def test_what_the_model_is_told_changes_what_it_says(vlm):
    shown = pictures((28, 28))
    said = {load_captioner(str(vlm), instruction=words)(shown)[0] for words in ("red", "blue")}
    assert len(said) == 2


def without(folder: Path, copy: Path, *names: str) -> Path:
    shutil.copytree(folder, copy)
    for name in names:
        (copy / name).unlink()
    return copy


def test_a_model_that_takes_no_pictures_is_refused(tmp_path):
    from transformers import GPT2Config

    GPT2Config().save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"a gpt2 model, which does not .* google/gemma-3-4b-it"):
        load_captioner(str(tmp_path))


def test_a_model_without_a_chat_template_is_refused(vlm, tmp_path):
    base = without(vlm, tmp_path / "base", "chat_template.jinja")
    with pytest.raises(InputError, match=r"no chat template.*instruction-tuned"):
        load_captioner(str(base))


def test_an_incomplete_folder_is_refused(vlm, tmp_path):
    with pytest.raises(InputError, match="cannot be loaded as an image-text-to-text model"):
        load_captioner(str(without(vlm, tmp_path / "weightless", "model.safetensors")))
    with pytest.raises(InputError, match=r"cannot be loaded|lacks the configuration"):
        load_captioner(str(without(vlm, tmp_path / "blind", "processor_config.json")))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="cannot be loaded"):
        load_captioner(str(empty))
    holes = without(vlm, tmp_path / "holes")
    weights = load_file(vlm / "model.safetensors")
    kept = {name: w for name, w in weights.items() if "q_norm" not in name}
    save_file(kept, holes / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="lacks 2 weights"):
        load_captioner(str(holes))


def test_code_that_comes_with_a_model_is_not_run(vlm, tmp_path):
    other = without(vlm, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}
    (other / "config.json").write_text(json.dumps(config))
    (other / "own.py").write_text("raise SystemExit('this ran')")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_captioner(str(other))


def test_a_place_without_a_model_is_named(tmp_path):
    with pytest.raises(InputError, match=r"'\./gemma' is no folder of an image-text-to-text model"):
        load_captioner("./gemma")


def test_gated_and_missing_weights_say_what_to_do(monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError

    response: Any = type("Response", (), {"headers": {}, "request": None, "status_code": 403})()
    answers = {
        "accept its licence": GatedRepoError("restricted", response=response),
        "go online": OSError("offline mode is enabled"),
    }
    for words, answer in answers.items():

        def refuse(hub_id: str, answer: Exception = answer, **kwargs: Any) -> None:
            raise answer

        monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
        with pytest.raises(InputError) as error:
            load_captioner()
        assert words in str(error.value)
        assert DEFAULT_MODEL in str(error.value)
        assert "local folder of an image-text-to-text model" in str(error.value)


def cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def quantised(folder):
    change_config(folder, quantization_config={"quant_method": "gptq"})


def larger(folder):
    config = json.loads((folder / "config.json").read_text())
    change_config(folder, text_config=config["text_config"] | {"intermediate_size": 10**9})


def nested(folder):
    (folder / "config.json").write_text("[" * 100_000)


def speechless(folder):
    (folder / "tokenizer.json").write_text("{}")


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (cut, "is cut short or no safetensors file"),
        (pickled, "pytorch_model.bin, a pickle"),
        (quantised, r"is quantised \(gptq\)"),
        (larger, r"describes a model of [\d,]+ weights"),
        (nested, "nested too deep"),
        (speechless, "cannot be loaded"),
    ],
)
def test_a_spoilt_folder_is_one_sentence(vlm, tmp_path, spoil, said):
    copy = without(vlm, tmp_path / "copy")
    spoil(copy)
    with pytest.raises(InputError, match=said) as error:
        load_captioner(str(copy))
    assert "\n" not in str(error.value)
    assert str(copy) in str(error.value)


def test_weights_without_a_place_are_counted(vlm, tmp_path, caplog):
    copy = without(vlm, tmp_path / "copy")
    weights = load_file(copy / "model.safetensors")
    save_file(weights | {"head.bias": torch.ones(2)}, copy / "model.safetensors", {"format": "pt"})
    load_captioner(str(copy))
    assert "holds 1 tensors that a Gemma3ForConditionalGeneration has no place for" in caplog.text
