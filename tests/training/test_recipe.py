"""Recipes: the shipped ones, changes on the command line, and mistakes in a YAML file."""

import dataclasses
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import PreTrainedModel

import modeling_updown
from modeling_updown import UpDownCaptioningConfig
from modeling_updown.configuration_updown import region_source_config
from tests.training.tiny_run import new_accelerator
from training.metrics.captioning.scores import caption_scores
from training.recipe import all_sections, build_recipe, changed_keys, flat_name, read_recipe, recipe_path, spec_of
from training.recipe_sections import Recipe, RegionsRecipe, section_keys, sections_of, value_of
from training.tasks import TASKS, build_task
from training.tasks.build import CHANGEABLE, CUTS, build_config, check_processor_fields, override_config

RECIPES = sorted((Path(__file__).parents[2] / "training" / "recipes").glob("*/*.yaml"))
SMALL = "task: captioning\noutput: runs/x\ndata: {format: folder, folder: images}\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_shipped_recipes_are_valid_and_name_their_command(path: Path) -> None:
    recipe, own_name = read_recipe(path), f"{path.parent.name}/{path.stem}"
    assert path.read_text().startswith(f"# accelerate launch -m training.train training/recipes/{own_name}.yaml\n")
    assert recipe.output == f"runs/{flat_name(own_name)}" and path.parent.name == recipe.task and recipe.task in TASKS
    assert recipe_path(own_name) == recipe_path(flat_name(own_name)) == path
    tags = {"object_tags": 1} if recipe.regions.tags else {}  # as many as the regions have
    build_config(getattr(modeling_updown, recipe.architecture).config_class, recipe.model, section="model", **tags)
    if recipe.regions.pretrained:
        assert set(recipe.regions.source) <= {*CHANGEABLE, *CUTS}
    elif recipe.regions.source:
        build_config(lambda **fields: region_source_config(fields), recipe.regions.source, section="regions.source")
    sizes = ({"backbone", "hidden_size", "text_config"} & set(recipe.model)) or recipe.text.pretrained
    assert bool(recipe.init_from) != bool(sizes)  # sizes come from one place
    assert not (recipe.regions.trained and recipe.regions.store)
    assert read_recipe(path, ["train.epochs=1"]).train.epochs == 1


def test_there_are_recipes_for_every_stage() -> None:
    assert {f"{path.parent.name}/{path.stem}" for path in RECIPES} >= {
        "captioning/scenes",
        "captioning/flickr8k",
        "captioning/flickr8k_1x1",
        "captioning/flickr8k_pyramid",
        "captioning/flickr8k_tuned",
        "captioning/flickr8k_scst",
        "captioning/coco",
        "captioning/coco_scst",
        "captioning/coco_resnet_grid",
        "captioning/flickr8k_regions",
        "detection/visual_genome",
        "detection/coco",
        "detection/lite",
        "detection/scenes",
        "prefix_lm/coco",
        "prefix_lm/flickr8k",
        "pretraining/captions",
        "pretraining/flickr8k",
        "pretraining/flickr8k_qa",
        "retrieval/flickr8k_tuned",
        "retrieval/flickr8k_288",
        "retrieval/flickr8k_match",
        "pretraining/scenes",
        "retrieval/coco",
        "retrieval/flickr30k",
        "retrieval/flickr8k",
        "retrieval/flickr8k_hard",
        *(f"moments/{name}" for name in ("activitynet", "charades_sta", "didemo", "qvhighlights")),
        *("moments/moving_scenes", "moments/travelling_flickr8k"),
        *(f"captioning/{name}" for name in ("msrvtt", "msvd", "vatex")),
        *(f"retrieval/{name}" for name in ("msrvtt", "msrvtt_full", "msvd", "vatex", "activitynet", "didemo")),
        *(f"vqa/{name}_qa" for name in ("msrvtt", "msvd", "activitynet")),
        *(f"vqa/{name}" for name in ("tgif_frameqa", "tgif_count", "next_oe")),
        *(f"multiple_choice/{name}" for name in ("next_qa", "tgif_action", "tgif_transition")),
        *map("reading/{}".format, ("scenes", "sroie", "chartqa", "docvqa", "stvqa", "textvqa", "written_questions")),
        *("vqa/v2", "vqa/v2_newatt"),
        "vqa/daquar",
        "vqa/daquar_flickr8k",
        "vqa/scenes_grid",
        "vqa/scenes_regions",
    }


def test_values_are_read_into_sections(tmp_path: Path) -> None:
    text = SMALL + "train: {learning_rate: 1e-3, mixed_precision: no, epochs: 3}\nregions:\ninit_from:\nmodel:\n"
    recipe = read_recipe(write(tmp_path, text))
    assert (recipe.train.learning_rate, recipe.train.mixed_precision, recipe.train.epochs) == (1e-3, "no", 3)
    assert (recipe.init_from, recipe.model, recipe.regions) == ("", {}, RegionsRecipe())
    assert recipe.train.betas == [0.9, 0.98] and recipe.evaluate.final_num_beams == 5
    assert (recipe.train.image_size, recipe.train.repeat_threshold, recipe.train.max_steps) == (0, 0.0, 0)


def test_a_written_recipe_reads_back_as_it_was(tmp_path: Path) -> None:
    path = write(tmp_path, SMALL + "train: {epochs: 3}\n")
    recipe = read_recipe(path)
    own = (recipe.architecture, recipe.train.objective, recipe.evaluate.metric)
    assert own == ("UpDownForImageCaptioning", "cross_entropy", "cider_d")  # the task's, where the recipe names none
    write(tmp_path, yaml.safe_dump(recipe.as_dict(), sort_keys=False))
    assert read_recipe(path) == recipe


def test_changes_reach_every_depth(tmp_path: Path) -> None:
    changes = [
        "train.epochs=7",
        "seed=4",
        "regions.source.grid_size=1",
        "data.folder=/photos",
        "train.betas=[0.5, 0.6]",
    ]
    recipe = read_recipe(write(tmp_path, SMALL + "train:\n"), changes)
    assert (recipe.train.epochs, recipe.seed, recipe.regions.source, recipe.data["folder"], recipe.train.betas) == (
        *(7, 4, {"grid_size": 1}, "/photos", [0.5, 0.6]),
    )


def test_changed_keys_are_named_with_their_section() -> None:
    before = Recipe(task="captioning", output="a", data={"format": "scenes"}).as_dict()
    after = Recipe(task="captioning", output="a", data={"format": "scenes", "seed": 1}, seed=2).as_dict()
    after["train"]["ema"] = 0.5
    assert changed_keys(before, after) == ["data.seed", "seed", "train.ema"]
    assert changed_keys(before, before) == []


MISTAKES = {
    "unknown key 'epochs' in the recipe; it takes task, output": "epochs: 3",
    "unknown key 'lr' in train; it takes objective": "train: {lr: 1}",
    "unknown key 3 in train": "train: {3: 1}",
    "train must be a section of keys, not 5": "train: 5",
    "train: epochs is 'many', which is no whole number": "train: {epochs: many}",
    "train: epochs is True, which is no whole number": "train: {epochs: true}",
    "train: epochs is 0, but must be 1 or more": "train: {epochs: 0}",
    "train: learning_rate is 'fast', which is no number": "train: {learning_rate: fast}",
    "train: learning_rate is nan, but must be 0 or more": "train: {learning_rate: .nan}",
    "evaluate: length_penalty is nan, but must be a finite number": "evaluate: {length_penalty: .nan}",
    "train: learning_rate is inf, but must be a finite number": "train: {learning_rate: .inf}",
    "train: label_smoothing is 1.0, but must be 0 or more and below 1": "train: {label_smoothing: 1}",
    "train: schedule is 'wavy'; choose one of 'cosine', 'linear'": "train: {schedule: wavy}",
    "train: betas is [0.9], but must be a list of 2": "train: {betas: [0.9]}",
    "raise samples_per_image to 2": "train: {objective: self_critical, baseline: beam, samples_per_image: 1}",
    "regions: flips is 'often', which is no true or false": "regions: {flips: often}",
    "evaluate: batch_size is 0, but must be 1 or more": "evaluate: {batch_size: 0}",
    "train: image_size is -1, but must be 0 or more": "train: {image_size: -1}",
    "train: image_size is 0.5, which is no whole number": "train: {image_size: 0.5}",
    "train: repeat_threshold is 1.0, but must be 0 or more and below 1": "train: {repeat_threshold: 1}",
    "train: repeat_threshold is -0.1, but must be 0 or more": "train: {repeat_threshold: -0.1}",
    "train: max_steps is -3, but must be 0 or more": "train: {max_steps: -3}",
    "regions: processor is 'large', which is no section": "regions: {processor: large}",
    "regions: crops is 0.0, but must be above 0 and at most 1": "regions: {crops: 0}",
}


@pytest.mark.parametrize("sentence", MISTAKES)
def test_a_mistake_names_the_file_and_the_key(tmp_path: Path, sentence: str) -> None:
    path = write(tmp_path, SMALL + MISTAKES[sentence])
    with pytest.raises(ValueError) as caught:
        read_recipe(path)
    assert str(caught.value).startswith(f"{path}: ") and sentence in str(caught.value)


def test_files_that_are_no_recipe(tmp_path: Path) -> None:
    for text, sentence in {
        "task: [captioning": "is not valid YAML",
        "just a sentence": "holds no keys",
        "": "holds no keys",
        "output: x": "the recipe lacks task, data",
        SMALL.replace("format: folder, ", ""): "data lacks format",
    }.items():
        with pytest.raises(ValueError, match=sentence):
            read_recipe(write(tmp_path, text))
    (tmp_path / "recipe.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        read_recipe(tmp_path / "recipe.yaml")
    with pytest.raises(ValueError, match="nothing.yaml is not there, nor does a recipe of that name come along; those"):
        read_recipe(tmp_path / "nothing.yaml")


def test_a_recipe_that_comes_along_is_named_without_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_recipe("captioning/scenes").output == "runs/captioning_scenes"
    assert read_recipe("training/recipes/captioning_scenes.yaml") == read_recipe("captioning/scenes")  # as it was named
    with pytest.raises(ValueError, match=r"mine/captioning_scenes.yaml is not there"):
        read_recipe("mine/captioning_scenes.yaml")  # a wrong path is not the recipe that comes along
    with pytest.raises(ValueError, match=r"captioning/scene is not there.*; did you mean 'captioning/scenes'"):
        read_recipe("captioning/scene")
    (tmp_path / "captioning").mkdir()
    (tmp_path / "captioning" / "scenes").write_text(SMALL)  # a file of one's own goes first
    assert read_recipe("captioning/scenes").output == "runs/x"


def test_changes_that_cannot_be_made(tmp_path: Path) -> None:
    path = write(tmp_path, SMALL)
    for change, sentence in {
        "train.epochs": "write KEY=VALUE",
        "task.name=x": "task is a value, not a section",
        "train.betas=[1": "is no YAML value",
        "train.epoch=3": "unknown key 'epoch' in train",
    }.items():
        with pytest.raises(ValueError, match=sentence):
            read_recipe(path, [change])


def test_the_scores_a_recipe_may_name_are_those_there_are() -> None:
    scores = caption_scores(["a dog", "a cat"], [["a dog"], ["a cat"]])
    names = {name for name in scores if not name.endswith("_x100") and name not in ("per_item", "not_computed")}
    always_there = names - {"meteor"}
    assert set(TASKS["captioning"].best_by) == always_there < names | {"meteor"} < set(TASKS["captioning"].metrics)


# -- keys that a task reads ------------------------------------------------------------------------------------------

OTHER_VALUES = {  # a value of its own for every kind of key
    "reading.words": "regions",
    **dict.fromkeys(("regions.crops", "train.label_smoothing", "train.ema"), 0.5),
    "train.betas": [0.5, 0.6],
    "train.image_shapes": [[48, 64]],
    "held_out.names": ["dog"],
    "regions.source": {"backbone": "resnet18"},
    "regions.tags": ["objects"],
    "regions.processor": {"size": 64},
    "texts.data": {"format": "texts"},
    "texts.named": False,
    "texts.boxes": "whole",
    "answers.spelling": "as_written",
    "answers.scores": "single",
    "answers.learn": "weigh",
    "evaluate.answers": "rank",
    "questions.spelling": "as_written",
    "questions.scores": "single",
    "questions.data": {"format": "scenes"},
    "train.objective": "mixed",
    "train.withhold": "image",
    "train.optimizer": "sgd",
    "train.schedule": "linear",
    "train.baseline": "beam",
    "train.rewards": {"rouge_l": 1.0},
    "train.mixed_precision": "bf16",
    "train.log_with": "trackio",
    "sampling.by": "annealed",
}
EVERY_TASK = """
train.split train.epochs train.max_steps train.batch_size train.accumulation train.optimizer train.learning_rate
train.region_learning_rate train.weight_decay train.betas train.momentum train.schedule train.warmup_steps train.decay
train.decay_epochs train.decay_steps train.clip_norm train.clip_value train.ema train.mixed_precision
train.early_stopping train.checkpoint_steps train.num_workers train.log_with evaluate.split evaluate.final_split
evaluate.batch_size train.objective evaluate.metric evaluate.every_epochs evaluate.max_images regions.source
regions.weights regions.proposal_weights regions.pretrained regions.random_backbone regions.store regions.flips
regions.crops regions.processor
"""
TOP_DOWN = """
regions.soft_labels regions.tags regions.tag_vectors regions.min_share regions.trained regions.given_boxes
"""
WRITES = """
train.label_smoothing train.max_words train.min_word_count train.samples_per_image train.baseline
train.sample_temperature train.captions_per_image evaluate.num_beams evaluate.final_num_beams evaluate.length_penalty
evaluate.no_repeat_ngram_size train.rewards
"""
CONTRASTS = """
text.pretrained text.vocabulary_size text.frozen_layers text.learning_rate train.captions_per_image train.max_words
train.momentum_queue train.momentum_decay train.gradient_checkpointing train.frozen_encoder evaluate.rerank
evaluate.rerank_weight evaluate.folds
"""
ANSWERS = """
answers.file answers.min_count answers.top answers.spelling answers.scores answers.learn train.questions_per_image
train.withhold train.word_vectors train.min_word_count
"""
GROUNDS = """
text.pretrained text.vocabulary_size text.frozen_layers text.learning_rate train.captions_per_image train.max_words
train.gradient_checkpointing train.frozen_encoder train.withhold
"""
DESCRIBES = """
train.label_smoothing train.max_words train.min_word_count train.captions_per_image train.withhold evaluate.num_beams
evaluate.final_num_beams evaluate.length_penalty evaluate.no_repeat_ngram_size matching.iou matching.background_iou
"""
STATEMENTS = """
text.pretrained text.vocabulary_size text.frozen_layers text.learning_rate train.max_words
train.gradient_checkpointing train.frozen_encoder train.withhold evaluate.shuffle_images
"""
CHOOSES = """
text.pretrained text.vocabulary_size text.frozen_layers text.learning_rate train.max_words train.gradient_checkpointing
train.frozen_encoder train.questions_per_image train.withhold choices.per_item choices.context_words
choices.learn_relevance
"""
FINDS = """
text.pretrained text.vocabulary_size text.frozen_layers text.learning_rate train.max_words train.gradient_checkpointing
train.frozen_encoder train.withhold moments.duration_seconds moments.windows moments.round_seconds
"""
READS = """
text.pretrained text.vocabulary_size text.frozen_layers text.learning_rate train.max_words train.gradient_checkpointing
train.frozen_encoder train.withhold reading.words reading.vocabulary reading.min_count reading.top evaluate.num_beams
evaluate.final_num_beams
"""
MASKS = "masks.words masks.whole_words masks.regions masks.overlap masks.blocks masks.swapped masks.kept"
ASKED = """
questions.data questions.per_image questions.file questions.min_count questions.top questions.spelling questions.scores
"""
SAMPLED = "train.scheduled_sampling_increase train.scheduled_sampling_epochs train.scheduled_sampling_max"
TEXTS = """
texts.data texts.share texts.vocabulary texts.named texts.drop_names texts.false_names texts.certainty texts.boxes
"""
CHECKED = {
    **dict.fromkeys(TASKS, ()),
    "vqa": ("crops",),
    **dict.fromkeys(("entailment", "grounding", "multi", "pairs"), ("crops",)),  # of multi: by the part
    **dict.fromkeys(("moments", "multiple_choice", "reading"), ("crops", "flips")),
    "detection": ("store", "source", "pretrained"),
}
READ_BY = {
    "captioning": [TOP_DOWN, WRITES, SAMPLED, TEXTS],
    "prefix_lm": [TOP_DOWN, WRITES, TEXTS, "text.pretrained text.learning_rate train.gradient_checkpointing"],
    "retrieval": [TOP_DOWN, CONTRASTS],
    "pretraining": [TOP_DOWN, CONTRASTS, MASKS, ASKED],
    "vqa": [TOP_DOWN, ANSWERS],
    "grounding": [TOP_DOWN, GROUNDS],
    "detection": [
        "train.image_size train.image_shapes train.repeat_threshold phrases.encoder phrases.an_image held_out.names"
    ],
    "dense_captioning": [TOP_DOWN, DESCRIBES],
    "entailment": [TOP_DOWN, STATEMENTS],
    "pairs": [TOP_DOWN, STATEMENTS],
    "moments": [TOP_DOWN, FINDS, "train.questions_per_image"],
    "multiple_choice": [TOP_DOWN, CHOOSES],
    "reading": [TOP_DOWN, READS],
    "multi": [
        TOP_DOWN,
        "text.pretrained text.vocabulary_size text.frozen_layers text.learning_rate",
        "train.gradient_checkpointing train.frozen_encoder",
        "sampling.by sampling.first_power sampling.last_power sampling.epochs",
    ],
}
# of `EVERY_TASK`, what each part of a recipe says for itself
OF_A_PART = """
train.split train.batch_size evaluate.split evaluate.final_split evaluate.batch_size
"""
ONE_PART = {"format": "recipes", "parts": {"statements": {"recipe": "entailment/scenes"}}}


def with_value_of_its_own(task: str, key: str) -> dict[str, Any]:
    """The content of a recipe of the task that names no other key of any section than this one, but for those that
    `texts` cannot be without."""
    section, name = key.split(".")
    default = getattr(all_sections()[section](), name)
    value = OTHER_VALUES.get(key, {bool: True, int: 7, str: "other", float: 0.375}.get(type(default)))
    if key in ("train.objective", "evaluate.metric"):
        value = {"train.objective": TASKS[task].objectives, "evaluate.metric": TASKS[task].best_by}[key][-1]
    assert value not in (default, None)
    formats = TASKS[task].formats
    data = ONE_PART if TASKS[task].parts else {"format": "scenes" if "scenes" in formats else next(iter(formats))}
    content = {"task": task, "output": "x", "data": data, section: {name: value}}
    if key in " ".join(READ_BY[task]).split() and section == "texts":
        content |= {"regions": {"store": "other"}, "texts": {"data": {"format": "texts"}, name: value}}
    return content


@pytest.mark.parametrize("task", TASKS)
def test_every_key_of_every_section_is_read_by_the_task_or_refused(task: str) -> None:
    read = set(" ".join([EVERY_TASK, *READ_BY[task]]).split())
    read -= set(OF_A_PART.split()) if TASKS[task].parts else set()
    keys = section_keys(all_sections())
    assert read <= set(keys)
    refused = {f"regions.{name}" for name in CHECKED[task]}  # by `check`, with a cure of their own
    for key in sorted({*keys} - refused):
        content = with_value_of_its_own(task, key)
        if key in read:
            section, name = key.split(".")
            assert value_of(build_recipe(content), key) == content[section][name]
        else:
            with pytest.raises(ValueError, match=f"^the task {task} does not read {re.escape(key)} .*leave it out$"):
                build_recipe(content)


def test_a_key_that_is_not_read_names_the_tasks_that_read_it(tmp_path: Path) -> None:
    text = SMALL + "train: {momentum_queue: 64}\nanswers: {top: 9}\ntext: {frozen_layers: 0}\n"
    path = write(tmp_path, text)
    with pytest.raises(ValueError) as caught:
        read_recipe(path)
    assert str(caught.value) == (
        f"{path}: the task captioning does not read train.momentum_queue (read by pretraining "
        "with UpDownFusionForPreTraining, retrieval), answers.top (read by vqa): leave them out"
    )


@pytest.mark.parametrize(
    ("key", "more"),
    [
        ("architecture", "architecture: UpDownForImageCaption\n"),
        ("data.format", "data: {format: karpaty}\n"),
        ("train.objective", "train: {objective: mixed}\n"),
        ("evaluate.metric", "evaluate: {metric: cider_e}\n"),
    ],
)
def test_what_a_task_does_not_take_is_refused_with_what_it_takes(tmp_path: Path, key: str, more: str) -> None:
    spec = TASKS["captioning"]
    takes = {
        "architecture": spec.models,
        "data.format": tuple(spec.formats),
        "train.objective": spec.objectives,
        "evaluate.metric": spec.best_by,
    }
    small = SMALL if "data" not in more else "task: captioning\noutput: runs/x\n"
    with pytest.raises(ValueError, match=f"{key} is '.*'; the task captioning takes {', '.join(takes[key])}"):
        read_recipe(write(tmp_path, small + more))


def test_sections_of_other_tasks_in_the_recipe_of_an_old_run_say_nothing(tmp_path: Path) -> None:
    """A run's recipe held every section of every task, most of them as they are by default."""
    old = {name: dataclasses.asdict(kind()) for name, kind in all_sections().items()}
    old |= yaml.safe_load(SMALL) | {"train": {**old["train"], "objective": "cross_entropy", "epochs": 3}}
    old["evaluate"]["metric"] = "cider_d"
    path = write(tmp_path, yaml.safe_dump(old))
    assert read_recipe(path) == read_recipe(write(tmp_path, SMALL + "train: {epochs: 3}\n"))
    old["answers"]["top"] = 9
    with pytest.raises(ValueError, match=r"captioning does not read answers.top \(read by vqa\): leave it out"):
        read_recipe(write(tmp_path, yaml.safe_dump(old)))


def test_what_every_task_declares() -> None:
    for name, spec in TASKS.items():
        assert spec.name == name and set(spec.best_by) <= set(spec.metrics) and spec.models and spec.formats
        assert all(issubclass(getattr(modeling_updown, model), PreTrainedModel) for model in spec.models)
        sections = sections_of(Recipe)
        assert all(key in sections or key in section_keys(sections) for key in spec.reads)
    names: dict[str, str] = {}
    for spec in TASKS.values():  # a metric has one name, whatever the task
        assert all(names.setdefault(key, shown) == shown for key, shown in spec.metrics.items())


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_shipped_recipes_hold_nothing_that_says_nothing(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recipe = read_recipe(path)
    assert not TASKS[recipe.task].idle_keys(recipe)


@pytest.mark.parametrize(
    ("task", "objective"), [("captioning", "mixed"), ("vqa", "cross_entropy"), ("pretraining", "self_critical")]
)
def test_an_objective_of_another_task_is_refused(task: str, objective: Any) -> None:
    recipe = TASKS[task].recipe(task=task, output="x", data={"format": "scenes"})
    recipe.train.objective = objective
    with pytest.raises(ValueError, match=f"train.objective is '{objective}'; the task {task} takes "):
        build_task(recipe, new_accelerator())


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("train: {momentum: 0.5}", "train.momentum of the recipe says nothing, since train.optimizer is 'adamw'"),
        ("train: {optimizer: sgd, betas: [0.5, 0.6]}", "train.betas of the recipe says nothing"),
        ("train: {decay: 0.5, decay_steps: 3}", "train.decay, train.decay_steps of the recipe says nothing"),
        ("train: {samples_per_image: 9}", "it is read where that is 'self_critical'"),
        ("train: {objective: self_critical, label_smoothing: 0.1}", "train.label_smoothing of the recipe says"),
        ("init_from: x\nregions: {weights: w}", "regions.weights of the recipe says nothing, since init_from is 'x'"),
    ],
)
def test_a_key_that_another_makes_idle_is_a_warning(tmp_path: Path, more: str, sentence: str) -> None:
    with pytest.warns(UserWarning, match=re.escape(sentence)):
        build_task(read_recipe(write(tmp_path, SMALL + more)), new_accelerator())


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("train: {epoch: 3}", "; did you mean 'epochs'?"),
        ("train: {learningrate: 3}", "; did you mean 'learning_rate'?"),
        ("regoins: {}", "; did you mean 'regions'?"),
        ("epochs: 3", "; there is train.epochs"),
        ("train: {top: 3}", "; there is questions.top and answers.top"),
        ("train: {optimizer: adam_w}", "'sgd'; did you mean 'adamw'?"),
    ],
)
def test_a_misspelt_key_is_guessed(tmp_path: Path, more: str, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_recipe(write(tmp_path, SMALL + more))
    assert sentence in str(caught.value)


def test_a_misspelt_task_and_field_of_the_model_are_guessed() -> None:
    with pytest.raises(ValueError, match="unknown task 'captionning'; .*; did you mean 'captioning'?"):
        spec_of("captionning")
    with pytest.raises(ValueError, match="unknown key 'hiden_size' in model; did you mean 'hidden_size'?"):
        build_config(UpDownCaptioningConfig, {"hiden_size": 3}, section="model")
    with pytest.raises(ValueError, match="unknown key 'hiden_size' in model; did you mean 'hidden_size'?"):
        override_config(UpDownCaptioningConfig(), {"hiden_size": 3}, section="model")
    with pytest.raises(ValueError, match="unknown key 'image_men' in regions.processor; did you mean 'image_mean'?"):
        check_processor_fields({"image_men": [0, 0, 0]})


def test_a_home_folder_is_found_in_every_path_of_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = write(
        tmp_path,
        "task: vqa\noutput: ~/runs/x\ninit_from: ~/a/best\ndata_name: about ~5 images\n"
        "data: {format: folder, folder: {train: ~/train, val: [~/val, here/~]}}\n"
        "regions: {store: ~/store, weights: ~/w.safetensors}\nanswers: {file: ~/answers.json}\n",
    )
    recipe = read_recipe(path, ["train.word_vectors=~/glove.txt"])
    home = str(tmp_path)
    assert (recipe.output, recipe.init_from, recipe.data_name) == (
        f"{home}/runs/x",
        f"{home}/a/best",
        "about ~5 images",
    )
    assert recipe.data["folder"] == {"train": f"{home}/train", "val": [f"{home}/val", "here/~"]}
    assert (recipe.regions.store, recipe.regions.weights) == (f"{home}/store", f"{home}/w.safetensors")
    assert (recipe.answers.file, recipe.train.word_vectors) == (f"{home}/answers.json", f"{home}/glove.txt")


@pytest.mark.parametrize("value", ["", "~", "''", "' '"])
def test_an_empty_output_is_refused(tmp_path: Path, value: str) -> None:
    path = write(tmp_path, SMALL.replace("runs/x", value))
    with pytest.raises(ValueError, match="recipe.yaml: output is empty: name the run's folder, such as runs/"):
        read_recipe(path)


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, SMALL + "train:\n  epochs: 1\n  batch_size: 4\n  epochs: 2\n")
    with pytest.raises(ValueError, match="recipe.yaml is not valid YAML: the key 'epochs' stands twice .* in line"):
        read_recipe(path)


def test_a_recipe_says_what_differs_from_its_base(tmp_path: Path) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "first.yaml").write_text(
        "task: captioning\noutput: runs/first\ndata: {format: folder, folder: images}\n"
        "regions: {source: {backbone: test_vit, grid_size: 4}, flips: true}\ntrain: {epochs: 7, batch_size: 3}\n"
    )
    (folder / "second.yaml").write_text("base: first.yaml\noutput: runs/second\ntrain: {epochs: 2}\n")
    (tmp_path / "third.yaml").write_text("base: recipes/second.yaml\nregions: {source: null}\nseed: 5\n")
    first, second = read_recipe(folder / "first.yaml"), read_recipe(folder / "second.yaml")
    assert (second.output, second.train.epochs, second.train.batch_size) == ("runs/second", 2, 3)
    assert changed_keys(first.as_dict(), second.as_dict()) == ["output", "train.epochs"]
    third = read_recipe(tmp_path / "third.yaml", ["train.epochs=9"])
    assert (third.regions.source, third.regions.flips, third.train.epochs, third.seed) == ({}, True, 9, 5)
    shipped = tmp_path / "shipped.yaml"
    shipped.write_text("base: captioning/scenes\nseed: 3\n")
    assert changed_keys(read_recipe("captioning/scenes").as_dict(), read_recipe(shipped).as_dict()) == ["seed"]


def test_another_architecture_has_a_model_section_of_its_own(tmp_path: Path) -> None:
    own = "base: vqa/scenes_grid\narchitecture: UpDownFusionForVisualQuestionAnswering\n"
    path = tmp_path / "own.yaml"
    path.write_text(own + "model: {answer_dropout: 0.2}\ntrain: {min_word_count: , learning_rate: 1e-4}\n")
    base, recipe = read_recipe("vqa/scenes_grid"), read_recipe(path)
    assert base.model["hidden_size"] == 256 and recipe.model == {"answer_dropout": 0.2}
    assert base.train.min_word_count == 1 and recipe.train.min_word_count == 5  # the default
    assert recipe.train.batch_size == base.train.batch_size and recipe.regions == base.regions
    path.write_text(own)
    with pytest.raises(ValueError, match="does not read train.min_word_count .*vqa with UpDownForVisualQuestionAns"):
        read_recipe(path)


def test_what_a_recipe_takes_from_its_base_away(tmp_path: Path) -> None:
    (tmp_path / "first.yaml").write_text(
        "task: captioning\noutput: runs/first\ndata: {format: coco, annotations: {train: a, val: b}, images: c}\n"
        "regions: {source: {backbone: test_vit, grid_size: 4}}\ntrain: {epochs: 7}\n"
    )
    (tmp_path / "same.yaml").write_text(
        "base: first.yaml\ndata: {annotations: {val: d}, images: }\ntrain: {epochs: }\n"
    )
    same = read_recipe(tmp_path / "same.yaml")
    assert same.data == {"format": "coco", "annotations": {"train": "a", "val": "d"}}
    assert same.train.epochs == 10
    (tmp_path / "other.yaml").write_text(
        "base: first.yaml\ndata: {format: coco, annotations: {val: d, test: }}\nregions: {source: {grid_size: }}\n"
    )
    other = read_recipe(tmp_path / "other.yaml")
    assert other.data == {"format": "coco", "annotations": {"val": "d", "test": None}}
    assert other.regions.source == {"backbone": "test_vit"}


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("second.yaml", r"is its own base \(.*second\.yaml -> .*\): take the `base` out of one of them"),
        (
            "captionin/scenes",
            r"first\.yaml: its base captionin/scenes is not there.*; did you mean 'captioning/scenes'",
        ),
        ("[1]", r"base is \[1\], but must be the path or the name of a recipe"),
    ],
)
def test_a_base_that_is_none_is_named(tmp_path: Path, base: str, message: str) -> None:
    (tmp_path / "first.yaml").write_text(SMALL + f"base: {base}\n")
    (tmp_path / "second.yaml").write_text("base: first.yaml\n")
    with pytest.raises(ValueError, match=message):
        read_recipe(tmp_path / "first.yaml")
