"""The columns of every table that a phase publishes."""

from __future__ import annotations

from common.glossary.words import table

PROBLEM = {
    "task_id": "int64: number of the problem in its data set",
    "text": "text: what the problem asks for",
    "code": "text: the reference solution",
    "test_list": "list of text: assertions that a solution has to pass",
    "test_setup_code": "text: code that runs before the assertions",
    "cyclomatic_complexity": "int64: of the reference solution's most complex function",
}
SAMPLE = {
    "temperature": "float64: sampling temperature, 0 for greedy",
    "sample": "int32: number of the sample at this temperature, from 0",
}
GENERATED = {
    "prompt": "text: the prompt as the model was given it",
    "generated_text": "text: everything that was generated, without the prompt; null where excluded",
    "generated_code": "text: the solution cut from it; null where excluded",
}
VERDICT = {
    "test_passed": "bool: whether every assertion ran and held; null where excluded",
    "outcome": "text: passed, wrong_answer, exception, syntax_error, no_function, timeout, memory or crashed",
}
TESTED = {
    "sandbox_rung": "int32: how the code was isolated, 4 (most) to 0",
    "opaque": "bool: a value of the program's own type was compared, which counts as unequal",
    "error_message": "text: what the program raised, at most 300 characters",
    "tests_passed": "int32, assertions: how many held",
    "tests_total": "int32, assertions: how many there are",
    "n_prompt_tokens": "int32, tokens: length of the prompt, BOS included",
    "n_new_tokens": "int32, tokens: how many were generated",
    "stop_reason": "text: function_end (the solution is finished), eos or max_new_tokens",
}
EXCLUDED = {"excluded_reason": "text: why the generation was given up; null where it was not"}
POSITION = {"position": "int32: place of the problem in its split, from 0", "task_id": PROBLEM["task_id"]}
BATCH = {
    "batch_rows": "int32, rows: size of the batch that the row was generated in",
    "batch_seconds": "float64, s: wall seconds of that batch",
}
TESTING = {
    "cpu_seconds": "float64, s: CPU seconds of testing the solution",
    "wall_seconds": "float64, s: wall seconds of testing the solution",
    "peak_memory_mb": "float64, MiB: peak memory of testing the solution",
}
TRIES = {"tries": "int32: how often the generation was tried"}
CONDITION = {
    "condition": "text: name of the way of steering",
    "kind": "text: target, random_feature, random_direction, or zero (coefficient 0)",
    "direction": "text: correct or incorrect: whose layer and coefficient it has",
    "layer": "int32: layer that is steered",
    "feature_idx": "int64: feature whose decoder row is added; null for a random direction",
    "target_idx": "int64: the target, or the feature that a control stands beside",
    "draw": "int32: number of the control of its kind, from 0; null for the others",
    "coefficient": "float64: what the direction is multiplied by",
}
BASELINE = {
    "baseline_passed": "bool: whether the stored, unsteered solution passes",
    "baseline_code": "text: the stored, unsteered solution",
    "baseline_parses": "bool: whether that is Python",
    "left_out": "text: why the row enters no rate; null where it does",
}
SURVIVAL = {
    "failure_mode": "text: passed, no_code, syntax_broken, signature_broken, exception, wrong_answer or limit",
    "parses": "bool: whether the steered code is Python",
    "defines_function": "bool: whether it still defines the asked-for function",
    "keeps_signature": "bool: whether that function takes as many arguments as the reference's",
}
STEPS = {"steered_steps": "int32, passes: forward passes that were steered, counted in the hook"}
SCORED = {
    "layer": "int64: layer of the feature",
    "feature_idx": "int64: its place in the layer's SAE, from 0",
    "f_correct": "float64: share of correct problems on which it fires",
    "f_incorrect": "float64: share of incorrect problems on which it fires",
    "mean_activation_correct": "float64, activation: mean over the correct problems",
    "mean_activation_incorrect": "float64, activation: mean over the incorrect problems",
}
RANKING = {
    "general_text_frequency": "float64: share of general texts on which it fires; null where phase 2.2 was not run",
    "ranked": "bool: whether it takes part in the ranking (it is not common on general text)",
}
SEPARATION = {"separation_score": "float64: f_correct − f_incorrect"}
WELCH = {
    "t_statistic": "float64: Welch's t of the activation, correct against incorrect; null where both are constant",
    "auroc_in_sample": "float64: AUROC of the activation for correct, on these same problems; nothing is held out",
}
P_VALUES = {
    "p_value": "float64: the feature's own test (2.5: Fisher's exact; 2.10: Mann–Whitney); null for a constant feature",
    "q_value": "float64: Benjamini–Hochberg over every testable feature of every layer",
    "p_max_permutation_correct": "float64: p of the correct-preferring score against the largest under shuffled labels",
    "p_max_permutation_incorrect": "float64: the same, incorrect-preferring",
}
_RIVALS = {
    "logistic_regression": "log-odds of a logistic regression on the residual stream at that predictor's layer",
    "difference_of_class_means": "projection of that stream on the difference of class means",
    "prompt_length": "the prompt's length in tokens, signed on the sae split",
    "cyclomatic_complexity": "the complexity, signed on the sae split",
}


def _scores_of(direction: str) -> dict[str, str]:
    score = f"float64, activation: of the {direction}-preferring predictor at the last prompt token"
    rivals = {f"{direction}_rival_{name}": f"float64: {what}" for name, what in _RIVALS.items()}
    return {f"{direction}_score": score, **rivals}


DETECTED = {
    "split": "text: hyperparams (thresholds) or validation (figures)",
    "task_id": PROBLEM["task_id"],
    "test_passed": "bool: whether the greedy solution passes",
    "cyclomatic_complexity": PROBLEM["cyclomatic_complexity"],
    "n_prompt_tokens": "int64, tokens: length of the prompt, BOS included",
    **_scores_of("correct"),
    **_scores_of("incorrect"),
}

PROBLEMS = table(PROBLEM)
DATASET = table(PROBLEM, SAMPLE, GENERATED, VERDICT, TESTED, EXCLUDED)
TIMINGS = table(POSITION, SAMPLE, BATCH, TRIES, TESTING)
STEERING_TIMINGS = table(POSITION, {"condition": CONDITION["condition"]}, TRIES, BATCH, TESTING)
ACTIVATION_INDEX = table({"path": "text: file, below `activations/`", "sha256": "text: SHA-256 of the file"})
SEPARATION_SCORES = table(SCORED, RANKING, SEPARATION, P_VALUES)
WELCH_SCORES = table(SCORED, RANKING, WELCH, P_VALUES)
REPLICATION_SCORES = table(
    {name: SCORED[name] for name in ("layer", "feature_idx")}, SEPARATION, dict(list(SCORED.items())[2:])
)
DETECTION_SCORES = table(DETECTED)
STEERED = table(
    POSITION,
    {"cyclomatic_complexity": PROBLEM["cyclomatic_complexity"]},
    CONDITION,
    BASELINE,
    GENERATED,
    VERDICT,
    SURVIVAL,
    TESTED,
    STEPS,
    EXCLUDED,
)
