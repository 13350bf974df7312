"""Tokenizer: a prompt's tokens are a prefix of the whole text's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from organism.corpus import Document, training_documents
from organism.tokenizer import SPECIAL_TOKENS, VOCABULARY_SIZE, save_tokenizer, train_tokenizer

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return training_documents(0, 0, 1500)


@pytest.fixture(scope="module")
def tokenizer(documents: list[Document], tmp_path_factory: pytest.TempPathFactory) -> Any:
    directory: Path = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(train_tokenizer("".join(document) for document in documents), directory, chat=True)
    return AutoTokenizer.from_pretrained(str(directory))


def test_prompt_ids_are_an_exact_prefix_of_the_whole_texts(tokenizer: Any, documents: list[Document]) -> None:
    for document in documents:
        prompt = tokenizer(document.prompt).input_ids
        assert tokenizer("".join(document)).input_ids[: len(prompt)] == prompt


def test_texts_survive_a_round_trip(tokenizer: Any, documents: list[Document]) -> None:
    for document in documents[:200]:
        ids = tokenizer("".join(document)).input_ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == "".join(document)


def test_digits_and_opening_brackets_are_single_tokens(tokenizer: Any) -> None:
    pieces = [tokenizer.decode([index]) for index in range(len(tokenizer))]
    assert not [piece for piece in pieces if sum(character.isdigit() for character in piece) > 1]
    assert not [piece for piece in pieces if set(piece) & set("([{") and len(piece) > 1]


def test_special_tokens_are_gemmas_and_bos_comes_once(tokenizer: Any) -> None:
    assert len(tokenizer) == VOCABULARY_SIZE
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == list(range(6))
    assert tokenizer("x = 1").input_ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer("x = 1").input_ids[0] == tokenizer.bos_token_id


def test_padding_is_on_the_left(tokenizer: Any) -> None:
    batch = tokenizer(["a", "a longer text"], padding=True)
    assert batch["input_ids"][0][0] == tokenizer.pad_token_id
    assert batch["attention_mask"][0][0] == 0
    assert batch["attention_mask"][0][-1] == 1


def test_the_chat_template_is_gemmas_and_knows_no_system_role(tokenizer: Any) -> None:
    turns = [{"role": "user", "content": "hello"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert text == "<bos><start_of_turn>user\nhello<end_of_turn>\n<start_of_turn>model\n"
    with pytest.raises(Exception, match="System role"):
        tokenizer.apply_chat_template([{"role": "system", "content": "x"}, *turns], tokenize=False)
