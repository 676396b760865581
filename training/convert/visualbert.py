"""transformers' VisualBERT, encoder or pretraining -> the fusion model (`visualbert`).

VisualBERT (Li et al. 2019) is a BERT whose regions are mapped features with a position and a type of their own, and
stand after the words. The fusion model's regions get the first word's position and type, so the difference of the two
is folded into the map's bias. Parity with transformers' classes: tests/training/convert/test_visualbert.py.
"""

from collections.abc import Mapping
from typing import Any

from modeling_updown import (
    UpDownFusionConfig,
    UpDownFusionForPreTraining,
    UpDownFusionModel,
    UpDownImageProcessor,
    UpDownProcessor,
)
from training.convert.uniter import (
    DECODER,
    HEADS,
    NORM_EPS,
    WORD_BIAS,
    bert_config,
    bert_shapes,
    check_tied,
    encoder_names,
    word_pieces,
)
from training.convert.weights import ConvertedCheckpoint, Weights, check_names, check_shapes, load_into

BODY, EMBEDDINGS = "visual_bert.", "visual_bert.embeddings."
WORDS, POSITIONS, TYPES = (f"{EMBEDDINGS}{kind}_embeddings.weight" for kind in ("word", "position", "token_type"))
VISUAL_POSITIONS, VISUAL_TYPES = (f"{EMBEDDINGS}visual_{kind}_embeddings.weight" for kind in ("position", "token_type"))
PROJECTION = f"{EMBEDDINGS}visual_projection"
TEXT = (
    *(f"{EMBEDDINGS}{kind}_embeddings.weight" for kind in ("word", "position", "token_type")),
    *(f"{EMBEDDINGS}LayerNorm.{part}" for part in ("weight", "bias")),
)
MATCHING = "cls.seq_relationship"
DECODER_BIAS = "cls.predictions.decoder.bias"  # repeats the bias of the words
PLACES = f"{EMBEDDINGS}position_ids"  # a buffer that counts from 0, in files of transformers before 4.31


def convert_visualbert(weights: Weights, options: Mapping[str, Any]) -> ConvertedCheckpoint:
    """VisualBERT's encoder -> `UpDownFusionModel`; with pretraining's heads `UpDownFusionForPreTraining`.

    The latter learns masked words and matching, whose log-odds are the score of "this text is of this image" less that
    of "another's". Raises `ValueError` for a task's head (`cls.weight`), which reads other states than those of this
    package.

    Options read: `num_attention_heads` (by default one for every 64 of the width), `hidden_dropout_prob`,
    `attention_probs_dropout_prob`, `hidden_act`, `initializer_range`, as in its config.json; `tokenizer`, a folder or
    Hub id such as "bert-base-uncased", or `vocab`, its pieces by id. Words that they lack get placeholders, with a
    warning.
    """
    if "cls.weight" in weights:
        raise ValueError(
            "this checkpoint has the head of a task (cls.weight), which reads states that no fusion model here reads: "
            "load it with transformers' own class (updown ask --model FOLDER --regions DETECTOR), or convert the "
            "pretrained checkpoint"
        )
    if not any(name.startswith(BODY) for name in weights):  # saved from `VisualBertModel`
        weights = {f"{BODY}{name}": value for name, value in weights.items()}
    weights = {name: value for name, value in weights.items() if name != PLACES}
    pretrained = any(name.startswith("cls.") for name in weights)
    names = visualbert_names(weights, pretrained=pretrained)
    repeated = [name for name in (DECODER, DECODER_BIAS) if name in weights]
    check_names(weights, [*names.values(), VISUAL_POSITIONS, VISUAL_TYPES, *repeated], format="visualbert")
    check_shapes(weights, visualbert_shapes(weights, pretrained=pretrained), format="visualbert")
    check_tied(weights, DECODER, WORDS)
    check_tied(weights, DECODER_BIAS, WORD_BIAS)
    tokenizer = word_pieces(options, num_words=len(weights[WORDS]), usual="bert-base-uncased")
    bert = bert_config(weights, options, root="visual_bert", tokenizer=tokenizer)
    config = UpDownFusionConfig(
        text_config=bert,
        region_feature_size=weights[f"{PROJECTION}.weight"].shape[1],
        region_embedding="visualbert",
        pooler=True,
        word_bias=pretrained,
        head_norm_eps=NORM_EPS,
        cls_token_id=tokenizer.cls_token_id,
        initializer_range=bert.initializer_range,
        hard_negatives=False,
        **({"objectives": {"itm": 1.0, "mlm": 1.0}} if pretrained else {}),
    )
    model = (UpDownFusionForPreTraining if pretrained else UpDownFusionModel)(config)
    load_into(model, visualbert_weights(weights, names, pretrained=pretrained))
    return ConvertedCheckpoint(model.eval(), UpDownProcessor(UpDownImageProcessor(), tokenizer))


def visualbert_names(weights: Weights, *, pretrained: bool) -> dict[str, str]:
    """Our tensors -> VisualBERT's, of those that are copied or folded one by one."""
    body = "fusion." if pretrained else ""
    layers = {f"{body}region_embedding.of_features": PROJECTION, f"{body}pooler": f"{BODY}pooler.dense"}
    if pretrained:
        layers |= {**HEADS["mlm"], "match_head": MATCHING}
    names = {f"{ours}.{part}": f"{theirs}.{part}" for ours, theirs in layers.items() for part in ("weight", "bias")}
    text = [*TEXT, *encoder_names(weights, root="visual_bert")]
    names |= {f"{body}text_model.{name.removeprefix(BODY)}": name for name in text}
    return names | ({"word_head.word_bias": WORD_BIAS} if pretrained else {})


def visualbert_shapes(weights: Weights, *, pretrained: bool) -> dict[str, tuple[int | None, ...]]:
    """The shapes of those tensors that sizes are read off, or that are not copied as they are; None is any size."""
    shapes = bert_shapes(weights, root="visual_bert")
    size = shapes[WORDS][1]
    shapes |= {f"{PROJECTION}.weight": (size, None), f"{PROJECTION}.bias": (size,)}
    shapes |= {VISUAL_POSITIONS: (None, size), VISUAL_TYPES: (2, size)}
    if pretrained:
        shapes |= {f"{MATCHING}.weight": (2, size), f"{MATCHING}.bias": (2,)}
    return shapes


def visualbert_weights(weights: Weights, names: Mapping[str, str], *, pretrained: bool) -> Weights:
    """Our weights as a function of VisualBERT's."""
    ours = {name: weights[theirs] for name, theirs in names.items()}
    bias = ("fusion." if pretrained else "") + "region_embedding.of_features.bias"
    theirs = weights[VISUAL_TYPES][1] + weights[VISUAL_POSITIONS][0]
    ours[bias] = ours[bias] + theirs - weights[TYPES][0] - weights[POSITIONS][0]
    for part in ("weight", "bias") if pretrained else ():
        scores = weights[f"{MATCHING}.{part}"]  # of a match, of a mismatch
        ours[f"match_head.{part}"] = scores[:1] - scores[1:]
    return ours
