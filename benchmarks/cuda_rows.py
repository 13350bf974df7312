"""Generation on CUDA at Gemma-2-2b's exact shape, bfloat16, random weights (P1, P2, P5, P6).

Lengths are scripted from MBPP's references (`workloads`), since random weights never finish a function; the texts are
noise, so nothing is tested, and P1 is generation with capture alone, after a first pass. Where there is no CUDA device
the rows say so.
"""

from __future__ import annotations

import statistics

import torch

from benchmarks.floors import copy_bandwidth, floor_seconds, token_bytes, wait, weight_bytes
from benchmarks.random_models import GEMMA_2_2B
from benchmarks.reference.one_at_a_time import TOKEN_LIMIT, generate_one
from benchmarks.steering_rows import COST_GOAL, cost_row, cost_words, sweep_row, sweep_words
from benchmarks.timing import Row, not_measured, paired, seconds
from benchmarks.workloads import Workload, scripted, tokens_made

NO_DEVICE = "no CUDA device"
BATCHES = {97: 0.45, 388: 0.35}
SWEPT_PROBLEMS, SWEEP_GOAL = (1, 8), 0.25
REFERENCE_PROBLEMS, WARM_GOAL = 2, 1000.0


def cuda_rows(repeats: int) -> list[Row]:
    """Returns the rows of a GPU, each without a figure where there is none."""
    if not torch.cuda.is_available():
        return [not_measured(name, what, goal, NO_DEVICE) for name, what, goal in promised(GEMMA_2_2B.name)]
    return measured(scripted(GEMMA_2_2B, max(BATCHES), "cuda", torch.bfloat16), repeats)


def promised(name: str) -> list[tuple[str, str, str]]:
    """Returns name, subject and goal of each row that `measured` gives for a model called `name`."""
    return [
        ("P1", _procedure_words(name, min(BATCHES)), f"≥ {WARM_GOAL:,.0f}×"),
        *(("P2", _floor_words(name, rows), f"≥ {goal:.0%}") for rows, goal in BATCHES.items()),
        ("P5", cost_words(name), f"≥ {COST_GOAL}"),
        *(("P6", sweep_words(name, count), f"≤ {SWEEP_GOAL:g}") for count in SWEPT_PROBLEMS),
    ]


def measured(whole: Workload, repeats: int) -> list[Row]:
    """Returns the rows of a workload of `max(BATCHES)` rows."""
    base = whole.first(min(BATCHES))
    return [
        procedure_row(base, repeats),
        *(floor_row(whole.first(rows), goal, repeats) for rows, goal in BATCHES.items()),
        cost_row(base, repeats),
        *(sweep_row(whole.first(count), repeats, SWEEP_GOAL) for count in SWEPT_PROBLEMS),
    ]


def floor_row(work: Workload, goal: float, repeats: int) -> Row:
    """Returns row P2: the floor's seconds over the measured ones, all rows in one batch."""
    engine, device, model = work.engine(), work.loaded.device, work.loaded.model
    made = engine.generate(work.requests).rows
    timed = [seconds(lambda: _waited(engine.generate(work.requests), device)) for _ in range(repeats)]
    speed = copy_bandwidth(device)
    prompts, lengths = [row.n_prompt_tokens for row in made], [len(row.tokens) for row in made]
    floor = floor_seconds(prompts, lengths, weight_bytes(model), token_bytes(model), speed)
    median = statistics.median(timed)
    share = 100 * floor / median
    details = {
        **{"rows": len(lengths), "lengths": work.lengths, "tokens": sum(lengths), "longest": max(lengths)},
        **{"seconds": median, "floor_seconds": floor, "tokens_a_second": sum(lengths) / median},
        **{"milliseconds_a_step": 1000 * median / max(lengths), "copied_gb_a_second": speed / 1e9},
        "peak_gb": torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None,
    }
    words, shares = _floor_words(work.name, len(lengths)), tuple(100 * floor / item for item in timed)
    return Row("P2", words, share, "%", f"≥ {goal:.0%}", share >= 100 * goal, details, shares)


def procedure_row(work: Workload, repeats: int) -> Row:
    """Returns row P1 for generation and capture: seconds a problem one prompt at a time, over ours, both warm."""
    engine, few, device = work.engine(points=work.points), work.first(REFERENCE_PROBLEMS), work.loaded.device
    made = tokens_made(engine.generate(work.requests))
    generate_one(few.loaded, few.requests[0].prompt, few.points, 8)

    def reference() -> None:
        for request in few.requests:
            generate_one(few.loaded, request.prompt, few.points, TOKEN_LIMIT)

    pairs = [
        (seconds(reference), seconds(lambda: _waited(engine.generate(work.requests), device))) for _ in range(repeats)
    ]
    rows = len(work.requests)
    timed = paired(pairs, rows / len(few.requests))
    details = {
        **{"problems": rows, "lengths": work.lengths, "tokens": made, "our_seconds": timed.second},
        **{"reference_problems": len(few.requests), "reference_tokens_each": TOKEN_LIMIT},
        "reference_seconds": timed.first,
    }
    words, reached = _procedure_words(work.name, rows), timed.ratio >= WARM_GOAL
    return Row("P1", words, timed.ratio, "×", f"≥ {WARM_GOAL:,.0f}×", reached, details, timed.ratios)


def _waited(result: object, device: torch.device) -> object:
    wait(device)
    return result


def _procedure_words(name: str, rows: int) -> str:
    return f"{name}: one prompt at a time / generation with capture, {rows} problems, warm"


def _floor_words(name: str, rows: int) -> str:
    return f"{name}: useful tokens a second / the memory-bandwidth floor's, batch {rows}"
