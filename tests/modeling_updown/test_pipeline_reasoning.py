"""`pipeline("visual-entailment")` and `pipeline("visual-reasoning")`: scores are the model's, mistakes named."""

import pytest
import torch
from transformers import pipeline

from modeling_updown import UpDownFusionForVisualEntailment, UpDownVisualReasoningPipeline

from ..tiny import (
    save_tiny_entailment,
    save_tiny_fusion_vqa,
    save_tiny_pairs,
    tiny_entailment,
    tiny_fusion_processor,
    tiny_grid,
    tiny_image,
    tiny_pairs,
)

TEXTS = ["a brown dog runs", "two men ride a wave on the ocean"]


@pytest.fixture(scope="module")
def entails(tmp_path_factory) -> UpDownVisualReasoningPipeline:
    folder = save_tiny_entailment(tmp_path_factory.mktemp("entailer"))
    return pipeline("visual-entailment", model=str(folder), device="cpu")


@pytest.fixture(scope="module")
def holds(tmp_path_factory) -> UpDownVisualReasoningPipeline:
    folder = save_tiny_pairs(tmp_path_factory.mktemp("pairs"))
    return pipeline("visual-reasoning", model=str(folder), device="cpu")


@torch.no_grad()
def test_scores_are_those_of_the_model(entails):
    """Of each statement by itself, in the layout of zero-shot-classification."""
    assert type(entails) is UpDownVisualReasoningPipeline
    found = entails(tiny_image(2), TEXTS)
    for text, one in zip(TEXTS, found, strict=True):
        given = tiny_fusion_processor()(images=tiny_image(2), text=[text], return_tensors="pt")
        chances = tiny_entailment()(**given).logits[0].softmax(dim=-1)
        order = chances.argsort(descending=True)
        names = ["entailment", "neutral", "contradiction"]
        assert one["sequence"] == text and one["labels"] == [names[place] for place in order]
        assert one["scores"] == pytest.approx(chances[order].tolist(), abs=1e-5)
        assert entails(tiny_image(2), text)["scores"] == pytest.approx(one["scores"], abs=1e-5)
    rows = entails([{"image": tiny_image(2), "text": TEXTS[0]}, {"image": tiny_image(1), "text": TEXTS}])
    assert rows[0]["labels"] == found[0]["labels"] and len(rows[1]) == 2


@torch.no_grad()
def test_a_statement_about_two_images(holds):
    """In their order, left and right."""
    images = [tiny_image(0), tiny_image(3)]
    found = holds(images, TEXTS)
    given = tiny_fusion_processor()(images=images, text=TEXTS, padding=True, return_tensors="pt")
    chances = tiny_pairs()(**given, image_index=torch.tensor([[0, 1], [0, 1]])).logits.softmax(dim=-1)
    for one, expected in zip(found, chances, strict=True):
        assert dict(zip(one["labels"], one["scores"], strict=True)) == pytest.approx(
            {"false": expected[0].item(), "true": expected[1].item()}, abs=1e-5
        )
    assert holds(images[::-1], TEXTS[0])["scores"] != pytest.approx(found[0]["scores"], abs=1e-6)


def test_classes_that_are_learnt_each_by_itself_have_scores_of_their_own(tmp_path):
    folder = save_tiny_entailment(tmp_path / "saved", problem_type="multi_label_classification")
    scores = pipeline("visual-entailment", model=str(folder), device="cpu")(tiny_image(), TEXTS[0])["scores"]
    assert abs(sum(scores) - 1) > 1e-3 and all(0 < score < 1 for score in scores)


def test_a_region_source_may_be_given(tmp_path):
    """To a model that owns none, such as a converted one."""
    folder = save_tiny_entailment(tmp_path / "saved", vision_config=None, region_feature_size=96)
    with pytest.raises(ValueError, match="has no detector of its own: give the pipeline region_source="):
        pipeline("visual-entailment", model=str(folder))
    entails = pipeline("visual-entailment", model=str(folder), region_source=tiny_grid(), device="cpu")
    assert len(entails(tiny_image(), TEXTS[0])["labels"]) == 3


def test_answers_and_classes_of_statements_are_not_taken_for_each_other(tmp_path):
    """Their weights fit each other's class; a start from other heads, handed over as a model, is the caller's own."""
    names = ("UpDownFusionForVisualQuestionAnswering", "UpDownFusionForVisualEntailment")
    answering, judging = save_tiny_fusion_vqa(tmp_path / "vqa"), save_tiny_entailment(tmp_path / "entailment")
    for task, folder, held, wanted in (
        ("visual-entailment", answering, names[0], names[1]),
        ("visual-question-answering", judging, names[1], names[0]),
    ):
        with pytest.raises(ValueError, match=f"holds an {held}, whose outputs are not those of {wanted}: load it for"):
            pipeline(task, model=str(folder))
    with pytest.raises(ValueError, match="lacks .* of UpDownFusionForVisualEntailment"):
        pipeline("visual-entailment", model=str(save_tiny_pairs(tmp_path / "pairs")))
    classes = {0: "no", 1: "perhaps", 2: "yes"}
    begun = UpDownFusionForVisualEntailment.from_pretrained(answering, id2label=classes, ignore_mismatched_sizes=True)
    judge = pipeline("visual-entailment", model=begun, processor=tiny_fusion_processor(), device="cpu")
    assert sorted(judge(tiny_image(), TEXTS[0])["labels"]) == ["no", "perhaps", "yes"]
    with pytest.raises(ValueError, match="UpDownGrid does not do visual-entailment"):
        pipeline("visual-entailment", model=tiny_grid(), processor=tiny_fusion_processor())


def test_mistakes_are_named(entails, holds, caplog):
    with pytest.raises(TypeError, match="there is nothing to judge"):
        entails(tiny_image())
    with pytest.raises(TypeError, match="row 0 is no row"):
        entails([tiny_image()])
    with pytest.raises(ValueError, match="a statement is empty"):
        entails(tiny_image(), ["a dog", " "])
    with pytest.raises(ValueError, match="1 images are given, but this UpDownFusionForImagePairs reads 2 together"):
        holds(tiny_image(), TEXTS)
    with pytest.raises(TypeError, match="visual-entailment has no argument threshold"):
        entails(tiny_image(), TEXTS, threshold=0.1)
    with caplog.at_level("WARNING"):
        entails(tiny_image(), " ".join(["dog"] * 90))
    assert "a statement has 92 tokens; the model reads 64: the rest is cut" in caplog.text
