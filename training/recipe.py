"""A recipe: the short YAML that says what to train, read into dataclasses. An unknown key is an error.

    recipes/NAME.yaml --read_recipe--> Recipe --training/train.py--> runs/NAME/

Each task declares the keys that it reads (`reads`, in its own file); another key with a value of its own is an error
too (`check_keys`), so that no key is passed over in silence.

Every field is documented here and nowhere else. Values can be changed on the command line: `--set train.epochs=3`.
"""

import dataclasses
import difflib
import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from training.data.files import read_text
from training.shipped import RECIPES


@dataclass
class RegionsRecipe:
    """Where regions come from.

    source: fields of a region-source config (`model_type`, default `updown_grid`); empty where `init_from` has one (but
        for dropouts, trained stages and the `image_size` of a convolutional grid, which may change), and
        where `store` holds regions made elsewhere, such as converted feature files: the model then owns no source.
    weights: backbone weights, a `.safetensors`; empty loads timm's from the Hub (or none, with `random_backbone`).
    pretrained: a saved detector or grid (a folder or Hub id), or a saved model that owns one, image processor included,
        in the place of `source` and `weights`; of `source` a grid may still be cut otherwise (`regions`, `grid_size`,
        `pyramid_levels`).
    random_backbone: start from random backbone weights (tests).
    store: folder of a region store; features are made once, at start, for photos it lacks. Empty: regions are made
        from pixels at every step, which training the region source needs.
    min_share: 0..1, the smallest share of a split's photos that must have regions in the store; with fewer the run
        ends, else the others are left out with a warning.
    soft_labels: keep the detector's probabilities of all classes and attributes in the store: what `mrc_ce` and
        `mrc_kl` learn.
    flips: every photo is seen mirrored in half of the epochs, unless its texts tell left from right.
    crops: smallest share of a photo's area that training sees of it, in a random crop; 1 shows whole photos. Crops need
        pixels, so no store.
    trained: train the region source with the model.
    processor: fields of the image processor, such as `size`; what it does not name follows the region source, or the
        processor of `init_from`.
    """

    source: dict[str, Any] = field(default_factory=dict)
    weights: str = ""
    pretrained: str = ""
    random_backbone: bool = False
    store: str = ""
    min_share: float = 0.5
    soft_labels: bool = False
    flips: bool = False
    crops: float = 1.0
    trained: bool = False
    processor: dict[str, Any] = field(default_factory=dict)


@dataclass
class AnswersRecipe:
    """Which answers a question answerer can give, and what it is trained towards.

    file: a list of answers, as `updown build-answers` writes it; empty builds one from the training questions.
    min_count, top: keep answers seen so often, or so many of the commonest; one of both where there is no file.
    spelling: `normalized`, as VQA scores them, or `as_written`, for data sets whose answers are lists ("red, white").
    scores: soft targets from the annotators, `leave_one_out` (as VQA is scored), `table` (hengyuan-hu's) or
        `agree_of_three`, the paper's min(n/3, 1), in which models are then scored too; `single` trains towards the one
        answer of each question alone.
    """

    file: str = ""
    min_count: int = 0
    top: int = 0
    spelling: Literal["normalized", "as_written"] = "normalized"
    scores: Literal["leave_one_out", "table", "single", "agree_of_three"] = "leave_one_out"


@dataclass
class TextRecipe:
    """Where the text side of a fusion model or a prefix language model comes from.

    pretrained: a folder or Hub id of a Hugging Face text encoder (or causal language model) with its tokenizer, whose
        weights the model starts from. Empty: new weights, their sizes in `model.text_config`.
    vocabulary_size: without `pretrained`: word pieces trained on the captions, at most so many.
    frozen_layers: the word embeddings and so many of the first layers are not trained.
    learning_rate: of the pretrained weights; 0 takes `train.learning_rate`.
    """

    pretrained: str = ""
    vocabulary_size: int = 8000
    frozen_layers: int = 0
    learning_rate: float = 0.0


@dataclass
class MasksRecipe:
    """What pretraining hides.

    words: share of word pieces (Devlin et al. 2019). whole_words: all pieces of a word together.
    regions: share of regions. overlap: regions whose IoU with a hidden one is over it are hidden too, and none is asked
        for that a visible one overlaps so; 1 hides single regions.
    blocks: hide blocks of neighbouring cells, where the regions are a grid (Bao et al. 2022).
    swapped, kept: of the hidden regions, the share that shows a region of another photo, or itself; the rest shows
        zeros.
    """

    words: float = 0.15
    whole_words: bool = False
    regions: float = 0.15
    overlap: float = 0.4
    blocks: bool = False
    swapped: float = 0.0
    kept: float = 0.0


@dataclass
class TrainRecipe:
    """How to train.

    objective: `cross_entropy` or `self_critical` for captions, `binary_cross_entropy` for answers, `mixed` for
        pretraining and retrieval: the objectives of `model.objectives`, by their weights.
    split: the photos to train on; `train+restval` is Karpathy's COCO training set.
    epochs, batch_size: passes over the photos (or groups of questions); photos per step over all processes and
        accumulated pieces.
    questions_per_photo: question answering: so many questions of a photo are learnt together and share its regions;
        `batch_size` counts such groups.
    captions_per_photo: pretraining and retrieval: so many of a photo's captions are learnt together.
    momentum_queue, momentum_decay: pretraining and retrieval: contrast with a slowly moving copy of the model and so
        many of its earlier embeddings (ALBEF: 65536, 0.995); 0 does without the copy.
    gradient_checkpointing: spend time to save memory: what lies between a transformer's layers is made twice.
    withhold: question answering: train and score without the `photo` or without the `question`, for baselines that show
        what each adds.
    word_vectors: question answering: a GloVe text file, or a folder or Hub id of a model with a tokenizer, whose word
        vectors new ones start from.
    accumulation: pieces a step's photos are split into on each process.
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
    samples_per_photo, baseline: self-critical samples, and what their reward is measured against: `greedy`,
        `mean_of_others`, or `beam`, the paper's: the decoded beam's captions against their mean.
    sample_temperature: flattens (above 1) or sharpens the sampling distribution.
    ema: decay of an exponential moving average of the weights that is evaluated and saved; 0 turns it off.
    photo_size: a detector's training photos become squares of this side; 0 leaves them to its image processor.
    repeat_threshold: photos of a class that stands in fewer than this share of them are shown more often (Gupta et al.
        2019, repeat factor sampling); 0 shows each once an epoch.
    max_words: captions are cut to so many words.
    min_word_count: rarer words become the unknown word.
    mixed_precision: `no`, `bf16` or `fp16`.
    early_stopping: stop after so many evaluations without a better score; 0 never does.
    checkpoint_steps: steps between checkpoints (one is always written at an epoch's end).
    num_workers: data loader workers a process.
    log_with: `tensorboard`, `trackio` or empty.
    """

    objective: Literal["cross_entropy", "self_critical", "binary_cross_entropy", "mixed"] = "cross_entropy"
    split: str = "train"
    epochs: int = 10
    max_steps: int = 0
    batch_size: int = 50
    questions_per_photo: int = 1
    captions_per_photo: int = 5
    momentum_queue: int = 0
    momentum_decay: float = 0.995
    gradient_checkpointing: bool = False
    withhold: Literal["", "photo", "question"] = ""
    word_vectors: str = ""
    accumulation: int = 1
    optimizer: Literal["adamw", "adam", "adamax", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    region_learning_rate: float = 1e-5
    weight_decay: float = 0.01
    betas: list[float] = field(default_factory=lambda: [0.9, 0.98])
    momentum: float = 0.9
    schedule: Literal["cosine", "linear", "step", "constant"] = "cosine"
    warmup_steps: int = 100
    decay: float = 0.8
    decay_epochs: int = 3
    decay_steps: int = 0
    clip_norm: float = 1.0
    clip_value: float = 0.0
    label_smoothing: float = 0.0
    scheduled_sampling_increase: float = 0.0
    scheduled_sampling_epochs: int = 5
    scheduled_sampling_max: float = 0.25
    samples_per_photo: int = 5
    baseline: Literal["greedy", "mean_of_others", "beam"] = "greedy"
    sample_temperature: float = 1.0
    ema: float = 0.0
    photo_size: int = 0
    repeat_threshold: float = 0.0
    max_words: int = 20
    min_word_count: int = 5
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    early_stopping: int = 0
    checkpoint_steps: int = 500
    num_workers: int = 0
    log_with: Literal["", "tensorboard", "trackio"] = ""


@dataclass
class EvaluateRecipe:
    """How to evaluate: the split and beams while training, and for the final figures.

    length_penalty: beams are ranked by log-probability over length to this power (1.0: the mean a word, 0.0: the sum).
    rerank, rerank_weight: retrieval: so many of the best of each query are put in a new order by the match score (ITM)
        plus so many times the similarity over the temperature (ITC); 0 leaves the order to ITC.
    folds: retrieval: a mean over so many parts of the split, each searched by itself (5: COCO's 5 x 1k); 0 takes all.
    metric: the score that picks the best model. max_photos: only the first so many while training; 0 takes all.
    """

    split: str = "val"
    num_beams: int = 1
    final_split: str = "test"
    final_num_beams: int = 5
    length_penalty: float = 1.0
    batch_size: int = 50
    rerank: int = 0
    rerank_weight: float = 0.0
    folds: int = 0
    metric: str = "cider_d"
    every_epochs: int = 1
    max_photos: int = 0


@dataclass
class Recipe:
    """One run. `model` holds fields of the model's config.

    data: `format` and the options of that format (`training/data/captions/formats.py`, `vqa.py`, `detection.py`);
        `annotations`, `questions`, `pairs`, `table`, `images`, `folder` and `num_scenes` may be given split by split,
        `{train: a.json, val: b.json}`, where a data set keeps them apart; the key names the split of a file whose rows
        do not name several of their own.
    output: the run's folder: checkpoints, log, and `best/`, a `save_pretrained` folder. Here and in every path, `~/` is
        the home folder.
    init_from: a saved folder to start from (self-critical training, fine-tuning); else random weights.
    data_name: the data set's name on the card.
    """

    task: str
    output: str
    data: dict[str, Any]
    data_name: str = ""
    seed: int = 0
    init_from: str = ""
    regions: RegionsRecipe = field(default_factory=RegionsRecipe)
    model: dict[str, Any] = field(default_factory=dict)
    answers: AnswersRecipe = field(default_factory=AnswersRecipe)
    text: TextRecipe = field(default_factory=TextRecipe)
    masks: MasksRecipe = field(default_factory=MasksRecipe)
    train: TrainRecipe = field(default_factory=TrainRecipe)
    evaluate: EvaluateRecipe = field(default_factory=EvaluateRecipe)

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


KIND_NAMES = {int: "whole number", float: "number", str: "text", bool: "true or false", dict: "section", list: "list"}
ONE_OR_MORE = (
    *("train.epochs", "train.batch_size", "train.accumulation", "train.max_words", "train.min_word_count"),
    *(
        "train.questions_per_photo",
        "train.captions_per_photo",
        "train.samples_per_photo",
        "train.checkpoint_steps",
        "train.decay_epochs",
        "train.scheduled_sampling_epochs",
    ),
    *("evaluate.num_beams", "evaluate.final_num_beams", "evaluate.batch_size", "evaluate.every_epochs"),
)
ZERO_OR_MORE = (
    *("train.learning_rate", "train.region_learning_rate", "train.weight_decay", "train.warmup_steps"),
    *("train.clip_norm", "train.clip_value", "train.early_stopping", "train.num_workers", "evaluate.max_photos"),
    *("train.photo_size", "train.max_steps", "train.decay_steps", "answers.min_count", "answers.top"),
    *("train.momentum_queue", "text.frozen_layers", "text.learning_rate", "evaluate.rerank", "evaluate.rerank_weight"),
    *("evaluate.folds", "text.vocabulary_size", "masks.overlap"),
)
SHARES = (
    *("train.label_smoothing", "train.ema", "train.repeat_threshold", "train.scheduled_sampling_increase"),
    *("train.momentum_decay", "masks.words", "masks.regions", "masks.swapped", "masks.kept"),
)
SECTIONS = {
    "regions": RegionsRecipe,
    "answers": AnswersRecipe,
    "text": TextRecipe,
    "masks": MasksRecipe,
    "train": TrainRecipe,
    "evaluate": EvaluateRecipe,
}
# Keys that say nothing beside another key's value: (keys, the other key, the values beside which they are read).
READ_BESIDE: tuple[tuple[tuple[str, ...], str, tuple[Any, ...]], ...] = (
    (("train.momentum",), "train.optimizer", ("sgd",)),
    (("train.betas",), "train.optimizer", ("adamw", "adam", "adamax")),
    (("train.decay", "train.decay_epochs", "train.decay_steps"), "train.schedule", ("step",)),
    (("train.label_smoothing", "train.scheduled_sampling_increase"), "train.objective", ("cross_entropy",)),
    (
        ("train.samples_per_photo", "train.baseline", "train.sample_temperature"),
        "train.objective",
        ("self_critical",),
    ),
    (("text.vocabulary_size",), "text.pretrained", ("",)),
    (("answers.min_count", "answers.top", "answers.spelling"), "answers.file", ("",)),
    (
        (
            *("regions.weights", "regions.pretrained", "text.pretrained", "text.vocabulary_size", "train.word_vectors"),
            *("answers.file", "answers.min_count", "answers.top", "answers.spelling", "train.min_word_count"),
        ),
        "init_from",
        ("",),
    ),
)


def read_recipe(path: str | Path, changes: list[str] | None = None) -> Recipe:
    """The recipe in a file, or of a name (see `recipe_path`), with changes such as `train.epochs=3` applied.

    Raises `ValueError` naming the file for an unknown key, a missing one, a value of the wrong kind or range.
    """
    path = recipe_path(path)
    try:
        content = yaml.load(read_text(path), Loader=_UniqueKeys)
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no keys; see the recipes in training/recipes/")
    for change in changes or []:
        _apply_change(content, change)
    content = _with_home(content)
    try:
        sections = {name: _build(kind, content.pop(name, None) or {}, name) for name, kind in SECTIONS.items()}
        recipe = _build(Recipe, {**content, **sections}, "the recipe")
        _check_ranges(recipe)
        return recipe
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def check_keys(recipe: Recipe, readers: Mapping[str, Iterable[str]]) -> None:
    """`ValueError` for a key that has a value of its own and that the recipe's task does not read.

    A key that would be read beside another value of another key (`momentum` with another optimiser) is a warning.

    Args:
        recipe: its `task` is one of the readers.
        readers: task -> the keys that it reads, `train.epochs`; a section's name stands for all of its keys.
    """
    given = [key for key in section_keys() if value_of(recipe, key) != default_of(key)]
    idle = [key for key in given if not is_read(key, readers[recipe.task])]
    if idle:
        told = []
        for key in idle:
            others = [task for task, keys in readers.items() if is_read(key, keys)]
            told.append(f"{key} (read by {', '.join(others)})")
        raise ValueError(f"the task {recipe.task} does not read {', '.join(told)}: leave {key_or_keys(idle)} out")
    for keys, other, values in READ_BESIDE:
        passed_over = [key for key in keys if key in given and is_read(other, readers[recipe.task])]
        if passed_over and value_of(recipe, other) not in values:
            warnings.warn(
                f"{', '.join(passed_over)} of the recipe says nothing, since {other} is "
                f"{value_of(recipe, other)!r}: it is read where that is {' or '.join(map(repr, values))}",
                stacklevel=2,
            )


def key_or_keys(keys: list[str]) -> str:
    """The pronoun for one key or several."""
    return "it" if len(keys) == 1 else "them"


def is_read(key: str, reads: Iterable[str]) -> bool:
    """Whether a key, or its whole section, is among those that are read; what stands in no section always is.

    >>> is_read("masks.words", ["masks"]), is_read("train.ema", ["train.epochs"]), is_read("init_from", [])
    (True, False, True)
    """
    return "." not in key or bool({key, key.split(".")[0]} & {*reads})


def section_keys() -> list[str]:
    """Every key of every section: `regions.source`, ..., `evaluate.max_photos`."""
    return [f"{name}.{entry.name}" for name, kind in SECTIONS.items() for entry in dataclasses.fields(kind)]


def value_of(recipe: Recipe, key: str) -> Any:
    """A recipe's value of a key such as `train.epochs` or `init_from`."""
    section, _, name = key.rpartition(".")
    return getattr(getattr(recipe, section) if section else recipe, name)


def default_of(key: str) -> Any:
    """The value of a section's key in a recipe that does not name it."""
    section, name = key.split(".")
    return getattr(SECTIONS[section](), name)


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """`; did you mean ...?`, or nothing where no known name is like this one.

    >>> did_you_mean("epoch", ["epochs", "ema"]), did_you_mean("lr", ["epochs"])
    ("; did you mean 'epochs'?", '')
    """
    similar = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.6)
    return f"; did you mean {similar[0]!r}?" if similar else ""


def recipe_path(name: str | Path) -> Path:
    """A recipe's file: a path, or the bare name of a recipe that comes along, such as `captioning_scenes`.

    Raises `ValueError` with the names that are meant where there is neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    known = {recipe.stem: recipe for recipe in RECIPES.glob("*.yaml")}
    if str(path) in known:
        return known[str(path)]
    meant = did_you_mean(path.stem, known) or f"; those that come along are {', '.join(sorted(known))}"
    raise ValueError(f"{name} is not there, nor does a recipe of that name come along{meant}")


def changed_keys(before: dict[str, Any], after: dict[str, Any], *, prefix: str = "") -> list[str]:
    """The keys whose values differ between two `Recipe.as_dict`, sections as `train.epochs`.

    >>> changed_keys({"seed": 0, "train": {"epochs": 1, "ema": 0}}, {"seed": 0, "train": {"epochs": 2, "ema": 0}})
    ['train.epochs']
    """
    changed = []
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            changed += changed_keys(old, new, prefix=f"{prefix}{key}.")
        elif old != new:
            changed.append(prefix + key)
    return changed


def _apply_change(content: dict[str, Any], change: str) -> None:
    key, equals, value = change.partition("=")
    if not equals:
        raise ValueError(f"--set {change}: write KEY=VALUE, for example train.epochs=3")
    *parents, last = key.split(".")
    for parent in parents:
        if content.get(parent) is None:  # absent, or a key without a value
            content[parent] = {}
        content = content[parent]
        if not isinstance(content, dict):
            raise ValueError(f"--set {change}: {parent} is a value, not a section")
    try:
        content[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"--set {change}: {value!r} is no YAML value") from error


class _UniqueKeys(yaml.SafeLoader):
    """YAML as `yaml.safe_load` reads it; a key that stands twice in a section is an error: the first would be lost."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """A section; `yaml.YAMLError` that names the line of a repeated key."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                place = f"line {key.start_mark.line + 1}"
                raise yaml.YAMLError(f"the key {key.value!r} stands twice in one section, again in {place}")
            if isinstance(key.value, str):
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _with_home(content: Any) -> Any:
    """A recipe's values with `~/` at the start of a path as the home folder, as a shell has it."""
    if isinstance(content, dict):
        return {key: _with_home(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_with_home(value) for value in content]
    return os.path.expanduser(content) if isinstance(content, str) else content


def _build(kind: type, content: dict[str, Any], name: str) -> Any:
    if not isinstance(content, dict):
        raise ValueError(f"{name} must be a section of keys, not {content!r}")
    fields = {entry.name: entry for entry in dataclasses.fields(kind)}
    unknown = [key for key in content if key not in fields]
    if unknown:
        guess = did_you_mean(unknown[0], fields) + also_elsewhere(unknown[0], name)
        taken = "" if guess and name in SECTIONS else f"; it takes {', '.join(fields)}"  # a long list would hide it
        raise ValueError(f"unknown key {', '.join(map(repr, unknown))} in {name}{taken}{guess}")
    required = [key for key, entry in fields.items() if entry.default is entry.default_factory is dataclasses.MISSING]
    missing = [key for key in required if key not in content]
    if missing:
        raise ValueError(f"{name} lacks {', '.join(missing)}")
    return kind(**{key: _checked(f"{name}: {key}", fields[key].type, value) for key, value in content.items()})


def also_elsewhere(key: Any, section: str) -> str:
    """Where a key that a section does not have is one of another section's: `; there is train.epochs`."""
    places = [name for name in section_keys() if name.split(".")[1] == key and name.split(".")[0] != section]
    return f"; there is {' and '.join(places)}" if places else ""


def _checked(name: str, wanted: Any, value: Any) -> Any:
    choices = getattr(wanted, "__args__", ()) if getattr(wanted, "__origin__", None) is Literal else ()
    if value is False and "no" in choices:
        return "no"  # YAML reads a bare no as false
    if choices and value not in choices:
        raise ValueError(
            f"{name} is {value!r}; choose one of {', '.join(map(repr, choices))}" + did_you_mean(value, choices)
        )
    if wanted is float and isinstance(value, str | int) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-3 as a string
        except ValueError as error:
            raise ValueError(f"{name} is {value!r}, which is no number") from error
    if wanted is str and value is None:
        return ""  # YAML reads a key without a value as null
    kind = getattr(wanted, "__origin__", wanted)  # dict[str, Any] -> dict
    if kind is dict and value is None:
        return {}
    if isinstance(kind, type) and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise ValueError(f"{name} is {value!r}, which is no {KIND_NAMES[kind]}")
    return value


def _check_ranges(recipe: Recipe) -> None:
    """`ValueError` for numbers that no run can use."""
    train = recipe.train
    if not recipe.output.strip():
        raise ValueError("output is empty: name the run's folder, such as runs/captioning")
    if not recipe.data.get("format"):
        raise ValueError("data lacks format, such as `format: folder` for your own photos")
    for lowest, keys in ((1, ONE_OR_MORE), (0, ZERO_OR_MORE + SHARES)):
        for section, name in (key.split(".") for key in keys):
            value = getattr(getattr(recipe, section), name)
            if not value >= lowest:
                raise ValueError(f"{section}: {name} is {value}, but must be {lowest} or more")
            if f"{section}.{name}" in SHARES and value >= 1:
                raise ValueError(f"{section}: {name} is {value}, but must be below 1")
    if not 0 <= recipe.regions.min_share <= 1:
        raise ValueError(f"regions: min_share is {recipe.regions.min_share}, but must be in 0..1")
    if not 0 < recipe.regions.crops <= 1:
        raise ValueError(f"regions: crops is {recipe.regions.crops}, but must be above 0 and at most 1")
    if len(train.betas) != 2:
        raise ValueError(f"train: betas is {train.betas}, but must be two numbers")
    if train.objective == "self_critical" and train.baseline != "greedy" and train.samples_per_photo < 2:
        raise ValueError(
            f"train: baseline {train.baseline!r} compares samples of a photo: raise samples_per_photo to 2"
        )
