"""Generation: how soon it stops (P3), and what capturing every layer costs (P4), beside TransformerLens and nnsight."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.reference import nnsight_capture, transformer_lens_capture
from benchmarks.reference.captured import Captured
from benchmarks.timing import Row, in_turn, not_measured
from benchmarks.workloads import Workload, middle, tiny, tokens_made
from common.execution.extraction import extract_code
from common_simplified.generation import GenerationEngine, Request

TINY_ROWS = 128
REFERENCE_TOKENS = 48
PAIRS = 3  # for each repeat asked for: a few per cent are to be told from noise
CAPTURE_GOAL = "≤ 1.03"
REFERENCES: tuple[tuple[str, Callable[[Workload, int], Callable[[str], Captured]]], ...] = (
    ("TransformerLens", transformer_lens_capture.prepared),
    ("nnsight", nnsight_capture.prepared),
)


def generation_rows(repeats: int) -> list[Row]:
    """Returns row P3 for the tiny model, and rows P4 for it and for a mid-size random one."""
    small, mid = tiny(TINY_ROWS), middle()
    rows = [stopping_row(small)]
    for work in (small, mid):
        rows.append(capture_row(work, repeats))
        rows += [reference_row(work, name, prepare, repeats) for name, prepare in REFERENCES]
    return rows


def stopping_row(work: Workload) -> Row:
    """Returns row P3: new tokens over tokens up to the end of the extracted program (all where there is none)."""
    made = needed = 0
    for problem, row in zip(work.problems, work.engine().generate(work.requests).rows, strict=True):
        made += len(row.tokens)
        needed += len(work.loaded.tokenizer(up_to_program(row.text, problem.entry_point), add_special_tokens=False)[0])
    ratio = made / needed
    details = {"problems": len(work.requests), "tokens": made, "tokens_needed": needed}
    what = f"{work.name}: tokens generated / tokens up to the program's end"
    return Row("P3", what, ratio, "×", "≤ 1.15", ratio <= 1.15, details)


def up_to_program(text: str, entry_point: str) -> str:
    """Returns a completion up to the last line of the program that is extracted from it."""
    last_line = extract_code(text, entry_point=entry_point).rstrip().rsplit("\n", 1)[-1]
    return text[: text.find(last_line) + len(last_line)] if last_line else text


def capture_row(work: Workload, repeats: int) -> Row:
    """Returns row P4: seconds of generating with capture of every layer over seconds without."""
    plain, capturing = work.engine(), work.engine(points=work.points)
    timed = in_turn(lambda: capturing.generate(work.requests), lambda: plain.generate(work.requests), PAIRS * repeats)
    details = {
        **{"problems": len(work.requests), "lengths": work.lengths, "layers": len(work.points)},
        **{"with_seconds": timed.first, "without_seconds": timed.second, "cpu_ratio": timed.cpu_ratio},
        "tokens": tokens_made(plain.generate(work.requests)),
    }
    what = f"{work.name}: generating with capture of every layer / without"
    return Row("P4", what, timed.ratio, "×", CAPTURE_GOAL, timed.ratio <= 1.03, details, timed.ratios)


def reference_row(
    work: Workload, name: str, prepare: Callable[[Workload, int], Callable[[str], Captured]], repeats: int
) -> Row:
    """Returns what `name` takes to generate and capture one prompt, over what the engine takes for the same tokens."""
    what = f"{work.name}: {name} / ours, one prompt, {REFERENCE_TOKENS} tokens, capture of every layer"
    try:
        reference = prepare(work, REFERENCE_TOKENS)
    except ImportError:
        return not_measured("P4", what, "", f"{name} is not installed")
    prompt = work.requests[0].prompt
    engine = GenerationEngine(work.loaded, max_new_tokens=REFERENCE_TOKENS, points=work.points)
    request = Request(prompt, never)
    timed = in_turn(lambda: reference(prompt), lambda: engine.generate([request]), repeats)
    ours, theirs = engine.generate([request]), reference(prompt)
    same = agreement([ours.captured[point][0].tolist() for point in work.points], theirs.vectors)
    details = {
        **{"reference_seconds": timed.first, "our_seconds": timed.second, "cpu_ratio": timed.cpu_ratio},
        **{"same_tokens": ours.rows[0].tokens == theirs.tokens, "largest_difference": same},
    }
    return Row("P4", what, timed.ratio, "×", "", None, details, timed.ratios)


def agreement(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> float:
    """Returns the largest difference of two sets of vectors, in units of the largest value."""
    pairs = [pair for one, other in zip(ours, theirs, strict=True) for pair in zip(one, other, strict=True)]
    return max(abs(one - other) for one, other in pairs) / max(abs(one) for one, _ in pairs)


def never(text: str) -> bool:  # noqa: ARG001
    """Says that a row is not finished, whatever it holds."""
    return False
