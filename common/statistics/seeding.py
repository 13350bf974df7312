"""Random generators named by what they are for.

A generator depends on the seed and on its purpose only, never on what was drawn before: slices, resuming and the order
of the work leave every draw as it is. The bit generator (PCG64) is named, not left to numpy's default.
"""

from __future__ import annotations

import hashlib
import json
import operator

import numpy as np


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Returns the generator of `(seed, *purpose)`, the same on every platform and in every process.

    The parts are written as JSON before hashing (SHA-256), so that `("ab", "c")`, `("a", "bc")`, `1` and `"1"` differ.
    """
    parts = [operator.index(seed), *(part if isinstance(part, str) else operator.index(part) for part in purpose)]
    digest = hashlib.sha256(json.dumps(parts).encode("ascii")).digest()
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(int.from_bytes(digest, "big"))))
