"""What the captioner's config says of dense captioning: a sentence and a box for each region.

The config itself is in `configuration_updown.py`, the model in `modeling_dense_captioning.py`, which reads these fields
alone; the captioner of whole images reads none of them.
"""

from typing import Any, Literal

from .configuration_time_updown import TimedRegionsConfig


class DescribedRegionsConfig(TimedRegionsConfig):
    r"""A config whose model may describe single regions; `UpDownForDenseCaptioning` has the equations.

    dense_context (`"none"`, `"early"`, `"late"` or `"attention"`, defaults to `"late"`):
        How a region's sentence learns of the whole image: not at all, by its vector beside the region's, by an LSTM of
        its own beside the region's (Yang et al. 2017), or by top-down attention over all regions (the paper's).
    dense_context_region (`"mean"` or `"first"`, defaults to `"mean"`):
        The image's vector: the mean of its regions, or the first one, which is the whole image with `grid_sizes=[1]`.
    dense_fusion (`"multiply"`, `"sum"` or `"concat"`, defaults to `"multiply"`):
        How late fusion joins the states of both LSTMs.
    dense_box (`"none"`, `"shared"` or `"twin"`, defaults to `"twin"`):
        Whether a region's box is moved by what its sentence says: not, by the caption LSTM's last state, or by that of
        an LSTM of its own (the T-LSTM of Yang et al. 2017).
    dense_box_weight, dense_score_weight (`float`, default to 0.1):
        Weights of the losses of boxes and of the scores of regions beside that of words; without a weight for scores
        regions have those of their detector.
    dense_rank (`"region"`, `"words"` or `"both"`, defaults to `"region"`):
        What sentences are ranked by: the region's score, their own probability a word, or the product.
    dense_nms_iou (`float`, defaults to 0.3):
        Of sentences whose boxes overlap by more the best alone is kept (DenseCap's; it thins its proposals at 0.7).
    """

    dense_context: Literal["none", "early", "late", "attention"] = "late"
    dense_context_region: Literal["mean", "first"] = "mean"
    dense_fusion: Literal["multiply", "sum", "concat"] = "multiply"
    dense_box: Literal["none", "shared", "twin"] = "twin"
    dense_box_weight: float | int = 0.1
    dense_score_weight: float | int = 0.1
    dense_rank: Literal["region", "words", "both"] = "region"
    dense_nms_iou: float | int = 0.3

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if not 0 < self.dense_nms_iou <= 1 or self.dense_box_weight < 0 or self.dense_score_weight < 0:
            raise ValueError(
                f"dense_nms_iou={self.dense_nms_iou} must be above 0 and at most 1, as an IoU is, and "
                f"dense_box_weight={self.dense_box_weight} and dense_score_weight={self.dense_score_weight} 0 or more"
            )

    @property
    def region_size(self) -> int:
        """Width of a region as the captioner reads it: its feature, tags and time."""
        return super().region_size + self.time_size
