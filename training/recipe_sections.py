"""What a recipe holds: one dataclass a section, each key documented here, with its range, and nowhere else.

`training/recipe.py` reads a YAML file into them. Sections that a single task reads are declared by that task.
"""

import copy
import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

NEW: dict[str, tuple[Any, ...]] = {"init_from": ("",)}  # `beside` of what only a new model is made of


def key(default: Any, *, beside: Mapping[str, tuple[Any, ...]] | None = None, **limits: float) -> Any:
    """A key of a section, with its default and what is asked of its values.

    limits: `lowest`, `highest`, `above`, `below` of a number, `length` of a list.
    beside: other keys, `train.optimizer` -> their values beside which this key means something.
    """
    metadata = {"limits": limits, "beside": dict(beside or {})}
    if isinstance(default, list | dict):
        return field(default_factory=partial(copy.copy, default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class RegionsRecipe:
    """Where regions come from.

    source: fields of a region-source config (`model_type`, default `updown_grid`); empty where `init_from` has one (but
        for dropouts, trained stages and the `image_size` of a convolutional grid, which may change), and
        where `store` holds regions made elsewhere, such as converted feature files: the model then owns no source.
    weights: backbone weights, a `.safetensors` or the folder of a saved detector, grid or model, whose backbone alone
        is taken: so a grid looks through a detector's. Empty loads timm's from the Hub (or none, with
        `random_backbone`).
    proposal_weights: the weights of NanoDet-Plus-m, a `.safetensors` with the names of its graph, which a detector with
        `proposal_model: nanodet` starts from; no other source takes any.
    pretrained: a saved detector or grid (a folder or Hub id), or a saved model that owns one, image processor included,
        in the place of `source` and weights; of `source` a grid may still be cut otherwise (`regions`, `grid_size`,
        `grid_sizes`, `image_scales`, `pyramid_levels`), and a detector may give cells beside its boxes (`grid_sizes`)
        and leave out other boxes (`min_regions`, `max_regions`, `score_threshold`, `nms_per_class`, `nms_thresholds`,
        `duplicate_iou`, `min_region_side`).
    random_backbone: start from random backbone weights (tests).
    store: folder of a region store; features are made once, at start, for images it lacks. Empty: regions are made
        from pixels at every step, which training the region source needs.
    given_boxes: the store holds the regions of boxes that the source was given (`updown extract --boxes`), not those
        that it would find: so a model is scored, or trained, among people's boxes.
    min_share: 0..1, the smallest share of a split's images that must have regions in the store; with fewer the run
        ends, else the others are left out with a warning.
    soft_labels: keep the detector's probabilities of all classes and attributes in the store: what `mrc_ce` and
        `mrc_kl` learn, and `tags` are made of (which a new store keeps for them unasked).
    tags: `objects`, `attributes`: a region's feature is joined by the vectors of its likely objects and attributes,
        of as many classes as the detector or the store has; sizes in `model.tag_embedding_size`, `model.tag_top_k`.
    tag_vectors: a GloVe text file, or a folder or Hub id of a model with a tokenizer: a class starts from the mean
        vector of its name's words.
    flips: every image is seen mirrored in half of the epochs, unless its texts tell left from right.
    crops: smallest share of an image's area that training sees of it, in a random crop; 1 shows whole images. Crops
        need pixels, so no store.
    trained: train the region source with the model.
    processor: fields of the image processor, such as `size`; what it does not name follows the region source, or the
        processor of `init_from`.
    """

    source: dict[str, Any] = field(default_factory=dict)
    weights: str = key("", beside=NEW)
    proposal_weights: str = key("", beside=NEW)
    pretrained: str = key("", beside=NEW)
    random_backbone: bool = False
    store: str = ""
    given_boxes: bool = False
    min_share: float = key(0.5, lowest=0, highest=1)
    soft_labels: bool = False
    tags: list[str] = key([], beside=NEW)  # noqa: RUF009 (it copies the list)
    tag_vectors: str = key("", beside=NEW)
    flips: bool = False
    crops: float = key(1.0, above=0, highest=1)
    trained: bool = False
    processor: dict[str, Any] = field(default_factory=dict)


@dataclass
class TextRecipe:
    """Where the text side of a fusion model or a prefix language model comes from.

    pretrained: a folder or Hub id of a Hugging Face text encoder (or a fusion model with one, or a causal language
        model) with its tokenizer, whose weights the model starts from. Empty: new weights, their sizes in
        `model.text_config`.
    vocabulary_size: without `pretrained`: word pieces trained on the captions, at most so many.
    frozen_layers: the word embeddings and so many of the first layers are not trained.
    learning_rate: of the pretrained weights; 0 takes `train.learning_rate`.
    """

    pretrained: str = key("", beside=NEW)
    vocabulary_size: int = key(8000, lowest=0, beside={"text.pretrained": ("",), **NEW})
    frozen_layers: int = key(0, lowest=0)
    learning_rate: float = key(0.0, lowest=0)


@dataclass
class TrainRecipe:
    """How to train.

    objective: `cross_entropy` or `self_critical` for captions, `binary_cross_entropy` for answers, `mixed` for
        pretraining and retrieval: the objectives of `model.objectives`, by their weights. Empty takes the task's first.
    split: the images to train on; `train+restval` is Karpathy's COCO training set.
    epochs, batch_size: passes over the images (or groups of questions); images per step over all processes and
        accumulated pieces.
    questions_per_image: question answering, multiple choice, moments: so many questions of an image (or sentences about
        a clip) are learnt together and share its regions; `batch_size` counts such groups.
    captions_per_image: cross-entropy, pretraining, retrieval and grounding: how many of an image's captions are learnt
        together; dense captioning: of how many of an image's boxes a sentence is.
        They are drawn where it has more; where it has fewer, captions are learnt twice for cross-entropy.
    momentum_queue, momentum_decay: pretraining and retrieval: contrast with a slowly moving copy of the model and so
        many of its earlier embeddings (ALBEF: 65536, 0.995); 0 does without the copy.
    gradient_checkpointing: spend time to save memory: what lies between a transformer's layers is made twice.
    frozen_encoder: tasks of the fusion model: its encoder (of texts, regions and their names) stays as
        `init_from` has it; what stands after it learns: the head, the pooling of clips.
    withhold: question answering: train and score without the `image` or without the `question`, for baselines that show
        what each adds; grounding: without the `image`, of whose regions the boxes alone are left, or the `text`; dense
        captioning: without the `image`, or without the `regions`, of which nothing is left; entailment and pairs:
        without the `image` or the `text`; multiple choice: without the `image`, or the `question`, which leaves the
        candidates alone.
    word_vectors: question answering: a GloVe text file, or a folder or Hub id of a model with a tokenizer, whose word
        vectors new ones start from.
    accumulation: pieces a step's images are split into on each process.
    optimizer, learning_rate, region_learning_rate, weight_decay, betas, momentum: `adamw`, `adam`, `adamax` or `sgd`; a
        separate rate for the region source where it is trained.
    max_steps: end after so many steps, in whatever epoch; 0 leaves it to `epochs`.
    schedule, warmup_steps, decay, decay_epochs, decay_steps: `cosine` and `linear` fall to 0 over the run, `step`
        multiplies by `decay` every `decay_epochs` (or every `decay_steps`, if given), `constant` stays; all after a
        linear warm-up.
    clip_norm, clip_value: largest gradient norm and largest single gradient; 0 turns each off.
    label_smoothing: share of the target spread over the other words (cross-entropy).
    scheduled_sampling_increase, _epochs, _max: probability of feeding the model's own words rises by `increase` every
        `epochs` epochs up to `max` (Bengio et al. 2015).
    samples_per_image, baseline: self-critical samples, and what their reward is measured against: `greedy`,
        `mean_of_others`, or `beam`, the paper's: the decoded beam's captions against their mean.
    rewards: what self-critical training optimises, each metric with its weight in the sum, `{cider_d: 1, bleu_4: 0.5}`:
        `cider_d` (`cider` is the same) and `cider_plain` in 0..10, `bleu_1` to `bleu_4` and `rouge_l` in 0..1, all of
        single captions. A weight of 0 is only logged.
    sample_temperature: flattens (above 1) or sharpens the sampling distribution.
    ema: decay of an exponential moving average of the weights that is evaluated and saved; 0 turns it off.
    image_size: a detector's training images become squares of this side; 0 leaves them to its image processor.
    image_shapes: a detector's training images become, each, the one of these `[height, width]` whose shape is most like
        its own; empty leaves them to `image_size`.
    repeat_threshold: images of a class that stands in fewer than this share of them are shown more often (Gupta et al.
        2019, repeat factor sampling); 0 shows each once an epoch.
    max_words: captions, or answers that are written, are cut to so many words.
    min_word_count: rarer words become the unknown word.
    mixed_precision: `no`, `bf16` or `fp16`.
    early_stopping: stop after so many evaluations without a better score; 0 never does.
    checkpoint_steps: steps between checkpoints (one is always written at an epoch's end).
    num_workers: data loader workers a process.
    log_with: `tensorboard`, `trackio` or empty.
    """

    objective: str = ""
    split: str = "train"
    epochs: int = key(10, lowest=1)
    max_steps: int = key(0, lowest=0)
    batch_size: int = key(50, lowest=1)
    questions_per_image: int = key(1, lowest=1)
    captions_per_image: int = key(5, lowest=1, beside={"train.objective": ("cross_entropy", "mixed")})
    momentum_queue: int = key(0, lowest=0)
    momentum_decay: float = key(0.995, lowest=0, below=1)
    gradient_checkpointing: bool = False
    frozen_encoder: bool = False
    withhold: Literal["", "image", "question", "text", "regions"] = ""
    word_vectors: str = key("", beside=NEW)
    accumulation: int = key(1, lowest=1)
    optimizer: Literal["adamw", "adam", "adamax", "sgd"] = "adamw"
    learning_rate: float = key(1e-3, lowest=0)
    region_learning_rate: float = key(1e-5, lowest=0)
    weight_decay: float = key(0.01, lowest=0)
    betas: list[float] = key(  # noqa: RUF009 (it copies the list)
        [0.9, 0.98], length=2, beside={"train.optimizer": ("adamw", "adam", "adamax")}
    )
    momentum: float = key(0.9, beside={"train.optimizer": ("sgd",)})
    schedule: Literal["cosine", "linear", "step", "constant"] = "cosine"
    warmup_steps: int = key(100, lowest=0)
    decay: float = key(0.8, beside={"train.schedule": ("step",)})
    decay_epochs: int = key(3, lowest=1, beside={"train.schedule": ("step",)})
    decay_steps: int = key(0, lowest=0, beside={"train.schedule": ("step",)})
    clip_norm: float = key(1.0, lowest=0)
    clip_value: float = key(0.0, lowest=0)
    label_smoothing: float = key(0.0, lowest=0, below=1, beside={"train.objective": ("cross_entropy",)})
    scheduled_sampling_increase: float = key(0.0, lowest=0, below=1, beside={"train.objective": ("cross_entropy",)})
    scheduled_sampling_epochs: int = key(5, lowest=1)
    scheduled_sampling_max: float = 0.25
    samples_per_image: int = key(5, lowest=1, beside={"train.objective": ("self_critical",)})
    baseline: Literal["greedy", "mean_of_others", "beam"] = key(
        "greedy", beside={"train.objective": ("self_critical",)}
    )
    rewards: dict[str, Any] = key(  # noqa: RUF009 (it copies the dict)
        {"cider_d": 1.0}, beside={"train.objective": ("self_critical",)}
    )
    sample_temperature: float = key(1.0, beside={"train.objective": ("self_critical",)})
    ema: float = key(0.0, lowest=0, below=1)
    image_size: int = key(0, lowest=0)
    image_shapes: list[list[int]] = field(default_factory=list)
    repeat_threshold: float = key(0.0, lowest=0, below=1)
    max_words: int = key(20, lowest=1)
    min_word_count: int = key(5, lowest=1, beside=NEW)
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    early_stopping: int = key(0, lowest=0)
    checkpoint_steps: int = key(500, lowest=1)
    num_workers: int = key(0, lowest=0)
    log_with: Literal["", "tensorboard", "trackio"] = ""


@dataclass
class EvaluateRecipe:
    """How to evaluate: the split and beams while training, and for the final figures.

    length_penalty: beams are ranked by log-probability over length to this power (1.0: the mean a word, 0.0: the sum).
    no_repeat_ngram_size: captions: no run of so many words is written twice; 0 forbids none. Samples of self-critical
        training and their baseline are never bound by it.
    rerank, rerank_weight: retrieval: so many of the best of each query are put in a new order by the match score (ITM)
        plus so many times the similarity over the temperature (ITC); 0 leaves the order to ITC.
    folds: retrieval: a mean over so many parts of the split, each searched by itself (5: COCO's 5 x 1k); 0 takes all.
    shuffle_images: entailment and pairs, in evaluation alone: each image stands in the place of another, by the seed,
        so that what a trained model owes to the images is seen.
    answers: a prefix language model that answers questions: it writes them (`generate`), or the likeliest of its
        vocabulary is taken (`rank`), by log-probability over length to the power of `length_penalty`.
    metric: the score that picks the best model; empty takes the task's own.
    max_images: only the first so many while training; 0 takes all.
    """

    split: str = "val"
    num_beams: int = key(1, lowest=1)
    final_split: str = "test"
    final_num_beams: int = key(5, lowest=1)
    length_penalty: float = 1.0
    no_repeat_ngram_size: int = key(0, lowest=0)
    batch_size: int = key(50, lowest=1)
    rerank: int = key(0, lowest=0)
    rerank_weight: float = key(0.0, lowest=0)
    folds: int = key(0, lowest=0)
    shuffle_images: bool = False
    answers: Literal["generate", "rank"] = "generate"
    metric: str = ""
    every_epochs: int = key(1, lowest=1)
    max_images: int = key(0, lowest=0)


@dataclass
class Recipe:
    """One run. `model` holds fields of the model's config.

    data: `format` and the options of that format (`formats.py` of `training/data/captions`, `questions` and `boxes`);
        `annotations`, `questions`, `pairs`, `table`, `images`, `folder` and `num_scenes` may be given split by split,
        `{train: a.json, val: b.json}`, where a data set keeps them apart; the key names the split of a file whose rows
        do not name several of their own.
    output: the run's folder: checkpoints, log, and `best/`, a `save_pretrained` folder. Here and in every path, `~/` is
        the home folder.
    init_from: a saved folder to start from (self-critical training, fine-tuning); else random weights.
    architecture: the class of the model, as `config.json` names it; empty takes the first that the task trains.
    data_name: the data set's name on the card.
    """

    task: str
    output: str
    data: dict[str, Any]
    data_name: str = ""
    seed: int = 0
    init_from: str = ""
    architecture: str = ""
    regions: RegionsRecipe = field(default_factory=RegionsRecipe)
    model: dict[str, Any] = field(default_factory=dict)
    text: TextRecipe = field(default_factory=TextRecipe)
    train: TrainRecipe = field(default_factory=TrainRecipe)
    evaluate: EvaluateRecipe = field(default_factory=EvaluateRecipe)

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def sections_of(kind: type[Recipe]) -> dict[str, type[Any]]:
    """The sections of a recipe's class: name -> dataclass."""
    return {entry.name: entry.type for entry in dataclasses.fields(kind) if dataclasses.is_dataclass(entry.type)}  # type: ignore[misc]


def section_keys(sections: Mapping[str, type[Any]]) -> dict[str, dataclasses.Field[Any]]:
    """Every key of the sections, `regions.source`, ..., `evaluate.max_images`, with its field."""
    return {f"{name}.{entry.name}": entry for name, kind in sections.items() for entry in dataclasses.fields(kind)}


def value_of(recipe: Recipe, name: str) -> Any:
    """A recipe's value of a key such as `train.epochs` or `init_from`."""
    section, _, last = name.rpartition(".")
    return getattr(getattr(recipe, section) if section else recipe, last)


def own_values(section: Any) -> list[str]:
    """The keys of a section whose values are not the defaults."""
    default = type(section)()
    names = [entry.name for entry in dataclasses.fields(section)]
    return [name for name in names if getattr(section, name) != getattr(default, name)]


def is_read(name: str, reads: Iterable[str]) -> bool:
    """Whether a key, or its whole section, is among those that are read; what stands in no section always is.

    >>> is_read("masks.words", ["masks"]), is_read("train.ema", ["train.epochs"]), is_read("init_from", [])
    (True, False, True)
    """
    return "." not in name or bool({name, name.split(".")[0]} & {*reads})
