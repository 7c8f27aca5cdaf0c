"""Ways to break what is good: bytes, text and JSON values."""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

WORDS = (
    *(
        "",
        " ",
        "\t",
        "-",
        "--out",
        "=",
        ":",
        ",",
        ".",
        "..",
        "~",
        "/",
        "#",
        "%s",
        "{}",
        "[]",
        "[",
        "}",
    ),
    *("nan", "inf", "-inf", "1e400", "-1e400", "1e-400", "-0.0", "-1", "0", "1", "2", "0.5", "255"),
    *("256", "65536", "2147483648", "9223372036854775808", "9" * 30, "1" * 400, "1_000", "0x10"),
    *("1,5", "+5", "1e5", "1e-9", "\u0661\u0662", "\u00bd", "\u00b2", "true", "null", "None", "no"),
    *("../up", "../../etc/passwd", "/etc/passwd", "a/b", "a\\b", ".hidden", "con", "x" * 5000),
    *(
        "a\0b",
        "\0",
        "\u2028",
        "\x85",
        "\x0c",
        "\x1b[31m",
        "\u202e",
        "\ufeff",
        "e\u0301",
        "\U0001f600",
    ),
    *("${a}", "${oc.env:HOME}", "???", "&a", "*a", "!!python/object/apply:os.getcwd []", "'", '"'),
)
"""Words that readers stumble over."""

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 10**30, -(10**30), 0.5, -0.0, 1e308, 1e-308),
    *(float("nan"), float("inf"), "", "x", "0", "a\0b", "../up", "\ud800", "\u2028", "x" * 5000),
    *([], [[]], {}, {"": 0}, [None], ["x"], [1, 2], {"a": {"b": []}}),
)
"""JSON values in the place of others; NaN, infinity and lone surrogates are no JSON."""

_BOM = b"\xef\xbb\xbf"


def break_bytes(rng: random.Random, data: bytes, times: int | None = None) -> bytes:
    """Flip, cut, repeat, remove, overwrite or insert bytes, once or a few times."""
    for _ in range(rng.choice((1, 1, 1, 2, 4)) if times is None else times):
        data = rng.choice(_OF_BYTES)(rng, data)
    return data


def flip_bit(rng: random.Random, data: bytes) -> bytes:
    """Flip one bit."""
    if not data:
        return data
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def cut_short(rng: random.Random, data: bytes) -> bytes:
    """Keep the beginning only; often nearly all or nearly nothing."""
    if not data:
        return data
    most = rng.choice((len(data), min(len(data), 16)))
    left = rng.randrange(most)
    return data[:left] if rng.random() < 0.6 else data[: len(data) - 1 - left]


def _cut_out(rng: random.Random, data: bytes) -> bytes:
    start, end = _span(rng, data)
    return data[:start] + data[end:]


def _repeat(rng: random.Random, data: bytes) -> bytes:
    start, end = _span(rng, data)
    return data[:end] + data[start:]


def _overwrite(rng: random.Random, data: bytes) -> bytes:
    start, end = _span(rng, data, 8)
    new = rng.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * (end - start)
    return data[:start] + new + data[end:]


def _insert(rng: random.Random, data: bytes) -> bytes:
    place = rng.randint(0, len(data))
    new = rng.choice((rng.randbytes(rng.randint(1, 9)), rng.choice(WORDS).encode(), b"\0" * 64))
    return data[:place] + new + data[place:]


def _add(rng: random.Random, data: bytes) -> bytes:
    return data + rng.randbytes(rng.choice((1, 7, 4096)))


_OF_BYTES: Sequence[Callable[[random.Random, bytes], bytes]] = (
    *(flip_bit, flip_bit, cut_short, _cut_out, _repeat, _overwrite, _insert, _add),
)


def _span(rng: random.Random, data: bytes, most: int = 64) -> tuple[int, int]:
    start = rng.randint(0, len(data))
    return start, min(len(data), start + rng.randint(1, most))


def break_text(rng: random.Random, text: str, words: Sequence[str] = WORDS) -> bytes:
    """Break lines and words of a text, or its encoding."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        text = _break_words(rng, text, words)
    return encode(rng, text)


def encode(rng: random.Random, text: str) -> bytes:
    """Encode: mostly UTF-8, now and then as other programs do."""
    utf8 = text.encode("utf-8", "surrogatepass")
    match rng.randrange(14):
        case 0:
            return text.encode("latin-1", "replace")
        case 1:
            return text.encode("utf-16", "surrogatepass")
        case 2:
            return _BOM + utf8
        case 3:
            return break_bytes(rng, utf8)
        case 4:
            return utf8.replace(b"\n", b"\r\n")
    return utf8


def same_text(rng: random.Random, text: str, *, spaces: bool = True) -> bytes:
    """Write a text otherwise without changing what it says: byte order mark, line ends, spaces."""
    if spaces and rng.random() < 0.3:
        text = text.replace("\n", " \n")
    if rng.random() < 0.3:
        text += "\n\n"
    data = text.encode()
    if rng.random() < 0.3:
        data = data.replace(b"\n", b"\r\n")
    return _BOM + data if rng.random() < 0.3 else data


def _break_words(rng: random.Random, text: str, words: Sequence[str]) -> str:
    lines = text.split("\n")
    line = rng.randrange(len(lines))
    match rng.randrange(8):
        case 0:
            del lines[line]
        case 1:
            lines.insert(rng.randint(0, len(lines)), lines[line])
        case 2:
            lines.insert(line, rng.choice(words))
        case 3:
            other = rng.randrange(len(lines))
            lines[line], lines[other] = lines[other], lines[line]
        case 4:
            lines[line] = lines[line][: rng.randint(0, len(lines[line]))]
        case 5:
            place = rng.randint(0, len(lines[line]))
            lines[line] = lines[line][:place] + rng.choice(words) + lines[line][place:]
        case _:
            parts = lines[line].split(" ")
            parts[rng.randrange(len(parts))] = rng.choice(words)
            lines[line] = " ".join(parts)
    return "\n".join(lines)


def break_json(rng: random.Random, value: Any) -> bytes:
    """Break values somewhere in a JSON document, and write it; now and then break the writing."""
    for _ in range(rng.choice((1, 1, 2))):
        value = _break_value(rng, value)
    match rng.randrange(12):
        case 0:
            depth = rng.choice((50, 2000, 100_000))
            return b"[" * depth + b"]" * (depth if rng.random() < 0.5 else 0)
        case 1 | 2:
            return break_text(rng, json.dumps(value, indent=1))
    return encode(rng, json.dumps(value, ensure_ascii=rng.random() < 0.8))


def _break_value(rng: random.Random, value: Any) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        match rng.randrange(6):
            case 0:
                return {k: v for k, v in value.items() if k != key}
            case 1:
                return {**value, rng.choice(WORDS): rng.choice(VALUES)}
            case 2:
                return {(rng.choice(WORDS) if k == key else k): v for k, v in value.items()}
        return {**value, key: _break_value(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        match rng.randrange(4):
            case 0:
                return value[:place] + value[place + 1 :]
            case 1:
                return [*value[:place], value[place], *value[place:]]
        return [*value[:place], _break_value(rng, value[place]), *value[place + 1 :]]
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.4:
        return rng.choice((-value, value + 1, value * 2, float(value), str(value), [value]))
    return rng.choice(VALUES)
