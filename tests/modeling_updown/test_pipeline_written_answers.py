"""`pipeline("visual-question-answering")` with a model that writes: a batch is its members, choices and knowledge
count, a score is a likelihood."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import pipeline

from modeling_updown.answer_prompts_updown import answer_ids, left_padded, prompt_ids, right_padded
from modeling_updown.pipeline_written_answers import distinct

from .. import tiny

IMAGES = [tiny.tiny_image(seed) for seed in range(3)]
QUESTIONS = tiny.QUESTIONS[:3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_tiny_prefix_vqa(tmp_path_factory.mktemp("writes"), max_knowledge_words=12)


@pytest.fixture(scope="module")
def vqa(folder: Path) -> Any:
    return pipeline("visual-question-answering", model=str(folder), device="cpu")


def same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> bool:
    return [one["answer"] for one in found] == [one["answer"] for one in expected] and [
        one["score"] for one in found
    ] == pytest.approx([one["score"] for one in expected], rel=1e-4)


def test_a_batch_is_its_members(vqa: Any) -> None:
    alone = [vqa(image, question, top_k=2) for image, question in zip(IMAGES, QUESTIONS, strict=True)]
    together = vqa(IMAGES, QUESTIONS, top_k=2, batch_size=3)
    assert all(same(*pair) for pair in zip(together, alone, strict=True))
    assert len({answers[0]["answer"] for answers in alone}) > 1 and all(len(answers) == 2 for answers in alone)
    of_one = vqa(IMAGES[0], QUESTIONS, top_k=1)
    assert all(same(one, vqa(IMAGES[0], text, top_k=1)) for one, text in zip(of_one, QUESTIONS, strict=True))


def likelihood(vqa: Any, question: str, answer: str, knowledge: tuple[str, ...] = ()) -> float:
    """That of one answer to one question about the first image, by the model itself."""
    model, tokenizer = vqa.model, vqa.tokenizer
    prompts, _ = prompt_ids([question], tokenizer, model.config, knowledge=[knowledge])
    ids, _ = right_padded(answer_ids([answer], tokenizer, model.config), padding=0)
    pixels = vqa.image_processor(images=IMAGES[0], return_tensors="pt")["pixel_values"]
    words = left_padded(prompts, padding=0)
    with torch.no_grad():
        return model.score_answers(answer_ids=ids, pixel_values=pixels, **words).exp().item()


def test_choices_are_ranked_by_their_likelihood(vqa: Any) -> None:
    choices = ["a brown dog", "no", "2"]
    found = vqa(IMAGES[0], QUESTIONS[0], choices=choices)
    expected = {choice: likelihood(vqa, QUESTIONS[0], choice) for choice in choices}
    assert {one["answer"]: one["score"] for one in found} == pytest.approx(expected, rel=1e-4)
    assert [one["answer"] for one in found] == sorted(choices, key=expected.__getitem__, reverse=True)
    asked = {"image": IMAGES[0], "question": QUESTIONS[0]}
    rows = [{**asked, "choices": choices}, asked]
    assert same(vqa(rows)[0], found) and len(vqa(rows)[1]) == 5


def test_knowledge_stands_before_the_question(vqa: Any, caplog: pytest.LogCaptureFixture) -> None:
    facts = ["a dog is brown", "men ride"]
    plain, knowing = vqa(IMAGES[0], QUESTIONS[0]), vqa(IMAGES[0], QUESTIONS[0], knowledge=facts)
    assert not same(plain, knowing)
    (choice,) = vqa(IMAGES[0], QUESTIONS[0], choices=["brown"], knowledge=facts)
    assert choice["score"] == pytest.approx(likelihood(vqa, QUESTIONS[0], "brown", tuple(facts)), rel=1e-4)
    row = {"image": IMAGES[0], "question": QUESTIONS[0], "knowledge": facts}
    assert same(vqa(row), knowing) and same(vqa([row])[0], knowing)
    assert not caplog.records
    vqa([row, {**row, "knowledge": ["dog " * 30]}])
    (said,) = [record.getMessage() for record in caplog.records]
    assert "the knowledge beside 1 of 2 questions is longer than the 12 tokens that the model reads" in said


def test_regions_are_those_that_the_first_word_looked_at(vqa: Any) -> None:
    best = vqa(IMAGES[0], QUESTIONS[0], return_regions=True, top_k=1)[0]
    assert best["region_weights"].shape == (1, 9) and best["region_boxes"].shape == (9, 4)
    assert best["region_weights"].sum().item() == pytest.approx(1.0, abs=1e-5)
    other = vqa(IMAGES[1], QUESTIONS[0], return_regions=True, top_k=1)[0]
    assert not torch.allclose(best["region_weights"], other["region_weights"], atol=1e-3)


def test_each_text_is_given_once() -> None:
    found = distinct(["a dog", "a dog", "dog"], torch.tensor([-0.5, -1.0, -2.0]))
    assert found["answers"] == ["a dog", "dog"] and found["scores"].log().tolist() == pytest.approx([-0.5, -2.0])


def test_what_cannot_be_is_told(folder: Path, vqa: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match="this model writes its answers: leave answers out"):
        pipeline("visual-question-answering", model=str(folder), answers=["yes"])
    held = "holds an UpDownPrefixLMForVisualQuestionAnswering, whose outputs are not those of UpDownPrefixLMForImageCap"
    with pytest.raises(ValueError, match=held):
        pipeline("image-to-text", model=str(folder))
    captioner = tiny.save_tiny_prefix_lm(tmp_path / "captioner")
    with pytest.raises(ValueError, match="holds an UpDownPrefixLMForImageCaptioning, whose outputs are not those"):
        pipeline("visual-question-answering", model=str(captioner))
    for knowledge, cure in (
        ("a fact", "must be a list of sentences"),
        (["a", " "], "holds ' ', which is no sentence"),
        ([["a"]], r"holds \['a'\], .* stand in rows"),
    ):
        with pytest.raises(ValueError, match=f"knowledge {cure}"):
            vqa(IMAGES[0], QUESTIONS[0], knowledge=knowledge)
    few = pipeline("visual-question-answering", model=str(tiny.save_tiny_vqa(tmp_path / "vqa")), device="cpu")
    with pytest.raises(ValueError, match="has knowledge beside it, which UpDownForVisualQuestionAnswering"):
        few(IMAGES[0], QUESTIONS[0], knowledge=["a fact"])
    fusion = pipeline("visual-question-answering", model=str(tiny.save_tiny_fusion_vqa(tmp_path / "f")), device="cpu")
    assert not same(fusion(IMAGES[0], QUESTIONS[0]), fusion(IMAGES[0], QUESTIONS[0], knowledge=["a brown dog"]))
    caplog.clear()
    with caplog.at_level("WARNING"):
        fusion(IMAGES[0], "dog?", knowledge=["dog " * 58])
        assert not caplog.text
        fusion(IMAGES[0], "dog?", knowledge=["dog " * 70])
    assert "the question has 72 words with its knowledge, of which the model reads the first 62" in caplog.text
