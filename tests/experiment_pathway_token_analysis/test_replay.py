from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from common.errors import UsageError
from common.runs.features import Feature
from common_simplified.activation_hooks import ActivationExtractor
from common_simplified.model_loader import LoadedModel, load_model_and_tokenizer, tokenize_prompts
from common_simplified.sites import HookPoint
from experiment_pathway_token_analysis.src.causal_targets import read_prompts
from experiment_pathway_token_analysis.src.codes import Clean, layer_codes, read_clean
from experiment_pathway_token_analysis.src.controls import matched_sources, quota
from experiment_pathway_token_analysis.src.dictionaries import Dictionaries
from experiment_pathway_token_analysis.src.discovery_setup import set_up
from experiment_pathway_token_analysis.src.replay import ROWS, Plan, Replayer
from experiment_pathway_token_analysis.src.residuals import LastToken, refuse_points
from tests.common_simplified.fixtures import write_model
from tests.experiment_pathway_token_analysis import planted

pytestmark = pytest.mark.numeric

PROMPTS = ["Write a function that adds two numbers and returns them.", "Short.", "abc"]
POINTS = {layer: HookPoint(layer, "resid_post") for layer in range(4)}


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A random Gemma-2 whose sliding window (16) is shorter than a prompt, and whose attention matters."""
    path = write_model(tmp_path_factory.mktemp("gemma") / "model", n_layers=4, sliding_window=16)
    loaded = load_model_and_tokenizer(str(path), device="cpu")
    for block in loaded.model.model.layers:
        for weight in block.self_attn.parameters():
            weight.mul_(30)
    return loaded


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    path = planted.write_planted_model(tmp_path_factory.mktemp("llama") / "model")
    return load_model_and_tokenizer(str(path), device="cpu")


@pytest.fixture(params=["gemma", "llama"])
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    return request.getfixturevalue(request.param)


@pytest.fixture
def last(loaded: LoadedModel) -> Iterator[LastToken]:
    with LastToken(loaded, POINTS, PROMPTS, 10**9) as found, torch.no_grad():
        yield found


@torch.no_grad()
def whole_pass(loaded: LoadedModel, prompt: str) -> dict[int, torch.Tensor]:
    ids = tokenize_prompts(loaded.tokenizer, [prompt]).input_ids
    with ActivationExtractor(loaded.model, list(POINTS.values())) as extractor:
        loaded.model.model(input_ids=ids, use_cache=False)
    return {point.layer: stream[0] for point, stream in extractor.get_activations().items()}


def test_the_last_token_behind_a_cached_prefix_is_that_of_the_whole_prompt(last: LastToken) -> None:
    for number, prompt in enumerate(PROMPTS):
        expected = whole_pass(last.loaded, prompt)
        for rows in (1, 5):
            last.run(number, rows, 3)
            for layer, stream in expected.items():
                torch.testing.assert_close(last.streams[layer], stream.expand(rows, -1), rtol=1e-4, atol=1e-5)


def test_the_sliding_window_matters_in_that_comparison(gemma: LoadedModel) -> None:
    with LastToken(gemma, POINTS, PROMPTS, 0) as last, torch.no_grad():
        expected = whole_pass(gemma, PROMPTS[0])[3]
        window, gemma.model.config.sliding_window = gemma.model.config.sliding_window, 500
        last.run(0, 1, 3)
        gemma.model.config.sliding_window = window
        assert not torch.allclose(last.streams[3][0], expected, rtol=1e-3)


def test_a_change_in_one_row_reaches_later_layers_of_that_row_alone(last: LastToken) -> None:
    last.run(0, 8, 3)
    unchanged = dict(last.streams)
    added = torch.full((last.streams[1].shape[1],), 3.0)
    last.run(0, 8, 3, {1: lambda stream: stream.index_add(0, torch.tensor([4]), added[None])})
    others = [row for row in range(8) if row != 4]
    for layer in POINTS:
        assert torch.equal(last.streams[layer][others], unchanged[layer][others]), layer
        assert torch.equal(last.streams[layer][4], unchanged[layer][4]) is (layer < 1), layer


def test_a_change_equals_the_same_change_in_the_whole_prompt(last: LastToken) -> None:
    added = torch.linspace(-1, 1, int(last.loaded.model.config.hidden_size))
    last.run(1, 3, 3, {1: lambda stream: stream + added})
    ids = tokenize_prompts(last.loaded.tokenizer, [PROMPTS[1]]).input_ids
    found = {}

    def change(module: torch.nn.Module, args: tuple, kwargs: dict) -> tuple:
        stream = (args[0] if args else kwargs["hidden_states"]).clone()
        stream[0, -1] += added
        return ((stream, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": stream})

    handle = last.loaded.model.model.layers[2].register_forward_pre_hook(change, with_kwargs=True)
    with ActivationExtractor(last.loaded.model, [POINTS[3]]) as extractor:
        last.loaded.model.model(input_ids=ids, use_cache=False)
    handle.remove()
    found = extractor.get_activations()[POINTS[3]][0]
    torch.testing.assert_close(last.streams[3], found.expand(3, -1), rtol=1e-4, atol=1e-4)


def test_prefixes_are_kept_only_while_there_is_room_and_change_nothing(llama: LoadedModel) -> None:
    streams = []
    for room in (0, 10**9):
        with LastToken(llama, POINTS, PROMPTS, room) as last, torch.no_grad():
            for _ in range(2):
                last.run(0, 4, 3)
                streams.append(last.streams[3])
            assert len(last._prefixes) == (room > 0)
    assert all(torch.equal(stream, streams[0]) for stream in streams)


def test_no_hook_stays_behind(llama: LoadedModel) -> None:
    with LastToken(llama, POINTS, PROMPTS, 0):
        pass
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in llama.model.modules())


def test_a_prompt_of_one_token_and_other_sites_are_refused(llama: LoadedModel) -> None:
    with LastToken(llama, POINTS, [""], 0) as last, pytest.raises(UsageError, match="give one of at least 2"):
        last.run(0, 1, 1)
    with pytest.raises(UsageError, match="cannot be changed where it is read"):
        refuse_points({0: HookPoint(0, "resid_mid")})
    with pytest.raises(UsageError, match="each of its layer"):
        refuse_points({0: HookPoint(0, "resid_post"), 1: HookPoint(2, "resid_post")})


@pytest.fixture(scope="module")
def clean_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LastToken, Dictionaries, Clean]]:
    run = planted.planted_run(tmp_path_factory.mktemp("planted"))
    prompts, setup = read_prompts(run), set_up(run, 3)
    dictionaries = Dictionaries(run.profile, setup.device)
    with LastToken(setup.load(), setup.points, [prompt.text for prompt in prompts.all], 10**9) as last:
        yield last, dictionaries, read_clean(last, dictionaries, prompts, setup.layers, lambda: None)


def test_a_change_of_nothing_gives_exactly_nothing_whatever_stands_beside_it(
    clean_run: tuple[LastToken, Dictionaries, Clean],
) -> None:
    last, dictionaries, clean = clean_run
    target, n = Feature(3, 9), ROWS + 7
    sources = [Feature(row % 3, row % 20) for row in range(n)]
    rows = torch.stack([dictionaries.rows(source.layer, [source.index])[0] for source in sources])
    amounts = np.zeros((n, 2))
    amounts[::3] = 1.0
    plan = Plan(sources, rows, amounts, [], [None] * n)
    replayer = Replayer(last, dictionaries, clean, [1, 3], lambda: None)
    delta = replayer.measure({target: plan}, {target: dictionaries.reading(*target)})[target].delta
    quiet = np.all(amounts == 0, axis=1)
    assert delta.shape == (n, 2)
    assert np.all(delta[quiet] == 0)
    assert np.all(np.abs(delta[~quiet]).max(axis=1) > 0)


def test_a_change_above_a_layer_that_reached_it_would_be_noticed(
    clean_run: tuple[LastToken, Dictionaries, Clean], monkeypatch: pytest.MonkeyPatch
) -> None:
    last, dictionaries, clean = clean_run
    whole = LastToken.run

    def leaking(self: LastToken, prompt: int, rows: int, until: int, changes: object = None) -> None:
        whole(self, prompt, rows, until, changes)  # type: ignore[arg-type]
        if changes:
            self.streams[0] = self.streams[0] + 1e-6

    monkeypatch.setattr(LastToken, "run", leaking)
    target, source = Feature(3, 9), Feature(1, 9)
    plan = Plan([source], dictionaries.rows(1, [9]), np.ones((1, 1)), [], [None])
    with pytest.raises(AssertionError, match="a change above layer 0 reached it"):
        Replayer(last, dictionaries, clean, [1], lambda: None).measure(
            {target: plan}, {target: dictionaries.reading(*target)}
        )


def test_matched_sources_are_near_their_edges_and_are_drawn_by_the_seed() -> None:
    draws = np.random.default_rng(0)
    codes = np.maximum(draws.normal(0, 1, (40, 300)) * np.linspace(0.1, 10, 300), 0).astype(np.float32)
    classes, selects = np.arange(40) % 2, np.ones(40, dtype=bool)
    found = layer_codes(codes, np.ones(300), classes, selects)
    weak = matched_sources(2, [5], found, 20, 1, Feature(3, 7))
    strong = matched_sources(2, [290], found, 20, 1, Feature(3, 7))
    assert max(source.index for source in weak) < 60 and min(source.index for source in strong) > 150
    assert len(set(weak)) == 20 and Feature(2, 5) not in weak
    assert matched_sources(2, [5], found, 20, 1, Feature(3, 7)) == weak
    assert matched_sources(2, [5], found, 20, 2, Feature(3, 7)) != weak
    assert matched_sources(2, [], found, 20, 1, Feature(3, 7)) == []
    assert len(matched_sources(2, [5], found, 1000, 1, Feature(3, 7))) <= 299
    assert quota(100, 3) == 34 and quota(100, 0) == 100


def test_class_means_come_from_the_selecting_prompts_alone() -> None:
    codes = np.array([[1.0], [3.0], [100.0], [0.0]], dtype=np.float32)
    classes, selects = np.array([0, 1, 0, 1]), np.array([True, True, False, True])
    found = layer_codes(codes, np.array([2.0]), classes, selects)
    assert found.class_means.tolist() == [[1.0], [1.5]]
    assert found.rate.tolist() == [2 / 3]
    assert found.strength.tolist() == [pytest.approx(2 * (0.5 + 2.0 + 1.0) / 3)]


def test_the_model_is_read_at_the_place_that_the_saes_name(tmp_path: Path) -> None:
    run = planted.planted_run(tmp_path, hook_point_in="blocks.1.hook_resid_post")
    with pytest.raises(UsageError, match="each of its layer"):
        set_up(run, 3)
