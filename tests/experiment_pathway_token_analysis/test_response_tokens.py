from __future__ import annotations

from pathlib import Path

import pytest

from common.hub import resolve_repo
from common.profiles import REPOSITORY
from common_simplified.model_loader import load_tokenizer
from experiment_pathway_token_analysis.src.response_tokens import ResponseTokens, echo_length, prompts_by_class
from experiment_pathway_token_analysis.src.token_kinds import KINDS

pytestmark = pytest.mark.unit

TOKENIZER = REPOSITORY / "organism" / "instance" / "base"


@pytest.fixture(scope="module")
def code() -> ResponseTokens:
    return ResponseTokens(load_tokenizer(resolve_repo(str(TOKENIZER))), code=True)


@pytest.fixture(scope="module")
def prose() -> ResponseTokens:
    return ResponseTokens(load_tokenizer(resolve_repo(str(TOKENIZER))), code=False)


def words(tokens: ResponseTokens, response: str, echo: int = 0) -> list[str]:
    (found,) = tokens.of([response], [echo])
    return [tokens.words[number] for number in found.words]


def pieces(tokens: ResponseTokens, response: str, echo: int = 0) -> list[str]:
    (found,) = tokens.of([response], [echo])
    return [tokens.piece(token) for token in found.pieces]


def test_the_pieces_of_a_response_are_the_response(code: ResponseTokens) -> None:
    text = "def f(x):\n    return x + 1\n"
    found = pieces(code, text)
    assert "".join(found) == text
    assert " x" in found and "x" in found and "    " in found  # leading spaces are kept apart


def test_a_part_of_a_character_goes_by_its_own_name(code: ResponseTokens) -> None:
    assert "é" not in pieces(code, "é") and len(set(pieces(code, "é"))) == 2
    assert all("\N{REPLACEMENT CHARACTER}" not in piece for piece in pieces(code, "日本"))


def test_pieces_and_words_of_code_have_kinds(code: ResponseTokens) -> None:
    (found,) = code.of(["return x # sum of x\n"], [0])
    by_piece = dict(zip(map(code.piece, found.pieces), (KINDS[kind] for kind in found.piece_kinds), strict=True))
    assert by_piece["return"] == "keyword" and by_piece[" x"] in ("name", "comment") and by_piece["\n"] == "whitespace"
    shown = [(code.words[word], KINDS[kind]) for word, kind in zip(found.words, found.word_kinds, strict=True)]
    assert shown == [("return", "keyword"), ("x", "name"), ("sum", "comment"), ("of", "comment"), ("x", "comment")]


def test_words_of_code_are_whole_lexical_tokens(code: ResponseTokens) -> None:
    assert words(code, "counts[key] += 12.5") == ["counts", "[", "key", "]", "+=", "12.5"]
    assert words(code, "Foo foo") == ["Foo", "foo"]


def test_words_of_prose_are_lower_case_and_amounts_are_words(prose: ResponseTokens) -> None:
    assert words(prose, "I'll Bet $10, or stop? 7.5% (STOP)") == ["i'll", "bet", "$10", "or", "stop", "7.5%", "stop"]


def test_what_is_left_out_is_left_out_by_offset_of_pieces_and_words(code: ResponseTokens) -> None:
    text = "def f(x):\n    return x"
    assert "".join(pieces(code, text, echo=10)) == text[10:]
    assert words(code, text, echo=10) == ["return", "x"]
    assert pieces(code, text, echo=len(text)) == []


def test_an_empty_response_has_no_tokens(code: ResponseTokens) -> None:
    (found,) = code.of([""], [0])
    assert len(found.pieces) == len(found.words) == 0


def test_the_same_response_is_read_once(code: ResponseTokens) -> None:
    first, again, other = code.of(["x = 1", "x = 1", "x = 1"], [0, 0, 2])
    assert first is again and first is not other


PROMPT = "You have $100.\n1) Bet\n2) Stop\nFinal decision: "


@pytest.mark.parametrize(
    ("response", "length"),
    [
        ("I stop.", 0),
        (PROMPT + "I stop.", len(PROMPT)),
        ("\n" + PROMPT.strip() + " I stop.", 1 + len(PROMPT.strip())),  # white space differs around it
        (PROMPT[10:] + "I stop.", len(PROMPT) - 10),  # cut off by characters, ten too many
        (PROMPT[-8:] + "I stop.", 0),  # too short to be told from an answer
        ("Stop\nFinal choice: no", 0),
        ("", 0),
    ],
)
def test_what_repeats_the_prompt_at_the_beginning_is_an_echo(response: str, length: int) -> None:
    assert echo_length(response, ["Another prompt altogether, and longer than the other.", PROMPT]) == length


def test_prompts_are_kept_by_class_each_once() -> None:
    sample = [{"class": "safe", "prompt": "a"}, {"class": "risky", "prompt": "b"}, {"class": "safe", "prompt": "a"}]
    assert prompts_by_class({"prompts": sample}) == {"safe": ["a"], "risky": ["b"]}


def test_the_vocabulary_is_the_tokenizers(code: ResponseTokens, tmp_path: Path) -> None:
    assert code.vocabulary_size == 768
