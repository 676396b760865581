"""Detection: rows -> inputs -> loss -> score, for `training/train.py` and `training/evaluate.py`.

The losses are the detector's own (`modeling_updown/detection_losses_updown.py`); the score is COCO's average precision
and, where boxes have attributes, Visual Genome's of attributes. Pseudo-boxes of a teacher are rows like any others.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from datasets import Dataset
from PIL.Image import Image as PilImage
from PIL.Image import Resampling, Transpose
from tqdm.auto import tqdm

from modeling_updown import UpDownDetector, UpDownDetectorConfig, UpDownImageProcessor
from modeling_updown.outputs_updown import check_detections
from training.console import say
from training.data.boxes.formats import DETECTION_FORMATS, load_detection
from training.data.boxes.held_out import hold_out, listed_names
from training.data.boxes.rows import DetectionData
from training.data.mirroring import mirrored_boxes, tell_sides
from training.metrics.detection.average_precision import attribute_scores, detection_scores
from training.regions.extract import crop, image_of, random_crop, undecoded
from training.saved_models import load_with_processor
from training.scenes.boxes import read_scene_boxes
from training.tasks.build import (
    build_config,
    build_image_processor,
    change_region_source,
    load_backbone,
    load_by_split,
    override_config,
)
from training.tasks.detection_masks import (
    ALONE,
    FIGURES,
    add_mask_head,
    mask_labels,
    mask_metrics,
    masked_rows,
    mirrored_objects,
    pasted,
    prepare_masks,
)
from training.tasks.detection_objects import (
    drawn_phrases,
    image_objects,
    objects_in,
    pad_objects,
    pad_phrases,
)
from training.tasks.detection_recipe import DetectionRecipe, check_recipe
from training.tasks.spec import LOOP_READS, Scored, TaskSpec
from training.text.phrase_vectors import PhraseVectors

FORMATS: dict[str, Callable[..., DetectionData]] = {**DETECTION_FORMATS, "scenes": read_scene_boxes}
BY_SPLIT = ("annotations", "images", "num_scenes", "file_split")
PLACES = ("boxes", "phrase_boxes")
BILINEAR = Resampling.BILINEAR
PROBS = ("image_id", "boxes", "object_probs")
# of an image: as many as COCO counts, and no cells
SCORED = {"min_regions": 1, "max_regions": 100, "score_threshold": 0.01, "grid_sizes": []}


class DetectionTask:
    """A recipe's images with boxes, its detector and image processor, and the four verbs on them.

    `load` (for evaluation) or `prepare` (for training) comes first. Both raise `ValueError` for data or models that
    the recipe cannot be run with.
    """

    model: Any
    processor: UpDownImageProcessor

    def __init__(self, recipe: DetectionRecipe, accelerator: Accelerator):
        self.recipe, self.accelerator = recipe, accelerator
        self.stateful: list[torch.nn.Module] = []
        self.evaluated: dict[str, tuple[Dataset, Dataset]] = {}
        self.covered: dict[str, dict[int, list[int]]] = {}
        self.named: dict[str, bool] = {}  # of each split, whether its classes are the model's
        self.mask_cells = 0  # a side of the true masks that are learnt
        self.held_out: list[str] = []

    def prepare(self) -> None:
        """Everything training needs: rows, model, image processor; what is wrong with the data is met here."""
        recipe = self.recipe
        data = self.training_data()
        if recipe.train.objective == ALONE and (shown := masked_rows(data.rows)):
            data = replace(data, rows=data.rows.select(shown))  # other images would teach nothing
        self.train_rows = undecoded(data.rows)
        self.image_numbers = repeated_images(
            data.rows["object_ids"][:], threshold=recipe.train.repeat_threshold, seed=recipe.seed
        )
        self.num_rows = len(self.image_numbers)
        self.phrase_vectors = self.read_phrases(data)
        told = shown_names(data, phrases=self.phrase_vectors is not None) if recipe.regions.flips else None
        self.sided = tell_sides([[]] * len(self.train_rows) if told is None else told)
        if recipe.init_from:
            self.start_from(recipe.init_from)
        else:
            self.build(data)
        self.named[recipe.train.split] = self.check_labels(data, recipe.train.split)
        self.check_phrases()
        self.model.unfreeze()
        if self.model.masks is None and recipe.evaluate.metric in FIGURES:
            raise ValueError(
                f"evaluate.metric is {recipe.evaluate.metric}, but the detector makes no masks: set "
                "model.mask_head to true"
            )
        if self.phrase_vectors is None and self.model.heads.has_phrases:
            self.model.heads.phrase_embedding.requires_grad_(False)  # several processes wait for a gradient of the rest
        asked = bool(recipe.model.get("mask_head"))
        self.mask_cells = prepare_masks(self.model, data.rows, objective=recipe.train.objective, asked=asked)
        for split in (recipe.evaluate.split, recipe.evaluate.final_split):
            self.evaluation_rows(split)

    # -- rows ---------------------------------------------------------------------------------------------------------

    def read(self, split: str) -> DetectionData:
        """One row an image of that split, and the names of its ids; `ValueError` where there is no box at all."""
        data = load_by_split(partial(load_detection, formats=FORMATS), self.recipe.data, split=split, names=BY_SPLIT)
        if not any(len(boxes) for boxes in data.rows["boxes"]):
            raise ValueError(f"the split {split!r} has no box")
        return data

    def training_data(self) -> DetectionData:
        """The training split without what the recipe holds out; `ValueError` where that leaves no box."""
        recipe = self.recipe
        data = self.read(recipe.train.split)
        self.held_out = listed_names(recipe.held_out.names)
        if not self.held_out:
            return data
        data, left_out = hold_out(data, self.held_out)
        if all(all(crowd) for crowd in data.rows["crowd"][:]):
            raise ValueError("held_out.names leaves no box to learn from: hold out fewer names")
        if self.accelerator.is_main_process:
            say(f"held out: {left_out.num_boxes} boxes, {left_out.num_phrases} phrases; {', '.join(left_out.names)}")
        return data

    def evaluation_rows(self, split: str, *, max_images: int = 0) -> tuple[Dataset, Dataset]:
        """The rows of a split, with images undecoded and without images."""
        if split not in self.evaluated:
            data = self.read(split)
            self.named[split] = self.check_labels(data, split)
            self.evaluated[split] = undecoded(data.rows), data.rows.remove_columns(["image"])
            self.covered[split] = data.covered
        rows, truth = self.evaluated[split]
        first = range(min(max_images or len(rows), len(rows)))
        return rows.select(first), truth.select(first)

    def check_labels(self, data: DetectionData, split: str) -> bool:
        """Whether the ids of the data mean the same to the model; `ValueError` where they do not.

        Masks of a class-agnostic head are learnt by themselves from objects of any names.
        """
        config = self.model.config
        if self.recipe.train.objective == ALONE and config.mask_class_agnostic:
            return dict(config.id2label) == data.id2label
        for ours, theirs, kind in (
            (config.id2label, data.id2label, "classes"),
            (config.attribute_id2label, data.attribute_id2label, "attributes"),
        ):
            if dict(ours) != theirs and not (kind == "attributes" and len(theirs) == 1):
                number = next(i for i in range(max(len(ours), len(theirs))) if ours.get(i) != theirs.get(i))
                raise ValueError(
                    f"the {kind} of the split {split!r} ({len(theirs) - 1}) are not those of the model "
                    f"({len(ours) - 1}), number {number} is {theirs.get(number)!r} and {ours.get(number)!r}: "
                    "give the same list to both"
                )
        return True

    def read_phrases(self, data: DetectionData) -> PhraseVectors | None:
        """The vectors of all the phrases of the training rows; None where the recipe names no encoder.

        Raises `ValueError` where the rows hold no phrase.
        """
        encoder = self.recipe.phrases.encoder
        if not encoder:
            return None
        phrases = [region["phrase"] for regions in data.rows["regions"][:] for region in regions]
        if not phrases:
            raise ValueError(
                f"phrases.encoder is given, but the split {self.recipe.train.split!r} holds no phrases: "
                "flickr30k_entities has them, and visual_genome with parts that name region_descriptions"
            )
        cache = Path(self.recipe.output) / f"phrases-{self.accelerator.process_index}.safetensors"
        return PhraseVectors(encoder, phrases, device=self.accelerator.device, cache=cache)

    def check_phrases(self) -> None:
        """`ValueError` where the phrases' vectors have another width than the model's."""
        width, vectors = self.model.config.phrase_embedding_size, self.phrase_vectors
        if vectors is not None and vectors.size != width:
            cure = f"set model.phrase_embedding_size to {vectors.size}"
            if self.recipe.init_from:
                cure = "name the encoder it learnt with" if width else "leave phrases.encoder out, or init_from"
            raise ValueError(
                f"{self.recipe.phrases.encoder} gives vectors of width {vectors.size}, but the detector's "
                f"phrase_embedding_size is {width}: {cure}"
            )
        if vectors is None and width and not self.recipe.init_from:
            raise ValueError("model.phrase_embedding_size is given without phrases to learn: name phrases.encoder")

    # -- model --------------------------------------------------------------------------------------------------------

    def build(self, data: DetectionData) -> None:
        """A new detector of the data's classes, random but for the backbone's weights."""
        recipe = self.recipe
        config = build_config(
            UpDownDetectorConfig,
            recipe.model,
            section="model",
            id2label=data.id2label,
            attribute_id2label=data.attribute_id2label,
        )
        config.held_out_names = self.held_out
        if self.held_out and recipe.regions.weights and Path(recipe.regions.weights).is_dir():
            warnings.warn(f"the backbone of {recipe.regions.weights} may have learnt names held out here", stacklevel=2)
        self.model = load_backbone(UpDownDetector(config), recipe.regions)
        self.processor = build_image_processor(config, recipe.regions)

    def start_from(self, folder: str) -> None:
        """A saved detector; its sizes stay what they are, its images are prepared as the recipe says.

        Raises `ValueError` where it has not held out what the recipe does.
        """
        self.load(folder)
        add_mask_head(self.model, self.recipe.model)
        learnt = [name for name in self.held_out if name not in (self.model.config.held_out_names or [])]
        if learnt:
            raise ValueError(
                f"held_out.names has {learnt[0]!r}, which the detector in {folder} may have learnt: start a new one, "
                "or from one that held it out"
            )
        self.model.config.held_out_names = self.held_out
        override_config(self.model.config, self.recipe.model, section="model")
        change_region_source(self.model, self.processor, self.recipe.regions)

    def load(self, folder: str | Path) -> tuple[UpDownDetector, UpDownImageProcessor]:
        """The detector (in float32) and image processor of a saved folder or Hub id, from now on those of the task."""
        self.model, self.processor = load_with_processor(folder, UpDownDetector, UpDownImageProcessor)
        return self.model, self.processor

    def save(self, model: Any, folder: Path) -> None:
        """Write detector and image processor as one `save_pretrained` folder."""
        model.save_pretrained(folder)
        self.processor.save_pretrained(folder)

    # -- inputs -------------------------------------------------------------------------------------------------------

    def inputs(self, indices: np.ndarray, *, epoch: int) -> dict[str, Any]:
        """Images (P) with their objects, mirrored and cropped by chance.

        Chance is decided by (seed, epoch, image), so any process that gets an image draws the same.
        """
        images, objects, seeds = [], [], []
        shapes = self.recipe.train.image_shapes
        for index in indices.tolist():
            draw = np.random.default_rng([self.recipe.seed, epoch, index])
            image, found = self.drawn_image(int(self.image_numbers[index]), draw)
            images.append(image if not shapes else image.resize(nearest_shape(image.size, shapes), BILINEAR))
            objects.append(found)
            seeds.append(int(draw.integers(2**62)))
        side = self.recipe.train.image_size
        options: dict[str, Any] = {"size": {"height": side, "width": side}} if side else {}
        if shapes:  # images have their size, and several are padded
            sides = [side for shape in shapes for side in shape]
            options = {"do_resize": False, "size": {"shortest_edge": min(sides), "longest_edge": max(sides)}}
        inputs: dict[str, Any] = dict(self.processor(images, return_tensors="pt", **options))
        inputs |= {**pad_objects(objects), "draw_seeds": torch.tensor(seeds)}
        if self.phrase_vectors is not None:
            inputs |= pad_phrases(objects, self.phrase_vectors)
        if self.mask_cells:
            inputs["true_masks"] = mask_labels(objects, most=inputs["labels"].shape[1], size=self.mask_cells)
            if not self.named[self.recipe.train.split]:
                inputs["labels"] = inputs["labels"].clamp(max=1)  # any object: no class is learnt
                del inputs["true_attributes"]
        return inputs

    def drawn_image(self, index: int, draw: np.random.Generator) -> tuple[PilImage, dict[str, Any]]:
        """A training image as this epoch shows it, and the objects still seen in it."""
        regions, row = self.recipe.regions, self.train_rows[index]
        image, found = named_image(row), image_objects(row)
        if self.phrase_vectors is not None:
            found |= drawn_phrases(row, draw, most=self.recipe.phrases.an_image)
        if regions.crops < 1:
            part = random_crop(draw, regions.crops)
            image, found = crop(image, part), objects_in(found, part)
        if regions.flips and draw.random() < 0.5 and not self.sided[index]:
            image, found = (
                image.transpose(Transpose.FLIP_LEFT_RIGHT),
                {
                    **found,
                    **{name: mirrored_boxes(found[name]) for name in PLACES if name in found},
                    **mirrored_objects(found),
                },
            )
        return image, found

    # -- loss ---------------------------------------------------------------------------------------------------------

    def loss(
        self, model: torch.nn.Module, inputs: dict[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, float]]:
        """Sum of the loss over images, the number of images, and its parts."""
        output = model(**inputs)
        count = torch.tensor(len(inputs["pixel_values"]), device=output.loss.device)
        return output.loss * count, count, {name: part.item() for name, part in output.losses.items()}

    # -- score --------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def score(self, model: Any, *, split: str, num_beams: int = 1, max_images: int = 0) -> Scored:
        """Detect the objects of a split, every process its share, and score them.

        Attributes are scored on the true boxes, as the published figures are. Where names cover others (a person may be
        a skier), their probabilities add up, as `detection_scores` says.
        """
        model.eval()
        rows, truth = self.evaluation_rows(split, max_images=max_images)
        config = model.config
        described = bool(config.num_attributes) and any(any(ids) for ids in truth["attribute_ids"])
        covered, named = self.covered[split], self.named[split]
        masked = self.model.masks is not None and bool(masked_rows(truth))
        given = truth["boxes"][:] if described or masked else None
        parts = list(self.detected(model, rows, boxes=given, probs=bool(covered), masks=masked))
        found = sorted(gather_object(parts), key=lambda part: part["row"])
        metrics = self.box_metrics(found, truth, covered=covered) if named else {}
        if masked:
            num_classes = config.num_objects if named and not covered else 0
            metrics |= mask_metrics(found, truth, num_classes=num_classes)
        elif not named:
            raise ValueError(
                f"the split {split!r} has neither masks nor the model's classes: there is nothing to score"
            )
        if described and named:
            of_true_boxes = [
                {"boxes": part["true_boxes"], "attribute_probs": part["attribute_probs"]} for part in found
            ]
            attributes = attribute_scores(of_true_boxes, truth, num_attributes=config.num_attributes)
            metrics |= {f"attribute_{name}": value for name, value in attributes.items() if isinstance(value, float)}
        return Scored(metrics, [coco_result(part) for part in found], {})

    def box_metrics(
        self, found: list[dict[str, Any]], truth: Dataset, *, covered: dict[int, list[int]]
    ) -> dict[str, float]:
        """Average precision and recall of the boxes of a split."""
        scored = [{name: part[name] for name in PROBS} for part in found] if covered else found
        scores = detection_scores(scored, truth, num_classes=self.model.config.num_objects, covered=covered)
        return {name: value for name, value in scores.items() if isinstance(value, float)}

    def detected(
        self,
        model: Any,
        rows: Dataset,
        *,
        boxes: list[list[list[float]]] | None = None,
        probs: bool = False,
        masks: bool = False,
    ) -> Iterator[dict[str, Any]]:
        """This process's share of the rows, each with its boxes, classes and scores, and with `probs` those of all
        classes; with `boxes`, the true ones of each row, also with what is said of them. With `masks`, those of both.
        """
        accelerator, size = self.accelerator, self.recipe.evaluate.batch_size
        mine = list(range(len(rows)))[accelerator.process_index :: accelerator.num_processes]
        with tqdm(total=len(mine), desc="detecting", unit="image", disable=not accelerator.is_main_process) as bar:
            for start in range(0, len(mine), size):
                indices = mine[start : start + size]
                images = [named_image(rows[i]) for i in indices]
                inputs = self.processor(images, return_tensors="pt").to(accelerator.device)
                output = model(**inputs, **SCORED)
                check_detections(output, model)
                shown = [rows[i] for i in indices] if masks else None
                given = None if boxes is None else [boxes[i] for i in indices]
                described = [] if given is None else self.described(model, inputs, given, masks_of=shown)
                for place, index in enumerate(indices):
                    kept = output.region_mask[place]
                    part = {
                        "row": index,
                        "image_id": rows[index]["image_id"],
                        "boxes": output.pred_boxes[place][kept].float().cpu().numpy(),
                        "scores": class_scores(output)[place][kept].float().cpu().numpy(),
                        "object_ids": output.object_ids[place][kept].cpu().numpy(),
                    }
                    if probs:
                        part["object_probs"] = output.object_probs[place][kept].float().cpu().numpy()
                    if shown is not None:
                        part["mask_boxes"] = output.region_boxes[place][kept].float().cpu().numpy()
                        own = output.region_masks[place][kept], output.region_boxes[place][kept]
                        part["masks"] = pasted(*own, shown[place])
                    yield part | (described[place] if boxes is not None else {})
                bar.update(len(indices))

    def described(
        self, model: Any, inputs: Any, boxes: list[list[list[float]]], *, masks_of: list[dict[str, Any]] | None = None
    ) -> list[dict[str, Any]]:
        """`true_boxes` (N, 4) of each image, with attributes their `attribute_probs` (N, A + 1), and with
        the rows that `masks_of` are `true_masks`, made inside these boxes.
        """
        counts = [len(part) for part in boxes]
        given = torch.tensor([0.0, 0.0, 1.0, 1.0]).repeat(len(boxes), max([1, *counts]), 1)  # the whole image pads
        mask = torch.zeros(given.shape[:2], dtype=torch.bool)
        for place, part in enumerate(boxes):
            given[place, : len(part)] = torch.tensor(part).view(len(part), 4)
            mask[place, : max(1, len(part))] = True
        device = inputs["pixel_values"].device
        output = model(**inputs, boxes=given.to(device), box_mask=mask.to(device))
        check_detections(output, model)
        found: list[dict[str, Any]] = [{"true_boxes": given[place, :n].numpy()} for place, n in enumerate(counts)]
        for place, (known, count) in enumerate(zip(found, counts, strict=True)):
            if output.attribute_probs is not None:
                known["attribute_probs"] = output.attribute_probs[place, :count].float().cpu().numpy()
            if masks_of is not None:
                own = output.region_masks[place, :count], given[place, :count]
                known["true_masks"] = pasted(*own, masks_of[place])
        return found

    def figures(self, scored: Scored, *, num_beams: int) -> dict[str, Any]:
        """What an evaluation says of the metrics."""
        return {"metrics": {name: value for name, value in scored.metrics.items() if name.endswith("_x100")}}


def repeated_images(object_ids: list[list[int]], *, threshold: float, seed: int) -> np.ndarray:
    """The numbers of the images of an epoch: each at least once, those of rare classes more often.

    A class in a share f of the images asks for sqrt(threshold / f) times (Gupta et al. 2019, LVIS, section 5); an image
    is shown as often as its rarest class asks, fractions by chance.

    >>> repeated_images([[1], [1], [1], [1, 2]], threshold=1.0, seed=0).tolist()
    [0, 1, 2, 3, 3]
    """
    present = [set(ids) for ids in object_ids]
    highest = max((max(ids, default=0) for ids in present), default=0)
    counts = np.bincount([i for ids in present for i in ids], minlength=highest + 1)
    asked = np.sqrt(threshold * len(present) / np.maximum(counts, 1)).clip(min=1.0)
    times = np.array([max((asked[i] for i in ids), default=1.0) for ids in present])
    chance = np.random.default_rng(seed).random(len(times))
    return np.repeat(np.arange(len(times)), (times + chance).astype(int))


def shown_names(data: DetectionData, *, phrases: bool) -> Iterator[list[str]]:
    """The names of each image's objects and their attributes, and where `phrases` are learnt what is said of it."""
    objects, attributes = data.id2label, data.attribute_id2label
    marks = (data.rows[name][:] for name in ("object_ids", "attribute_ids"))
    said = data.rows["regions"] if phrases else [[]] * len(data.rows)
    for object_ids, attribute_ids, regions in zip(*marks, said, strict=True):
        named = [*(objects[i] for i in object_ids), *(attributes[i] for ids in attribute_ids for i in ids)]
        yield [*named, *(region["phrase"] for region in regions)]


def named_image(row: dict[str, Any]) -> PilImage:
    """The image of an undecoded row; `ValueError` that names it where it cannot be read."""
    try:
        return image_of(row)
    except (OSError, ValueError) as error:
        raise ValueError(f"image {row['image_id']!r} cannot be read ({error}): take it out of the data") from error


def nearest_shape(size: tuple[int, int], shapes: list[list[int]]) -> tuple[int, int]:
    """Width and height of the shape (height, width) whose ratio of sides is most like an image's (width, height).

    >>> nearest_shape((640, 480), [[256, 320], [320, 256], [288, 288]])
    (320, 256)
    """
    height, width = min(shapes, key=lambda shape: abs(math.log(size[0] * shape[0] / (size[1] * shape[1]))))
    return width, height


def class_scores(output: Any) -> torch.Tensor:
    """The probability (B, R) of each region's own class, also where regions were chosen as any object."""
    if output.object_probs is None:
        return output.region_scores
    return output.object_probs.gather(2, output.object_ids[..., None])[..., 0]


def coco_result(part: dict[str, Any]) -> dict[str, Any]:
    """One image's detections as `predictions.json` keeps them: boxes xyxy in 0..1, scores, object ids."""
    return {
        "image_id": part["image_id"],
        "boxes": np.round(part["boxes"].astype(float), 5).tolist(),
        "scores": np.round(part["scores"].astype(float), 5).tolist(),
        "object_ids": part["object_ids"].tolist(),
    }


SPEC = TaskSpec(
    name="detection",
    task=DetectionTask,
    hub_task="object-detection",
    counted="photos",
    models=("UpDownDetector",),
    formats=FORMATS,
    reads=(
        *(*LOOP_READS, "regions.weights", "regions.proposal_weights", "regions.random_backbone"),
        *("regions.flips", "regions.crops", "regions.processor"),
        *("train.image_size", "train.image_shapes", "train.repeat_threshold"),
        *("regions.store", "regions.source", "regions.pretrained"),  # refused by `check_recipe`, with their cure
    ),
    runs="detector",
    recipe=DetectionRecipe,
    check=check_recipe,
    objectives=("cross_entropy", ALONE),  # the losses are the detector's own, or that of its masks alone
    metrics={
        "map": "mAP",
        "map_50": "AP50",
        "map_75": "AP75",
        **{f"map_{size}": f"mAP, {size} boxes" for size in ("small", "medium", "large")},
        "mar_1": "recall, 1 box an image",
        **{f"mar_{most}": f"recall, {most} boxes an image" for most in (10, 100)},
        **{f"mar_{size}": f"recall, {size} boxes" for size in ("small", "medium", "large")},
        "attribute_mean_ap": "AP50 of attributes, on true boxes",
        "attribute_weighted_mean_ap": "AP50 of attributes, on true boxes, weighted by frequency",
        "attribute_mean_ap_present": "AP50 of attributes that occur, on true boxes",
        **FIGURES,
    },
    best_by=("map", "map_50", "map_75", *FIGURES),
)
