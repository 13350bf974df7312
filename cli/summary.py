"""The table that closes a pipeline run: what was found, with n and intervals, and where to look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cli.steering_summary import coefficients, instruct, interval, planted, steering, transfer
from common.config import Config
from common.phases import phase_ids
from common.runs.artifacts import EVALUATION_RESULTS, KNOWN_ANSWERS, TOP_FEATURES, PhasePaths
from common.runs.discovery import published_json
from common.runs.files import read_json
from common.runs.metadata import read_record
from common.text_table import text_table

Row = tuple[str, str, str]


def summary(config: Config) -> str:
    """Returns the closing table of whatever phases are published."""
    records = {phase: read_record(PhasePaths(config.phase_dir(phase))) for phase in phase_ids()}
    rows: list[Row] = []
    if records["0"]:
        rows.append(_difficulty(records["0"]))
    if records["0.1"]:
        rows.append(_splits(records["0.1"]))
    if records["1.0"]:
        rows.extend(_passes(records["1.0"]))
        rows.extend(_fit(PhasePaths(config.phase_dir("1.0"))))
    if records["2.5"]:
        rows.extend(_features(PhasePaths(config.phase_dir("2.5"))))
    if records["3.5"]:
        rows.extend(_temperatures(records["3.5"]))
    if records["3.8"]:
        rows.extend(_detection(PhasePaths(config.phase_dir("3.8"))))
    rows.extend(_steered(config, records))
    rows.extend(_truth(config))
    where = ["", "Where to look", *(f"  {line}" for line in _places(config, records))]
    return "\n".join(["", text_table(rows, ("what", "found", "of / how sure")), *where])


def _steered(config: Config, records: dict[str, Any]) -> list[Row]:
    rows: list[Row] = []
    if records["4.5"]:
        rows.extend(coefficients(PhasePaths(config.phase_dir("4.5"))))
    if records["4.8"]:
        rows.extend(steering(PhasePaths(config.phase_dir("4.8")), "base"))
    if records["7.3"]:
        rows.extend(instruct(records["7.3"]))
    if records["7.6"]:
        rows.extend(steering(PhasePaths(config.phase_dir("7.6")), "instruct"))
        rows.extend(transfer(PhasePaths(config.phase_dir("7.6"))))
    return rows


def _difficulty(record: dict[str, Any]) -> Row:
    figures = record["cyclomatic_complexity"]
    return (
        "difficulty",
        f"complexity {figures['minimum']} to {figures['maximum']}, mean {figures['mean']:.2f}",
        (f"{figures['n']} problems"),
    )


def _splits(record: dict[str, Any]) -> Row:
    sizes = " / ".join(str(size) for size in record["sizes"].values())
    return "splits", f"{sizes} ({' / '.join(record['sizes'])})", f"largest KS {max(record['ks_distance'].values()):.3f}"


def _passes(record: dict[str, Any]) -> list[Row]:
    from common.statistics.summaries import wilson_interval

    found = next(iter(record["results"].values()))
    share = wilson_interval(found["passed"], found["judged"])
    others = ", ".join(f"{count} {name}" for name, count in sorted(found["outcomes"].items()) if name != "passed")
    return [
        (
            "pass rate",
            f"{found['pass_rate']:.1%}",
            f"{found['passed']} of {found['judged']}, 95 % [{share.low:.1%}, {share.high:.1%}]",
        ),
        ("failures", others or "none", ""),
    ]


def _fit(paths: PhasePaths) -> list[Row]:
    if not paths.sae_fit.is_file():
        return []
    report = published_json(paths, paths.sae_fit.name)
    rows = []
    for entry in report["layers"]:
        beside = ", ".join(f"{item['fraction_unexplained']:.2f}" for item in entry["neighbours"])
        rows.append(
            (
                f"SAE fit, layer {entry['layer']}",
                f"{entry['fraction_unexplained']:.3f} unexplained (a block away: {beside})",
                f"{entry['n_tokens']} tokens, L0 {entry['mean_l0']:.1f}, dead {entry['dead_share']:.1%}",
            )
        )
    return rows


def _features(paths: PhasePaths) -> list[Row]:
    rows = []
    for direction, items in published_json(paths, TOP_FEATURES).items():
        for item in items[:1]:
            rows.append(
                (
                    f"best {direction}-preferring",
                    f"layer {item['layer']} feature {item['feature_idx']}: fires on {item['f_correct']:.0%} of "
                    f"correct, {item['f_incorrect']:.0%} of incorrect",
                    f"score {item['separation_score']:.2f}, max-permutation p {item['p_max_permutation']:.3f}",
                )
            )
    return rows


def _temperatures(record: dict[str, Any]) -> list[Row]:
    found = record["results"].values()
    rates = ", ".join(f"{item['pass_rate']:.0%}" for item in found)
    counts = ", ".join(str(item["judged"]) for item in found)
    temperatures = ", ".join(f"{temperature:g}" for temperature in record["temperatures"])
    return [("validation pass rate", rates, f"at temperatures {temperatures}; n = {counts}")]


def _detection(paths: PhasePaths) -> list[Row]:
    rows = []
    for report in published_json(paths, EVALUATION_RESULTS)["directions"].values():
        feature, validation = report["feature"], report["validation"]
        name = f"layer {feature['layer']} feature {feature['index']}"
        rows.append(
            (
                f"detector of {report['positive']}",
                f"{name}: AUROC {interval(validation['auroc'])}",
                f"n = {validation['n']}",
            )
        )
        at = validation["classification"]
        if at is not None and at["f1"] is not None:
            trivial = f"calling everything {report['positive']}: {at['f1_all_positive']:.3f}"
            rows.append(("", f"F1 {at['f1']:.3f}, balanced accuracy {at['balanced_accuracy']:.3f}", trivial))
        rivals = report["rivals"]
        simple = rivals["logistic regression"]["detection"]["auroc"]["value"]
        random = rivals["random directions"]["auroc"]["median"]
        if simple is not None and random is not None:
            ahead = interval(rivals["random directions"]["target_minus_median"])
            text = f"rivals: regression {simple:.3f}, random directions {random:.3f}"
            rows.append(("", text, f"ahead of random by {ahead}"))
    return rows


def _truth(config: Config) -> list[Row]:
    path = Path(config.data_dir) / KNOWN_ANSWERS
    if not path.is_file():
        return []
    answers = read_json(path)
    careful, careless = answers["pass_rate"]["careful"], answers["pass_rate"]["careless"]
    rows = [
        (
            "truth: asked with care",
            f"{careful['rate']:.1%} pass (n = {careful['n']})",
            f"without: {careless['rate']:.1%} (n = {careless['n']})",
        )
    ]
    for direction, item in answers["features"].items():
        rows.append(
            (
                f"truth: {direction} feature",
                f"AUROC {item['auroc_for_label']:.3f} for the label, cues allow {answers['ceiling']['auroc']:.3f}",
                f"rank correlation with carelessness {_signed(item['spearman_with_carelessness'])}, in-sample, "
                f"n = {item['n']}",
            )
        )
    for direction, item in answers.get("detection", {}).get("features", {}).items():
        ceiling, n = answers["detection"]["ceiling_auroc"], answers["detection"]["n"]
        share = f"{item['share_of_ceiling']:.2f} of what the cues allow ({ceiling:.3f})"
        correlation = f"rank correlation {_signed(item['spearman_with_carelessness'])}, n = {n}"
        rows.append((f"truth: {direction}, held out", f"AUROC {item['auroc']['value']:.3f}, {share}", correlation))
    return [*rows, *planted(answers)]


def _signed(value: float | None) -> str:
    return "not defined" if value is None else f"{value:+.2f}"


def _places(config: Config, records: dict[str, Any]) -> list[str]:
    names = {
        "0": "difficulty of every problem, with a histogram",
        "1.0": "prompts, solutions, labels, activations, SAE fit",
        "2.5": "top_20_features.json, feature_scores.parquet and plots",
        "3.5": "solutions at every temperature, with a plot",
        "3.8": "evaluation_summary.txt, ROC and threshold curves",
        "4.5": "what each coefficient did, with diffs of every solution",
        "4.8": "steering against its controls, with examples and plots",
        "7.3": "the instruction-tuned model's solutions and activations",
        "7.6": "steering it, and cross_model_comparison.json with a plot",
    }
    lines = [f"{config.phase_dir(phase)}/  {text}" for phase, text in names.items() if records[phase]]
    known = Path(config.data_dir) / KNOWN_ANSWERS
    return [*lines, *([f"{known}  the findings against the planted truth"] if known.is_file() else [])]
