"""Model folders with something wrong: one sentence that names the component, and nothing is run."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_cards import ROWS

from mmdiff_video.backbones import describe_taps, load_backbone
from mmdiff_video.backbones.registry import fingerprint
from mmdiff_video.errors import InputError

Spoil = Callable[[Path], None]


@pytest.fixture
def copied(tiny_folders: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """Give a tiny folder of a family that a test may spoil."""
    return lambda family: Path(shutil.copytree(tiny_folders[family], tmp_path / "model"))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def weights(component: Path) -> Path:
    return next(component.glob("*.safetensors"))


def rewrite(component: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(weights(component))
    change(tensors)
    save_file(tensors, weights(component))


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as error:
        load_backbone(folder, device="cpu")
    assert "\n" not in str(error.value)
    return str(error.value)


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


# --- classes and code -----------------------------------------------------------------------------

_CODE = "from pathlib import Path\nPath({!r}).write_text('')\nclass Own: pass\n"


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_code_that_comes_with_a_model_is_never_run(copied, tmp_path: Path, part: str) -> None:
    folder, ran = copied("flux"), tmp_path / "has run"
    for place in (folder, folder / part):
        (place / "own.py").write_text(_CODE.format(str(ran)))
    edit(folder / "model_index.json", **{part: ["own", "Own"]})
    for ask in (load_backbone, describe_taps):
        with pytest.raises(InputError, match=f"takes '{part}' from 'own'"):
            ask(str(folder))
    assert not ran.exists()


@pytest.mark.parametrize("part", ["transformer", "text_encoder", "tokenizer"])
def test_an_auto_map_is_not_followed(copied, tmp_path: Path, part: str) -> None:
    folder, ran = copied("flux"), tmp_path / "has run"
    (folder / part / "own.py").write_text(_CODE.format(str(ran)))
    autos = {f"Auto{kind}": "own.Own" for kind in ("Config", "Model", "Tokenizer")}
    name = "tokenizer_config.json" if part == "tokenizer" else "config.json"
    edit(folder / part / name, auto_map=autos)
    load_backbone(folder, device="cpu")
    assert not ran.exists()


def test_a_pipeline_of_ones_own_is_refused(copied, tmp_path: Path) -> None:
    folder, ran = copied("flux"), tmp_path / "has run"
    (folder / "pipeline.py").write_text(_CODE.format(str(ran)))
    edit(folder / "model_index.json", _class_name=["pipeline", "Own"])
    assert "no known family" in refusal(folder)
    assert not ran.exists()


@pytest.mark.parametrize(
    ("part", "entry", "said"),
    [
        ("transformer", ["diffusers", "SD3Transformer2DModel"], "has a SD3Transformer2DModel as"),
        ("text_encoder", ["transformers", "AutoModel"], "has a AutoModel as text_encoder"),
        ("vae", ["diffusers", 5], r"must give 'vae' as \[library, class\]"),
        ("vae", {"a": 1}, r"must give 'vae' as \[library, class\]"),
        ("scheduler", ["diffusers", "FluxPipeline"], "no scheduler 'FluxPipeline'"),
        ("scheduler", ["diffusers", "NoScheduler"], "no scheduler 'NoScheduler'"),
        ("tokenizer", ["transformers", "AutoTokenizer"], "'AutoTokenizer' is no tokenizer's class"),
        ("text_encoder_2", [None, None], "has no text_encoder_2 in its model_index.json"),
        ("transformer_2", 5, "must give 'transformer_2' as"),
    ],
    ids=str,
)
def test_an_index_with_other_classes_is_refused(copied, part: str, entry: object, said: str):
    folder = copied("flux")
    edit(folder / "model_index.json", **{part: entry})
    with pytest.raises(InputError, match=said):
        load_backbone(folder, device="cpu")


@pytest.mark.parametrize(
    ("family", "part", "change"),
    [
        ("flux", "transformer", {"_class_name": "SD3Transformer2DModel"}),
        ("flux", "vae", {"_class_name": "AutoencoderKLWan"}),
        ("wan", "text_encoder", {"model_type": "t5"}),
        ("sd3", "text_encoder_3", {"model_type": "umt5"}),
        ("flux", "text_encoder", {"model_type": "bert"}),
    ],
    ids=str,
)
def test_the_config_of_another_class_is_refused(copied, family: str, part: str, change: dict):
    folder = copied(family)
    edit(folder / part / "config.json", **change)
    message = refusal(folder)
    assert f"{folder / part / 'config.json'}' describes a {next(iter(change.values()))}" in message


@pytest.mark.parametrize("part", ["tokenizer", "tokenizer_2"])
def test_a_tokenizer_without_words_is_refused(copied, part: str) -> None:
    folder = copied("flux")
    (folder / part / "tokenizer.json").unlink()
    assert f"'{folder / part}' holds no vocabulary" in refusal(folder)


@pytest.mark.parametrize("content", ["", "{}", "[" * 100_000, '{"model": 5}'], ids=len)
def test_a_tokenizer_that_is_none_is_named(copied, content: str) -> None:
    folder = copied("flux")
    (folder / "tokenizer_2" / "tokenizer.json").write_text(content)
    assert str(folder / "tokenizer_2") in refusal(folder)


def test_a_tokenizer_of_another_model_is_refused(copied, tiny_folders: dict[str, Path]) -> None:
    folder = copied("flux")
    for part in ("text_encoder_2", "tokenizer_2"):
        shutil.rmtree(folder / part)
    # CLIP's has more words than the T5 knows
    shutil.copytree(tiny_folders["flux"] / "text_encoder_2", folder / "text_encoder_2")
    shutil.copytree(folder / "tokenizer", folder / "tokenizer_2")
    edit(folder / "model_index.json", tokenizer_2=["transformers", "CLIPTokenizer"])
    assert "tokenizer_2 has" in refusal(folder)


@pytest.mark.parametrize("part", ["scheduler", "tokenizer", "vae", "text_encoder"])
def test_a_component_that_is_not_there_is_named(copied, part: str) -> None:
    folder = copied("wan")
    shutil.rmtree(folder / part)
    with pytest.raises(InputError, match=part):
        load_backbone(folder, device="cpu")


# --- numbers --------------------------------------------------------------------------------------

_ODD = [10**30, 1e30, 1.5, -1, [], {}, "many", None, 0]


@pytest.mark.parametrize("value", _ODD, ids=str)
@pytest.mark.parametrize(
    ("family", "part", "key"),
    [
        ("flux", "transformer", "num_layers"),
        ("flux", "transformer", "attention_head_dim"),
        ("wan", "transformer", "in_channels"),
        ("wan", "transformer", "patch_size"),
        ("sd3", "transformer", "pos_embed_max_size"),
        ("flux", "vae", "block_out_channels"),
    ],
)
def test_odd_numbers_are_refused_before_any_weight(copied, family: str, part: str, key: str, value):
    if (family, key, value) == ("sd3", "pos_embed_max_size", None):
        pytest.skip("a model without a table of positions")
    folder = copied(family)
    edit(folder / part / "config.json", **{key: value})
    for ask in (describe_taps, load_backbone):
        with pytest.raises(InputError):
            ask(str(folder))


@pytest.mark.parametrize(
    ("family", "part", "change"),
    [
        ("flux", "transformer", {"attention_head_dim": 10_000}),
        ("flux", "transformer", {"num_single_layers": 900}),
        ("flux", "text_encoder", {"hidden_size": 10**7, "num_attention_heads": 1}),
        ("flux", "text_encoder", {"num_hidden_layers": 10**9}),
        ("flux", "text_encoder_2", {"vocab_size": 10**12}),
        ("flux", "text_encoder_2", {"d_ff": 1.5}),
        ("flux", "text_encoder_2", {"num_layers": "two"}),
        ("flux", "vae", {"layers_per_block": 10**8}),
        ("flux", "vae", {"latent_channels": 10**10}),
        ("wan", "vae", {"num_res_blocks": 10**8}),
        ("wan", "transformer", {"ffn_dim": 10**11}),
        ("wan", "transformer", {"rope_max_seq_len": 10**11}),
        ("sd3", "transformer", {"pos_embed_max_size": 60_000}),
        ("sd3", "transformer", {"caption_projection_dim": 10**9}),
        ("flux", "scheduler", {"num_train_timesteps": 10**11}),
        ("wan", "scheduler", {"num_train_timesteps": 1e30}),
    ],
    ids=str,
)
def test_a_config_that_claims_more_than_its_files_hold_takes_no_memory(
    copied, family: str, part: str, change: dict
) -> None:
    resource = pytest.importorskip("resource")
    folder = copied(family)
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    edit(folder / part / name, **change)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert part in refusal(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024


@pytest.mark.parametrize(
    "change",
    [
        {"defaults": [1]},
        {"defaults": None},
        {"defaults": {}},
        {"defaults": {"taps": 5}},
        {"untrained": "no"},
        {"scale": 7},
    ],
    ids=str,
)
def test_an_odd_card_is_named(copied, change: dict) -> None:
    folder = copied("flux")
    edit(folder / "mmdiff.json", **change)
    for ask in (describe_taps, load_backbone):
        with pytest.raises(InputError, match=r"mmdiff\.json"):
            ask(str(folder))


@pytest.mark.parametrize("key", ["steps", "text_tokens", "height", "frames", "guidance"])
@pytest.mark.parametrize("value", [-1, 10**30, 1.5, "x"])
def test_odd_defaults_are_named(copied, key: str, value: object) -> None:
    if (key, value) == ("guidance", 1.5) or (key != "text_tokens" and value == 10**30):
        pytest.skip("a fine guidance; the largest sizes are refused where they are used")
    folder = copied("flux")
    defaults = json.loads((folder / "mmdiff.json").read_text())["defaults"]
    edit(folder / "mmdiff.json", defaults=defaults | {key: value})
    with pytest.raises(InputError, match=r"mmdiff\.json"):
        describe_taps(str(folder))


@pytest.mark.parametrize(
    "content",
    [b"", b"[" * 100_000, b"\xff\xfe{", b"[1]", b'{"a": NaN}', b'"text"'],
    ids=["empty", "nested", "not UTF-8", "list", "NaN", "text"],
)
@pytest.mark.parametrize(
    "name",
    ["model_index.json", "mmdiff.json", "transformer/config.json", "text_encoder/config.json"],
)
def test_json_that_is_none_is_named(copied, name: str, content: bytes) -> None:
    folder = copied("wan")
    (folder / name).write_bytes(content)
    assert str(folder / name) in refusal(folder)
