"""What a run found, a row a finding: the closing table of the terminal and the report's summary are made of these.

Each row says of how many, with its interval, and stands beside its control and its trivial baseline where it has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from common.errors import PipelineError
from common.runs.artifacts import EVALUATION_RESULTS, TOP_FEATURES, PhasePaths
from common.statistics.summaries import wilson_interval
from common.wording import NOT_DEFINED, counted, interval, p_value, percent, signed_interval
from report.finding import Finding, f1_words, rate_words
from report.pathway_results import pathway_results
from report.run import Run
from report.steering_findings import coefficients, instruct, steering, transfer
from report.truth_findings import truth


def findings(run: Run) -> list[Finding]:
    """Returns what the published phases found, in order of the phases; of a damaged file a row says so."""
    found: list[Finding] = []
    for part in _parts():
        try:
            found += part(run)
        except PipelineError as error:
            found.append(Finding("provenance", "cannot be shown", " ".join(str(error).split()), ""))
    return found


def _parts() -> tuple[Callable[[Run], Iterable[Finding]], ...]:
    return (
        *(_problems, _passes, _fit, _features, _temperatures, _detection),
        *(coefficients, partial(steering, phase="4.8"), instruct, partial(steering, phase="7.6"), transfer),
        *(_pathway, truth),
    )


def _problems(run: Run) -> Iterator[Finding]:
    analysed, split = run.record("0"), run.record("0.1")
    if analysed is not None:
        figures = analysed["cyclomatic_complexity"]
        found = f"complexity {figures['minimum']} to {figures['maximum']}, mean {figures['mean']:.2f}"
        yield Finding("difficulty", "difficulty", found, counted(figures["n"], "problem"), headline=False)
    if split is not None:
        sizes = " / ".join(str(size) for size in split["sizes"].values())
        alike = f"largest KS distance {max(split['ks_distance'].values()):.3f}"
        yield Finding("difficulty", "splits", f"{sizes} ({' / '.join(split['sizes'])})", alike, headline=False)


def _passes(run: Run) -> Iterator[Finding]:
    record = run.record("1.0")
    if record is None:
        return
    found = next(iter(record["results"].values()))
    low, high = wilson_interval(found["passed"], found["judged"])
    n = counted(found["judged"], "problem")
    yield Finding("solutions", "pass rate, sae split", rate_words({**found, "low": low, "high": high}), n)
    others = ", ".join(f"{count} {name}" for name, count in sorted(found["outcomes"].items()) if name != "passed")
    yield Finding("solutions", "failures", others.replace("_", " ") or "none", n, headline=False)


def _fit(run: Run) -> Iterator[Finding]:
    name = PhasePaths(run.root("1.0")).sae_fit.name
    if not run.has("1.0", name):
        return
    layers = run.json("1.0", name)["layers"]
    own = [entry["fraction_unexplained"] for entry in layers]
    beside = [item["fraction_unexplained"] for entry in layers for item in entry["neighbours"]]
    better = sum(_fits(entry) for entry in layers)
    yield Finding(
        "sae-fit",
        "SAE fit",
        f"{_span(own)} of the variance unexplained in {counted(len(layers), 'layer')}",
        counted(min((entry["n_tokens"] for entry in layers), default=0), "token"),
        control=f"one block away {_span(beside)}",
        ahead=f"the declared site fits better in {better} of {len(layers)} layers",
    )


def _fits(entry: Mapping[str, Any]) -> bool:
    own = entry["fraction_unexplained"]
    beside = [item["fraction_unexplained"] for item in entry["neighbours"]]
    return own is not None and all(other is None or own < other for other in beside)


def _span(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return NOT_DEFINED
    low, high = f"{min(known):.3f}", f"{max(known):.3f}"
    return low if low == high else f"{low} to {high}"


def _features(run: Run) -> Iterator[Finding]:
    record = run.record("2.5")
    if record is None:
        return
    n = f"n = {record['n_correct']} + {record['n_incorrect']}"
    for direction, items in run.json("2.5", TOP_FEATURES).items():
        for item in items[:1]:
            fires = (
                f"fires on {percent(item['f_correct'], 0)} of correct, {percent(item['f_incorrect'], 0)} of incorrect"
            )
            yield Finding(
                "features",
                f"best {direction} feature",
                f"layer {item['layer']}, feature {item['feature_idx']}: {fires} (score {item['separation_score']:.2f})",
                n,
                control="the best of all features under shuffled labels",
                ahead=f"max-permutation p {p_value(item['p_max_permutation'])}",
            )


def _temperatures(run: Run) -> Iterator[Finding]:
    record = run.record("3.5")
    if record is None:
        return
    arms = record["results"].values()
    rates = ", ".join(NOT_DEFINED if arm["pass_rate"] is None else percent(arm["pass_rate"]) for arm in arms)
    counts = ", ".join(str(arm["judged"]) for arm in arms)
    temperatures = ", ".join(f"{temperature:g}" for temperature in record["temperatures"])
    found = f"{rates} at temperatures {temperatures}"
    yield Finding("temperature", "pass rate, validation", found, f"n = {counts}", headline=False)


def _detection(run: Run) -> Iterator[Finding]:
    if not run.has("3.8", EVALUATION_RESULTS):
        return
    for report in run.json("3.8", EVALUATION_RESULTS)["directions"].values():
        feature, validation = report["feature"], report["validation"]
        f1, all_so = f1_words(report["positive"], validation["classification"])
        yield Finding(
            "detection",
            f"detector of {report['positive']}",
            f"layer {feature['layer']}, feature {feature['index']}: AUROC {interval(validation['auroc'])}{f1}",
            f"n = {validation['n']}",
            control=_rival_words(report["rivals"]),
            ahead=_ahead(report["rivals"]["random directions"]),
            trivial=all_so,
        )


def _rival_words(rivals: Mapping[str, Any]) -> str:
    random, regression = rivals["random directions"], rivals["logistic regression"]
    parts = []
    if random["auroc"]["median"] is not None:
        parts.append(f"random directions {random['auroc']['median']:.3f} in the median")
    if regression["auroc"]["median"] is not None:
        parts.append(f"logistic regression {regression['auroc']['median']:.3f}")
    return ", ".join(parts) or NOT_DEFINED


def _ahead(random: Mapping[str, Any]) -> str:
    lead = random["target_minus_median"]
    return "" if lead is None or lead["value"] is None else f"ahead of random by {signed_interval(lead)}"


def _pathway(run: Run) -> Iterator[Finding]:
    results = pathway_results(run.config)
    if results is None or not results.whole:
        return
    document = results.json("integrated.json")
    count, null = document["counts"], document["metadata"]["matched_null"]
    kinds = f"{count['edges_computation']} computation, {count['edges_persistence']} persistence"
    measured = None if null is None else null["false_positive_rate"]
    control = "not measured"
    if measured is not None and measured["value"] is not None:
        control = f"matched sources that pass the same rule: {measured['numerator']} of {measured['denominator']}"
    yield Finding(
        "pathway",
        "pathway edges",
        f"{count['edges_validated']} validated ({kinds})",
        f"{count['edges_tested']} replayed",
        control=control,
    )
