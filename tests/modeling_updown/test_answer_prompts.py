"""Prompts and answers as token ids: templates, cuts by part, answers as they follow a prompt, and what is written."""

import pytest
import torch
from transformers import PreTrainedConfig

from modeling_updown import UpDownPrefixLMConfig
from modeling_updown.answer_prompts_updown import (
    answer_ids,
    cut_texts,
    left_padded,
    prompt_ids,
    right_padded,
    written_mask,
    written_texts,
)
from training.text.word_pieces import train_word_pieces

from ..tiny import tiny_prefix_lm_config, tiny_tokenizer

CONFIG = tiny_prefix_lm_config(bos_token_id=2, eos_token_id=3, pad_token_id=0, max_question_words=5)


def text_of(ids, tokenizer):
    return tokenizer.decode(ids, skip_special_tokens=True)


def test_a_prompt_is_its_template():
    tokenizer = tiny_tokenizer()
    prompts, cut = prompt_ids(
        ["How many men?", "a dog"], tokenizer, CONFIG, knowledge=[["a wave is on", "the ocean"], []]
    )
    expected = ["knowledge : a wave is on the ocean question : how many men ? answer :", "question : a dog answer :"]
    for ids, text in zip(prompts, expected, strict=True):
        assert ids == [2, *tokenizer(text, add_special_tokens=False)["input_ids"]]
    assert cut == {"questions": 0, "knowledge": 0}


def test_each_part_is_cut_by_itself_and_counted():
    tokenizer = tiny_tokenizer()
    config = tiny_prefix_lm_config(bos_token_id=2, max_question_words=3, max_knowledge_words=2)
    prompts, cut = prompt_ids(
        ["a brown dog runs", "a dog"], tokenizer, config, knowledge=[["the men", "ride"], ["a wave"]]
    )
    first = [2, *tokenizer("knowledge: the men question: a brown dog answer:", add_special_tokens=False)["input_ids"]]
    assert prompts[0] == first and cut == {"questions": 1, "knowledge": 1}
    assert cut_texts([], tokenizer, most=3) == ([], 0)
    assert cut_texts(["a brown dog", "a"], tokenizer, most=2) == (["a brown", "a"], 1)


def test_names_of_special_tokens_and_braces_are_ordinary_text():
    tokenizer = tiny_tokenizer()
    asked = ["a [SEP] dog {knowledge}", "{question} [CLS]"]
    prompts, _ = prompt_ids(asked, tokenizer, tiny_prefix_lm_config(bos_token_id=2), knowledge=[["{question}"], []])
    assert all(3 not in ids and ids.count(2) == 1 for ids in prompts)


@pytest.mark.parametrize("tokenizer", [tiny_tokenizer(), train_word_pieces(["a dog, a cat"] * 9, vocabulary_size=275)])
def test_an_answer_continues_its_prompt(tokenizer):
    """Prompt and answer apart are what both are in one text; then EOS."""
    (prompt,), _ = prompt_ids(["what"], tokenizer, CONFIG)
    for answer in ("a dog", "2", "", "dog, cat"):
        (ids,) = answer_ids([answer], tokenizer, CONFIG)
        whole = tokenizer(f"question: what answer: {answer}".strip(), add_special_tokens=False)["input_ids"]
        assert [*prompt, *ids] == [2, *whole, 3]
    assert len(answer_ids(["a dog a dog"], tokenizer, CONFIG, most=2)[0]) == 3
    assert answer_ids([], tokenizer, CONFIG) == []


def test_a_template_that_runs_into_its_answer_is_refused():
    tokenizer = train_word_pieces(["answerdog"] * 9, vocabulary_size=275)
    config = tiny_prefix_lm_config(bos_token_id=2, eos_token_id=3, question_prompt="{question}")
    assert answer_ids(["dog"], tokenizer, config)[0][-1] == 3  # no last words to run into
    for changes, cure in (
        ({"question_prompt": "what?"}, r"question_prompt='what\?' must hold \{question\} once"),
        ({"knowledge_prompt": "{knowledge}{knowledge}"}, "must hold {knowledge} once"),
        ({"max_question_words": 0}, "max_question_words=0 must be 1 or more"),
    ):
        with pytest.raises(ValueError, match=cure):
            UpDownPrefixLMConfig(**changes)


def test_padding_stands_before_questions_and_after_answers():
    asked = left_padded([[2, 7, 8], [2]], padding=0)
    assert asked["input_ids"].tolist() == [[2, 7, 8], [0, 0, 2]]
    assert asked["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]
    ids, real = right_padded([[7, 3], [3]], padding=0)
    assert ids.tolist() == [[7, 3], [3, 0]] and real.tolist() == [[True, True], [True, False]]


def test_what_was_written_ends_at_the_first_eos_of_any_kind():
    tokenizer = tiny_tokenizer()
    dog, a = tokenizer.convert_tokens_to_ids(["dog", "a"])
    config = PreTrainedConfig(eos_token_id=[3, 4])
    written = torch.tensor([[a, dog, 3, dog], [dog, 4, 0, 0], [a, a, a, dog]])
    assert written_mask(written, config).sum(dim=1).tolist() == [3, 2, 4]
    assert written_texts(written, tokenizer, config) == ["a dog", "dog", "a a a dog"]
    assert text_of(answer_ids(["a dog"], tokenizer, CONFIG)[0], tokenizer) == "a dog"
