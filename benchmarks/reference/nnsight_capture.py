"""Generating and capturing with nnsight (Fiotto-Kaufman et al. 2024, arXiv 2407.14561), a reference of row P4.

It is not among this project's requirements: the row says so where it is not installed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

from benchmarks.reference.captured import Captured, stand_in_tokenizer
from benchmarks.workloads import Workload


def prepared(work: Workload, n_tokens: int) -> Callable[[str], Captured]:
    """Returns a function that generates `n_tokens` for a prompt in one trace; ImportError where nnsight is absent."""
    import nnsight  # type: ignore[import-not-found]

    tokenizer = work.loaded.tokenizer
    known = stand_in_tokenizer(tokenizer)
    model = copy.deepcopy(work.loaded.model)  # nnsight wraps its modules
    traced = nnsight.TransformersModel(model, tokenizer=known, task="text-generation")

    def capture(prompt: str) -> Captured:
        ids = tokenizer([prompt], return_tensors="pt")["input_ids"]
        with traced.generate(ids, max_new_tokens=n_tokens, min_new_tokens=n_tokens, do_sample=False) as tracer:
            kept = nnsight.save([layer.output[:, -1] for layer in traced.model.layers])
            made = tracer.result.save()
        return Captured(tuple(made[0, ids.shape[1] :].tolist()), [vector[0].tolist() for vector in kept])

    return capture
