from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import binom, spearmanr

from experiment_pathway_token_analysis.src.edge_tests import Effects, class_composition, similarity, word_effects
from experiment_pathway_token_analysis.src.token_results import EFFECTS
from tests.experiment_pathway_token_analysis.token_fixtures import association, edge

pytestmark = pytest.mark.numeric

CONTRAST = "correct_patch_against_patch"
OTHER = "incorrect_patch_against_patch"


def table(rows: list[tuple[str, str, str, float]], level: str = "word") -> pa.Table:
    full = [{**association(feature, contrast, token, z), "level": level} for feature, contrast, token, z in rows]
    return pa.Table.from_pylist([{one.name: row[one.name] for one in EFFECTS} for row in full], schema=EFFECTS)


def random_effects(random: np.random.Generator, n_layers: int = 3, n: int = 8, n_words: int = 12) -> pa.Table:
    words = [f"w{word}" for word in range(n_words)]
    names = [f"L{layer}-{index}" for layer in range(n_layers) for index in range(n)]
    return table([(name, CONTRAST, word, random.normal()) for name in names for word in words])


def test_effects_are_unit_vectors_of_what_raising_the_feature_does() -> None:
    rows = [
        ("L1-2", CONTRAST, "a", 3.0),
        ("L1-2", OTHER, "a", 4.0),
        ("L0-9", CONTRAST, "a", -2.0),
        ("L0-3", CONTRAST, "b", 1.0),
    ]
    found = word_effects(table(rows), [CONTRAST, OTHER], {"L1-2": 1, "L0-9": -1})
    assert found.features == ["L0-9", "L1-2"]  # by layer; L0-3 has no class
    cosines = (found.vectors @ found.vectors.T).toarray()
    assert cosines == pytest.approx(np.array([[1.0, 0.6], [0.6, 1.0]]))  # (2, 0) and (3, 4)/5: alike, since -(-2) = 2


def test_other_levels_and_contrasts_are_not_words_of_the_comparison() -> None:
    rows = [("L1-2", "correct_amplification_against_baseline", "a", 3.0)]
    assert word_effects(table(rows), [CONTRAST], {"L1-2": 1}).features == []
    assert word_effects(table([("L1-2", CONTRAST, "a", 3.0)], "piece"), [CONTRAST], {"L1-2": 1}).features == []


def test_edges_between_features_that_move_the_same_words_are_found() -> None:
    random, words = np.random.default_rng(2), [f"w{word}" for word in range(15)]
    of_source = {f"L0-{index}": random.normal(size=15) for index in range(10)}
    signs = {name: -1 if place % 2 else 1 for place, name in enumerate(of_source)}
    of_target = {f"L1-{name[3:]}": signs[name] * z + 0.3 * random.normal(size=15) for name, z in of_source.items()}
    rows = [
        (name, CONTRAST, word, one)
        for name, z in {**of_source, **of_target}.items()
        for word, one in zip(words, z, strict=True)
    ]
    every = dict.fromkeys([*of_source, *of_target], 1)
    edges = [edge(name, f"L1-{name[3:]}", gradient={"mean": 0.5 * sign, "sd": 0.1}) for name, sign in signs.items()]
    found = similarity(edges, word_effects(table(rows), [CONTRAST], every), 999, 4)
    assert found["mean"] > 0.9 and found["p"] == pytest.approx(0.001) and abs(found["null_mean"]) < 0.2
    assert (found["n_validated"], found["n_both_ends_measured"], found["n_compared"]) == (10, 10, 10)
    wrong = [{**one, "gradient": {"mean": -one["gradient"]["mean"], "sd": 0.1}} for one in edges]
    assert similarity(wrong, word_effects(table(rows), [CONTRAST], every), 999, 4)["p"] == 1.0


def test_edges_at_random_are_found_in_one_case_of_twenty_even_with_a_hub() -> None:
    p = []
    for seed in range(150):
        random = np.random.default_rng(seed)
        effects = word_effects(
            random_effects(random), [CONTRAST], {f"L{layer}-{i}": 1 for layer in range(3) for i in range(8)}
        )
        edges = [edge(f"L0-{source}", "L2-0") for source in range(8)]  # one target has them all
        edges += [edge(f"L1-{random.integers(8)}", f"L2-{target}") for target in range(1, 8)]
        p.append(similarity(edges, effects, 199, seed)["p"])
    assert binom.ppf(0.0005, 150, 0.05) <= sum(one <= 0.05 for one in p) <= binom.ppf(0.9995, 150, 0.05)


def test_the_rank_correlation_with_strength_is_scipys_and_a_planted_one_is_found() -> None:
    effects = word_effects(
        random_effects(np.random.default_rng(1)),
        [CONTRAST],
        {f"L{layer}-{i}": 1 for layer in range(3) for i in range(8)},
    )
    pairs = [(source, target) for source in range(8) for target in range(8)]
    plain = similarity([edge(f"L0-{s}", f"L1-{t}") for s, t in pairs], effects, 99, 1)
    assert plain["strength_spearman"] is None and plain["strength_p"] is None  # all of one strength
    cosine = {one["edge_id"]: one["similarity"] for one in plain["edges"]}
    strong = [edge(f"L0-{s}", f"L1-{t}", attribution=-(1 + cosine[f"L0-{s}->L1-{t}"])) for s, t in pairs]
    found = similarity(strong, effects, 199, 1)
    assert found["strength_spearman"] == pytest.approx(1.0) and found["strength_p"] == 1 / 200
    mixed = [{**one, "attribution": float(place % 7)} for place, one in enumerate(strong)]
    expected = spearmanr([place % 7 for place in range(64)], [cosine[one["edge_id"]] for one in mixed]).statistic
    assert similarity(mixed, effects, 19, 1)["strength_spearman"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("edges", "reason"),
    [
        ([], "no validated edge has token effects at both ends"),
        ([edge("L0-99", "L1-1")], "no validated edge has token effects at both ends"),
        ([edge("L3-1", "L4-1")], "each such layer has one feature"),
    ],
)
def test_what_cannot_be_compared_says_why(edges: list[dict[str, object]], reason: str) -> None:
    rows = [(name, CONTRAST, "a", 1.0) for name in ("L0-1", "L1-1", "L1-2", "L3-1", "L4-1")]
    effects = word_effects(table(rows), [CONTRAST], dict.fromkeys(("L0-1", "L1-1", "L1-2", "L3-1", "L4-1"), 1))
    found = similarity(edges, effects, 99, 1)
    assert found["reason"] == reason and found["p"] is None and found["edges"] == []


def test_without_any_effects_nothing_is_compared() -> None:
    found = similarity([edge("L0-1", "L1-1")], word_effects(table([]), [CONTRAST], {}), 99, 1)
    assert isinstance(word_effects(table([]), [CONTRAST], {}), Effects)
    assert (found["n_validated"], found["n_both_ends_measured"], found["p"]) == (1, 0, None)


CLASSES = ("correct", "incorrect")


def test_edges_are_counted_by_the_classes_of_their_ends() -> None:
    class_of = {"L0-1": "correct", "L0-2": "incorrect", "L1-1": "correct", "L1-2": "incorrect"}
    edges = [
        edge("L0-1", "L1-1"),
        edge("L0-1", "L1-2", gradient={"mean": -0.4, "sd": 0.1}),
        edge("L0-2", "L1-2", validated=False),
        edge("L0-2", "L1-1", validated=False, tested=False),
        edge("L0-7", "L1-1"),
    ]
    found = {
        (row["source_class"], row["target_class"]): row for row in class_composition(edges, class_of, CLASSES, 99, 1)
    }
    counted = {
        pair: [row[f"n_{name}"] for name in ("kept", "tested", "validated", "positive", "negative")]
        for pair, row in found.items()
    }
    assert counted == {
        ("correct", "correct"): [1, 1, 1, 1, 0],
        ("correct", "incorrect"): [1, 1, 1, 0, 1],
        ("incorrect", "correct"): [1, 0, 0, 0, 0],
        ("incorrect", "incorrect"): [1, 1, 0, 0, 0],
        ("unknown", "correct"): [1, 1, 1, 1, 0],
    }
    assert found["unknown", "correct"]["p"] is None and found["incorrect", "correct"]["share_low"] is None


def test_classes_that_keep_to_themselves_are_found_and_random_ones_are_not() -> None:
    class_of = {f"L{layer}-{index}": CLASSES[index % 2] for layer in (0, 1) for index in range(40)}
    alike = [edge(f"L0-{index}", f"L1-{(index + 2) % 40}") for index in range(40)]
    rows = {
        (row["source_class"], row["target_class"]): row for row in class_composition(alike, class_of, CLASSES, 999, 1)
    }
    same, crossing = rows["correct", "correct"], rows["correct", "incorrect"]
    assert same["n_validated"] == 20 and same["expected"] == pytest.approx(10, abs=0.3) and same["p"] == 0.002
    assert crossing["n_validated"] == 0 and crossing["p"] == 0.002
    random = np.random.default_rng(0)
    p = []
    for seed in range(120):
        mixed = [edge(f"L0-{index}", f"L1-{place}") for index, place in enumerate(random.permutation(40))]
        p.append(class_composition(mixed, class_of, CLASSES, 99, seed)[0]["p"])
    assert sum(one <= 0.05 for one in p) <= binom.ppf(0.9995, 120, 0.05)


def test_without_edges_every_pair_of_classes_has_a_row_of_zeros() -> None:
    found = class_composition([], {}, CLASSES, 99, 1)
    assert len(found) == 4 and all(row["n_kept"] == 0 and row["p"] is None for row in found)
