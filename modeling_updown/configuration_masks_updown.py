"""What a detector's config says of masks: the head of Mask R-CNN beside those of classes and boxes.

The config itself is in `configuration_updown.py`, the head in `masks_updown.py`.
"""

from typing import Any

from .labels_updown import LabelledConfig

MASK_FIELDS = ("mask_head", "mask_size", "mask_class_agnostic", "mask_hidden_size", "mask_convs", "mask_loss_weight")
LARGEST_MASK_SIZE = 512  # cells a side


class MaskConfig(LabelledConfig):
    r"""A config whose detector may have a mask head (He et al. 2017, figure 4, right).

    mask_head (`bool`, defaults to `False`):
        Whether every region has a mask, `region_masks`.
    mask_size (`int`, defaults to 28):
        Cells a side M of a mask, even: maps are pooled to half of it by RoIAlign, and a deconvolution doubles that.
    mask_class_agnostic (`bool`, defaults to `True`):
        One mask a region, whatever it shows; else one for each class, of which the region's class has its own.
    mask_hidden_size, mask_convs (`int`, default to 256, 4):
        Channels of the head, and how many 3x3 convolutions come before the deconvolution.
    mask_loss_weight (`float`, defaults to 1.0):
        Training: weight of the masks' binary cross-entropy.
    """

    mask_head: bool = False
    mask_size: int = 28
    mask_class_agnostic: bool = True
    mask_hidden_size: int = 256
    mask_convs: int = 4
    mask_loss_weight: float | int = 1.0

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        self.check_masks()

    def check_masks(self) -> None:
        """Raises `ValueError` for fields of masks that are out of their range."""
        if not 2 <= self.mask_size <= LARGEST_MASK_SIZE or self.mask_size % 2:
            raise ValueError(
                f"mask_size={self.mask_size} must be even, 2 to {LARGEST_MASK_SIZE}: twice the cells of a pooled region"
            )
        if self.mask_hidden_size < 1 or self.mask_convs < 0 or self.mask_loss_weight < 0:
            raise ValueError(
                f"mask_hidden_size={self.mask_hidden_size} must be 1 or more, mask_convs={self.mask_convs} and "
                f"mask_loss_weight={self.mask_loss_weight} 0 or more"
            )
