"""UNITER's statements about two images (NLVR2), in its three forms -> those of `UpDownFusionForImagePairs`.

    nlvr2_output of 2 x H inputs -> pair, of H -> triplet; attn1, attn2, fc, attn_pool beside it -> pair_biattention

The tensors that `uniter.py` cannot copy one by one: stacked projections of attention are cut apart, and the token types
of left and right image become the vectors of their places. Parity: tests/training/convert/test_uniter_pairs.py.
"""

from collections.abc import Mapping

from training.convert.weights import Weights

OUTPUT, TYPES = "nlvr2_output.weight", "uniter.embeddings.token_type_embeddings.weight"
NUM_TYPES = 3  # of words, of the left image, of the right one
LABELS = ("false", "true")
STACKED = ("query", "key", "value")  # as torch.nn.MultiheadAttention has them
LOOKS = {"others.looks.0": "attn1", "others.looks.1": "attn2"}
JOINED = {"others.joins": "fc.0", "others.weighs": "attn_pool.fc.0"}


def pair_form(weights: Weights) -> str:
    """The value of `config.image_pairs` that a checkpoint with `nlvr2_output` was trained with."""
    if any(name.startswith(("attn1.", "attn2.")) for name in weights):
        return "pair_biattention"
    size = weights[TYPES].shape[-1] if weights[TYPES].dim() else 0
    return "triplet" if weights[OUTPUT].dim() == 2 and weights[OUTPUT].shape[1] == size else "pair"


def pair_layers(weights: Weights) -> Mapping[str, str]:
    """Our layers -> UNITER's, each with a weight and a bias, beside the output."""
    if pair_form(weights) != "pair_biattention":
        return {}
    return {**JOINED, **{f"{ours}.output": f"{theirs}.out_proj" for ours, theirs in LOOKS.items()}}


def stacked_names(weights: Weights) -> list[str]:
    """UNITER's tensors that hold three projections of ours."""
    if pair_form(weights) != "pair_biattention":
        return []
    return [f"{theirs}.in_proj_{part}" for theirs in LOOKS.values() for part in ("weight", "bias")]


def pair_shapes(weights: Weights) -> dict[str, tuple[int | None, ...]]:
    """The shapes of what is cut or told apart by; None is any size."""
    size = weights[TYPES].shape[-1] if weights[TYPES].dim() else None
    inputs = size if size is None or pair_form(weights) == "triplet" else 2 * size
    shapes: dict[str, tuple[int | None, ...]] = {OUTPUT: (len(LABELS), inputs), TYPES: (NUM_TYPES, size)}
    for name in stacked_names(weights):
        rows = None if size is None else len(STACKED) * size
        shapes[name] = (rows, size) if name.endswith("weight") else (rows,)
    return shapes


def pair_weights(weights: Weights) -> Weights:
    """Our tensors that are not UNITER's own: projections, and the places of images beside the type of the left one."""
    types = weights[TYPES]
    ours = {"fusion.region_embedding.of_images.weight": types[1:] - types[1:2]}
    if pair_form(weights) == "pair_biattention":
        for look, theirs in LOOKS.items():
            for part in ("weight", "bias"):
                for name, rows in zip(STACKED, weights[f"{theirs}.in_proj_{part}"].chunk(3), strict=True):
                    ours[f"{look}.{name}.{part}"] = rows.clone()
    return ours
