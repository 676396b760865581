"""Scores of texts and images are those of the model, one by one, of retrieval and entailment models."""

from pathlib import Path

import numpy as np
import pytest
import torch

from modeling_updown import UpDownFusionForImageTextRetrieval, UpDownFusionForVisualEntailment
from tests import tiny
from training.probes.pair_scorers import THRESHOLDS, MatchScorer, true_class


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "0.png"
    tiny.tiny_image(2).save(path)
    return path


def alone(text: str) -> dict:
    return tiny.tiny_fusion_processor()(images=tiny.tiny_image(2), text=[text], return_tensors="pt")


@torch.no_grad()
def test_a_retrieval_model_compares_and_matches(image: Path, tmp_path: Path) -> None:
    scorer = MatchScorer(str(tiny.save_tiny_retrieval(tmp_path)), batch_size=3)
    model = UpDownFusionForImageTextRetrieval.from_pretrained(tmp_path).eval()
    scorer.read(tiny.CAPTIONS)
    found = scorer.scores(np.array([3, 0, 1, 0]), scorer.regions(str(image)))
    assert scorer.names == ["itc", "match"] == list(found) and THRESHOLDS["match"] == 0
    for place, number in enumerate((3, 0, 1, 0)):
        given = alone(tiny.CAPTIONS[number])
        output = model(**given)
        assert found["itc"][place] == pytest.approx(float(output.image_embeds[0] @ output.text_embeds[0]), abs=1e-4)
        assert found["match"][place] == pytest.approx(float(model.match(**given)[0]), abs=1e-3)


@pytest.mark.parametrize("problem", ["single_label_classification", "multi_label_classification"])
@torch.no_grad()
def test_an_entailment_model_judges(problem: str, image: Path, tmp_path: Path) -> None:
    """The log-odds of the class of what holds."""
    labels = {0: "neutral", 1: "Entailment", 2: "contradiction"}
    folder = tiny.save_tiny_entailment(tmp_path, id2label=labels, problem_type=problem)
    scorer, model = MatchScorer(str(folder), batch_size=3), UpDownFusionForVisualEntailment.from_pretrained(folder)
    scorer.read(tiny.CAPTIONS)
    found = scorer.scores(np.arange(4), scorer.regions(str(image)))
    assert list(found) == ["entailment"]
    for text, score in zip(tiny.CAPTIONS, found["entailment"], strict=True):
        logits = model.eval()(**alone(text)).logits[0]
        chance = (logits.softmax(dim=0) if problem.startswith("single") else logits.sigmoid())[1].item()
        assert score == pytest.approx(np.log(chance / (1 - chance)), abs=1e-4)


def test_without_an_image_the_words_alone_decide(tmp_path: Path) -> None:
    scorer = MatchScorer(str(tiny.save_tiny_retrieval(tmp_path)))
    scorer.read(tiny.CAPTIONS)
    regions = scorer.no_regions()
    assert regions["region_features"].shape == (1, 1, 96) and regions["region_boxes"].tolist() == [[[0, 0, 1, 1]]]
    first, again = (scorer.scores(np.arange(4), regions) for _ in range(2))
    assert first["itc"].tolist() == again["itc"].tolist() and len(set(first["match"].tolist())) == 4


def test_models_that_score_no_texts_are_refused(tmp_path: Path) -> None:
    blind = tiny.save_tiny_retrieval(tmp_path / "blind", vision_config=None, region_feature_size=96)
    with pytest.raises(ValueError, match="has no region source, so it takes no images"):
        MatchScorer(str(blind))
    with pytest.raises(ValueError, match="has learnt neither to compare .ITC. nor to match"):
        MatchScorer(str(tiny.save_tiny_retrieval(tmp_path / "mlm", objectives={"mlm": 1.0})))
    with pytest.raises(ValueError, match="UpDownFusionForImageTextRetrieval .* is wanted"):
        MatchScorer(str(tiny.save_tiny_captioner(tmp_path / "captioner")))
    with pytest.raises(ValueError, match="the classes yes_, no have none that is called entailment or true or yes"):
        true_class({0: "yes_", 1: "no"})
    alone_itc = MatchScorer(str(tiny.save_tiny_retrieval(tmp_path / "itc", objectives={"itc": 1.0})))
    assert alone_itc.names == ["itc"]
