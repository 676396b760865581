"""jayleicn/moment_detr -> `UpDownForMomentRetrieval` on given features (`moment-detr`).

Every tensor is copied but the joint projections of its attention, which are cut into those of queries, keys and values,
and two groups that no output of ours reads: positions of words, where the options do not use them, and the projection
of steps beside that of words, which is in no loss there either. Parity: tests/modeling_updown/test_moments_parity.py.
"""

from collections.abc import Mapping
from typing import Any

from modeling_updown import UpDownForMomentRetrieval, UpDownFusionConfig
from training.convert.weights import (
    ConvertedCheckpoint,
    Weights,
    check_names,
    check_shapes,
    load_into,
    number_option,
)

PARTS = ("weight", "bias")
THIRDS = ("query", "key", "value")  # of a joint projection, in its order
LAYERS = {  # ours -> theirs, each with a weight and a bias
    "decoder_norm": "transformer.decoder.norm",
    "classes": "class_embed",
    "saliency": "saliency_proj",
    **{f"spans.layers.{number}": f"span_embed.layers.{number}" for number in range(3)},
}
ALIGNMENT = {
    "align_queries": "contrastive_align_projection_query",
    "align_words": "contrastive_align_projection_txt",
}
UNREAD = "contrastive_align_projection_vid"
POSITIONS, POSITION_NORM = "txt_position_embed.position_embeddings.weight", "txt_position_embed.LayerNorm"
ATTENTIONS = {"encoder": {"attention": "self_attn"}, "decoder": {"own": "self_attn", "other": "multihead_attn"}}
QUERIES, CLASSES, SPANS = "query_embed.weight", "class_embed.weight", "span_embed.layers.2.weight"
WEIGHTS = {  # of the loss: ours -> the option, and its default
    "span": ("span_loss_coef", 10),
    "giou": ("giou_loss_coef", 1),
    "label": ("label_loss_coef", 4),
    "saliency": ("lw_saliency", 1),
    "alignment": ("contrastive_align_loss_coef", 0),
}
COSTS = {"span": ("set_cost_span", 10), "giou": ("set_cost_giou", 1), "label": ("set_cost_class", 4)}
CLIP_TOKENS, WORD_TOKENS = "input_vid_proj", "input_txt_proj"


def convert_moment_detr(weights: Weights, options: Mapping[str, Any]) -> ConvertedCheckpoint:
    """Moment-DETR's weights -> the model that reads given features of steps and words, without a processor.

    Options read, with that project's defaults: `nheads` (8), `use_txt_pos` (false), `span_loss_type` ("l1"),
    `clip_length` (2), `dropout` (0.1), `input_dropout` (0.5), `temperature` (0.07), `saliency_margin` (0.2), `eos_coef`
    (0.1), `aux_loss` (true), the weights of losses and matching. All sizes are read off the weights. Raises
    `ValueError` for weights of another model and for options that do not fit them.
    """
    check_kind(weights)
    texts = bool(options.get("use_txt_pos", False))
    names = moment_names(weights, texts=texts)
    unread = [name for name in weights if name.startswith((UNREAD, *(() if texts else ("txt_position_embed.",))))]
    check_names(weights, [*names.values(), *joint_names(weights), *unread], format="moment-detr")
    width = weights[QUERIES].shape[-1]
    shapes: dict[str, tuple[int, ...]] = {
        name: (3 * width, width) for name in joint_names(weights) if name.endswith("weight")
    }
    shapes |= {name: (3 * width,) for name in joint_names(weights) if name.endswith("bias")}
    check_shapes(weights, {**shapes, CLASSES: (2, width), SPANS: (None, width)}, format="moment-detr")
    model = UpDownForMomentRetrieval(moment_config(weights, options, texts=texts))
    ours = {f"moments.{name}": weights[theirs] for name, theirs in names.items()}
    load_into(model, ours | {f"moments.{name}": value for name, value in separate_projections(weights).items()})
    return ConvertedCheckpoint(model.eval(), None)


def check_kind(weights: Weights) -> None:
    """`ValueError` for weights that lack what sizes are read off."""
    needed = [QUERIES, SPANS, f"{CLIP_TOKENS}.0.net.1.weight", f"{WORD_TOKENS}.0.net.1.weight", CLASSES]
    missing = [name for name in needed if name not in weights or weights[name].dim() != 2]
    if missing:
        raise ValueError(
            f"these weights are not moment-detr: no matrix {', '.join(missing)}; name the file of that project's model"
        )


def count_of(weights: Weights, root: str) -> int:
    """How many numbered layers stand below `root`."""
    return len({name.removeprefix(f"{root}.").partition(".")[0] for name in weights if name.startswith(f"{root}.")})


def moment_names(weights: Weights, *, texts: bool) -> dict[str, str]:
    """Our tensors of the head -> theirs, of those that are copied; texts: words' positions are read."""
    layers = dict(LAYERS)
    if any(name.startswith("contrastive_align_projection_txt.") for name in weights):
        layers |= ALIGNMENT
    if any(name.startswith("transformer.encoder.norm.") for name in weights):
        layers["encoder_norm"] = "transformer.encoder.norm"
    if texts:
        layers["word_positions.norm"] = POSITION_NORM
    for ours, theirs in (("clip_projection", CLIP_TOKENS), ("text_projection", WORD_TOKENS)):
        for number in range(count_of(weights, theirs)):
            layers[f"{ours}.norms.{number}"] = f"{theirs}.{number}.LayerNorm"
            layers[f"{ours}.linears.{number}"] = f"{theirs}.{number}.net.1"
    for stack, attentions in ATTENTIONS.items():
        for number in range(count_of(weights, f"transformer.{stack}.layers")):
            ours, theirs = f"{stack}.{number}", f"transformer.{stack}.layers.{number}"
            layers |= {f"{ours}.wide": f"{theirs}.linear1", f"{ours}.narrow": f"{theirs}.linear2"}
            layers |= {f"{ours}.norms.{i}": f"{theirs}.norm{i + 1}" for i in range(1 + len(attentions))}
            layers |= {f"{ours}.{own}.output": f"{theirs}.{other}.out_proj" for own, other in attentions.items()}
    names = {f"{ours}.{part}": f"{theirs}.{part}" for ours, theirs in layers.items() for part in PARTS}
    names |= {"word_positions.places.weight": POSITIONS} if texts else {}
    return {**names, "queries.weight": QUERIES}


def joint_projections(weights: Weights) -> dict[str, str]:
    """Our attention -> theirs, of every layer."""
    return {
        f"{stack}.{number}.{ours}": f"transformer.{stack}.layers.{number}.{theirs}"
        for stack, attentions in ATTENTIONS.items()
        for number in range(count_of(weights, f"transformer.{stack}.layers"))
        for ours, theirs in attentions.items()
    }


def joint_names(weights: Weights) -> list[str]:
    """Their joint projections of queries, keys and values."""
    return [f"{theirs}.in_proj_{part}" for theirs in joint_projections(weights).values() for part in PARTS]


def separate_projections(weights: Weights) -> Weights:
    """The projections of queries, keys and values of every attention, by our names."""
    return {
        f"{ours}.{name}.{part}": third.clone()
        for ours, theirs in joint_projections(weights).items()
        for part in PARTS
        for name, third in zip(THIRDS, weights[f"{theirs}.in_proj_{part}"].chunk(3), strict=True)
    }


def moment_config(weights: Weights, options: Mapping[str, Any], *, texts: bool) -> UpDownFusionConfig:
    """The config of the converted model: sizes from the weights, the rest from the options."""
    kind = options.get("span_loss_type", "l1")
    if kind not in ("l1", "ce"):
        raise ValueError(f"the option span_loss_type is {kind!r}: set it to 'l1' or 'ce'")
    outputs = len(weights[SPANS])
    if (kind == "l1") != (outputs == 2) or outputs % 2:
        raise ValueError(
            f"the option span_loss_type is {kind!r}, but the last layer of the spans has {outputs} outputs: it is 'l1' "
            "for 2 and 'ce' for a start and an end of many bins"
        )
    aligned = weights.get("contrastive_align_projection_txt.weight")
    sizes = {
        "moment_text_size": weights[f"{WORD_TOKENS}.0.net.1.weight"].shape[1],
        "region_feature_size": weights[f"{CLIP_TOKENS}.0.net.1.weight"].shape[1],
        "moment_hidden_size": weights[QUERIES].shape[1],
        "moment_queries": len(weights[QUERIES]),
        "moment_ffn_size": len(weights["transformer.encoder.layers.0.linear1.weight"]),
        "moment_encoder_layers": count_of(weights, "transformer.encoder.layers"),
        "moment_decoder_layers": count_of(weights, "transformer.decoder.layers"),
        "moment_input_layers": count_of(weights, CLIP_TOKENS),
        "moment_text_positions": len(weights[POSITIONS]) if texts else 0,
        "moment_alignment_size": 0 if aligned is None else len(aligned),
    }
    numbers = {
        "moment_step_seconds": number_option(options, "clip_length", default=2.0),
        "moment_dropout": number_option(options, "dropout", default=0.1),
        "moment_input_dropout": number_option(options, "input_dropout", default=0.5),
        "moment_temperature": number_option(options, "temperature", default=0.07),
        "moment_saliency_margin": number_option(options, "saliency_margin", default=0.2),
        "moment_background_weight": number_option(options, "eos_coef", default=0.1),
    }
    return UpDownFusionConfig(
        moment_inputs="features",
        moment_num_heads=int(number_option(options, "nheads", default=8)),
        moment_pre_norm="transformer.encoder.norm.weight" in weights,
        moment_span_loss="l1" if kind == "l1" else "cross_entropy",
        moment_alignment_padding=True,
        moment_auxiliary_losses=bool(options.get("aux_loss", True)),
        moment_loss_weights={n: number_option(options, o, default=d) for n, (o, d) in WEIGHTS.items()},
        moment_cost_weights={n: number_option(options, o, default=d) for n, (o, d) in COSTS.items()},
        **({"moment_bins": outputs // 2} if kind == "ce" else {}),
        **sizes,
        **numbers,
    )
