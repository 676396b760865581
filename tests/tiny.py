"""Every tiny model, processor and image of the tests: random weights, a vocabulary of some 30 words, images of 64 x 64.

The weights are drawn large and from a fixed seed, so that captions differ between images and are the same in every run.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, BertConfig, PreTrainedTokenizerFast

from modeling_updown import (
    UpDownCaptioningConfig,
    UpDownDetector,
    UpDownDetectorConfig,
    UpDownForDenseCaptioning,
    UpDownForImageCaptioning,
    UpDownForMomentRetrieval,
    UpDownForTextReading,
    UpDownForVisualQuestionAnswering,
    UpDownFusionConfig,
    UpDownFusionForGrounding,
    UpDownFusionForImagePairs,
    UpDownFusionForImageTextRetrieval,
    UpDownFusionForMaskedLM,
    UpDownFusionForMultipleChoice,
    UpDownFusionForPreTraining,
    UpDownFusionForVisualEntailment,
    UpDownFusionForVisualQuestionAnswering,
    UpDownFusionModel,
    UpDownGrid,
    UpDownGridConfig,
    UpDownImageProcessor,
    UpDownPrefixLMConfig,
    UpDownPrefixLMForImageCaptioning,
    UpDownPrefixLMForVisualQuestionAnswering,
    UpDownProcessor,
    UpDownTokenizer,
    UpDownVqaConfig,
)
from modeling_updown.nanodet_updown import NanoDet, normalised, pad_to_multiple, top_cells
from modeling_updown.proposals_updown import top_proposals
from modeling_updown.resnet_updown import Bottleneck

WHOLE_MODELS_ON_DISK = pytest.mark.skipif(
    tuple(map(int, accelerate.__version__.split(".")[:2])) < (1, 15),
    reason="accelerate before 1.15 refuses a model that lies on disk as a whole",
)

IMAGE_SIDE = 64
CAPTIONS = [
    "a brown dog runs through the grass",
    "two men ride a wave on the ocean",
    "a small child in red plays with a ball",
    "people are sitting at an old wooden table",
]
QUESTIONS = [
    "Is there a brown dog?",
    "How many men ride on the wave?",
    "What color is the child's ball?",
    "Where are the people sitting?",
]
ANSWERS = ["yes", "no", "2", "red", "at the table", "brown"]


def tiny_grid_config(**changes: Any) -> UpDownGridConfig:
    """A grid of 3 x 3 cells over timm's smallest ResNet."""
    fields: dict[str, Any] = {
        "backbone": "test_resnet",
        "image_size": IMAGE_SIDE,
        "grid_size": 3,
        "region_feature_size": 96,
    }
    return UpDownGridConfig(**(fields | changes))


def tiny_processor() -> UpDownProcessor:
    """The processor of `tiny_captioner`: 64 x 64 images, the words of `CAPTIONS`."""
    side = {"height": IMAGE_SIDE, "width": IMAGE_SIDE}
    return UpDownProcessor(UpDownImageProcessor(size=side), UpDownTokenizer.from_captions(CAPTIONS, min_count=1))


def tiny_captioning_config(**changes: Any) -> UpDownCaptioningConfig:
    """Widths of 16 to 32 on the tiny grid; `vision_config=None` and `region_feature_size=...` make one without."""
    fields: dict[str, Any] = {
        "vocab_size": len(tiny_processor().tokenizer),
        "hidden_size": 32,
        "word_embedding_size": 16,
        "attention_size": 16,
        "initializer_range": 0.5,
        "vision_config": tiny_grid_config(),
    }
    return UpDownCaptioningConfig(**(fields | changes))


def tiny_captioner(**changes: Any) -> UpDownForImageCaptioning:
    """A captioner of its own region source, in evaluation mode."""
    return seeded(UpDownForImageCaptioning, tiny_captioning_config(**changes))


def tiny_dense_captioner(**changes: Any) -> UpDownForDenseCaptioning:
    """A dense captioner of its own region source, in evaluation mode; it writes five words at most."""
    model = seeded(UpDownForDenseCaptioning, tiny_captioning_config(**changes))
    model.generation_config.update(max_new_tokens=5, max_length=None)
    return model


def tiny_question_processor() -> UpDownProcessor:
    """The processor of `tiny_vqa`: 64 x 64 images, the words of `QUESTIONS` and of `ANSWERS`."""
    side = {"height": IMAGE_SIDE, "width": IMAGE_SIDE}
    return UpDownProcessor(UpDownImageProcessor(size=side), UpDownTokenizer.from_questions(QUESTIONS, texts=ANSWERS))


def tiny_vqa_config(**changes: Any) -> UpDownVqaConfig:
    """Widths of 12 to 16 on the tiny grid; `vision_config=None` and `region_feature_size=...` make one without."""
    fields: dict[str, Any] = {
        "vocab_size": len(tiny_question_processor().tokenizer),
        "id2label": dict(enumerate(ANSWERS)),
        "hidden_size": 16,
        "word_embedding_size": 12,
        "initializer_range": 0.5,
        "vision_config": tiny_grid_config(),
    }
    return UpDownVqaConfig(**(fields | changes))


def tiny_vqa(**changes: Any) -> UpDownForVisualQuestionAnswering:
    """A question answerer of its own region source, in evaluation mode."""
    return seeded(UpDownForVisualQuestionAnswering, tiny_vqa_config(**changes))


def tiny_tokenizer(**changes: Any) -> PreTrainedTokenizerFast:
    """BERT's word pieces: [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4, the words of `CAPTIONS` and `QUESTIONS`, and
    the letters, of which every other word is made. Lower case; a text becomes [CLS] pieces [SEP]."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    words = sorted({word for text in CAPTIONS + QUESTIONS for word in re.findall(r"\w+|[^\w\s]", text.lower())})
    pieces = [*special, *words, *letters, *(f"##{letter}" for letter in letters), ".", ","]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return PreTrainedTokenizerFast(tokenizer_object=backend, **(dict(zip(names, special, strict=True)) | changes))


def tiny_fusion_processor() -> UpDownProcessor:
    """The processor of the fusion models: 64 x 64 images, the pieces of `tiny_tokenizer`."""
    return UpDownProcessor(UpDownImageProcessor(size={"height": IMAGE_SIDE, "width": IMAGE_SIDE}), tiny_tokenizer())


def tiny_encoder_config(**changes: Any) -> BertConfig:
    """A BERT of 2 layers of width 32."""
    fields: dict[str, Any] = {
        "vocab_size": len(tiny_tokenizer()),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
        "initializer_range": 0.2,
        "cls_token_id": 2,
    }
    return BertConfig(**(fields | changes))


def tiny_fusion_config(**changes: Any) -> UpDownFusionConfig:
    """The tiny BERT on the tiny grid; `vision_config=None` and `region_feature_size=...` make one without."""
    fields: dict[str, Any] = {
        "text_config": tiny_encoder_config(),
        "vision_config": tiny_grid_config(),
        "projection_size": 16,
        "num_objects": 12,
        "id2label": dict(enumerate(ANSWERS)),
        "initializer_range": 0.2,
    }
    return UpDownFusionConfig(**(fields | changes))


def tiny_fusion(**changes: Any) -> UpDownFusionModel:
    """The fusion model without a head, in evaluation mode."""
    return seeded(UpDownFusionModel, tiny_fusion_config(**changes))


def tiny_retrieval(**changes: Any) -> UpDownFusionForImageTextRetrieval:
    """Retrieval on the fusion model, in evaluation mode."""
    return seeded(UpDownFusionForImageTextRetrieval, tiny_fusion_config(**changes))


def tiny_pretraining(**changes: Any) -> UpDownFusionForPreTraining:
    """Pretraining of the fusion model, in evaluation mode."""
    return seeded(UpDownFusionForPreTraining, tiny_fusion_config(**changes))


def tiny_masked_lm(**changes: Any) -> UpDownFusionForMaskedLM:
    """Masked words on the fusion model, in evaluation mode."""
    return seeded(UpDownFusionForMaskedLM, tiny_fusion_config(**changes))


def tiny_fusion_vqa(**changes: Any) -> UpDownFusionForVisualQuestionAnswering:
    """Question answering on the fusion model, in evaluation mode."""
    return seeded(UpDownFusionForVisualQuestionAnswering, tiny_fusion_config(**changes))


def tiny_grounding(**changes: Any) -> UpDownFusionForGrounding:
    """Phrase grounding on the fusion model, in evaluation mode."""
    return seeded(UpDownFusionForGrounding, tiny_fusion_config(**changes))


def tiny_entailment(**changes: Any) -> UpDownFusionForVisualEntailment:
    """Visual entailment on the fusion model, in evaluation mode."""
    labels = dict(enumerate(("entailment", "neutral", "contradiction")))
    return seeded(UpDownFusionForVisualEntailment, tiny_fusion_config(**{"id2label": labels, **changes}))


def tiny_pairs(**changes: Any) -> UpDownFusionForImagePairs:
    """Statements about two images on the fusion model, in evaluation mode."""
    fields = {"id2label": {0: "false", 1: "true"}, "num_images": 2, **changes}
    return seeded(UpDownFusionForImagePairs, tiny_fusion_config(**fields))


def tiny_multiple_choice(**changes: Any) -> UpDownFusionForMultipleChoice:
    """Multiple choice on the fusion model, in evaluation mode."""
    return seeded(UpDownFusionForMultipleChoice, tiny_fusion_config(**changes))


def tiny_moments(**changes: Any) -> UpDownForMomentRetrieval:
    """Moment retrieval on the fusion model, in evaluation mode; the regions of a clip are given, of width 12."""
    fields: dict[str, Any] = {"vision_config": None, "region_feature_size": 12, "moment_hidden_size": 32}
    fields |= {"moment_num_heads": 4, "moment_ffn_size": 48, "moment_queries": 5, "moment_alignment_size": 8}
    fields |= {"moment_segments": 4, "moment_map_layers": 2, "moment_map_kernel": 3, **changes}
    return seeded(UpDownForMomentRetrieval, tiny_fusion_config(**fields))


READ_ANSWERS = ("<pad>", "<s>", "</s>", "<unk>", "yes", "no", "red", "dog")


def tiny_reading(**changes: Any) -> UpDownForTextReading:
    """Answers by reading on the fusion model, in evaluation mode; the regions of an image are given, of width 12."""
    fields: dict[str, Any] = {
        "vision_config": None,
        "region_feature_size": 12,
        "id2label": dict(enumerate(READ_ANSWERS)),
    }
    fields |= {"reading_max_steps": 5, "reading_max_ocr": 8, **changes}
    return seeded(UpDownForTextReading, tiny_fusion_config(**fields))


def tiny_text_config(model_type: str = "gpt2", **changes: Any) -> Any:
    """A causal language model of two layers of width 32 over the words of `CAPTIONS`: GPT-2, Llama, Qwen2 and alike."""
    fields: dict[str, Any] = {
        "vocab_size": len(tiny_processor().tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "initializer_range": 0.3,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    if model_type == "opt":
        fields |= {"word_embed_proj_dim": 16, "ffn_dim": 48, "init_std": fields.pop("initializer_range")}
    elif model_type != "gpt2":
        fields |= {"num_key_value_heads": 2, "intermediate_size": 48}
    return AutoConfig.for_model(model_type, **(fields | changes))


def tiny_prefix_lm_config(**changes: Any) -> UpDownPrefixLMConfig:
    """A tiny GPT-2 on the tiny grid; `vision_config=None` and `region_feature_size=...` make one without."""
    fields: dict[str, Any] = {"initializer_range": 0.3, "vision_config": tiny_grid_config()}
    if "text_config" not in changes:
        fields["text_config"] = tiny_text_config()
    return UpDownPrefixLMConfig(**(fields | changes))


def tiny_prefix_lm(**changes: Any) -> UpDownPrefixLMForImageCaptioning:
    """A prefix language model of its own region source, in evaluation mode."""
    return seeded(UpDownPrefixLMForImageCaptioning, tiny_prefix_lm_config(**changes))


def tiny_prefix_vqa(**changes: Any) -> UpDownPrefixLMForVisualQuestionAnswering:
    """The same over the pieces of `tiny_tokenizer`, which answers questions in four tokens at most."""
    words = {"vocab_size": len(tiny_tokenizer()), "bos_token_id": 2, "eos_token_id": 3}
    fields = {"text_config": tiny_text_config(**words), "id2label": dict(enumerate(ANSWERS)), **changes}
    model = seeded(UpDownPrefixLMForVisualQuestionAnswering, tiny_prefix_lm_config(**fields))
    model.generation_config.update(max_new_tokens=4, max_length=None)
    return model


def tiny_grid(**changes: Any) -> UpDownGrid:
    """The region source alone, in evaluation mode."""
    return seeded(UpDownGrid, tiny_grid_config(**changes))


def tiny_detector_config(**changes: Any) -> UpDownDetectorConfig:
    """The Caffe layout with all its conventions: 8 to 128 channels, 9 anchors, 12 objects, 5 attributes."""
    fields: dict[str, Any] = {
        "backbone": "caffe_resnet50",
        "stem_channels": 8,
        "bottleneck_channels": 4,
        "res2_channels": 16,
        "region_feature_size": 128,
        "num_objects": 12,
        "num_attributes": 5,
        "anchor_sizes": [[16, 32, 64]],
        "rpn_hidden_size": 16,
        "proposals_before_nms": 200,
        "proposals_after_nms": 40,
        "train_proposals_before_nms": 300,
        "train_proposals_after_nms": 80,
        "min_proposal_side": 4,
        "region_pool_size": 7,
        "object_embedding_size": 8,
        "attribute_hidden_size": 16,
        "min_regions": 4,
        "max_regions": 12,
    }
    return UpDownDetectorConfig(**(fields | changes))


def tiny_pyramid_config(**changes: Any) -> UpDownDetectorConfig:
    """The light half: a feature pyramid on timm's smallest ResNet, detectron2's conventions, joined features."""
    fields: dict[str, Any] = {
        "backbone": "test_resnet",
        "pyramid_size": 16,
        "head_size": 32,
        "joined_features": True,
        "region_feature_size": 32 + 96,
        "anchor_sizes": [[16], [32], [64], [128]],
        "anchor_style": "detectron2",
        "box_plus_one": False,
        "max_box_growth": 62.5,
        "filter_before_nms_cut": False,
        "region_pool": "align",
        "region_pool_size": 3,
        "region_boxes": "regressed",
        "nms_thresholds": [0.5],
        "frozen_stages": 2,
    }
    return tiny_detector_config(**(fields | changes))


def tiny_nanodet_config(**changes: Any) -> UpDownDetectorConfig:
    """The same on the boxes of a NanoDet of 8 to 12 channels and 7 classes."""
    fields: dict[str, Any] = {
        "proposal_model": "nanodet",
        "nanodet_channels": [8, 8, 12, 12, 8],
        "nanodet_classes": 7,
        "region_feature_size": 32 + 96 + 7,
    }
    return tiny_pyramid_config(**(fields | changes))


def tiny_detector(**changes: Any) -> UpDownDetector:
    """The Caffe-style detector in evaluation mode; its decisions are clear cut, see `decided`."""
    return decided(tiny_detector_config(**changes))


def tiny_pyramid_detector(**changes: Any) -> UpDownDetector:
    """The detector on a feature pyramid in evaluation mode."""
    return decided(tiny_pyramid_config(**changes))


def tiny_nanodet_detector(**changes: Any) -> UpDownDetector:
    """The detector on NanoDet's boxes in evaluation mode."""
    return decided(tiny_nanodet_config(**changes))


@torch.no_grad()
def decided(config: UpDownDetectorConfig) -> UpDownDetector:
    """A detector with seeded weights, whose boxes on an image clearly differ in score, class and attribute.

    Plain random weights give every box nearly the same scores, and then rounding decides.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = UpDownDetector(config).eval()
        heads, pixels = model.heads, noise_image(160, 192)
        for module in model.modules():
            if isinstance(module, Bottleneck):
                module.conv3.norm.weight.fill_(0.3)  # else each of 16 blocks doubles the variance
        if isinstance(model.proposals, NanoDet):
            decide_cells(model.proposals, pixels)
            maps = model.feature_maps(pixels)
            boxes = top_cells(maps.cells, 0, config=config, image_size=maps.size)
        else:
            maps = model.feature_maps(pixels)
            hidden = [model.proposals.conv(feature_map).relu().flatten(2)[0].T for feature_map in maps.maps]
            spread(model.proposals.objectness, torch.cat(hidden), deviation=2.0)
            spread(model.proposals.deltas, torch.cat(hidden), deviation=0.3)
            logits, deltas = ([part[0] for part in parts] for parts in model.proposals(maps.maps))
            anchors = model.proposals.anchors(maps.maps)
            boxes, _ = top_proposals(logits, deltas, anchors, config=config, image_size=maps.size)
        features = model.region_features(maps, [boxes])
        spread(heads.object_score, features, deviation=2.0)
        spread(heads.box_deltas, features, deviation=0.5)
        if heads.has_attributes:
            heads.object_embedding.weight.normal_()
            classes = heads.object_embedding(heads.object_score(features).argmax(dim=1))
            joined = torch.cat([features, classes], dim=1)
            spread(heads.attribute_hidden, joined, deviation=1.0)
            spread(heads.attribute_score, heads.attribute_hidden(joined).relu(), deviation=2.0)
    return model


def decide_cells(nanodet: NanoDet, pixels: torch.Tensor) -> None:
    """One last layer for the heads of all maps, whose scores and distances clearly differ."""
    padded, _ = pad_to_multiple(nanodet.pixels(pixels))
    maps, _ = nanodet.outputs(normalised(padded))
    hidden = [head[:-1](level).flatten(2)[0].T for head, level in zip(nanodet.heads, maps, strict=True)]
    for head in nanodet.heads:
        spread(head[-1], torch.cat(hidden), deviation=2.0)
        head[-1].load_state_dict(nanodet.heads[0][-1].state_dict())


def spread(layer: torch.nn.Module, inputs: torch.Tensor, *, deviation: float) -> None:
    """Make the outputs of a Linear or 1x1 convolution random mixtures, of this deviation and a mean of 0, of the eight
    directions in which the inputs (N, D) differ most."""
    mean = inputs.mean(dim=0)
    _, sizes, directions = torch.linalg.svd(inputs - mean, full_matrices=False)
    directions = directions[:8] / sizes[:8, None] * len(inputs) ** 0.5
    weight = torch.randn(len(layer.weight), len(directions)) @ directions * (deviation / len(directions) ** 0.5)
    layer.weight.copy_(weight.view_as(layer.weight))
    layer.bias.copy_(-weight @ mean)


def noise_image(height: int, width: int, *, seed: int = 0) -> torch.Tensor:
    """Pixel values (1, 3, height, width) of coarse noise and of fine noise, normalised."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, 3, -(-height // 16), -(-width // 16), generator=generator)
    coarse = coarse.repeat_interleave(16, dim=2).repeat_interleave(16, dim=3)[..., :height, :width]
    return coarse + 0.3 * torch.randn(1, 3, height, width, generator=generator)


def seeded(model_class: type, config: Any) -> Any:
    """A model with weights that depend on nothing but its config, whose backbone tells images apart."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = model_class(config).eval()
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d):  # wider than by default, so that captions differ too
                torch.nn.init.normal_(module.weight, std=2 * module.weight[0].numel() ** -0.5)
    return model


def save_tiny_captioner(folder: Path, **changes: Any) -> Path:
    """`save_pretrained` of the captioner and its processor into one folder, which is returned."""
    tiny_captioner(**changes).save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


def save_tiny_detecting_captioner(folder: Path) -> Path:
    """`save_pretrained` of a captioner that owns the Caffe-style detector, and of its processor, into one folder."""
    detector = tiny_detector(region_pool_size=14)  # as the references have it: what the kernels are for
    model = tiny_captioner(vision_config=detector.config)
    model.region_source.load_state_dict(detector.state_dict())
    model.save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


def save_tiny_prefix_lm(folder: Path, **changes: Any) -> Path:
    """`save_pretrained` of the prefix language model and its processor into one folder, which is returned."""
    tiny_prefix_lm(**changes).save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


def save_tiny_prefix_vqa(folder: Path, **changes: Any) -> Path:
    """`save_pretrained` of the answering prefix language model and its processor into one folder, which is returned."""
    tiny_prefix_vqa(**changes).save_pretrained(folder)
    tiny_fusion_processor().save_pretrained(folder)
    return folder


def save_tiny_dense_captioner(folder: Path, **changes: Any) -> Path:
    """`save_pretrained` of the dense captioner and its processor into one folder, which is returned."""
    tiny_dense_captioner(**changes).save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


def save_tiny_vqa(folder: Path, **changes: Any) -> Path:
    """`save_pretrained` of the question answerer and its processor into one folder, which is returned."""
    tiny_vqa(**changes).save_pretrained(folder)
    tiny_question_processor().save_pretrained(folder)
    return folder


def save_tiny_retrieval(folder: Path, **changes: Any) -> Path:
    """`save_pretrained` of the retrieval model and its processor into one folder, which is returned."""
    tiny_retrieval(**changes).save_pretrained(folder)
    tiny_fusion_processor().save_pretrained(folder)
    return folder


def save_tiny_fusion_vqa(folder: Path, **changes: Any) -> Path:
    """`save_pretrained` of the fusion question answerer and its processor into one folder, which is returned."""
    tiny_fusion_vqa(**changes).save_pretrained(folder)
    tiny_fusion_processor().save_pretrained(folder)
    return folder


def save_tiny_grounding(folder: Path, **changes: Any) -> Path:
    """`save_pretrained` of the grounding model and its processor into one folder, which is returned."""
    tiny_grounding(**changes).save_pretrained(folder)
    tiny_fusion_processor().save_pretrained(folder)
    return folder


def save_tiny_entailment(folder: Path, **changes: Any) -> Path:
    """`save_pretrained` of the entailment model and its processor into one folder, which is returned."""
    tiny_entailment(**changes).save_pretrained(folder)
    tiny_fusion_processor().save_pretrained(folder)
    return folder


def save_tiny_pairs(folder: Path, **changes: Any) -> Path:
    """`save_pretrained` of the model of two images and its processor into one folder, which is returned."""
    tiny_pairs(**changes).save_pretrained(folder)
    tiny_fusion_processor().save_pretrained(folder)
    return folder


def save_tiny_multiple_choice(folder: Path, **changes: Any) -> Path:
    """`save_pretrained` of the model of multiple choice and its processor into one folder, which is returned."""
    tiny_multiple_choice(**changes).save_pretrained(folder)
    tiny_fusion_processor().save_pretrained(folder)
    return folder


def save_tiny_moments(folder: Path, **changes: Any) -> Path:
    """`save_pretrained` of the model of moment retrieval and its processor into one folder, which is returned."""
    tiny_moments(**changes).save_pretrained(folder)
    tiny_fusion_processor().save_pretrained(folder)
    return folder


def save_tiny_reading(folder: Path, **changes: Any) -> Path:
    """`save_pretrained` of the model of reading and its processor into one folder, which is returned."""
    tiny_reading(**changes).save_pretrained(folder)
    tiny_fusion_processor().save_pretrained(folder)
    return folder


def rewrite_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    """Replace the weights of a saved model by what `change` makes of them."""
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def drop_weights(folder: Path, start: str) -> None:
    """Take the weights whose names start so out of a saved model."""
    rewrite_weights(folder, lambda w: {name: tensor for name, tensor in w.items() if not name.startswith(start)})


def tiny_image(seed: int = 0, *, width: int = 80, height: int = 60) -> Image.Image:
    """An image of large random patches of colour."""
    patches = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize((width, height), Image.Resampling.NEAREST)
