"""Question answering by a prefix language model: it needs the image, its loss and answers are those by hand, sentences
of knowledge stand in its prompts, a captioner is a start, and mistakes end in one sentence."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modeling_updown.answer_prompts_updown import answer_ids
from tests.tiny import save_tiny_retrieval
from tests.training.tasks.test_fusion_vqa import prepared, sides_recipe, write_sides
from tests.training.tiny_run import new_accelerator, tiny_recipe, train_here
from training.evaluate import evaluate_recipe
from training.recipe import build_recipe, read_recipe
from training.recipe_sections import EvaluateRecipe, Recipe, RegionsRecipe, TextRecipe
from training.tasks import build_task
from training.tasks.vqa import question_rows
from training.tasks.vqa_recipe import AnswersRecipe

WRITES = "UpDownPrefixLMForVisualQuestionAnswering"
GPT = {"model_type": "gpt2", "n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": 64, "initializer_range": 0.1}
QUIET = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
FACTS = ["a dog is left of the cat", "birds fly on the right", "what is left is not right"]


def writing_recipe(folder: Path, *, name: str = "run", train: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    """A GPT-2 of two layers on the sides in a folder."""
    settings = {"objective": "cross_entropy", "max_words": 4, "epochs": 20, **(train or {})}
    recipe = sides_recipe(folder, name=name, train=settings, architecture=WRITES)
    recipe.model = {"text_config": {**GPT, **QUIET}, "initializer_range": 0.1}
    recipe.evaluate = EvaluateRecipe(
        metric="accuracy", batch_size=5, every_epochs=20, final_num_beams=1, length_penalty=0.0
    )
    for key, value in changes.items():
        setattr(recipe, key, value)
    return recipe


def knowing_recipe(folder: Path, **knowledge: Any) -> Recipe:
    """The same with `FACTS` and a tiny retrieval model."""
    if not (folder / "facts.txt").exists():
        (folder / "facts.txt").write_text("\n".join(FACTS))
        save_tiny_retrieval(folder / "retrieval")
    recipe = writing_recipe(folder, name="knowing")
    given = {"file": str(folder / "facts.txt"), "model": str(folder / "retrieval"), "sentences": 2, **knowledge}
    recipe.data = {**recipe.data, "knowledge": given}
    return recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    write_sides(folder)
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> tuple[Recipe, dict[str, float]]:
    """A run and its final figures."""
    recipe = writing_recipe(folder)
    return recipe, train_here(recipe)


def test_answers_are_learnt_and_need_the_image(folder: Path, trained: tuple) -> None:
    assert trained[1]["accuracy_x100"] > 80
    blind = train_here(writing_recipe(folder, name="blind", train={"withhold": "image", "epochs": 6}))
    assert blind["accuracy_x100"] < 45  # at best a third


def test_a_saved_model_is_scored_as_at_the_end_of_its_run_and_by_ranks(trained: tuple, tmp_path: Path) -> None:
    recipe, metrics = trained
    again = evaluate_recipe(Path(recipe.output) / "recipe.yaml", output=tmp_path / "scores")
    assert again["metrics"] == metrics and again["decoding"] == {"answers": "generate", "num_beams": 1}
    changes = ["evaluate.answers=rank"]
    ranked = evaluate_recipe(Path(recipe.output) / "recipe.yaml", changes=changes, output=tmp_path / "ranked")
    assert ranked["decoding"] == {"answers": "rank", "length_penalty": 0.0} and ranked["metrics"] == metrics
    both = [json.loads((tmp_path / name / "predictions.json").read_text()) for name in ("scores", "ranked")]
    for written, best in zip(*both, strict=True):
        assert written["answer"] == best["answer"] and written["score"] == pytest.approx(best["score"], abs=1e-5)
    generation = json.loads((Path(recipe.output) / "best" / "generation_config.json").read_text())
    assert generation["max_new_tokens"] == 5 and generation["suppress_tokens"] == [0, 1, 2]


def test_the_loss_is_that_of_each_answer_by_its_score(folder: Path) -> None:
    """Six of ten people say one thing and four another: all are learnt, or one is drawn."""
    recipe = writing_recipe(folder, answers=AnswersRecipe(min_count=1, scores="agree_of_three", learn="weigh"))
    task = prepared(recipe)
    model = task.model.eval()
    chosen = np.array([0, 3])
    task.targets.scores[task.targets.starts[task.groups[0][0]]] = 0.5
    inputs = task.inputs(chosen, epoch=0)
    total, count, _ = task.loss(model, inputs)
    expected, words = 0.0, 0.0
    for image, group in enumerate(task.groups[index] for index in chosen):
        for row in group.tolist():
            numbers, scores = task.targets[row]
            for number, share in zip(numbers, scores / scores.sum(), strict=True):
                (answer,) = answer_ids([task.vocabulary.answers[number]], task.processor.tokenizer, model.config)
                ids = torch.cat([task.token_ids[row], torch.tensor(answer)])[None]
                labels = ids.clone()
                labels[:, : -len(answer)] = -100
                regions = {name: inputs[name][image][None] for name in ("region_features", "region_boxes")}
                expected -= share * model(ids, labels=labels, **regions).label_log_probs.sum().item()
                words += share * len(answer)
    assert total.item() == pytest.approx(expected, rel=1e-5) and count.item() == pytest.approx(words)


def test_an_answer_is_drawn_by_its_score(folder: Path) -> None:
    task = prepared(writing_recipe(folder))
    task.targets = type(task.targets)(np.array([0, 2]), np.array([1, 2]), np.array([0.75, 0.25]), 3)
    drawn = [task.learnt_answers(0, epoch=epoch)[0][0] for epoch in range(400)]
    assert set(drawn) == {1, 2} and np.mean(np.array(drawn) == 1) == pytest.approx(0.75, abs=0.05)
    assert drawn[:20] == [task.learnt_answers(0, epoch=epoch)[0][0] for epoch in range(20)]


def test_sentences_of_knowledge_stand_in_the_prompts(folder: Path) -> None:
    task, plain = prepared(knowing_recipe(folder)), prepared(writing_recipe(folder))
    asked = task.trained.rows["question"][:]
    beside = task.facts.nearest(asked)
    texts = task.processor.tokenizer.batch_decode(task.token_ids, skip_special_tokens=True)
    for text, question, sentences in zip(texts, asked, beside, strict=True):
        assert text.strip() == f"knowledge: {' '.join(sentences)} question: {question} answer:"
    assert len({tuple(sentences) for sentences in beside}) > 1 and all(len(own) == 2 for own in beside)
    assert task.model.config.knowledge_sentences == 2 and plain.model.config.knowledge_sentences == 0
    inputs = task.inputs(np.arange(2), epoch=0)
    assert inputs["input_ids"].shape[1] > plain.inputs(np.arange(2), epoch=0)["input_ids"].shape[1]
    task.recipe.model["max_knowledge_words"] = task.model.config.max_knowledge_words = 3
    with pytest.warns(UserWarning, match=r"of 96 prompts are cut, in word pieces: 96 knowledge to 3"):
        task.encode_questions(task.trained)


def test_what_is_cut_or_lacks_is_said(folder: Path) -> None:
    with pytest.warns(UserWarning, match=r"answers are longer than 1 word pieces .train.max_words. and learnt without"):
        task = prepared(writing_recipe(folder, train={"max_words": 1}, text=TextRecipe(vocabulary_size=262)))
    assert max(map(len, task.answer_rows)) == 2 < max(map(len, task.encode_answers(task.vocabulary.answers)))
    task.model.config.knowledge_sentences = 2
    with pytest.warns(UserWarning, match="the model learnt with 2 sentences beside each question, and data.knowledge"):
        task.encode_questions(task.trained)


def test_a_fusion_model_reads_them_behind_the_question(folder: Path) -> None:
    recipe = sides_recipe(folder, name="fusion")
    recipe.data, recipe.train.max_words = knowing_recipe(folder).data, 40
    task = prepared(recipe)
    beside = task.facts.nearest(task.trained.rows["question"][:3])
    texts = task.processor.tokenizer.batch_decode(task.token_ids[:3], skip_special_tokens=True)
    asked = zip(task.trained.rows["question"][:3], beside, strict=True)
    assert [text.strip() for text in texts] == [" ".join((question, *own)) for question, own in asked]
    task.recipe.train.max_words = 4
    with pytest.warns(UserWarning, match="96 of 96 questions with their knowledge are longer than the 4 word pieces"):
        task.encode_questions(task.trained)


def test_a_captioner_is_a_start(folder: Path, tmp_path: Path) -> None:
    start = tiny_recipe(tmp_path, task="prefix_lm", regions=RegionsRecipe(store=str(folder / "store")))
    start.model = {"text_config": GPT}
    other: Any = build_task(start, new_accelerator())
    words = ["question: what is left answer: dog cat bird right"]
    other.save(other.build([words]), tmp_path / "start")
    recipe = writing_recipe(folder, init_from=str(tmp_path / "start"), model={})
    task = prepared(recipe)
    own, taken = other.model.state_dict(), task.model.state_dict()
    assert own.keys() == taken.keys() and all(torch.equal(own[name], taken[name]) for name in own)
    assert list(task.model.config.id2label.values()) == ["bird", "cat", "dog"] and len(
        task.inputs(np.arange(1), epoch=0)
    )
    other.save(other.build([["what is left dog bird"]]), tmp_path / "lacking")
    recipe.init_from = str(tmp_path / "lacking")
    with pytest.raises(ValueError, match="1 of 3 answers have words that the tokenizer does not know: cat"):
        prepared(recipe)


@pytest.mark.parametrize(
    ("changes", "cure"),
    [
        (["train.objective=binary_cross_entropy"], "the task vqa takes cross_entropy"),
        (["train.word_vectors=glove.txt"], "does not read train.word_vectors"),
        (["evaluate.answers=guess"], "answers is 'guess'; choose one of 'generate', 'rank'"),
        (["data.knowledge.file="], "must be a section with a file of sentences"),
        (["train.withhold=question"], "data.knowledge finds sentences by it .by: question., which would tell of it"),
        (["train.withhold=image", "data.knowledge.by=both"], "which would tell of it: leave data.knowledge out"),
        (
            ["architecture=UpDownForVisualQuestionAnswering", "model={}", "text={}", "train.objective="],
            "data.knowledge is given, but UpDownForVisualQuestionAnswering reads a question's few words alone",
        ),
    ],
)
def test_what_does_not_go_together_is_told(folder: Path, tmp_path: Path, changes: list[str], cure: str) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps(knowing_recipe(folder).as_dict()))
    if "architecture" in changes[0]:
        changes = [*changes, "train.max_words=20", "evaluate={}"]
    with pytest.raises(ValueError, match=cure):
        read_recipe(tmp_path / "recipe.json", changes)


def test_knowledge_is_no_option_of_the_questions_files(folder: Path) -> None:
    """A task without a model that reads it refuses it, where it is given by mistake."""
    with pytest.raises(ValueError, match="the VQA format 'table' does not take knowledge"):
        question_rows(knowing_recipe(folder).data, split="train")
    content = knowing_recipe(folder).as_dict()
    assert build_recipe(content).train.objective == "cross_entropy"
    recipe = knowing_recipe(folder, file=str(folder / "gone.txt"))
    with pytest.raises(ValueError, match="cannot read .*gone.txt"):
        prepared(recipe)
