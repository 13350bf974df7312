"""How well the predictor features tell, before a line is written, whether it will be right; beside simple rivals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from common.runs.artifacts import EVALUATION_RESULTS, EVALUATION_SUMMARY, SCORES
from common.wording import counted, p_value, percent
from report.blocks import Block, Details, Facts, Missing, Section, Text
from report.detection_tables import by_difficulty, by_temperature, confusion, rivals_table
from report.figures import drawn, published
from report.run import Run
from report.threshold_plot import threshold_plot
from report.wording import because, estimate_cell, estimated, partial_notes

ID, TITLE = "detection", "Can a feature tell beforehand whether the solution will be right?"
Report = Mapping[str, Any]

# Of each plot, what is shown and what of it must be known without seeing it.
FIGURES = {
    "roc_curves": (
        "ROC curves of both features and their rivals; bands hold the middle 95\u00a0% of random rivals' curves.",
        "ROC curves.",
    ),
    "precision_recall_curves": (
        "Precision against recall of both features and their rivals; chance has the share of positives.",
        "Precision–recall curves.",
    ),
    "f1_against_threshold": (
        "How the thresholds were found: F1 on the hyperparameter split at every threshold, and what the best one gives "
        "on the validation split, beside calling everything positive.",
        "F1 against the threshold.",
    ),
    "score_distributions": (
        "Activation of each feature at the last prompt token, before solutions that passed and that failed.",
        "Histograms of the activations of both classes.",
    ),
    "confusion_matrices": (
        "Confusion matrices at the chosen thresholds: counts, and shares of each true class.",
        "Confusion matrices; their counts stand in a table.",
    ),
}


def section(run: Run) -> Section | Missing | None:
    """Returns phase 3.8's figures on the validation split, each beside its trivial and its simple rivals."""
    missing = run.missing(ID, TITLE, "3.8")
    if missing is not None:
        return missing
    found = run.json("3.8", EVALUATION_RESULTS)
    directions = found["directions"].items()
    blocks: list[Block] = [*partial_notes(run, "3.8"), *_notes(found), _how(found), *_figure(run, found, "roc_curves")]
    blocks += [block for name, report in directions for block in _of_direction(name, report)]
    blocks += [*_figure(run, found, "precision_recall_curves"), *_figure(run, found, "f1_against_threshold")]
    blocks += [*_threshold_figure(run, found), *(confusion(name, report) for name, report in directions)]
    blocks += [by_difficulty(name, report) for name, report in directions]
    blocks += [
        Details(f"The {name}-preferring feature by temperature", (by_temperature(name, report),))
        for name, report in directions
    ]
    more = [block for name in ("score_distributions", "confusion_matrices") for block in _figure(run, found, name)]
    blocks.append(Details("Score distributions and confusion matrices", tuple(more)))
    blocks.append(Text(f"The same figures as text: {run.root('3.8') / EVALUATION_SUMMARY}", "note"))
    return Section(ID, TITLE, _lead(found), tuple(blocks))


def _lead(found: Report) -> str:
    return " ".join(_direction_words(name, report) for name, report in found["directions"].items())


def _direction_words(direction: str, report: Report) -> str:
    validation = report["validation"]
    auroc, feature = validation["auroc"], report["feature"]
    head = f"The {direction}-preferring feature (layer {feature['layer']}, feature {feature['index']})"
    if auroc["value"] is None:
        return f"{head} cannot be judged on {counted(validation['n'], 'solution')}: {auroc['reason']}."
    found = f"{head} {_verdict(auroc)}: AUROC {estimated(auroc)} on {counted(validation['n'], 'solution')}"
    return f"{found}. {_beside(report)}. {_f1_words(report)}"


def _verdict(auroc: Report) -> str:
    """Returns what an AUROC amounts to beside chance, which has 0.5."""
    if auroc["low"] is None:
        return "has no interval"
    if auroc["low"] > 0.5:
        return "does better than chance"
    if auroc["high"] < 0.5:
        return "does worse than chance"
    return "does no better than chance can explain"


def _beside(report: Report) -> str:
    regression, random = report["rivals"]["logistic regression"], report["rivals"]["random directions"]
    how = _ahead(regression["target_minus_median"])
    simple = f"A logistic regression on the same layer has {_value(regression['auroc']['median'], regression)} ({how})"
    if random["auroc"]["median"] is None:
        return f"{simple}, random directions {because(random['reason'])}"
    reach = f"{random['n_at_least_target']} of {random['n_scores']} random directions do as well"
    return f"{simple}, {reach} (median {random['auroc']['median']:.3f})"


def _value(value: float | None, rival: Report) -> str:
    return because(rival["reason"]) if value is None else f"{value:.3f}"


def _ahead(difference: Report | None) -> str:
    """Returns whether the feature is ahead of a rival, by the interval of the paired difference."""
    if difference is None or difference["value"] is None:
        return "no comparison can be made"
    if difference["low"] is None:
        return "the same" if difference["value"] == 0 else f"no interval: {difference['reason']}"
    if difference["low"] > 0:
        return "the feature is better"
    return "the feature is worse" if difference["high"] < 0 else "no difference can be told"


def _f1_words(report: Report) -> str:
    at, positive = report["validation"]["classification"], report["positive"]
    if at is None:
        return f"No threshold could be chosen: {report['threshold']['reason']}."
    if at["f1"] is None:
        return f"Its F1 is {because(at['reasons'].get('f1'))}."
    worth = "" if at["f1"] > at["f1_all_positive"] else ", so the threshold adds nothing"
    trivial = f"calling everything “{positive}” has {at['f1_all_positive']:.3f}"
    return f"At its threshold F1 is {at['f1']:.3f}; {trivial}{worth}."


def _notes(found: Report) -> Iterator[Text]:
    """Yields what a reader must know before believing the figures."""
    if found["predictor_note"]:
        yield Text(f"{found['predictor_note']}.", "warning")
    if found["site_given"]:
        yield Text("The residual stream was read at a site given by hand, not where the SAEs' metadata say.", "warning")
    for direction in found["features_given"]:
        words = f"The {direction}-preferring feature was given by hand, not chosen on the sae split."
        yield Text(words, "warning")
    for direction, report in found["directions"].items():
        left_out = report["validation"]["n_excluded"]
        if left_out:
            yield Text(f"{direction}: {counted(left_out, 'validation problem')} without a label left out.", "warning")


def _how(found: Report) -> Facts:
    splits, n = found["splits"], found["n"]
    return Facts(
        (
            ("features chosen on", f"{splits['features']} ({counted(n['sae'], 'problem')})"),
            ("thresholds chosen on", f"{splits['thresholds']} ({counted(n['hyperparams'], 'problem')})"),
            ("figures reported on", f"{splits['figures']} ({counted(n['validation'], 'problem')})"),
            ("score", "the feature's activation at the last prompt token, before anything is generated"),
            (
                "intervals",
                f"95\u00a0%, bootstrap over problems, {found['bootstrap_draws']:,} draws, seed {found['seed']}",
            ),
        )
    )


def _of_direction(direction: str, report: Report) -> list[Block]:
    head = f"The {direction}-preferring feature; positive: solutions that {report['positive']}. {_threshold(report)}"
    return [Text(head), rivals_table(direction, report), Text(_random_words(report), "note")]


def _threshold(report: Report) -> str:
    chosen = report["threshold"]
    if chosen["threshold"] is None:
        return f"No threshold was chosen: {chosen['reason']}."
    beside = f"everything positive: {chosen['f1_all_positive']:.3f}, n = {chosen['n']:,}"
    best = f"the highest F1 on the {chosen['split']} split, {chosen['f1']:.3f} ({beside})"
    return f"Its threshold, {chosen['threshold']:.4g}, has {best}."


def _random_words(report: Report) -> str:
    """Returns what random scores reach, which is what an AUROC of this size is worth."""
    parts = []
    for name in ("random directions", "matched random features"):
        rival = report["rivals"][name]
        if rival["auroc"]["median"] is None:
            parts.append(f"{name}: {because(rival['reason'])}")
            continue
        spread, k, n = rival["auroc"], rival["n_at_least_target"], rival["n_scores"]
        p = p_value((1 + k) / (1 + n))
        parts.append(
            f"{n} {name} have AUROC {spread['min']:.3f} to {spread['max']:.3f}, median {spread['median']:.3f}; "
            f"{k} of them reach the feature's (p = {p}, smallest possible {p_value(1 / (1 + n))}){_nearness(rival)}"
        )
    return f"What chance gives: {'. '.join(parts)}. Their signs, too, were chosen on the sae split."


def _nearness(rival: Report) -> str:
    settings = rival["settings"]
    if "firing_rate" not in settings:
        return ""
    own, median = percent(settings["firing_rate"], 0), percent(settings["median_firing_rate"], 0)
    return f"; the feature fires on {own} of the sae split, these on {median} (median)"


def _figure(run: Run, found: Report, name: str) -> tuple[Block, ...]:
    caption, alternative = FIGURES[name]
    n = f"Validation split, n = {found['n']['validation']:,}."
    return published(run, "3.8", f"{name}.svg", f"{caption} {n}", f"{alternative} {_alternative(found)}", suffix="")


def _alternative(found: Report) -> str:
    """Returns the figures of both features, for those who do not see the plots."""
    parts = []
    for direction, report in found["directions"].items():
        validation = report["validation"]
        ranking = f"AUROC {estimate_cell(validation['auroc']).text}"
        precision = f"average precision {estimate_cell(validation['average_precision']).text}"
        parts.append(f"{direction}-preferring feature: {ranking}, {precision}")
    return f"{'; '.join(parts)}."


def _threshold_figure(run: Run, found: Report) -> Iterator[Block]:
    if not any(report["threshold"]["threshold"] is not None for report in found["directions"].values()):
        return
    made = threshold_plot(run.table("3.8", SCORES), found)
    caption = (
        "Both features on the validation split at every threshold: F1, precision and recall with 95\u00a0% bands "
        f"(bootstrap over problems), n = {found['n']['validation']:,}. Vertical: the threshold that was chosen on the "
        "hyperparameter split; dashed: F1 of calling everything positive."
    )
    yield drawn(made, caption, f"Curves of F1, precision and recall by threshold. {_alternative(found)}")
