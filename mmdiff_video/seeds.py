"""Seeds that are the same on every machine and Python."""

import hashlib


def stable_seed(*parts: int | str) -> int:
    """Hash numbers and strings to a seed in [0, 2^63)."""
    digest = hashlib.blake2b(
        "\0".join(map(str, parts)).encode(errors="surrogatepass"), digest_size=8
    ).digest()
    return int.from_bytes(digest, "little") >> 1
