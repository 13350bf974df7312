"""Generation on CUDA at Gemma-2-2b's exact shape, bfloat16, random weights (P1, P2, P4, P5, P6).

Lengths are scripted from MBPP's references (`workloads`), since random weights never finish a function; the texts are
noise, so nothing is tested, and P1 is generation with capture alone: after a first pass, and in a new process with its
imports, its model (made, not read) and its captures. Where there is no CUDA device the rows say so. To see one new
process: `python -m benchmarks.cuda_rows`.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence

import torch

from benchmarks.apart import answer, measured_apart
from benchmarks.floors import copy_bandwidth, floor_seconds, token_bytes, wait, weight_bytes
from benchmarks.random_models import GEMMA_2_2B
from benchmarks.reference.one_at_a_time import TOKEN_LIMIT, generate_one
from benchmarks.steering_rows import COST_GOAL, cost_row, cost_words, sweep_row, sweep_words
from benchmarks.timing import Row, in_turn, not_measured, paired, seconds
from benchmarks.workloads import Workload, scripted, tokens_made
from common_simplified.generation import BatchResult

NO_DEVICE = "no CUDA device"
BATCHES = {97: 0.45, 388: 0.35}
MODULE = "benchmarks.cuda_rows"
SWEPT_PROBLEMS = (1, 8)
SWEEPS = {", eager decoding": (0.25, {"capture": None}), ", decoding with graphs": (0.6, {})}
CAPTURE_GOAL = 1.03
AGREEMENTS, ALONE = ("one prompt at a time", "eager decoding"), 32
REFERENCE_PROBLEMS, WARM_GOAL, COLD_GOAL = 2, 1000.0, 50.0


def cuda_rows(repeats: int) -> list[Row]:
    """Returns the rows of a GPU, each without a figure where there is none."""
    if not torch.cuda.is_available():
        return [not_measured(name, what, goal, NO_DEVICE) for name, what, goal in promised(GEMMA_2_2B.name)]
    return measured(scripted(GEMMA_2_2B, max(BATCHES), "cuda", torch.bfloat16), repeats)


def promised(name: str) -> list[tuple[str, str, str]]:
    """Returns name, subject and goal of each row that `measured` gives for a model called `name`."""
    return [
        ("P1", _procedure_words(name, min(BATCHES), "warm"), f"≥ {WARM_GOAL:,.0f}×"),
        ("P1", _procedure_words(name, min(BATCHES), "in a new process"), f"≥ {COLD_GOAL:,.0f}×"),
        *(("P2", _floor_words(name, rows), f"≥ {goal:.0%}") for rows, goal in BATCHES.items()),
        ("P4", _capture_words(name, min(BATCHES)), f"≤ {CAPTURE_GOAL}"),
        ("P5", cost_words(name), f"≥ {COST_GOAL}"),
        *(
            ("P6", sweep_words(name, count) + words, f"≤ {goal:g}")
            for words, (goal, _) in SWEEPS.items()
            for count in SWEPT_PROBLEMS
        ),
        *(("P2", _agreement_words(name, rows, what), "") for rows in BATCHES for what in AGREEMENTS),
    ]


def measured(whole: Workload, repeats: int) -> list[Row]:
    """Returns the rows of a workload of `max(BATCHES)` rows."""
    base = whole.first(min(BATCHES))
    warm = procedure_row(base, repeats)
    return [
        warm,
        cold_row(warm, base),
        *(floor_row(whole.first(rows), goal, repeats) for rows, goal in BATCHES.items()),
        capture_row(base, repeats),
        cost_row(base, repeats),
        *(
            sweep_row(whole.first(count), repeats, goal, words, **options)
            for words, (goal, options) in SWEEPS.items()
            for count in SWEPT_PROBLEMS
        ),
        *(row for rows in BATCHES for row in agreement_rows(whole.first(rows))),
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
    words, reached = _procedure_words(work.name, rows, "warm"), timed.ratio >= WARM_GOAL
    return Row("P1", words, timed.ratio, "×", f"≥ {WARM_GOAL:,.0f}×", reached, details, timed.ratios)


def cold_row(warm: Row, work: Workload) -> Row:
    """Returns row P1 for a new process: the reference's seconds a problem, over those of one that does nothing else."""
    rows = len(work.requests)
    took = seconds(lambda: measured_apart(MODULE, str(rows)))
    ratio = warm.details["reference_seconds"] / warm.details["reference_problems"] / (took / rows)
    details = {"problems": rows, "our_seconds": took}
    words = _procedure_words(work.name, rows, "in a new process")
    return Row("P1", words, ratio, "×", f"≥ {COLD_GOAL:,.0f}×", ratio >= COLD_GOAL, details)


def capture_row(work: Workload, repeats: int) -> Row:
    """Returns row P4: generating with capture of every layer, over generating without."""
    device, plain, capturing = work.loaded.device, work.engine(), work.engine(points=work.points)
    timed = in_turn(
        lambda: _waited(capturing.generate(work.requests), device),
        lambda: _waited(plain.generate(work.requests), device),
        repeats,
    )
    details = {"rows": len(work.requests), "layers": len(work.points), "with_seconds": timed.first}
    words = _capture_words(work.name, len(work.requests))
    return Row("P4", words, timed.ratio, "×", f"≤ {CAPTURE_GOAL}", timed.ratio <= CAPTURE_GOAL, details, timed.ratios)


def agreement_rows(work: Workload) -> list[Row]:
    """Returns what share of the tokens comes out the same otherwise, up to where each row first differs."""
    ours = work.engine().generate(work.requests).rows
    others = {
        "one prompt at a time": lambda: [work.engine().generate([one]).rows[0] for one in work.requests[:ALONE]],
        "eager decoding": lambda: work.engine(capture=None).generate(work.requests).rows,
    }
    assert tuple(others) == AGREEMENTS
    rows = []
    for what, make in others.items():
        pairs = [(one.tokens, other.tokens) for one, other in zip(ours, make(), strict=False)]
        agreeing = sum(common_start(one, other) for one, other in pairs)
        tokens = sum(len(one) for one, _ in pairs)
        details = {"rows": len(pairs), "tokens": tokens, "rows_that_agree": sum(one == other for one, other in pairs)}
        words = _agreement_words(work.name, len(work.requests), what)
        rows.append(Row("P2", words, 100 * agreeing / tokens, "%", "", None, details))
    return rows


def common_start(one: Sequence[int], other: Sequence[int]) -> int:
    """Returns how many tokens two rows have in common before they first differ."""
    return next((place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), len(one))


def generate_once(rows: int) -> dict[str, int]:
    """Generates with capture in this process, from the model on; returns how many tokens."""
    work = scripted(GEMMA_2_2B, rows, "cuda", torch.bfloat16)
    return {"tokens": tokens_made(_waited(work.engine(points=work.points).generate(work.requests), work.loaded.device))}


def _waited(result: BatchResult, device: torch.device) -> BatchResult:
    wait(device)
    return result


def _procedure_words(name: str, rows: int, how: str) -> str:
    return f"{name}: one prompt at a time / generation with capture, {rows} problems, {how}"


def _capture_words(name: str, rows: int) -> str:
    return f"{name}: generating with capture of every layer / without, batch {rows}"


def _agreement_words(name: str, rows: int, what: str) -> str:
    return f"{name}: tokens of batch {rows} that are those of {what}, until a row differs"


def _floor_words(name: str, rows: int) -> str:
    return f"{name}: useful tokens a second / the memory-bandwidth floor's, batch {rows}"


if __name__ == "__main__":
    sys.exit(answer(lambda: generate_once(int(sys.argv[1]))))
