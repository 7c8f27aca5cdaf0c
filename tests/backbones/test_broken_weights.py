"""Weight files with something wrong: one sentence that names the component, and nothing is run."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from broken_folders import edit, refusal, rewrite, weights
from safetensors.torch import load_file, save_file
from tiny_cards import ROWS

from mmdiff_video.backbones import describe_taps, load_backbone
from mmdiff_video.backbones.registry import fingerprint
from mmdiff_video.errors import InputError

Spoil = Callable[[Path], None]
MODELS = [(name, part) for name, row in ROWS.items() for part in row.components.models]


@pytest.mark.parametrize(("family", "part"), MODELS, ids=str)
def test_a_missing_tensor_is_refused(copied, family: str, part: str) -> None:
    folder, lost = copied(family), []

    def lose(tensors: dict[str, torch.Tensor]) -> None:
        # the first of a text encoder may be tied to another
        lost.append(sorted(tensors)[3])
        del tensors[lost[0]]

    rewrite(folder / part, lose)
    message = refusal(folder)
    assert f"'{folder / part}' lacks 1 weights" in message
    assert lost[0] in message


@pytest.mark.parametrize(("family", "part"), MODELS, ids=str)
def test_a_tensor_too_many_is_refused(copied, family: str, part: str) -> None:
    folder = copied(family)
    rewrite(folder / part, lambda tensors: tensors.update({"extra.lora_A": torch.ones(2)}))
    message = refusal(folder)
    assert f"'{folder / part}' holds 1 tensors" in message
    assert "extra.lora_A" in message


@pytest.mark.parametrize(("family", "part"), MODELS, ids=str)
def test_a_tensor_of_another_shape_is_refused(copied, family: str, part: str) -> None:
    folder, changed = copied(family), []

    def widen(tensors: dict[str, torch.Tensor]) -> None:
        name = next(name for name, tensor in tensors.items() if tensor.ndim > 1)
        tensors[name] = torch.cat([tensors[name]] * 2)
        changed.append(name)

    rewrite(folder / part, widen)
    message = refusal(folder)
    assert str(folder / part) in message
    assert changed[0] in message


@pytest.mark.parametrize(("family", "part"), [("flux", "text_encoder_2"), ("wan", "text_encoder")])
@pytest.mark.parametrize(
    "names", [["shared"], ["encoder.embed_tokens"], ["shared", "encoder.embed_tokens"]]
)
def test_a_table_of_tokens_may_have_either_name(copied, tiny, family: str, part: str, names):
    """Two names of one tensor: files hold the one, the other or both."""
    folder = copied(family)

    def rename(tensors: dict[str, torch.Tensor]) -> None:
        table = tensors.pop("shared.weight")
        tensors.update({f"{name}.weight": table.clone() for name in names})

    rewrite(folder / part, rename)
    found = getattr(load_backbone(folder, device="cpu").pipeline, part).get_input_embeddings()
    expected = getattr(tiny[family].pipeline, part).get_input_embeddings()
    assert torch.equal(found.weight, expected.weight)
    rewrite(folder / part, lambda tensors: [tensors.pop(f"{name}.weight") for name in names])
    assert "embed_tokens.weight" in refusal(folder)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def without_header(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 2**60) + path.read_bytes())


def pointer(path: Path) -> None:
    """What git leaves where large files were not fetched."""
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [cut, without_header, pointer, empty, a_folder])
@pytest.mark.parametrize("part", ["transformer", "text_encoder_2"])
def test_a_damaged_weight_file_is_named(copied, part: str, spoil: Spoil) -> None:
    folder = copied("flux")
    path = weights(folder / part)
    spoil(path)
    assert str(path) in refusal(folder)


class Runs:
    """Runs when it is unpickled."""

    path = ""

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("text_encoder", "pytorch_model.bin"),
        ("text_encoder_2", "pytorch_model.bin"),
        ("transformer", "diffusion_pytorch_model.bin"),
        ("vae", "diffusion_pytorch_model.pt"),
    ],
)
def test_a_pickle_is_never_opened(copied, tmp_path: Path, part: str, name: str) -> None:
    folder = copied("flux")
    weights(folder / part).unlink()
    Runs.path = str(tmp_path / "has run")
    torch.save({"weight": Runs()}, folder / part / name)
    message = refusal(folder)
    assert f"'{folder / part}'" in message
    assert "pickle" in message
    assert not Path(Runs.path).exists()


@pytest.mark.parametrize("method", ["bitsandbytes", "torchao", "quanto", "gguf", "gptq"])
@pytest.mark.parametrize("part", ["transformer", "text_encoder"])
def test_a_quantised_model_is_refused(copied, part: str, method: str) -> None:
    folder = copied("wan")
    edit(folder / part / "config.json", quantization_config={"quant_method": method})
    assert f"'{folder / part}' is quantised ({method})" in refusal(folder)


def test_codes_in_the_place_of_weights_are_refused(copied) -> None:
    folder = copied("wan")

    def encode(tensors: dict[str, torch.Tensor]) -> None:
        tensors["blocks.0.attn1.to_q.weight"] = torch.ones(8, 1, dtype=torch.uint8)

    rewrite(folder / "transformer", encode)
    message = refusal(folder)
    assert "quantised" in message
    assert "blocks.0.attn1.to_q.weight" in message


@pytest.mark.parametrize("name", ["flux1-dev-Q4_K.gguf", "flux1.safetensors", "some/flux.ckpt"])
def test_a_single_file_is_no_backbone(tmp_path: Path, name: str) -> None:
    path = tmp_path / Path(name).name
    path.write_bytes(b"GGUF")
    for given in (name, str(path)):
        for ask in (load_backbone, describe_taps):
            with pytest.raises(
                InputError, match="is a single file: a backbone is a diffusers fold"
            ):
                ask(given)


def test_a_quantised_file_beside_the_config_is_no_model(copied) -> None:
    folder = copied("flux")
    weights(folder / "transformer").rename(folder / "transformer" / "flux-Q8_0.gguf")
    assert "flux-Q8_0.gguf, which is quantised" in refusal(folder)


@pytest.mark.parametrize("part", ["transformer", "text_encoder"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused(copied, part: str, value: float) -> None:
    folder = copied("wan")

    def poison(tensors: dict[str, torch.Tensor]) -> None:
        tensors[min(tensors)].view(-1)[-1] = value

    rewrite(folder / part, poison)
    message = refusal(folder)
    assert "NaN or infinity" in message
    assert str(folder / part) in message


# --- shards ---------------------------------------------------------------------------------------


def shard(component: Path, variant: str = "") -> Path:
    """Split a model over two files; returns their index."""
    single = weights(component)
    stem = single.name.removesuffix(".safetensors")
    tensors = list(load_file(single).items())
    single.unlink()
    where: dict[str, str] = {}
    for i, half in enumerate((dict(tensors[::2]), dict(tensors[1::2]))):
        name = f"{stem}{variant}-0000{i + 1}-of-00002.safetensors"
        save_file(half, component / name, {"format": "pt"})
        where |= dict.fromkeys(half, name)
    index = component / f"{stem}.safetensors.index{variant}.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return index


def test_shards_load_as_one_file(copied, tiny) -> None:
    folder = copied("flux")
    for part in ("transformer", "text_encoder_2"):
        shard(folder / part)
    loaded = load_backbone(folder, device="cpu").pipeline
    for part in ("transformer", "text_encoder_2"):
        expected = getattr(tiny["flux"].pipeline, part).state_dict()
        found = getattr(loaded, part).state_dict()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("part", ["transformer", "text_encoder_2"])
def test_a_missing_shard_is_named(copied, part: str) -> None:
    folder = copied("flux")
    shard(folder / part)
    lost = sorted((folder / part).glob("*.safetensors"))[1]
    lost.unlink()
    assert f"{lost.name}, which is not there" in refusal(folder)


@pytest.mark.parametrize("part", ["transformer", "text_encoder_2"])
@pytest.mark.parametrize("elsewhere", ["../x.safetensors", "/x.safetensors", "a/x.safetensors"])
def test_an_index_does_not_lead_out_of_its_folder(copied, part: str, elsewhere: str) -> None:
    folder = copied("flux")
    index = shard(folder / part)
    where = json.loads(index.read_text())["weight_map"]
    moved = min(where.values())
    (folder / part / moved).rename(folder / "x.safetensors")
    where = {name: elsewhere if file == moved else file for name, file in where.items()}
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    message = refusal(folder)
    assert str(index) in message
    assert elsewhere in message


@pytest.mark.parametrize("content", ["[]", "{}", '{"weight_map": [1]}', '{"weight_map": {"a": 1}}'])
@pytest.mark.parametrize("part", ["transformer", "text_encoder_2"])
def test_an_index_that_is_none_is_named(copied, part: str, content: str) -> None:
    folder = copied("flux")
    index = shard(folder / part)
    index.write_text(content)
    assert str(index) in refusal(folder)


# --- variants -------------------------------------------------------------------------------------


def rename_to(component: Path, variant: str) -> None:
    path = weights(component)
    path.rename(path.with_name(path.name.replace(".safetensors", f".{variant}.safetensors")))


@pytest.mark.parametrize(
    "variants",
    [
        {"transformer": "fp16"},
        {"text_encoder": "fp16", "vae": "bf16"},
        {"transformer": "bf16", "text_encoder_2": "fp32"},
        dict.fromkeys(("transformer", "vae", "text_encoder", "text_encoder_2"), "fp16"),
    ],
    ids=str,
)
def test_weights_of_a_variant_alone_are_found(copied, tiny, variants: dict[str, str]) -> None:
    folder = copied("flux")
    for part, variant in variants.items():
        rename_to(folder / part, variant)
    loaded = load_backbone(folder, device="cpu").pipeline
    for part in variants:
        expected = getattr(tiny["flux"].pipeline, part).state_dict()
        found = getattr(loaded, part).state_dict()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("part", ["transformer", "text_encoder_2"])
def test_shards_of_a_variant_are_found(copied, part: str) -> None:
    folder = copied("flux")
    shard(folder / part, ".fp16")
    load_backbone(folder, device="cpu")


def test_the_plain_weights_come_before_a_variant_and_both_count(copied, tiny) -> None:
    folder = copied("wan")
    path = weights(folder / "transformer")
    halved = {name: tensor / 2 for name, tensor in load_file(path).items()}
    save_file(halved, path.with_name(path.name.replace(".safetensors", ".fp16.safetensors")))
    loaded = load_backbone(folder, device="cpu")
    expected = tiny["wan"].pipeline.transformer.state_dict()
    found = loaded.pipeline.transformer.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    path.unlink()
    alone = load_backbone(folder, device="cpu")
    found = alone.pipeline.transformer.state_dict()
    assert not all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert alone.fingerprint == fingerprint(folder) != loaded.fingerprint
