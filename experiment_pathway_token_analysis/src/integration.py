"""What steps 0 to 4 left, read once and joined by feature: every feature that a step names has a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from common.errors import PipelineError
from common.runs.files import read_json, read_parquet
from experiment_pathway_token_analysis.src.step1_load_causal_features import class_of
from experiment_pathway_token_analysis.src.steps import Run

Row = dict[str, Any]
SHOWN_TOKENS = 8
BANDS = ("early", "middle", "late")


class Found(NamedTuple):
    """The results of the steps before: listed features, edges, targets, chains, token results, classes by feature."""

    features: list[Row]
    edges: list[Row]
    targets: list[Row]
    chains: list[Row]
    tokens: dict[str, Any]
    classes: dict[str, str]
    trials: int
    matched_null: dict[str, Any] | None
    n_layers: int

    @property
    def validated(self) -> list[Row]:
        """The edges that passed every test."""
        return [edge for edge in self.edges if edge["validated"]]

    @property
    def kept(self) -> list[Row]:
        """The token associations that were kept."""
        return [row for row in self.tokens["associations"] if row["kept"]]


def read_results(run: Run) -> Found:
    """Returns what the steps before left; raises PipelineError where they name features that nobody else knows."""
    paths = run.paths
    pathways = read_json(paths.validated)
    found = Found(
        features=read_json(paths.causal_features)["features"],
        edges=pathways["edges"],
        targets=pathways["targets"],
        chains=pathways["chains"],
        tokens=read_json(paths.tokens),
        classes=_classes(run),
        trials=read_json(paths.audit)["total_trials"],
        matched_null=pathways["metadata"].get("matched_null"),
        n_layers=run.profile.n_layers,
    )
    _refuse_strangers(found, run)
    return found


def _classes(run: Run) -> dict[str, str]:
    """Returns the class of every feature that the study tested, also of those that are not causal."""
    study = run.settings.study
    rows = read_parquet(run.paths.features).to_pylist()
    return {row["feature"]: class_of(row, study) for row in rows if row["class"] or row["cohen_d"] is not None}


def _refuse_strangers(found: Found, run: Run) -> None:
    """Refuses targets and token results of unlisted features, chains of unknown edges, doubled edges."""
    listed = {one["feature"] for one in found.features}
    edges = Counter((one["source"], one["target"]) for one in found.edges)
    links = [link for chain in found.chains for link in chain_links(chain)]
    strangers = {
        run.paths.validated: [
            *({one["target"] for one in found.edges} - listed),
            *({one["feature"] for one in found.targets} - listed),
            *(f"{source} → {target}" for source, target in links if (source, target) not in edges),
            *(f"{source} → {target} twice" for (source, target), n in edges.items() if n > 1),
        ],
        run.paths.tokens: [*({one["feature"] for one in found.tokens["features"]} - listed)],
    }
    for path, names in strangers.items():
        if names:
            raise PipelineError(
                f"{path} names {', '.join(sorted(names)[:3])}, which the steps before do not; run steps 1 to 5 again"
            )


def chain_links(chain: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns the edges that a chain consists of."""
    ends = [chain["source"], chain["middle"], chain["target"]]
    return list(zip(ends, ends[1:], strict=False))


def joined_features(found: Found) -> list[Row]:
    """Returns one row a feature that any step names, by layer and id: its class, pathways and tokens."""
    listed = {one["feature"]: one for one in found.features}
    tokens = {one["feature"]: one for one in found.tokens["features"]}
    targets = {one["feature"]: one for one in found.targets}
    lens = {one["feature"]: one for one in found.tokens["lens"]}
    degrees, words = _degrees(found.edges), _top_words(found)
    names = {*listed, *tokens, *targets, *lens, *degrees}
    return [
        {
            **_identity(name, listed.get(name), found),
            **_pathway_columns(degrees.get(name), targets.get(name)),
            **_token_columns(tokens.get(name), words.get(name), listed=name in listed),
            **{f"lens_{side}": _tokens_of(lens.get(name), side) for side in ("top", "bottom")},
        }
        for name in sorted(names, key=place_of)
    ]


def place_of(feature: str) -> tuple[int, int]:
    """Returns layer and id of "L{layer}-{id}"."""
    layer, _, number = feature[1:].partition("-")
    return int(layer), int(number)


def band_of(layer: int, n_layers: int) -> str:
    """Returns the third of the model in which a layer lies."""
    return BANDS[min(len(BANDS) - 1, layer * len(BANDS) // n_layers)]


def _identity(feature: str, listed: Row | None, found: Found) -> Row:
    layer, feature_id = place_of(feature)
    return {
        "feature": feature,
        "layer": layer,
        "feature_id": feature_id,
        "band": band_of(layer, found.n_layers),
        "listed": listed is not None,
        "class": listed["class"] if listed else found.classes.get(feature),
        "cohen_d": listed["cohen_d"] if listed else None,
    }


def _degrees(edges: Iterable[Row]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for edge in edges:
        for end, way in (("source", "out"), ("target", "in")):
            count = found.setdefault(edge[end], Counter())
            count[f"edges_{way}"] += 1
            count[f"validated_{way}"] += bool(edge["validated"])
    return found


def _pathway_columns(degrees: Counter[str] | None, target: Row | None) -> Row:
    count = degrees or Counter()
    names = ("edges_in", "validated_in", "edges_out", "validated_out")
    return {
        "has_pathway": count["validated_in"] + count["validated_out"] > 0,
        **{f"n_{name}": count[name] for name in names},
        "target_status": target["status"] if target else "no target",
        "target_reason": target["reason"] if target else None,
    }


def _top_words(found: Found) -> dict[str, dict[str, list[str]]]:
    """Returns, per feature and side, the strongest of its kept words, or pieces where it has no words, each once."""
    sides = {one["name"]: one for one in found.tokens["metadata"]["contrasts"] if one["primary"]}
    rows = words_or_pieces([row for row in found.kept if row["contrast"] in sides], ("feature",))
    words: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        side = "a" if row["direction"] == sides[row["contrast"]]["condition_a"] else "b"
        own = words.setdefault(row["feature"], {"a": [], "b": []})[side]
        if len(own) < SHOWN_TOKENS and row["token"] not in own:
            own.append(row["token"])
    return words


def words_or_pieces(rows: Sequence[Row], group: Sequence[str]) -> list[Row]:
    """Returns the words among token rows, strongest first; of groups (equal in the fields `group`) without any, pieces.

    A word's pieces say nothing beside it.
    """
    with_words = {tuple(row[name] for name in group) for row in rows if row["level"] == "word"}
    chosen = [
        row for row in rows if row["level"] == ("word" if tuple(row[name] for name in group) in with_words else "piece")
    ]
    return sorted(chosen, key=lambda row: (-abs(row["permutation_z"]), row["token"]))


def _token_columns(tokens: Row | None, words: Mapping[str, Sequence[str]] | None, *, listed: bool) -> Row:
    reason = "no causal feature" if not listed else "beyond --limit"
    return {
        "has_tokens": tokens is not None and tokens["n_hits"] > 0,
        "n_token_hits": tokens["n_hits"] if tokens else 0,
        "n_contrasts_tested": tokens["n_tested"] if tokens else 0,
        "tokens_reason": tokens["reason"] if tokens else reason,
        "tokens_more_a": list(words["a"]) if words else [],
        "tokens_more_b": list(words["b"]) if words else [],
    }


def _tokens_of(lens: Row | None, side: str) -> list[str]:
    return [one["token"] for one in lens[side]][:SHOWN_TOKENS] if lens else []
