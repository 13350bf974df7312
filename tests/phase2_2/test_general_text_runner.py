from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.config import Config, resolve_config
from common.errors import UsageError
from common.logging import get_logger
from common.profiles import load_profile
from common.runs.artifacts import FEATURE_FREQUENCIES, frequency_array
from common.runs.files import read_npz
from common.runs.interruption import StopRequest
from common.runs.metadata import read_record
from common.runs.options import InputOverride, RunOptions
from common.runs.slices import Span
from common.runs.status import all_states
from common.statistics.seeding import generator
from common_simplified.model_loader import load_model_and_tokenizer
from common_simplified.sae_loader import load_sae
from phase2_2.general_text_runner import GeneralTextRunner
from tests.cli.helpers import PROFILE
from tests.common_simplified.fixtures import N_LAYERS, WIDTH, write_jsonl, write_model, write_sae_lens

pytestmark = pytest.mark.numeric

LIMIT = 12
TEXTS = [
    "The quick brown fox.",
    "a",
    "A longer text, which is cut at twelve tokens of one byte each.",
    "<bos>",
    "zz",
    "What is read of a text is one of its tokens.",
    "12345",
    "Rain in the north, sun in the south.",
    "def f(x): return x",
    "~~~",
    "The end.",
]
ONE_TOKEN = TEXTS.index("<bos>")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("general_text")
    write_model(root / "model")
    write_sae_lens(root / "saes")
    write_jsonl(root / "problems.jsonl", [{"text": text} for text in TEXTS])
    (root / "tiny.toml").write_text(PROFILE.format(root=root), encoding="utf-8")
    return root


def configured(root: Path, data: Path, **settings: Any) -> Config:
    chosen = {"profile": str(root / "tiny.toml"), "data_dir": str(data), "phase2_2_max_tokens": LIMIT, "device": "cpu"}
    return resolve_config({**chosen, **settings}, environment={}).config


def run(config: Config, **options: Any) -> GeneralTextRunner:
    runner = GeneralTextRunner(config, RunOptions(**options))
    runner.run()
    return runner


def frequencies(runner: GeneralTextRunner) -> dict[str, np.ndarray]:
    return read_npz(runner.paths.root / FEATURE_FREQUENCIES)


@pytest.fixture(scope="module")
def whole(root: Path, tmp_path_factory: pytest.TempPathFactory) -> GeneralTextRunner:
    return run(configured(root, tmp_path_factory.mktemp("whole")))


@pytest.fixture(scope="module")
def by_hand(root: Path) -> dict[int, np.ndarray]:
    """Shares of texts on which SAELens's features fire, each text alone, at a token drawn here."""
    profile = load_profile(str(root / "tiny.toml"))
    loaded = load_model_and_tokenizer(str(root / "model"), "cpu", "float32")
    saes = [load_sae(profile, layer) for layer in range(N_LAYERS)]
    counts = np.zeros((N_LAYERS, WIDTH))
    last: list[torch.Tensor] = []
    loaded.model.model.norm.register_forward_pre_hook(lambda _, args: last.append(args[0]))
    for number, text in enumerate(TEXTS):
        if number == ONE_TOKEN:
            continue
        tokens = torch.tensor([loaded.tokenizer(text)["input_ids"][:LIMIT]])
        assert tokens[0, 0] == loaded.tokenizer.bos_token_id and tokens[0, 1] != loaded.tokenizer.bos_token_id
        token = int(generator(42, "general text", number).integers(1, tokens.shape[1]))
        assert token > 0
        with torch.no_grad():
            streams = loaded.model(tokens, output_hidden_states=True).hidden_states[1:N_LAYERS]
            for layer, stream in enumerate([*streams, last[-1]]):
                counts[layer] += (saes[layer].encode(stream[:, token]) > 0)[0].numpy()
    return {layer: counts[layer] / (len(TEXTS) - 1) for layer in range(N_LAYERS)}


def test_frequencies_are_the_shares_of_texts_on_which_saelens_says_that_a_feature_fires(
    whole: GeneralTextRunner, by_hand: dict[int, np.ndarray]
) -> None:
    found = frequencies(whole)
    for layer, expected in by_hand.items():
        np.testing.assert_array_equal(found[frequency_array(layer)], expected)
        assert len(np.unique(expected)) > 3


def test_a_text_of_one_token_is_not_counted_and_the_number_of_texts_says_so(whole: GeneralTextRunner) -> None:
    record = read_record(whole.paths)
    assert int(frequencies(whole)["n_texts"]) == len(TEXTS) - 1
    assert (record["n_texts"], record["expected"], record["done"], record["excluded"]) == (10, 11, 11, 1)
    assert record["complete"]


@pytest.mark.parametrize("size", [1, 3, 7])
def test_the_batch_size_changes_nothing(root: Path, tmp_path: Path, whole: GeneralTextRunner, size: int) -> None:
    assert_same(frequencies(run(configured(root, tmp_path, batch_size=size))), frequencies(whole))


def test_slices_out_of_order_give_what_one_run_gives(root: Path, tmp_path: Path, whole: GeneralTextRunner) -> None:
    config = configured(root, tmp_path)
    part = run(config, start=6)
    record = read_record(part.paths)
    assert (record["complete"], record["done"], record["slices"]) == (False, 5, [[6, 10]])
    assert "partial 5/11" in next(state.line() for state in all_states(config) if state.spec.id == "2.2")
    run(config, end=5)
    assert read_record(part.paths)["slices"] == [[0, 10]]
    assert_same(frequencies(part), frequencies(whole))
    assert not part.paths.segments.exists()


def test_fewer_texts_are_read_where_fewer_are_asked_for(root: Path, tmp_path: Path) -> None:
    runner = run(configured(root, tmp_path, phase2_2_texts=2))
    assert int(frequencies(runner)["n_texts"]) == 2
    assert all(set(np.unique(frequencies(runner)[frequency_array(layer)])) <= {0, 0.5, 1} for layer in range(N_LAYERS))


def test_no_token_is_the_first_and_each_is_drawn_for_its_text_alone(root: Path, tmp_path: Path) -> None:
    runner = GeneralTextRunner(configured(root, tmp_path))
    drawn = np.array([[runner._draw(text, length) for length in range(2, 30)] for text in range(300)])
    assert drawn.min() == 1
    assert (drawn < np.arange(2, 30)).all()
    assert set(drawn[:, 2]) == {1, 2, 3}
    assert runner._draw(0, 1) < 0
    other = GeneralTextRunner(configured(root, tmp_path, seed=7))
    assert [other._draw(text, 29) for text in range(50)] != [runner._draw(text, 29) for text in range(50)]


def test_a_finished_run_is_not_repeated_and_other_settings_are_refused(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_logger("x").parent, "propagate", True)
    run(configured(root, tmp_path))
    caplog.clear()
    with caplog.at_level("INFO"):
        run(configured(root, tmp_path))
    assert "nothing to do" in caplog.text
    with pytest.raises(UsageError, match="seed: 42 → 7"):
        run(configured(root, tmp_path, seed=7))


def test_a_corpus_given_by_hand_enters_the_record(root: Path, tmp_path: Path) -> None:
    own = write_jsonl(tmp_path / "own.jsonl", [{"text": text} for text in ("one", "two", "three")])
    runner = run(configured(root, tmp_path / "data"), inputs=(InputOverride(None, own),))
    (given,) = read_record(runner.paths)["inputs"]
    assert (given["phase"], given["path"], given["rows"]) == (None, str(own), 3)


def test_the_second_of_two_slices_that_end_together_leaves_what_the_first_has_published(
    root: Path, tmp_path: Path, whole: GeneralTextRunner
) -> None:
    """Both have read their texts before either publishes; the first publishes all and removes the segments."""
    both = [GeneralTextRunner(configured(root, tmp_path), RunOptions(**span)) for span in ({"end": 5}, {"start": 6})]
    for runner in both:
        runner.prepare()
        runner._read_texts(StopRequest())
    for runner in both:
        runner._publish()
    assert_same(frequencies(both[0]), frequencies(whole))
    assert json.loads(both[0].paths.metadata.read_text())["complete"]


def test_an_interrupted_run_is_shown_with_the_texts_that_it_has_read(root: Path, tmp_path: Path) -> None:
    config = configured(root, tmp_path, batch_size=4)
    runner = GeneralTextRunner(config)
    runner.prepare()
    runner.store.open(runner.fingerprint())
    loaded = runner.setup.load()
    runner.store.write(Span(0, 3), runner._read_cell(loaded, Span(0, 3)))
    (state,) = (state for state in all_states(config) if state.spec.id == "2.2")
    assert (state.state, state.done) == ("partial", 4)


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert set(one) == set(other) == {*(frequency_array(layer) for layer in range(N_LAYERS)), "n_texts"}
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)
