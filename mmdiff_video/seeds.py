"""Seeds that are the same on every machine and Python."""

import hashlib


def stable_seed(*parts: int | str) -> int:
    """Hash anything to a 63-bit seed."""
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
