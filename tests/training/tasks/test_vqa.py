"""The question answering task: its inputs and loss against slow twins, what is left out, and what its scores say."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.utils import set_seed
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import BertPreTokenizer
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from processors.answer_text_updown import normalize_answer, soft_scores
from tests.training.tiny_run import new_accelerator, tiny_vqa_recipe, train_here, write_questions
from training.recipe_sections import EvaluateRecipe, Recipe, RegionsRecipe
from training.scenes.draw import draw_scene
from training.tasks import build_task
from training.tasks.spec import Scored
from training.tasks.vqa import VqaTask, question_groups, question_rows
from training.tasks.vqa_recipe import AnswersRecipe

REGIONS = ("region_features", "region_boxes", "region_mask")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, questions and the region store of every task here that takes them as they are."""
    return tmp_path_factory.mktemp("vqa")


@pytest.fixture
def task(folder: Path) -> VqaTask:
    return built(tiny_vqa_recipe(folder))


def built(recipe: Recipe) -> VqaTask:
    """A recipe's task, ready to train; the same seed gives the same random backbone, so that a store serves many."""
    set_seed(recipe.seed)
    task: Any = build_task(recipe, new_accelerator())
    task.prepare()
    return task


def asking(folder: Path, rows: Sequence[dict[str, Any]], **changes: Any) -> Recipe:
    """A recipe on scenes `0.png` to `5.png` and a table of these questions on them; the split is train by default."""
    images = folder / "six"
    if not images.exists():
        images.mkdir(parents=True)
        for index in range(6):
            draw_scene(index, seed=9, image_size=32)[0].save(images / f"{index}.png")
    table = write_questions(folder / "questions.jsonl", rows)
    data = {"format": "table", "table": str(table), "images": str(images)}
    evaluate = EvaluateRecipe(metric="accuracy", split="train", final_split="train", batch_size=2)
    return tiny_vqa_recipe(folder, **{"data": data, "evaluate": evaluate, **changes})


def rows_on(
    images: Sequence[int], questions: Sequence[str], answers: Sequence[Any], **more: Any
) -> list[dict[str, Any]]:
    """One row a question; an answer is a text, or the list of what people said."""
    found = []
    for number, (image, question, said) in enumerate(zip(images, questions, answers, strict=True)):
        people = [said] if isinstance(said, str) else said
        row = {"question_id": f"q{number}", "image": f"{image}.png", "question": question, "answers": people}
        found.append({**row, "split": "train"} | {name: values[number] for name, values in more.items()})
    return found


def colours(**more: Any) -> list[dict[str, Any]]:
    """Two questions on each of the six scenes."""
    images = [image for image in range(6) for _ in range(2)]
    asked = ["What color is it?", "How many are there?"] * 6
    return rows_on(images, asked, [["red", "2", "blue", "3"][number % 4] for number in range(12)], **more)


# -- inputs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 2, 3, 50])
def test_groups_hold_every_question_once_and_one_image_each(most: int) -> None:
    image_of = np.random.default_rng(most).integers(0, 7, 40)
    groups = question_groups(image_of, most=most)
    assert sorted(np.concatenate(groups).tolist()) == list(range(40))
    assert [len(set(image_of[group])) for group in groups] == [1] * len(groups)
    for image in range(7):
        sizes = [len(group) for group in groups if image_of[group[0]] == image]
        assert all(size == most for size in sizes[:-1]) and 1 <= sizes[-1] <= most
        asked = np.concatenate([group for group in groups if image_of[group[0]] == image])
        assert asked.tolist() == np.flatnonzero(image_of == image).tolist()  # in the order of the rows


def test_inputs_hold_each_groups_questions_and_image(task: VqaTask) -> None:
    by_size = np.argsort([len(group) for group in task.groups], kind="stable")
    groups = by_size[[0, 1, -1, -6]]
    inputs = task.inputs(groups, epoch=0)
    questions = [task.groups[group] for group in groups]
    assert [len(group) for group in questions] == [1, 1, 2, 2]
    assert inputs["image_index"].tolist() == [place for place, group in enumerate(questions) for _ in group]
    store = task.images.stores[False]
    answers = task.vocabulary.answers
    for place, row in enumerate(np.concatenate(questions).tolist()):
        asked = task.trained.rows[row]
        spoken = inputs["input_ids"][place][inputs["attention_mask"][place]]
        assert task.processor.decode(spoken) == asked["question"].lower().removesuffix("?")
        scores = soft_scores([normalize_answer(answer) for answer in asked["answers"]])
        assert inputs["labels"][place].tolist() == pytest.approx([scores.get(answer, 0.0) for answer in answers])
        regions = store.batch([asked["image_id"]], dtype=torch.float32)
        image = int(inputs["image_index"][place])
        assert all(torch.equal(inputs[name][image], regions[name][0]) for name in REGIONS)
    assert inputs["region_features"].std() > 0.1 and inputs["labels"].max() == 1.0


def row_losses(task: VqaTask, row: int, image: int, inputs: dict[str, torch.Tensor]) -> float:
    """The loss of one question alone: every answer's binary cross-entropy, and the choice's cross-entropy."""
    alone = {name: inputs[name][image : image + 1] for name in REGIONS}
    asked = task.trained.rows[row]
    ids = task.processor.tokenizer(asked["question"], return_tensors="pt", add_special_tokens=False)["input_ids"]
    if task.choices and asked["choices"]:
        texts = [task.processor.tokenizer(text, add_special_tokens=False)["input_ids"] for text in asked["choices"]]
        padded = [[*text, *[0] * (max(map(len, texts)) - len(text))] for text in texts]
        alone["choice_input_ids"] = torch.tensor([padded])
    output = task.model(ids, **alone)
    targets = task.targets.dense([row])[0]
    probabilities = output.logits[0].sigmoid()
    loss = -(targets * probabilities.log() + (1 - targets) * (1 - probabilities).log()).sum()
    if task.choices and asked["correct_choice"] >= 0:
        loss = loss - output.choice_logits[0].log_softmax(dim=0)[asked["correct_choice"]]
    return loss.item()


@pytest.mark.parametrize("scores_choices", [False, True])
def test_the_loss_of_groups_is_the_sum_over_questions(folder: Path, tmp_path: Path, scores_choices: bool) -> None:
    choices = [[["red", "a dark blue", "2"], ["3", "red"], []][number % 3] for number in range(12)]
    rows = colours(choices=choices, correct_choice=[[2, 0, -1][number % 3] for number in range(12)])
    model = {"hidden_size": 24, "word_embedding_size": 16, "scores_choices": scores_choices}
    with pytest.warns(UserWarning, match="have no choices and can only be answered openly"):
        task = built(asking(tmp_path, rows, model=model))
    task.model.eval()
    inputs = task.inputs(np.arange(6), epoch=0)
    total, count, shown = task.loss(task.model, inputs)
    expected = [
        row_losses(task, row, image, inputs) for image, group in enumerate(task.groups) for row in group.tolist()
    ]
    assert count.item() == len(expected) == 12 and shown == {}
    assert total.item() == pytest.approx(sum(expected), rel=1e-5)
    assert ("correct_choice" in inputs) == scores_choices


def test_images_are_mirrored_by_seed_epoch_and_group_alone(folder: Path) -> None:
    recipe = tiny_vqa_recipe(folder)
    recipe.regions.flips = True
    task = built(recipe)
    group = next(number for number, rows in enumerate(task.groups) if not task.sided[rows].any())
    both = np.array([0, group, group + 1])
    for epoch in range(4):
        together, alone = task.inputs(both, epoch=epoch), task.inputs(np.array([group]), epoch=epoch)
        assert torch.equal(together["region_features"][1], alone["region_features"][0])
    seen = [task.inputs(np.array([group]), epoch=epoch)["region_features"][0] for epoch in range(16)]
    image_id = task.trained.rows[int(task.groups[group][0])]["image_id"]
    sides = [
        task.images.stores[side].batch([image_id], dtype=torch.float32)["region_features"][0] for side in (False, True)
    ]
    mirrored = [torch.equal(features, sides[1]) for features in seen]
    assert all(torch.equal(features, sides[int(side)]) for features, side in zip(seen, mirrored, strict=True))
    assert 3 < sum(mirrored) < 13 and not torch.equal(*sides)
    task.recipe.seed = 1
    others = [task.inputs(np.array([group]), epoch=epoch)["region_features"][0] for epoch in range(16)]
    assert [torch.equal(features, sides[1]) for features in others] != mirrored


def test_mirrored_images_never_meet_questions_of_left_and_right(tmp_path: Path) -> None:
    asked = ["What is LEFT of it?", "Is it copyrighted?", "Where is it?", "Which one?", "What color?", "The rightmost?"]
    rows = rows_on(range(6), asked, ["red", "no", "on the right", "this", "red", "red"])
    rows += [{**rows[4], "question_id": "more", "question": "Does the light shine?"}]
    rows[3] |= {"choices": ["this", "the left one"]}
    with pytest.warns(UserWarning, match="have no choices"):
        recipe = asking(tmp_path, rows)
        recipe.regions.flips = True
        task = built(recipe)
    assert task.sided.tolist() == [True, False, True, True, False, True, False]
    store, mirrored = task.images.stores[False], task.images.stores[True]
    seen = [task.inputs(np.arange(6), epoch=epoch)["region_features"] for epoch in range(9)]
    for place, group in enumerate(task.groups):
        image_id = [task.trained.rows[int(group[0])]["image_id"]]
        plain, other = (side.batch(image_id, dtype=torch.float32)["region_features"][0] for side in (store, mirrored))
        sides = {torch.equal(features[place], other) for features in seen}
        assert sides == ({False} if task.sided[group].any() else {False, True})
        assert all(torch.equal(features[place], plain) for features in seen) == bool(task.sided[group].any())


# -- what is left out ------------------------------------------------------------------------------------------------


def test_questions_on_unreadable_images_are_left_out_and_told(tmp_path: Path) -> None:
    recipe = asking(tmp_path, colours())
    (tmp_path / "six" / "1.png").write_text("no image")
    (tmp_path / "six" / "4.png").write_bytes((tmp_path / "six" / "0.png").read_bytes()[:60])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        task = built(recipe)
    told = {str(warning.message) for warning in caught if "left out" in str(warning.message)}
    assert told == {"4 questions are left out, since their 2 images have no regions: 1.png, 4.png"}
    kept = [f"q{number}" for number in (0, 1, 4, 5, 6, 7, 10, 11)]
    assert task.trained.rows["question_id"][:] == kept and task.num_rows == 4 and len(task.token_ids) == 8
    total, count, _ = task.loss(task.model, task.inputs(np.arange(4), epoch=0))
    assert count.item() == 8 and torch.isfinite(total)
    scored = task.score(task.model, split="train")
    assert [found["question_id"] for found in scored.predictions] == kept
    assert scored.metrics["accuracy"] in np.arange(9) / 8
    recipe.regions.store = ""
    with pytest.raises(ValueError, match="image '1.png' cannot be read .* or set regions.store, which lists such"):
        built(recipe).inputs(np.arange(6), epoch=0)


def test_no_readable_image_at_all_is_an_error(tmp_path: Path) -> None:
    recipe = asking(tmp_path, colours())
    for index in range(6):
        (tmp_path / "six" / f"{index}.png").write_text("no image")
    with pytest.raises(ValueError, match="store holds no image yet"):
        built(recipe)


def test_odd_questions_become_words(tmp_path: Path) -> None:
    asked = ["Is it red?", "\U0001f436\U0001f436", "zyx wvu?", "is " * 500, "is it red ?"]
    rows = rows_on([0, 1, 2, 3, 4], asked, ["yes"] * 5)
    recipe = asking(tmp_path, rows, train={"min_word_count": 2, "questions_per_image": 1})
    task = built(recipe)
    inputs = task.inputs(np.arange(5), epoch=0)
    lengths = inputs["attention_mask"].sum(dim=1).tolist()
    assert lengths[0] == lengths[4] and lengths[1] >= 1 and lengths[3] == 14
    unknown = task.processor.tokenizer.unk_token_id
    assert set(inputs["input_ids"][1][inputs["attention_mask"][1]].tolist()) == {unknown}
    assert [len(found["answer"]) > 0 for found in task.score(task.model, split="train").predictions] == [True] * 5


# -- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ("leave_one_out", [4 / 15, 8 / 15, 8 / 15]),  # of five: alone (0 + 4 x 1/3) / 5, two (2 x 1/3 + 3 x 2/3) / 5
        ("table", [0.3, 0.6, 0.6]),
        ("single", [0.0, 1.0, 0.0]),
        ("agree_of_three", [1 / 3, 2 / 3, 2 / 3]),
    ],
)
def test_targets_are_those_of_the_recipes_scores(tmp_path: Path, scores: Any, expected: list[float]) -> None:
    people = [["two", "3", "Three.", "4", "4"], ["2"], [], ["unheard of"] * 3]
    rows = rows_on(range(4), ["How many?"] * 4, people)
    (tmp_path / "answers.json").write_text(json.dumps(["red", "2", "3", "4"]))
    answers = AnswersRecipe(file=str(tmp_path / "answers.json"), scores=scores)
    task = built(asking(tmp_path, rows, answers=answers, train={"questions_per_image": 1}))
    labels = task.inputs(np.arange(4), epoch=0)["labels"]
    assert labels[0].tolist() == pytest.approx([0.0, *expected])
    assert labels[1].tolist() == [0.0, 1.0, 0.0, 0.0]
    assert not labels[2:].any()


def test_answers_come_from_the_rows_or_from_a_file(tmp_path: Path) -> None:
    said = ["Red.", "red", "RED", "two", "2", "garbage_bin", "garbage_bin", "blue"]
    rows = rows_on([0, 1, 2, 3, 4, 5, 0, 1], ["What?"] * 8, said)
    (tmp_path / "mine.json").write_text(json.dumps(["blue", "green", "red"]))
    for settings, expected in (
        ({"top": 2}, ["red", "2"]),
        ({"min_count": 2}, ["red", "2", "garbage bin"]),
        ({"min_count": 2, "spelling": "as_written"}, ["RED", "2", "garbage bin"]),
        ({"file": str(tmp_path / "mine.json")}, ["blue", "green", "red"]),
    ):
        task = built(asking(tmp_path, rows, answers=AnswersRecipe(**settings)))  # type: ignore[arg-type]
        assert task.vocabulary.answers == expected == list(task.model.config.id2label.values())
        assert task.model.config.num_answers == len(expected)
    for wrong in ({}, {"top": 2, "min_count": 2}):
        with pytest.raises(ValueError, match="give one of min_count .* and top"):
            built(asking(tmp_path, rows, answers=AnswersRecipe(**wrong)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no answer is seen 9 times; the commonest, 'red', is seen 3 times"):
        built(asking(tmp_path, rows, answers=AnswersRecipe(min_count=9)))


def test_a_new_model_starts_from_the_answers_frequencies(task: VqaTask) -> None:
    answers = [normalize_answer(answer) for answer in task.trained.rows["answer"]]
    expected = [(answers.count(answer) + 0.5) / (len(answers) + 1) for answer in task.vocabulary.answers]
    assert task.model.answers.bias.sigmoid().tolist() == pytest.approx(expected, rel=1e-5)


# -- word vectors ----------------------------------------------------------------------------------------------------


def embedding_of(task: VqaTask, word: str) -> torch.Tensor:
    return task.model.embed_tokens.weight[task.processor.tokenizer.convert_tokens_to_ids(word)].detach()


def test_words_start_from_a_glove_file(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)
    lines = [" ".join([word, *map(str, row)]) for word, row in zip(("what", "color", "<pad>"), vectors, strict=True)]
    (tmp_path / "glove.txt").write_text("\n".join(lines))
    plain = built(asking(tmp_path, colours()))
    task = built(asking(tmp_path, colours(), train={"word_vectors": str(tmp_path / "glove.txt")}))
    scaled = torch.from_numpy(0.3 / vectors[:2].std(ddof=1) * vectors[:2])  # to the size of new vectors
    torch.testing.assert_close(torch.stack([embedding_of(task, word) for word in ("what", "color")]), scaled)
    for word in ("many", "are", "<unk>"):
        assert torch.equal(embedding_of(task, word), embedding_of(plain, word)) and embedding_of(task, word).std() > 0.1
    assert not embedding_of(task, "<pad>").any()  # which the GRU may read, and which is never trained
    recipe = asking(tmp_path, colours(), train={"word_vectors": str(tmp_path / "glove.txt")}, model={"hidden_size": 24})
    with pytest.raises(ValueError, match="word_vectors are 16 wide: set model.word_embedding_size to that, not 300"):
        built(recipe)
    with pytest.raises(ValueError, match="there is no file .*nowhere.6B.300d.txt"):
        built(asking(tmp_path, colours(), train={"word_vectors": str(tmp_path / "nowhere.6B.300d.txt")}))


def test_words_start_from_a_tokenizers_model(tmp_path: Path) -> None:
    table = save_bert(tmp_path / "bert", ["[UNK]", "[PAD]", "<", ">", "pad", "un", "##k", "what", "col", "##or"])
    plain = built(asking(tmp_path, colours()))
    task = built(asking(tmp_path, colours(), train={"word_vectors": str(tmp_path / "bert")}))
    found = torch.stack([table[7], table[8:10].mean(dim=0)])  # "color" is two pieces
    scaled = 0.3 / found.std() * found
    torch.testing.assert_close(torch.stack([embedding_of(task, word) for word in ("what", "color")]), scaled)
    for word in ("many", "<unk>", "<pad>"):
        assert torch.equal(embedding_of(task, word), embedding_of(plain, word))


def save_bert(folder: Path, pieces: list[str]) -> torch.Tensor:
    """A tiny BERT of 16 numbers a piece with its tokenizer; returns its word embeddings (V, 16)."""
    tokenizer = Tokenizer(WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = BertPreTokenizer()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]").save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 16}
    model = BertModel(BertConfig(vocab_size=len(pieces), **sizes))
    model.save_pretrained(folder)
    return model.embeddings.word_embeddings.weight.detach()


# -- withheld inputs -------------------------------------------------------------------------------------------------


def logits_of(task: VqaTask, groups: np.ndarray) -> torch.Tensor:
    inputs = task.inputs(groups, epoch=0)
    inputs.pop("labels")
    with torch.no_grad():
        return task.model.eval()(**inputs).logits


def test_without_the_image_answers_depend_on_the_question_alone(tmp_path: Path) -> None:
    seen, blind = (built(asking(tmp_path, colours(), train={"withhold": withheld})) for withheld in ("", "image"))
    inputs = blind.inputs(np.arange(6), epoch=0)
    assert inputs["region_features"].shape == (6, 1, 64) and (inputs["region_features"] == 1).all()
    assert inputs["region_boxes"].unique(dim=0).tolist() == [[[0.0, 0.0, 1.0, 1.0]]]
    for task, differs in ((seen, True), (blind, False)):
        rows = logits_of(task, np.arange(6)).unflatten(0, (6, 2))  # (image, question, answer)
        assert bool((rows - rows[:1]).abs().max() > 1e-4) == differs
        assert (rows[:, 0] - rows[:, 1]).abs().max() > 1e-4
        found = task.score(task.model, split="train").predictions
        scores = [{round(row["score"], 6) for row in found[place::2]} for place in (0, 1)]
        assert [len(distinct) > 1 for distinct in scores] == [differs] * 2
    assert blind.figures(task.score(task.model, split="train"))["withheld"] == "image"


def test_without_the_question_answers_depend_on_the_image_alone(tmp_path: Path) -> None:
    task = built(asking(tmp_path, colours(), train={"withhold": "question"}))
    inputs = task.inputs(np.arange(6), epoch=0)
    assert inputs["input_ids"].tolist() == [[task.processor.tokenizer.unk_token_id]] * 12
    rows = logits_of(task, np.arange(6)).unflatten(0, (6, 2))
    torch.testing.assert_close(rows[:, 0], rows[:, 1])
    assert (rows - rows[:1]).abs().max() > 1e-4
    found = task.score(task.model, split="train").predictions
    assert all(found[i]["answer"] == found[i + 1]["answer"] for i in range(0, 12, 2))
    assert "withheld" not in built(asking(tmp_path, colours())).figures(task.score(task.model, split="train"))


# -- scores ----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def spread_answers(task: VqaTask) -> None:
    """Make a new model's answers differ between questions and images."""
    task.model.answers.weight.mul_(50)
    task.model.answers.bias.zero_()


def test_scores_are_those_of_each_question_alone(task: VqaTask) -> None:
    spread_answers(task)
    scored = task.score(task.model, split="train")
    rows = task.evaluation_rows("train")
    store = task.images.stores[False]
    assert [found["question_id"] for found in scored.predictions] == rows["question_id"][:] and len(rows) == 92
    right = []
    for row, found in zip(rows, scored.predictions, strict=True):
        ids = task.processor.tokenizer(row["question"], return_tensors="pt")["input_ids"]
        regions = {name: store.batch([row["image_id"]], dtype=torch.float32)[name] for name in REGIONS}
        with torch.no_grad():
            probabilities = task.model(ids, **regions).logits[0].sigmoid()
        assert found["answer"] == task.vocabulary.answers[int(probabilities.argmax())]
        assert found["score"] == pytest.approx(probabilities.max().item(), abs=1e-6)
        agreeing = [normalize_answer(answer) for answer in row["answers"]].count(found["answer"])
        right.append(sum(min(agreeing - (i < agreeing), 3) / 3 for i in range(10)) / 10)
        assert found["accuracy"] == pytest.approx(right[-1])
    assert scored.metrics["accuracy"] == pytest.approx(sum(right) / 92) and 0 < sum(right) / 92 < 1
    assert len({found["answer"] for found in scored.predictions}) > 2
    kinds = {name: figures["questions"] for name, figures in scored.domains.items()}
    assert kinds["answers: number"] == kinds["questions: How"] == kinds["answers: yes/no"] == 24


def test_a_saved_model_gives_the_same_answers(folder: Path, tmp_path: Path) -> None:
    task = built(tiny_vqa_recipe(folder, answers=AnswersRecipe(top=14)))  # "10" comes after "9", not after "1"
    spread_answers(task)
    before = task.score(task.model, split="val")
    task.save(task.model, tmp_path)
    again: Any = build_task(tiny_vqa_recipe(folder), new_accelerator())
    model, _ = again.load(tmp_path)
    assert again.vocabulary.answers == task.vocabulary.answers and len(task.vocabulary) == 14
    assert again.score(model, split="val").predictions == before.predictions


def test_a_score_of_the_first_images_only(task: VqaTask) -> None:
    every = task.score(task.model, split="val").predictions
    few = task.score(task.model, split="val", max_images=3).predictions
    images = task.evaluation_rows("val")["image_id"][:]
    assert few == [found for found, image in zip(every, images, strict=True) if image in ("val-0", "val-1", "val-2")]
    assert 0 < len(few) < len(every)


def test_hidden_answers_are_asked_but_not_scored(tmp_path: Path) -> None:
    rows = colours() + [{**row, "question_id": f"t{i}", "split": "test"} for i, row in enumerate(colours())]
    for row in rows[12:]:
        row["answers"] = []
    recipe = asking(tmp_path, rows)
    recipe.evaluate.final_split = "test"
    task = built(recipe)
    scored = task.score(task.model, split="test")
    assert scored.metrics == {} and len(scored.predictions) == 12
    assert set(scored.predictions[0]) == {"question_id", "answer", "score"}
    figures = task.figures(scored)
    assert figures["metrics"] == {} and "its organisers score them" in figures["not_computed"]["accuracy"]
    recipe.evaluate.split = "test"
    with pytest.raises(ValueError, match="evaluate.split is 'test', of whose questions none has an answer that is not"):
        built(recipe)
    recipe.evaluate.split, recipe.train.split = "train", "test"
    with pytest.raises(ValueError, match="none of the 12 questions has an answer; test files hide them"):
        built(recipe)
    (tmp_path / "answers.json").write_text(json.dumps(["red", "2"]))
    recipe.answers = AnswersRecipe(file=str(tmp_path / "answers.json"))
    with pytest.raises(ValueError, match="none of the 12 questions of train.split 'test' has an answer that the model"):
        built(recipe)


# -- multiple choice -------------------------------------------------------------------------------------------------


def chosen_rows() -> list[dict[str, Any]]:
    """Of two to four choices, red is the right one wherever it stands; two questions are open."""
    lists = [["blue", "red"], ["red", "dark green", "2"], ["a big one", "blue", "3", "red"]] * 4
    lists[5], lists[11] = [], []
    correct = [texts.index("red") if texts else -1 for texts in lists]
    images = [image for image in range(6) for _ in range(2)]
    answers = ["red" if texts else "2" for texts in lists]
    return rows_on(images, ["Which?", "What is it?"] * 6, answers, choices=lists, correct_choice=correct)


@pytest.mark.filterwarnings("ignore:.*have no choices")
def test_given_answers_are_chosen_by_a_head_of_their_own(tmp_path: Path) -> None:
    model = {"hidden_size": 24, "word_embedding_size": 16, "scores_choices": True}
    recipe = asking(tmp_path, chosen_rows(), model=model, train={"epochs": 8, "learning_rate": 2e-2})
    recipe.evaluate.metric = "multiple_choice"
    task = built(recipe)
    before = task.score(task.model, split="train")
    inputs = task.inputs(np.arange(6), epoch=0)
    assert inputs["choice_mask"].sum(dim=1).tolist() == [2, 3, 4, 2, 3, 1, 2, 3, 4, 2, 3, 1]
    assert inputs["correct_choice"].tolist() == [1, 0, 3, 1, 0, -100, 1, 0, 3, 1, 0, -100]
    spoken = task.processor.batch_decode(inputs["choice_input_ids"][2], skip_special_tokens=True)
    assert spoken == ["a big one", "blue", "3", "red"]
    with torch.no_grad():
        together = task.model(**inputs).choice_logits
    for row, (found, asked) in enumerate(zip(before.predictions, task.trained.rows, strict=True)):
        texts = asked["choices"]
        assert found.get("choice") == (texts[int(together[row, : len(texts)].argmax())] if texts else None)
    right = sum(found.get("choice") == "red" for found in before.predictions) / 10
    assert before.metrics["multiple_choice"] == right < 1
    figures = train_here(recipe)
    assert figures["multiple_choice_x100"] == 100.0
    saved = json.loads((tmp_path / "run" / "best" / "predictions.json").read_text())
    assert [found.get("choice", "none") for found in saved] == [
        "red" if row["choices"] else "none" for row in chosen_rows()
    ]


@pytest.mark.filterwarnings("ignore:.*have no choices")
def test_given_answers_are_chosen_by_the_vocabulary(tmp_path: Path) -> None:
    rows = chosen_rows()
    rows[0] |= {"choices": ["a purple cow", "blue", "Two."], "correct_choice": 0}
    rows[1] |= {"choices": ["a purple cow", "an elephant"], "correct_choice": 0}
    (tmp_path / "answers.json").write_text(json.dumps(["blue", "2", "red", "3"]))
    task = built(asking(tmp_path, rows, answers=AnswersRecipe(file=str(tmp_path / "answers.json"))))
    with torch.no_grad():
        task.model.answers.weight.zero_()
        task.model.answers.bias.copy_(torch.tensor([-1.0, 0.5, 0.0, 2.0]))
    scored = task.score(task.model, split="train")
    expected = ["Two.", "a purple cow", "3", "red", "2", None, "red", "2", "3", "red", "2", None]
    assert [found.get("choice") for found in scored.predictions] == expected
    assert {found["answer"] for found in scored.predictions} == {"3"}
    assert scored.metrics["multiple_choice"] == 4 / 10
    plain = asking(tmp_path / "plain", colours())
    plain.evaluate.metric = "multiple_choice"
    with pytest.raises(ValueError, match="of whose questions none has a choice that is known to be right"):
        built(plain)


# -- saved models ----------------------------------------------------------------------------------------------------


def test_a_saved_model_is_tuned_with_its_own_words_and_answers(folder: Path, tmp_path: Path) -> None:
    first = built(tiny_vqa_recipe(folder))
    first.save(first.model, tmp_path / "saved")
    changes: dict[str, Any] = {"init_from": str(tmp_path / "saved"), "answers": AnswersRecipe()}
    recipe = asking(tmp_path, colours(), **changes, model={"answer_dropout": 0.5, "hidden_size": 24})
    recipe.regions.source = {}
    task = built(recipe)
    assert task.model.config.answer_dropout == 0.5 and task.vocabulary.answers == first.vocabulary.answers
    assert torch.equal(task.model.answers.weight, first.model.answers.weight)
    labels = task.inputs(np.arange(6), epoch=0)["labels"]
    known = [task.vocabulary.id_of(row["answers"][0]) is not None for row in colours()]
    assert (labels.sum(dim=1) > 0).tolist() == known and True in known and False in known
    for field, value in (("hidden_size", 99), ("num_glimpses", 2), ("scores_choices", True), ("box_embedding", True)):
        recipe.model = {field: value}
        with pytest.raises(ValueError, match=f"{field} is {value}, but the model of init_from has .*: leave it out"):
            built(recipe)


def test_the_splits_of_train_and_val_may_lie_in_different_files(tmp_path: Path) -> None:
    recipe = asking(tmp_path, colours())
    second = tmp_path / "two"
    second.mkdir()
    write_questions(second / "questions.jsonl", [{**row, "split": "val"} for row in colours()[:3]])
    recipe.data = {"format": "folder", "folder": {"train": str(tmp_path), "val": str(second)}}
    recipe.data["images"] = str(tmp_path / "six")
    recipe.train.split, recipe.evaluate.split, recipe.evaluate.final_split = "train+val", "val", "train"
    task = built(recipe)
    assert len(task.trained) == 15 and len(task.evaluation_rows("val")) == 3


def test_regions_made_elsewhere_need_no_images(tmp_path: Path) -> None:
    recipe = asking(tmp_path, colours())
    first = built(recipe)
    recipe.regions = RegionsRecipe(store=recipe.regions.store)
    recipe.data["images"] = None
    task = built(recipe)
    assert task.model.region_source is None and task.model.config.region_feature_size == 64
    assert torch.equal(
        task.inputs(np.arange(6), epoch=0)["region_features"], first.inputs(np.arange(6), epoch=0)["region_features"]
    )
    assert len(task.score(task.model, split="train").predictions) == 12


# -- upload files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "expected"),
    [
        ("lxmert_vqa", [{"question_id": 7, "answer": "red"}, {"question_id": 8, "answer": "2"}]),
        ("gqa", [{"questionId": "7", "prediction": "red"}, {"questionId": "8", "prediction": "2"}]),
        ("aokvqa", {"7": {"multiple_choice": "a cat", "direct_answer": "red"}, "8": {"direct_answer": "2"}}),
        (
            "visual7w",
            [{"qa_id": 7, "candidates": [{"answer": "a cat"}]}, {"qa_id": 8, "candidates": [{"answer": "2"}]}],
        ),
    ],
)
def test_answers_are_written_as_each_organiser_takes_them(tmp_path: Path, format: str, expected: Any) -> None:
    recipe = tiny_vqa_recipe(tmp_path, data={"format": format})
    task: Any = build_task(recipe, new_accelerator())
    predictions = [{"question_id": "7", "answer": "red", "choice": "a cat"}, {"question_id": "8", "answer": "2"}]
    task.write_submission(Scored({}, predictions, {}), tmp_path / "upload.json", split="test")
    assert json.loads((tmp_path / "upload.json").read_text()) == expected
    recipe.data["format"] = "daquar"
    with pytest.raises(ValueError, match="nobody takes answers to 'daquar'; there are vqa_v2"):
        task.write_submission(Scored({}, predictions, {}), tmp_path / "upload.json", split="test")


def test_questions_are_read_without_their_images(tmp_path: Path) -> None:
    recipe = asking(tmp_path, colours())
    part = {**recipe.data, "images": "nowhere"}
    for data in (part, {"format": "mixture", "parts": [part], "images": "nowhere"}):
        rows = question_rows(data, split="train", images=False)
        assert len(rows) == 12 and rows[0]["image"] is None
        with pytest.raises(ValueError, match="there is no image folder nowhere"):
            question_rows(data, split="train")
