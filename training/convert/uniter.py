"""ChenRocks/UNITER -> the fusion model with the heads that the checkpoint holds (`uniter`).

UNITER is a BERT over words and regions, so most tensors are copied. Three are folded: the type of regions into the bias
of their boxes' LayerNorm, the two scores of matching into one log-odds, and the feature head's last matrix, its input
projection transposed, becomes a matrix of its own. Parity: tests/training/convert/test_uniter.py. What statements about
two images have besides is in `uniter_pairs.py`.
"""

import json
from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoTokenizer, BertConfig, BertTokenizer

from modeling_updown import (
    UpDownFusionConfig,
    UpDownFusionForGrounding,
    UpDownFusionForImagePairs,
    UpDownFusionForImageTextRetrieval,
    UpDownFusionForMultipleChoice,
    UpDownFusionForPreTraining,
    UpDownFusionForVisualEntailment,
    UpDownFusionForVisualQuestionAnswering,
    UpDownFusionModel,
    UpDownImageProcessor,
    UpDownProcessor,
)
from training.console import one_line
from training.convert.uniter_pairs import LABELS, pair_form, pair_layers, pair_shapes, pair_weights, stacked_names
from training.convert.vqa import answer_words, named, words_from_0
from training.convert.weights import (
    ConvertedCheckpoint,
    Weights,
    check_names,
    check_shapes,
    load_into,
    number_option,
)

HEAD_WIDTH = 64  # of each attention head of the released models, whose number no shape tells
NORM_EPS = 1e-12
SPECIAL_PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
BERT_IDS = (0, 100, 101, 102, 103)  # of those, in BERT's vocabularies
BERT_LAYER = (  # the parts of each layer of a BERT, each with a weight and a bias
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "attention.output.LayerNorm",
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
)

# ours -> UNITER's, each with a weight and a bias, of the whole checkpoint or of one head
LAYERS = {
    "region_embedding.of_features": "uniter.img_embeddings.img_linear",
    "region_embedding.norm_features": "uniter.img_embeddings.img_layer_norm",
    "region_embedding.of_boxes": "uniter.img_embeddings.pos_linear",
    "region_embedding.norm_boxes": "uniter.img_embeddings.pos_layer_norm",
    "region_embedding.norm": "uniter.img_embeddings.LayerNorm",
    "pooler": "uniter.pooler.dense",
}
ANSWERS = {
    "before_answers.linear": "vqa_output.0",
    "before_answers.norm": "vqa_output.2",
    "answers": "vqa_output.3",
}
HEADS: dict[str, dict[str, str]] = {
    "itm": {"match_head": "itm_output"},
    "mlm": {
        "word_head.linear": "cls.predictions.transform.dense",
        "word_head.norm": "cls.predictions.transform.LayerNorm",
    },
    "mrc_kl": {
        "object_head.0.linear": "region_classifier.net.0",
        "object_head.0.norm": "region_classifier.net.2",
        "object_head.1": "region_classifier.net.3",
    },
    "mrfr": {
        "feature_head.0.linear": "feat_regress.net.0",
        "feature_head.0.norm": "feat_regress.net.2",
        "feature_head.1": "feat_regress",
    },
    "vqa": ANSWERS,
    "ve": ANSWERS,
    "nlvr2": {"answers": "nlvr2_output"},
    "rank": {"match_head": "rank_output"},
    "re": {"score": "re_output"},
    "vcr": {
        "choice_score.linear": "vcr_output.0",
        "choice_score.norm": "vcr_output.2",
        "choice_score.score": "vcr_output.3",
    },
}
DEEP_RE = {"pairs.linear": "re_output.0", "pairs.norm": "re_output.2", "score": "re_output.3"}  # with `--mlp 2`
ROOTS = {  # how the names of each head's tensors begin
    "itm": "itm_output.",
    "mlm": "cls.predictions.",
    "mrc_kl": "region_classifier.",
    "mrfr": "feat_regress.",
    "vqa": "vqa_output.",
    "ve": "vqa_output.",
    "nlvr2": "nlvr2_output.",
    "rank": "rank_output.",
    "re": "re_output.",
    "vcr": "vcr_output.",
}
ENTAILMENT = ("contradiction", "entailment", "neutral")  # in UNITER's order
PRETRAINING = ("itm", "mlm", "mrc_kl", "mrfr")
WORDS, WORD_BIAS, DECODER = (
    "uniter.embeddings.word_embeddings.weight",
    "cls.predictions.bias",
    "cls.predictions.decoder.weight",
)
TYPES, MASKED = "uniter.embeddings.token_type_embeddings.weight", "uniter.img_embeddings.mask_embedding.weight"
POSITIONS, PROJECTION = "uniter.embeddings.position_embeddings.weight", "uniter.img_embeddings.img_linear.weight"


def convert_uniter(weights: Weights, options: Mapping[str, Any]) -> ConvertedCheckpoint:
    """UNITER pretrained, or fine-tuned for questions, entailment, pairs of images, retrieval, expressions or VCR -> the
    fusion model of that task.

    Pretraining's heads become `UpDownFusionForPreTraining`, with those objectives that the checkpoint has heads for;
    `vqa_output` `UpDownFusionForVisualQuestionAnswering` or, of three outputs without answers or with the classes of
    SNLI-VE for these, `UpDownFusionForVisualEntailment`; `nlvr2_output` `UpDownFusionForImagePairs`; `rank_output`
    `UpDownFusionForImageTextRetrieval`, whose `match` is its score; `re_output` `UpDownFusionForGrounding`, of one
    expression a text; `vcr_output` `UpDownFusionForMultipleChoice`; none `UpDownFusionModel`. Raises `ValueError` for
    the heads of several tasks.

    Options read: those of UNITER's model config (`num_attention_heads`, by default one for every 64 of the width,
    `hidden_dropout_prob`, `attention_probs_dropout_prob`, `hidden_act`, `initializer_range`); `itm_ot_lambda` (0.1);
    `tokenizer`, a folder or Hub id such as "bert-base-cased", or `vocab`, its pieces by id; `ans2label` or `label2ans`;
    `variant`, if the file holds several models. Words and answers that they lack get placeholders, with a warning.
    """
    weights = chosen_model(weights, options.get("variant"))
    heads = [name for name, root in ROOTS.items() if any(key.startswith(root) for key in weights)]
    if "vqa" in heads:  # which has the tensors of `ve`
        heads.remove("vqa" if judges_statements(weights, options) else "ve")
    if "rank" in heads and "itm" in heads:  # what the ranking head began as
        heads.remove("itm")
        weights = {name: value for name, value in weights.items() if not name.startswith(ROOTS["itm"])}
    names = uniter_names(weights, heads)
    check_names(weights, [*names.values(), *folded_names(weights, heads)], format="uniter")
    check_shapes(weights, uniter_shapes(weights, heads), format="uniter")
    check_tied(weights, DECODER, WORDS)
    tokenizer = word_pieces(options, num_words=len(weights[WORDS]), usual="bert-base-cased")
    config = uniter_config(weights, options, heads=heads, tokenizer=tokenizer)
    model = model_class(heads)(config)
    load_into(model, uniter_weights(weights, names, heads=heads))
    return ConvertedCheckpoint(model.eval(), UpDownProcessor(UpDownImageProcessor(), tokenizer))


def chosen_model(weights: Weights, variant: str | None) -> Weights:
    """The weights of one model: of a file that holds several, as `model.TENSOR` and for a head `NAME.model.TENSOR`,
    the first, or the body of the first with the tensors of `variant`."""
    body = {name.removeprefix("model."): value for name, value in weights.items() if name.startswith("model.")}
    if not body:
        return weights
    if variant is None:
        return body
    marker = f"{variant}.model."
    head = {name.removeprefix(marker): value for name, value in weights.items() if name.startswith(marker)}
    if not head:
        known = sorted({name.partition(".model.")[0] for name in weights if ".model." in name})
        raise ValueError(f"the file holds no model {variant!r}: choose one of {', '.join(known)} as the option variant")
    return {name: value for name, value in body.items() if name.startswith("uniter.")} | head


def model_class(heads: list[str]) -> Any:
    """The fusion model's class that has these heads; raises `ValueError` where none has them all."""
    tasks: dict[tuple[str, ...], Any] = {
        ("vqa",): UpDownFusionForVisualQuestionAnswering,
        ("ve",): UpDownFusionForVisualEntailment,
        ("nlvr2",): UpDownFusionForImagePairs,
        ("rank",): UpDownFusionForImageTextRetrieval,
        ("re",): UpDownFusionForGrounding,
        ("vcr",): UpDownFusionForMultipleChoice,
    }
    if not heads:
        return UpDownFusionModel
    if set(heads) <= set(PRETRAINING):
        return UpDownFusionForPreTraining
    if tuple(heads) not in tasks:
        raise ValueError(f"this checkpoint has the heads {', '.join(heads)}, of different tasks: keep those of one")
    return tasks[tuple(heads)]


def uniter_names(weights: Weights, heads: list[str]) -> dict[str, str]:
    """Our tensors -> UNITER's, of those that are copied or folded one by one."""
    body = "" if not heads else "fusion."
    layers = {f"{body}{ours}": theirs for ours, theirs in LAYERS.items()}
    for head in heads:
        layers |= DEEP_RE if head == "re" and is_deep(weights) else HEADS[head]
    layers |= pair_layers(weights) if "nlvr2" in heads else {}
    names = {f"{ours}.{part}": f"{theirs}.{part}" for ours, theirs in layers.items() for part in ("weight", "bias")}
    text = [name for name in weights if name.startswith("uniter.embeddings.")] + encoder_names(weights, root="uniter")
    names |= {f"{body}text_model.{name.removeprefix('uniter.')}": name for name in text}
    if "mlm" in heads:
        names["word_head.word_bias"] = WORD_BIAS
    if learns_regions(heads):
        names[f"{body}region_embedding.of_masked.weight"] = MASKED
    return names


def judges_statements(weights: Weights, options: Mapping[str, Any]) -> bool:
    """Whether the head of answers is that of visual entailment: of three outputs, which are its classes or unnamed."""
    outputs = weights.get("vqa_output.3.bias")
    if outputs is None or tuple(outputs.shape) != (len(ENTAILMENT),):
        return False
    return {*entailment_classes(options)} == {*ENTAILMENT}


def entailment_classes(options: Mapping[str, Any]) -> list[str]:
    """The names of three classes in the order of their labels; UNITER's where the options have none."""
    option = next((name for name in ("label2ans", "ans2label") if options.get(name)), None)
    return words_from_0(options[option], option=option) if option else [*ENTAILMENT]


def is_deep(weights: Weights) -> bool:
    """Whether the head of referring expressions has a layer before its score."""
    return any(name.startswith("re_output.0.") for name in weights)


def encoder_names(weights: Weights, *, root: str) -> list[str]:
    """The tensors of the layers of the BERT `root`: of as many as the weights have any tensor of, at least one."""
    return [
        f"{root}.encoder.layer.{number}.{part}.{kind}"
        for number in range(max(num_layers(weights, root=root), 1))
        for part in BERT_LAYER
        for kind in ("weight", "bias")
    ]


def num_layers(weights: Weights, *, root: str) -> int:
    """How many layers of the BERT `root` the weights have any tensor of."""
    start = f"{root}.encoder.layer."
    return len({name.removeprefix(start).partition(".")[0] for name in weights if name.startswith(start)})


def uniter_shapes(weights: Weights, heads: list[str]) -> dict[str, tuple[int | None, ...]]:
    """The shapes of those tensors that sizes are read off, or that are not copied as they are; None is any size."""
    shapes: dict[str, tuple[int | None, ...]] = bert_shapes(weights, root="uniter")
    size = shapes[WORDS][1]
    shapes |= {PROJECTION: (size, None), f"{LAYERS['region_embedding.norm_boxes']}.bias": (size,)}
    shapes[MASKED] = (2, None)
    if "vcr" in heads:  # questions, regions, answers and rationales
        shapes |= {TYPES: (4, size), "vcr_output.0.bias": (None,), "vcr_output.3.weight": (2, None)}
    if "itm" in heads:
        shapes |= {"itm_output.weight": (2, size), "itm_output.bias": (2,)}
    if "mrfr" in heads:
        shapes["feat_regress.weight"] = (size, None)
    if "mrc_kl" in heads:
        shapes["region_classifier.net.3.bias"] = (None,)
    if "nlvr2" in heads:
        shapes |= pair_shapes(weights)
    if {"vqa", "ve"} & {*heads}:
        shapes |= {"vqa_output.0.bias": (None,), "vqa_output.3.bias": (None,)}
    if "re" in heads and is_deep(weights):
        shapes["re_output.0.bias"] = (None,)
    return shapes


def bert_shapes(weights: Weights, *, root: str) -> dict[str, tuple[int | None, ...]]:
    """The shapes that the config of the BERT `root` is read off; None is any size, and the width is the words'."""
    words = f"{root}.embeddings.word_embeddings.weight"
    size = weights[words].shape[-1] if weights[words].dim() else None
    return {
        words: (None, size),
        f"{root}.embeddings.position_embeddings.weight": (None, size),
        f"{root}.embeddings.token_type_embeddings.weight": (2, size),
        f"{root}.encoder.layer.0.intermediate.dense.weight": (None, size),
    }


def learns_regions(heads: list[str]) -> bool:
    """Whether masked regions are predicted, so that the vector that marks them is of use."""
    return "mrc_kl" in heads or "mrfr" in heads


def folded_names(weights: Weights, heads: list[str]) -> list[str]:
    """UNITER's tensors that ours do not take one by one: always there, or repeating another (the decoder)."""
    required = [
        WORDS,
        TYPES,
        POSITIONS,
        MASKED,
        "uniter.embeddings.LayerNorm.weight",
        "uniter.embeddings.LayerNorm.bias",
    ]
    required += stacked_names(weights) if "nlvr2" in heads else []
    return required + ([DECODER] if "mlm" in heads and DECODER in weights else [])


def check_tied(weights: Weights, repeated: str, original: str) -> None:
    """Raises `ValueError` where the tensor `repeated`, if there is one, differs from the tensor `original`.

    Words are scored by their own embeddings here, and have one bias.
    """
    if repeated in weights and not torch.equal(weights[repeated], weights[original]):
        raise ValueError(
            f"{repeated} differs from {original}, but the two are one here: tie them, or convert a checkpoint in which "
            "they are"
        )


def uniter_weights(weights: Weights, names: Mapping[str, str], *, heads: list[str]) -> Weights:
    """Our weights as a function of UNITER's."""
    ours = {name: weights[theirs] for name, theirs in names.items()}
    body = "" if not heads else "fusion."
    boxes = f"{body}region_embedding.norm_boxes.bias"
    ours[boxes] = ours[boxes] + weights[TYPES][1]  # regions are of token type 1
    if "itm" in heads:
        for part in ("weight", "bias"):
            scores = weights[f"itm_output.{part}"]  # of a mismatch, of a match
            ours[f"match_head.{part}"] = scores[1:] - scores[:1]
    if "mrfr" in heads:
        ours["feature_head.1.weight"] = weights["feat_regress.weight"].T.clone()
    if "nlvr2" in heads:
        ours |= pair_weights(weights)
    if learns_regions(heads):
        ours[f"{body}region_embedding.of_masked.weight"] = weights[MASKED][1:]  # row 0 is that of unmasked ones, zero
    return ours


def uniter_config(
    weights: Weights, options: Mapping[str, Any], *, heads: list[str], tokenizer: Any
) -> UpDownFusionConfig:
    """The sizes from the weights' shapes, the rest from the options."""
    bert = bert_config(weights, options, root="uniter", tokenizer=tokenizer)
    return UpDownFusionConfig(
        text_config=bert,
        region_feature_size=weights[PROJECTION].shape[1],
        region_embedding="uniter",
        mask_embedding=learns_regions(heads),
        pooler=True,
        cls_token_id=tokenizer.cls_token_id,
        head_norm_eps=NORM_EPS,
        initializer_range=bert.initializer_range,
        **head_fields(weights, options, heads=heads),
    )


def bert_config(weights: Weights, options: Mapping[str, Any], *, root: str, tokenizer: Any) -> BertConfig:
    """The config of the BERT whose tensors are called `root.embeddings...` and `root.encoder...`."""
    num_words, size = weights[f"{root}.embeddings.word_embeddings.weight"].shape
    layers = num_layers(weights, root=root)
    named = int(number_option(options, "num_hidden_layers", default=layers))
    if named != layers:
        raise ValueError(
            f"the weights have {layers} layers, but the option num_hidden_layers is {named}: is the file cut, or the "
            "config another model's?"
        )
    num_heads = int(number_option(options, "num_attention_heads", default=size // HEAD_WIDTH))
    if num_heads < 1 or size % num_heads:
        raise ValueError(
            f"the option num_attention_heads must divide the width {size}, it is {num_heads}: give the model's config"
        )
    return BertConfig(
        vocab_size=num_words,
        hidden_size=size,
        num_hidden_layers=layers,
        num_attention_heads=num_heads,
        intermediate_size=len(weights[f"{root}.encoder.layer.0.intermediate.dense.weight"]),
        hidden_act=options.get("hidden_act", "gelu"),
        hidden_dropout_prob=number_option(options, "hidden_dropout_prob", default=0.1),
        attention_probs_dropout_prob=number_option(options, "attention_probs_dropout_prob", default=0.1),
        max_position_embeddings=len(weights[f"{root}.embeddings.position_embeddings.weight"]),
        type_vocab_size=len(weights[f"{root}.embeddings.token_type_embeddings.weight"]),
        initializer_range=number_option(options, "initializer_range", default=0.02),
        layer_norm_eps=NORM_EPS,
        pad_token_id=tokenizer.pad_token_id,
    )


def head_fields(weights: Weights, options: Mapping[str, Any], *, heads: list[str]) -> dict[str, Any]:
    """Those fields of the config that a head is made by."""
    if "nlvr2" in heads:
        labels, num_images = dict(enumerate(LABELS)), len(weights[TYPES]) - 1
        return {"image_pairs": pair_form(weights), "num_images": num_images, "id2label": labels, "objectives": {}}
    if "ve" in heads:
        labels = dict(enumerate(entailment_classes(options)))
        head = {"answer_hidden_size": len(weights["vqa_output.0.bias"]), "id2label": labels}
        return {**head, "problem_type": "multi_label_classification", "objectives": {}}
    if "vqa" in heads:
        hidden, num_answers = len(weights["vqa_output.0.bias"]), len(weights["vqa_output.3.bias"])
        answers = answer_words(options, num_answers=num_answers)
        return {"answer_hidden_size": hidden, "id2label": dict(enumerate(answers))}
    if "re" in heads:
        hidden = len(weights["re_output.0.bias"]) if is_deep(weights) else 0
        head = {"grounding_score": "region", "grounding_hidden_size": hidden, "grounding_box_weight": 0}
        return {**head, "grounding_loss": "cross_entropy", "objectives": {}}
    if "vcr" in heads:
        head = {"choice_loss": "binary", "choice_activation": "relu", "objectives": {}}
        return {**head, "choice_hidden_size": len(weights["vcr_output.0.bias"])}
    fields: dict[str, Any] = {"hard_negatives": False, "mrc_average_classes": True, "word_bias": "mlm" in heads}
    if "mrc_kl" in heads:
        fields["num_objects"] = len(weights["region_classifier.net.3.bias"]) - 1
    learnt = {"itm" if head == "rank" else head: 1.0 for head in heads}
    align = number_option(options, "itm_ot_lambda", default=0.1)
    if "itm" in heads and align:
        learnt["wra"] = align
    return fields | ({"objectives": learnt} if learnt else {})


def word_pieces(options: Mapping[str, Any], *, num_words: int, usual: str) -> Any:
    """The tokenizer that the options name or spell out, of BERT's word pieces; placeholders without either.

    usual: the tokenizer of the published models, for messages; whether it lower-cases, its name says.
    """
    if options.get("tokenizer"):
        try:
            tokenizer = AutoTokenizer.from_pretrained(options["tokenizer"])
        except (OSError, ValueError) as error:
            raise ValueError(
                f"the option tokenizer: no tokenizer in {options['tokenizer']} ({one_line(error)})"
            ) from error
        if len(tokenizer) > num_words:
            raise ValueError(
                f"the tokenizer {options['tokenizer']} has {len(tokenizer)} words, but the weights have {num_words}: "
                f"is it another model's? The published ones have {usual}"
            )
        return tokenizer
    given = options.get("vocab")
    words = words_from_0(given, option="vocab") if given else []
    example = json.dumps({"tokenizer": usual})
    pieces = named(words, num=num_words, kind="words", placeholder="w{}", example=example)
    if not given:
        ids = BERT_IDS if num_words > max(BERT_IDS) else range(len(SPECIAL_PIECES))
        for number, piece in zip(ids, SPECIAL_PIECES, strict=True):
            pieces[number] = piece
    return BertTokenizer(
        {piece: number for number, piece in enumerate(pieces)}, do_lower_case=usual.endswith("uncased")
    )
