"""hengyuan-hu/bottom-up-attention-vqa -> `UpDownForVisualQuestionAnswering` (`vqa-pytorch`).

Both of its models: `baseline0_newatt` (attention by products) and `baseline0` (attention by concatenation). Tensors are
copied unchanged, including weight norm (one length per matrix), so that training can be continued. Parity:
tests/modeling_updown/test_vqa_parity.py.
"""

import warnings
from collections.abc import Mapping
from typing import Any

from modeling_updown import (
    UpDownForVisualQuestionAnswering,
    UpDownImageProcessor,
    UpDownProcessor,
    UpDownTokenizer,
    UpDownVqaConfig,
)
from training.convert.weights import ConvertedCheckpoint, Weights, check_names, load_into, words_by_index

QUESTION_WORDS = 14
ATTENTION_DROPOUT, ANSWER_DROPOUT = 0.2, 0.5  # constants of its code

# ours -> hengyuan-hu's, for tensors that are copied unchanged
VQA_NAMES = {
    "embed_tokens.weight": "w_emb.emb.weight",
    "question_gru.word_gates.weight": "q_emb.rnn.weight_ih_l0",
    "question_gru.word_gates.bias": "q_emb.rnn.bias_ih_l0",
    "question_gru.state_gates.weight": "q_emb.rnn.weight_hh_l0",
    "question_gru.state_gates.bias": "q_emb.rnn.bias_hh_l0",
}
VQA_LAYERS = {  # ours -> hengyuan-hu's, each with a bias, a direction and a length
    "of_question.linear": "q_net.main.0",
    "of_photo.linear": "v_net.main.0",
    "before_answers.linear": "classifier.main.0",
    "answers": "classifier.main.3",
    "attention.0.score": "v_att.linear",
}
ATTENTION_LAYERS = {
    "multiply": {
        "attention.0.of_region.linear": "v_att.v_proj.main.0",
        "attention.0.of_query.linear": "v_att.q_proj.main.0",
    },
    "concat": {"attention.0.joint.linear": "v_att.nonlinear.main.0"},
}
LAYER_TENSORS = {"bias": "bias", "weight": "weight_v", "gain": "weight_g"}


def convert_vqa(weights: Weights, options: Mapping[str, Any]) -> ConvertedCheckpoint:
    """Either of hengyuan-hu's models -> `UpDownForVisualQuestionAnswering`, with its words and answers.

    Options read: `question_vocab` or `vocab` (the words in the order of their ids, or id -> word), `ans2label` or
    `label2ans` (the answers); `variant`, if the file holds several models. Words and answers that the options lack get
    placeholders, with a warning.
    """
    weights = chosen_variant(weights, options.get("variant"))
    attention = "multiply" if any(name.startswith("v_att.v_proj") for name in weights) else "concat"
    names = vqa_names(attention)
    check_names(weights, list(names.values()), format="vqa-pytorch")
    config = vqa_config(weights, options, attention=attention)
    model = UpDownForVisualQuestionAnswering(config)
    load_into(model, {ours: weights[theirs] for ours, theirs in names.items()})
    words = question_words(options.get("question_vocab") or options.get("vocab"), num_words=config.vocab_size - 1)
    tokenizer = UpDownTokenizer.from_question_vocabulary(words)
    return ConvertedCheckpoint(model.eval(), UpDownProcessor(UpDownImageProcessor(), tokenizer))


def vqa_names(attention: str) -> dict[str, str]:
    """Our tensors -> theirs, for one kind of attention."""
    layers = {**VQA_LAYERS, **ATTENTION_LAYERS[attention]}
    return VQA_NAMES | {
        f"{ours}.{tensor}": f"{theirs}.{their_tensor}"
        for ours, theirs in layers.items()
        for tensor, their_tensor in LAYER_TENSORS.items()
    }


def chosen_variant(weights: Weights, variant: str | None) -> Weights:
    """The weights of one model; if a file holds several as `NAME.model.TENSOR`, those of `variant`."""
    variants = sorted({name.partition(".model.")[0] for name in weights if ".model." in name})
    if not variants:
        return weights
    if variant not in variants:
        raise ValueError(
            f"the file holds several models ({', '.join(variants)}): "
            f'choose one in the options, such as {{"variant": "{variants[0]}"}}'
        )
    prefix = f"{variant}.model."
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def vqa_config(weights: Weights, options: Mapping[str, Any], *, attention: Any) -> UpDownVqaConfig:
    """The sizes from the weights' shapes, the rest from the options and from constants of its code."""
    vocab_size, word_size = weights["w_emb.emb.weight"].shape
    hidden, region_size = weights["v_net.main.0.weight_v"].shape
    num_answers, answer_hidden = weights["classifier.main.3.weight_v"].shape
    return UpDownVqaConfig(
        vocab_size=vocab_size,
        pad_token_id=vocab_size - 1,
        word_embedding_size=word_size,
        hidden_size=hidden,
        answer_hidden_size=answer_hidden,
        region_feature_size=region_size,
        id2label=dict(enumerate(answer_words(options, num_answers=num_answers))),
        activation="relu",
        weight_norm=True,
        attention=attention,
        max_question_words=QUESTION_WORDS,
        reads_padding=True,
        attention_dropout=ATTENTION_DROPOUT if attention == "multiply" else 0.0,
        answer_dropout=ANSWER_DROPOUT,
    )


def answer_words(options: Mapping[str, Any], *, num_answers: int) -> list[str]:
    """The answers in the order of their labels; missing ones are called "answer 7" and so on, with a warning."""
    option = next((name for name in ("label2ans", "ans2label") if options.get(name)), None)
    answers = words_from_0(options[option], option=option) if option else []
    return named(answers, num=num_answers, kind="answers", placeholder="answer {}", example='{"ans2label": {"yes": 0}}')


def question_words(vocabulary: Any, *, num_words: int) -> list[str]:
    """The question words by id; missing ones are called "w7" and so on, with a warning."""
    words = words_from_0(vocabulary, option="question_vocab") if vocabulary else []
    example = '{"question_vocab": ["what"]}'
    return named(words, num=num_words, kind="words", placeholder="w{}", example=example)


def words_from_0(vocabulary: Any, *, option: str) -> list[str]:
    """The words in the order of their indices, which go from 0 without a gap; raises `ValueError` naming the option."""
    words = words_by_index(vocabulary, option=option)
    gap = next((place for place, index in enumerate(words) if index != place), None)
    if gap is not None:
        raise ValueError(
            f"the option {option} names {len(words)} words but none with the index {gap}: is it another model's?"
        )
    return list(words.values())


def named(names: list[str], *, num: int, kind: str, placeholder: str, example: str) -> list[str]:
    """The names, with placeholders up to `num`, the rows of the weights; raises `ValueError` for more names."""
    if len(names) > num:
        raise ValueError(f"the options name {len(names)} {kind}, but the weights have {num}: they are another model's")
    if len(names) < num:
        given = f"{len(names)} of {num} {kind}" if names else f"none of the {num} {kind}"
        first = placeholder.format(len(names))
        warnings.warn(f"the options name {given}; the others are called {first!r} and so on: {example}", stacklevel=2)
    return names + [placeholder.format(index) for index in range(len(names), num)]
