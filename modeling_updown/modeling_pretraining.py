"""Pretraining on regions and words: every objective of the region-feature era on the fusion model.

    itc, itm             image and text, compared and matched          (`modeling_retrieval.py`)
    wra                  words carried onto the regions of their image at less cost than onto another's
    mlm                  masked words, read off the other words and the regions
    mrc_ce, mrc_kl       masked regions' object class: the detector's best, or its whole distribution
    mra_ce, mra_kl       masked regions' attribute, likewise (LXMERT)
    mrfr, mim            masked regions' feature; `mim` is its name where the regions are the cells of a grid
    prefix_lm            the next word, after the regions and the words before it
    qa                   answers to questions about the images, of `config.id2label`, by [CLS] of both read together

Formulas are in `losses_updown.py` and `transport_updown.py`, masks in `processors/masking_updown.py`, weights in
`config.objectives`. Masked words and masked regions share one pass, as in LXMERT (Tan and Bansal 2019, section 3.1).
`qa` is its image question answering (section 3.1.3), by the head of `modeling_fusion_vqa.py`, which takes it over.
"""

from dataclasses import fields
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .arguments_updown import standard_forward
from .configuration_text_updown import UpDownFusionConfig
from .linear_updown import word_scores
from .losses_updown import IGNORED_LABEL, mlm_loss, mrc_ce_loss, mrc_kl_loss, mrfr_loss, qa_loss
from .modeling_attention import TextRows
from .modeling_fusion import Prediction, UpDownFusionModel, UpDownFusionPreTrainedModel, region_attention
from .modeling_retrieval import UpDownFusionForImageTextRetrieval
from .outputs_updown import UpDownMaskedLMOutput, UpDownPreTrainingOutput
from .regions_updown import Regions, optional_fields
from .transport_updown import transport_distance, word_region_alignment_loss

REGION_CLASSES, REGION_ATTRIBUTES = ("mrc_ce", "mrc_kl"), ("mra_ce", "mra_kl")
REGION_FEATURES = ("mrfr", "mim")
MASKED_REGIONS = (*REGION_CLASSES, *REGION_ATTRIBUTES, *REGION_FEATURES)
MASKED = ("mlm", *MASKED_REGIONS)  # what the masked pass is for
# probabilities that a region is said to have, what is learnt of them and how, and where the scores of classes stand
SAID = (
    ("object_probs", "object_logits", {"mrc_ce": mrc_ce_loss, "mrc_kl": mrc_kl_loss}),
    ("attribute_probs", "attribute_logits", {"mra_ce": mrc_ce_loss, "mra_kl": mrc_kl_loss}),
)


class WordHead(Prediction):
    """Scores every word, by the word embeddings themselves and, with `config.word_bias`, a bias for each (BERT's)."""

    def __init__(self, config: UpDownFusionConfig, size: int):
        super().__init__(config.hidden_size, size, eps=config.head_norm_eps)
        self.word_bias = nn.Parameter(torch.zeros(config.vocab_size)) if config.word_bias else None

    def scores(self, states: torch.Tensor, embeddings: Any) -> torch.Tensor:
        """States (..., H) -> a score of every word (..., V)."""
        scores = word_scores(self(states), embeddings)
        return scores if self.word_bias is None else scores + self.word_bias


class UpDownFusionForPreTraining(UpDownFusionForImageTextRetrieval):
    """The fusion model with a head for each objective of `config.objectives`; see the module's docstring.

    Questions (`qa`) are question_input_ids (M, T) with question_attention_mask; question_image_index (M,) is the image
    of each, by default M / P next to each other for every image; answer_labels (M, A), given by name, are soft scores
    in 0..1, a row of zeros where no answer is known. M may be 0. (transformers' Trainer wants `label_names` to name
    answer_labels.)

    Whatever it has learnt to do is there: `get_image_features`, `get_text_features`, `match` and `answer` too.

    Example:

    >>> from transformers import BertConfig
    >>> bert = BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    >>> config = UpDownFusionConfig(text_config=bert, region_feature_size=8, objectives={"mlm": 1, "mrfr": 1})
    >>> model = UpDownFusionForPreTraining(config).eval()
    >>> regions = {"region_features": torch.randn(1, 4, 8), "region_boxes": torch.tensor([[[0, 0, 0.5, 1]] * 4])}
    >>> out = model(torch.tensor([[2, 7, 9]]), masked_input_ids=torch.tensor([[2, 7, 3]]),
    ...             labels=torch.tensor([[-100, -100, 9]]), masked_regions=torch.tensor([[True, False, False, False]]),
    ...             **regions)
    >>> sorted(out.losses), out.logits.shape, out.region_predictions.shape
    (['mlm', 'mrfr'], torch.Size([1, 3, 30]), torch.Size([1, 4, 8]))
    """

    of_wrong_pairs = ("itm", "wra")

    def build_heads(self) -> None:
        """Heads of masked words, masked regions, the next word and answers."""
        config, hidden = self.config, self.config.hidden_size
        size = self.get_input_embeddings().embedding_dim
        if config.weight("mlm") or config.weight("prefix_lm"):
            self.word_head = WordHead(config, size)
        eps = config.head_norm_eps
        if any(config.weight(name) for name in REGION_CLASSES):
            kinds = nn.Linear(hidden, config.num_objects + 1)
            self.object_head = nn.Sequential(Prediction(hidden, hidden, eps=eps), kinds)
        if any(config.weight(name) for name in REGION_ATTRIBUTES):
            kinds = nn.Linear(hidden, config.num_attributes + 1)
            self.attribute_head = nn.Sequential(Prediction(hidden, hidden, eps=eps), kinds)
        if any(config.weight(name) for name in REGION_FEATURES):
            feature = nn.Linear(hidden, config.region_feature_size)
            self.feature_head = nn.Sequential(Prediction(hidden, hidden, eps=eps), feature)
        if config.weight("qa"):
            self.build_answers()

    @standard_forward
    def forward(  # type: ignore[override]
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.FloatTensor | None = None,
        region_features: torch.FloatTensor | None = None,
        region_boxes: torch.FloatTensor | None = None,
        region_mask: torch.BoolTensor | None = None,
        pixel_mask: torch.BoolTensor | None = None,
        region_seconds: torch.FloatTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        image_index: torch.LongTensor | None = None,
        image_ids: torch.LongTensor | None = None,
        masked_input_ids: torch.LongTensor | None = None,
        labels: torch.LongTensor | None = None,
        masked_regions: torch.BoolTensor | None = None,
        asked_regions: torch.BoolTensor | None = None,
        seen_features: torch.FloatTensor | None = None,
        object_probs: torch.FloatTensor | None = None,
        return_loss: bool | None = None,
        keys: dict[str, Any] | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        attribute_probs: torch.FloatTensor | None = None,
        region_scores: torch.FloatTensor | None = None,
        question_input_ids: torch.LongTensor | None = None,
        question_attention_mask: torch.Tensor | None = None,
        question_image_index: torch.LongTensor | None = None,
        **kwargs: Any,
    ) -> UpDownPreTrainingOutput | tuple:
        """The losses of all objectives that the inputs allow.

        input_ids (N, T), attention_mask, regions, image_index (N,), image_ids (P,) as for retrieval. masked_input_ids
        and labels (N, T): words with some masked, and those words, else -100 (without, input_ids are the masked ones).
        masked_regions (N, R) or (P, R) bool: hidden ones; asked_regions likewise: those that are learnt, by default
        all; seen_features (P, R, D): what stands there, by default zeros. object_probs (P, R, C), background first,
        attribute_probs (P, R, A), none first: what is learnt of those, weighed by region_scores (P, R) where
        `config.mrc_weights` says so. Questions as the class says. labels, masked_regions or answer_labels: return_loss.
        """
        if input_ids is None:
            raise ValueError("There is no text to learn from: give input_ids (and attention_mask)")
        said = {"region_scores": region_scores, "object_probs": object_probs, "attribute_probs": attribute_probs}
        more = optional_fields(kwargs | said | {"region_seconds": region_seconds})
        regions = self.get_regions(pixel_values, region_features, region_boxes, region_mask, pixel_mask, **more)
        images = self.fusion.embedded(regions)
        rows = self.rows(image_index, input_ids, images)
        taught = (labels, masked_regions, kwargs.get("answer_labels"))
        learns = bool(return_loss) or any(given is not None for given in taught)
        output = UpDownPreTrainingOutput(region_boxes=images.region_boxes if output_attentions else None)
        embeds = self.embed_apart(input_ids, attention_mask, images, output) | {"image_ids": image_ids}
        losses = self.pair_losses(input_ids, attention_mask, images, rows, **embeds, keys=keys) if learns else {}
        shown: Any = {"output_attentions": output_attentions, "output_hidden_states": output_hidden_states}
        if any(shown.values()) or any(self.config.weight(name) for name in MASKED):
            seen, mask = self.hide(regions, rows, of_pairs(masked_regions, rows), seen_features)
            seeing: Any = {"attention_mask": attention_mask, "region_embeds": seen, "region_mask": mask, **shown}
            joint = self.fusion(input_ids if masked_input_ids is None else masked_input_ids, **seeing, return_dict=True)
            learnt = of_pairs(masked_regions if asked_regions is None else asked_regions, rows)
            losses |= self.masked_losses(joint, labels, regions, rows, learnt, targets_of(regions, said), output)
        asked = (question_input_ids, question_attention_mask, question_image_index, taught[-1])
        return self.with_losses(output, losses | self.question_losses(*asked, images, output))

    def embed_apart(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        images: Regions,
        output: UpDownPreTrainingOutput,
    ) -> dict[str, Any]:
        """What contrast compares, (P, E) and (N, E), also in `output`; None without `itc`."""
        if self.config.weight("itc"):
            output.image_embeds = self.project_images(images)
            output.text_embeds = self.get_text_features(input_ids, attention_mask)
        return {"image_embeds": output.image_embeds, "text_embeds": output.text_embeds}

    def with_losses(self, output: UpDownPreTrainingOutput, losses: dict[str, torch.Tensor]) -> UpDownPreTrainingOutput:
        """The output with its losses and their weighted sum, all fields in their order."""
        output.loss, output.losses = self.weighted(losses), losses or None
        return UpDownPreTrainingOutput(**{field.name: output.get(field.name) for field in fields(output)})

    def pair_losses(self, *pairs: Any, **embeds: Any) -> dict[str, torch.Tensor]:
        """`itc` and `itm`, and `prefix_lm`: what is learnt of the right pairs as they are."""
        losses = super().pair_losses(*pairs, **embeds)
        if self.config.weight("prefix_lm"):
            losses["prefix_lm"] = self.next_words(*pairs)
        return losses

    def joint_losses(self, joint: Any, labels: torch.Tensor, *pairs: Any) -> dict[str, torch.Tensor]:
        """`itm`, and `wra`: right pairs are aligned at less cost than wrong ones."""
        losses = super().joint_losses(joint, labels, *pairs)
        if self.config.weight("wra"):
            input_ids, attention_mask, images, image_index = pairs
            words = self.fusion.word_mask(input_ids, None, attention_mask)
            regions = images.region_mask.index_select(0, image_index)
            distances = transport_distance(joint.word_states, joint.region_states, words, regions)
            losses["wra"] = word_region_alignment_loss(distances, labels)
        return losses

    def hide(
        self,
        regions: Regions,
        rows: TextRows,
        masked_regions: torch.Tensor | None,
        seen_features: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The regions of each pair as the masked pass sees them, embedded (N, R, H), and their mask (N, R).

        A masked region has no tags, whatever stands in its feature's place: they would tell what it is.
        """
        mask = rows.of_images(regions.region_mask)
        vectors = self.fusion.with_tags(regions.region_features, regions)  # (P, R, D + tags)
        features = rows.of_images(vectors)
        boxes: Any = None if regions.region_boxes is None else rows.of_images(regions.region_boxes)
        if masked_regions is not None:
            if seen_features is not None:
                num_tags = features.shape[-1] - seen_features.shape[-1]
                hidden = F.pad(rows.of_images(seen_features).to(features.dtype), (0, num_tags))
            else:
                hidden = torch.zeros_like(features)
            hidden = self.fusion.region_embedding.hidden(hidden)
            features = torch.where(masked_regions[..., None], hidden, features)
        seconds = None if regions.region_seconds is None else rows.of_images(regions.region_seconds)
        return self.fusion.embed_vectors(Regions(features, boxes, mask, region_seconds=seconds)), mask

    def word_logits(self, states: torch.Tensor) -> torch.Tensor:
        """States (..., H) -> a score of every word (..., V), by the word embeddings themselves."""
        return self.word_head.scores(states, self.get_input_embeddings())

    def next_words(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None, images: Regions, rows: TextRows
    ) -> torch.Tensor:
        """Prefix-LM: a pass in which words see the regions and the words before them."""
        joint: Any = self.read_together(input_ids, attention_mask, images, rows.image_index, causal_words=True)
        mask = self.fusion.word_mask(input_ids, None, attention_mask)
        labels = input_ids.masked_fill(~mask, IGNORED_LABEL)
        return self.word_loss(joint.word_states[:, :-1], labels[:, 1:])  # `prefix_lm_loss`, its words alone

    def word_loss(self, states: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """`mlm_loss` of states (N, T, H) for labels (N, T); only words with a label are scored at all."""
        scored = labels != IGNORED_LABEL
        return mlm_loss(self.word_logits(states[scored])[None], labels[scored][None])

    def masked_losses(
        self,
        joint: Any,
        labels: torch.Tensor | None,
        regions: Regions,
        rows: TextRows,
        learnt: torch.Tensor | None,
        probs: dict[str, Any],
        output: UpDownPreTrainingOutput,
    ) -> dict[str, torch.Tensor]:
        """The losses of the masked pass, and in `output` what was predicted; learnt (N, R): the regions that count."""
        losses = {}
        output.hidden_states = joint.hidden_states
        if joint.attentions is not None:
            mask = rows.of_images(regions.region_mask)
            output.attentions = region_attention(joint.attentions, mask, num_words=joint.word_states.shape[1])
        if hasattr(self, "word_head"):
            if not self.training or labels is None:
                output.logits = self.word_logits(joint.word_states)
            if self.config.weight("mlm") and labels is not None:
                losses["mlm"] = self.word_loss(joint.word_states, labels)
        return losses | self.region_losses(joint.region_states, regions, rows, learnt, probs, output)

    def region_losses(
        self,
        states: torch.Tensor,
        regions: Regions,
        rows: TextRows,
        learnt: torch.Tensor | None,
        probs: dict[str, Any],
        output: UpDownPreTrainingOutput,
    ) -> dict[str, torch.Tensor]:
        """The losses of masked regions, and in `output` what was predicted of all; probs: the targets of `SAID`."""
        config, losses = self.config, dict[str, torch.Tensor]()
        for logits, head in (("object_logits", "object_head"), ("attribute_logits", "attribute_head")):
            output[logits] = getattr(self, head)(states) if hasattr(self, head) else None
        features: Any = self.feature_head(states) if hasattr(self, "feature_head") else None
        output.region_predictions = features
        if learnt is None:
            return losses
        hidden = learnt & rows.of_images(regions.region_mask)
        for said, logits, forms in SAID:
            for name, loss in forms.items():
                if config.weight(name):
                    if probs[said] is None:
                        raise ValueError(
                            f"{name} learns the detector's {said}, which these regions lack: extract them with a "
                            "detector and its soft labels, or leave that objective out"
                        )
                    form: Any = {
                        "average_classes": config.mrc_average_classes,
                        "weights": self.class_weights(regions, rows),
                    }
                    losses[name] = loss(output[logits].float(), rows.of_images(probs[said]).float(), hidden, **form)
        for name in REGION_FEATURES:
            if config.weight(name):
                target = rows.of_images(regions.region_features).detach().float()
                losses[name] = mrfr_loss(features.float(), target, hidden, average_width=config.mrfr_average_width)
        return losses

    def answer(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        region_features: torch.Tensor | None = None,
        region_boxes: torch.Tensor | None = None,
        region_mask: torch.Tensor | None = None,
        pixel_mask: torch.Tensor | None = None,
        region_seconds: torch.Tensor | None = None,
        image_index: torch.Tensor | None = None,
        **fields: Any,
    ) -> torch.Tensor:
        """A score of every answer of `config.id2label` to each question, (M, A); arguments as for `match`.

        Raises `ValueError` for a model that has not learnt `qa`.
        """
        self.check_objective("qa", "answers no questions")
        fields["region_seconds"] = region_seconds
        images = self.images(pixel_values, region_features, region_boxes, region_mask, pixel_mask, **fields)
        owners = self.rows(image_index, input_ids, images).image_index
        joint: Any = self.read_together(input_ids, attention_mask, images, owners)
        logits = self.answer_logits(joint.pooler_output)
        self.check_numbers(logits, "scores of answers")
        return logits

    def question_losses(
        self,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        image_index: torch.Tensor | None,
        labels: torch.Tensor | None,
        images: Regions,
        output: UpDownPreTrainingOutput,
    ) -> dict[str, torch.Tensor]:
        """`qa`, where that is learnt and there are labels (M, A), and in `output` every answer's score, (M, A).

        Of M = 0 questions it is 0 with gradients of 0. Raises `ValueError` for labels of another shape.
        """
        if input_ids is None or not self.config.weight("qa"):
            return {}
        asked = len(input_ids)
        if not asked:  # a [CLS] without an answer stands in, so that all processes use the same weights
            input_ids = input_ids.new_full((1, 1), self.config.cls_token_id)
            attention_mask, image_index = torch.ones_like(input_ids), input_ids.new_zeros(1)
        rows = self.rows(image_index, input_ids, images)
        joint: Any = self.read_together(input_ids, attention_mask, images, rows.image_index)
        logits = self.answer_logits(joint.pooler_output)
        output.answer_logits = logits[:asked]
        if labels is None:
            return {}
        if labels.shape != output.answer_logits.shape:
            raise ValueError(
                f"answer_labels have shape {tuple(labels.shape)}, but must hold a soft score for each of "
                f"{logits.shape[1]} answers to each of {asked} questions"
            )
        return {"qa": qa_loss(logits, labels if asked else torch.zeros_like(logits))}

    def class_weights(self, regions: Regions, rows: TextRows) -> torch.Tensor | None:
        """How much each region of each pair counts in masked region classification, (N, R); None where all do alike."""
        if self.config.mrc_weights == "even":
            return None
        if regions.region_scores is None:
            raise ValueError(
                "mrc_weights='confidence' weighs regions by the detector's region_scores, which these lack: give them, "
                "or set mrc_weights='even'"
            )
        return rows.of_images(regions.region_scores).float()


def targets_of(regions: Regions, given: dict[str, Any]) -> dict[str, Any]:
    """The probabilities of `SAID` that are learnt: those given, else the regions' own."""
    return {name: getattr(regions, name) if given[name] is None else given[name] for name, *_ in SAID}


def of_pairs(masks: torch.Tensor | None, rows: TextRows) -> torch.Tensor | None:
    """Masks of regions of each image (P, R), or already of each pair (N, R), -> (N, R)."""
    if masks is None or len(masks) == len(rows.image_index):
        return masks
    if len(masks) != rows.num_images:
        raise ValueError(
            f"masked_regions and asked_regions are of {len(masks)} rows, but there are {rows.num_images} images and "
            f"{len(rows.image_index)} texts: give a row for each image, or for each text"
        )
    return rows.of_images(masks)


class UpDownFusionForMaskedLM(UpDownFusionPreTrainedModel):
    """Masked words, read off the other words and, where there is an image, its regions.

    Example:

    >>> from transformers import BertConfig
    >>> bert = BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    >>> model = UpDownFusionForMaskedLM(UpDownFusionConfig(text_config=bert, region_feature_size=8)).eval()
    >>> model(torch.tensor([[2, 7, 3]])).logits.shape
    torch.Size([1, 3, 30])
    """

    def __init__(self, config: UpDownFusionConfig):
        super().__init__(config)
        self.fusion = UpDownFusionModel(config)
        self.word_head = WordHead(config, self.get_input_embeddings().embedding_dim)
        self.post_init()

    @property
    def region_source(self) -> Any:  # type: ignore[override]
        """The region source, which the fusion model owns."""
        return self.fusion.region_source

    @standard_forward
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.FloatTensor | None = None,
        region_features: torch.FloatTensor | None = None,
        region_boxes: torch.FloatTensor | None = None,
        region_mask: torch.BoolTensor | None = None,
        pixel_mask: torch.BoolTensor | None = None,
        region_seconds: torch.FloatTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        image_index: torch.LongTensor | None = None,
        labels: torch.LongTensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        object_probs: torch.FloatTensor | None = None,
        attribute_probs: torch.FloatTensor | None = None,
        **kwargs: Any,
    ) -> UpDownMaskedLMOutput | tuple:
        """Score every word at every place. labels (N, T): the masked words, -100 elsewhere; the rest as the fusion
        model takes it. -> `UpDownMaskedLMOutput`"""
        images = Regions()
        if pixel_values is not None or region_features is not None:
            tags = {"object_probs": object_probs, "attribute_probs": attribute_probs}
            fields = optional_fields(kwargs | tags | {"region_seconds": region_seconds})
            regions = self.get_regions(pixel_values, region_features, region_boxes, region_mask, pixel_mask, **fields)
            images, image_index = self.fusion.embedded_rows(regions, image_index)
        joint = self.fusion(
            input_ids,
            region_embeds=images.region_features,
            region_mask=images.region_mask,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            image_index=image_index,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        logits = self.word_head.scores(joint.word_states, self.get_input_embeddings())
        attentions = joint.attentions
        mask = images.region_mask
        if attentions is not None and mask is not None:
            rows = TextRows.of(image_index, num_texts=len(logits), num_images=len(mask), device=logits.device)
            attentions = region_attention(attentions, rows.of_images(mask), num_words=logits.shape[1])
        return UpDownMaskedLMOutput(
            loss=None if labels is None else mlm_loss(logits, labels),
            logits=logits,
            hidden_states=joint.hidden_states,
            attentions=attentions,
            region_boxes=images.region_boxes,
        )
