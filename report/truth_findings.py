"""The findings held against the planted truth of the bundled tiny model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from common.runs.artifacts import KNOWN_ANSWERS
from common.runs.files import read_json
from common.wording import percent, signed
from report.finding import Finding
from report.run import Run

SECTION = "known-answers"


def known_answers(run: Run) -> Mapping[str, Any] | None:
    """Returns what `known_answers.json` holds, None where there is none; a damaged one is a `PipelineError`."""
    path = run.data_dir / KNOWN_ANSWERS
    return read_json(path) if path.is_file() else None


def control_shares(entry: Mapping[str, Any]) -> list[float]:
    """Returns the controls' shares of breaks with the planted bug, in order, of those that broke anything."""
    beside = entry["control_problems"]["controls"].values()
    shares = [item["intended_share_of_breaks"]["value"] for item in beside]
    return sorted(share for share in shares if share is not None)


def truth(run: Run) -> Iterator[Finding]:
    """Yields the findings beside what was planted; nothing without `known_answers.json`."""
    answers = known_answers(run)
    if answers is None:
        return
    careful, careless = answers["pass_rate"]["careful"], answers["pass_rate"]["careless"]
    yield Finding(
        SECTION, "truth: asked with care", f"{_share(careful)} pass", f"n = {careful['n']}",
        control=f"asked carelessly: {_share(careless)}, n = {careless['n']}", headline=False,
    )  # fmt: skip
    yield from _in_sample(answers)
    yield from _held_out(answers.get("detection"))
    yield from planted(answers)


def _share(found: Mapping[str, Any]) -> str:
    return percent(found["rate"])


def _in_sample(answers: Mapping[str, Any]) -> Iterator[Finding]:
    for direction, item in answers["features"].items():
        care = f"rank correlation with carelessness {signed(item['spearman_with_carelessness'])}"
        yield Finding(
            SECTION,
            f"truth: {direction} feature",
            f"AUROC {item['auroc_for_label']:.3f} for the label; {care}",
            f"in-sample, n = {item['n']}",
            control=f"the wording cues allow {answers['ceiling']['auroc']:.3f}",
            headline=False,
        )


def _held_out(found: Mapping[str, Any] | None) -> Iterator[Finding]:
    if found is None:
        return
    for direction, item in found["features"].items():
        care = f"rank correlation with carelessness {signed(item['spearman_with_carelessness'])}"
        yield Finding(
            SECTION,
            f"truth: {direction} predictor",
            f"AUROC {item['auroc']['value']:.3f}, {item['share_of_ceiling']:.2f} of what the cues allow; {care}",
            f"n = {found['n']}",
            control=f"the wording cues allow {found['ceiling_auroc']:.3f}",
        )


def planted(answers: Mapping[str, Any]) -> Iterator[Finding]:
    """Yields how many of the broken solutions carry the planted bug, beside the controls'."""
    for phase, found in answers.get("steering", {}).items():
        entry = found["directions"]["incorrect"]
        own, shares = entry["control_problems"]["target"], control_shares(entry)
        controls = "no control broke anything" if entry["control_problems"]["controls"] else "no controls were run"
        if shares:
            span = f"{percent(shares[0], 0)} to {percent(shares[-1], 0)}, median {percent(median(shares), 0)}"
            controls = f"{len(shares)} controls {span}"
        known = own["intended_share_of_breaks"]["value"]
        if shares and known is not None and known <= shares[-1]:
            controls += "; not above every control"
        share = "" if known is None else f" ({percent(known, 0)})"
        yield Finding(
            SECTION,
            f"truth: steering, {found['model']['role']}",
            f"planted bug in {own['intended']} of {own['breaks']} breaks{share}, phase {phase}",
            f"n = {entry['control_problems']['n']}",
            control=controls,
            headline=phase == "4.8",
        )
