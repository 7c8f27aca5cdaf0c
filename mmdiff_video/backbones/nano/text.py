"""Small tokenizers of the classes that the families use, made without any download."""

import json
import string
from pathlib import Path
from typing import Any

# Frequent words of captions, most frequent first; every other word is spelt letter by letter.
WORDS = """
a the of and in with on is to an at from by for it its this that are as or no not one two three
four five six many few some all photo photograph picture image video frame clip film scene view
camera real place room house home kitchen bedroom bathroom living dining hall office garden street
city town road park forest beach sea lake river mountain hill field sky cloud sun rain snow night
day morning evening light dark bright shadow indoor outdoor inside outside front back left right
top bottom under over above below near far behind between around along through into across next
wall floor ceiling window door stairs table chair sofa couch bed lamp shelf cabinet mirror carpet
curtain plant tree flower grass leaf rock stone water fire wood metal glass paper brick tile cloth
man woman person people child boy girl hand face head eye hair dog cat bird horse cow sheep fish
car bus truck train plane boat bicycle bike motorcycle ball box bottle cup bowl plate book phone
screen computer keyboard clock bag hat shirt shoe food bread fruit apple orange cake
red green blue yellow white black gray brown pink purple golden silver color colour colorful
big small large little tall short long wide narrow round square flat empty full open closed old new
modern wooden beautiful clean soft hard warm cold quiet high low deep
cube sphere cylinder cone plane shape object surface texture pattern stripe checker edge corner
detail background foreground depth distance salient contour main subject
walking running standing sitting lying looking holding moving turning flying playing riding driving
slowly quickly forward backward filmed filming shot taken seen made painted covered surrounded
walls grey against there side we see has free patterned striped checked dotted zigzag plaid
knitted mottled tiled woven carpeted panelled potted hanging dusty pale teal beige cream lavender
peach sage mint burgundy navy olive slate ochre rose turquoise maroon coral plank marble parquet
terracotta terrazzo concrete ceramic leather cardboard birch oak pine mahogany walnut vase
curtains painting rug bookshelf chest armchair coffee stool television dresser nightstand
sideboard wardrobe desk monitor
style realistic sharp blurry close wide angle aerial static handheld smooth motion movement
""".split()  # noqa: SIM905 (a list literal would take 320 lines)


def unigram_tokenizer() -> Any:
    """Build the T5 kind: a Unigram model over caption words and printable characters."""
    from tokenizers import (
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
    )
    from transformers import T5TokenizerFast  # pyright: ignore[reportAttributeAccessIssue]

    words = list(dict.fromkeys(WORDS))
    characters = string.ascii_lowercase + string.digits + string.punctuation
    # Log-probabilities: any listed word beats its spelling; a suffix beats its letters.
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [(f"▁{word}", -3.0 - 3.0 * rank / len(words)) for rank, word in enumerate(words)]
    pieces += [(suffix, -7.0) for suffix in ("ing", "ed", "er", "ly", "es")]
    pieces += [(character, -8.0) for character in "▁" + characters]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    # CLIP's tokenizer does so too; "A lamp" must not be spelt
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    # Only through the T5 class: a bare PreTrainedTokenizerFast does not load back as one.
    return T5TokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_ids=0,
        additional_special_tokens=[],
    )


def clip_tokenizer(folder: Path) -> Any:
    """Build the CLIP kind: byte-level BPE whose merges make the caption words.

    Args:
        folder: where the two vocabulary files are written, which the class reads.
    """
    from tokenizers import pre_tokenizers
    from transformers import CLIPTokenizer

    merges: list[tuple[str, str]] = []
    for word in dict.fromkeys(WORDS):
        symbols = [*word[:-1], f"{word[-1]}</w>"]
        for merge in merges:
            symbols = _merged(symbols, merge)
        while len(symbols) > 1:
            merges.append((symbols[0], symbols[1]))
            symbols = _merged(symbols, merges[-1])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = [*alphabet, *(f"{byte}</w>" for byte in alphabet)]
    vocabulary += [left + right for left, right in merges]
    vocabulary = [*dict.fromkeys(vocabulary), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, merges)]) + "\n")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=77)


def _merged(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    for symbol in symbols:
        if out and (out[-1], symbol) == pair:
            out[-1] += symbol
        else:
            out.append(symbol)
    return out
