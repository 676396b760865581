"""Models asked for names: scores of regions and true boxes by hand, names one by one, suppression within a name."""

import numpy as np
import pytest
import torch

from modeling_updown import UpDownImageProcessor
from tests.tiny import tiny_fusion_processor, tiny_grounding, tiny_pyramid_config, tiny_pyramid_detector
from training.probes.name_scores import ScoredImage, detector_scores, grounding_scores, name_columns
from training.regions.extract import image_of, undecoded
from training.scenes.boxes import read_scene_boxes
from training.tasks.detection import SCORED

LABELS = dict(enumerate(["background", "dog", "puppy", "cat", *(f"thing {i}" for i in range(9))]))
SIZE = {"shortest_edge": 64, "longest_edge": 96}


@pytest.fixture(scope="module")
def rows():
    return undecoded(read_scene_boxes(2, image_size=64, split="test").rows)


def test_names_stand_for_their_class_and_its_finer_names():
    assert name_columns(["dog", "cat", "wug"], LABELS) == [[1, 2], [3], []]


@torch.no_grad()
def test_a_detector_scores_names_by_likeness_and_by_class(rows):
    detector = tiny_pyramid_detector(phrase_embedding_size=6, id2label=LABELS)
    processor = UpDownImageProcessor(size=SIZE)
    names = torch.nn.functional.normalize(torch.randn(3, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    columns = name_columns(["dog", "cat", "wug"], LABELS)
    pairs = list(detector_scores(detector, processor, rows, name_embeds=names, columns=columns))
    assert len(pairs) == 2
    for row, (asked, classes) in zip(rows, pairs, strict=True):
        pixels = processor([image_of(row)], return_tensors="pt")
        output = detector(**pixels, **SCORED)
        likeness = (output.phrase_embeds[0] @ names.T / 0.07).softmax(dim=-1)
        assert asked.scores == pytest.approx((output.region_scores[0][:, None] * likeness).numpy(), abs=1e-5)
        probs = output.object_probs[0].numpy()
        wanted = np.stack([probs[:, 1] + probs[:, 2], probs[:, 3], 0 * probs[:, 0]], axis=1)
        assert classes.scores == pytest.approx(wanted, abs=1e-6)
        assert np.array_equal(asked.boxes[:, 0], output.pred_boxes[0].numpy()) and asked.boxes is classes.boxes
        true = detector(**pixels, boxes=[row["boxes"]])
        assert asked.of_true == pytest.approx((true.phrase_embeds[0] @ names.T).numpy(), abs=1e-5)
        assert classes.of_true[:, 0] == pytest.approx(true.object_probs[0, :, 1:3].sum(dim=1).numpy(), abs=1e-6)
        assert len(asked.of_true) == len(row["boxes"])


@torch.no_grad()
@pytest.mark.parametrize("loss", ["cross_entropy", "binary"])
def test_a_grounding_model_reads_each_name_by_itself(rows, loss):
    """Whatever names are read beside it, and in whatever portions."""
    model = tiny_grounding(vision_config=tiny_pyramid_config(), grounding_loss=loss).eval()
    processor = tiny_fusion_processor()
    texts = ["dog", "a brown dog", "grass"]
    whole = list(grounding_scores(model, processor, rows, texts=texts))
    small = list(grounding_scores(model, processor, rows, texts=texts, texts_at_a_time=2))
    for row, found, other in zip(rows, whole, small, strict=True):
        assert found.scores == pytest.approx(other.scores, abs=1e-5)
        pixels = processor.image_processor([image_of(row)], return_tensors="pt")
        outputs = [model(torch.tensor([processor.tokenizer(text)["input_ids"]]), **pixels) for text in texts]
        logits = torch.stack([output.logits[0, 0] for output in outputs], dim=1)  # (R, N)
        scores = logits.sigmoid() if loss == "binary" else logits.softmax(dim=0) * logits.softmax(dim=1)
        assert found.scores == pytest.approx(scores.numpy(), abs=1e-5)
        boxes = torch.stack([output.pred_boxes[0, 0] for output in outputs], dim=1)
        assert found.boxes == pytest.approx(boxes.numpy(), abs=1e-5)
        regions = model.region_source(**pixels, boxes=[row["boxes"]])
        true = model(torch.tensor([processor.tokenizer(texts[1])["input_ids"]]), **given(regions))
        assert found.of_true[:, 1] == pytest.approx(true.logits[0, 0].numpy(), abs=1e-4)
        assert found.of_true.shape == (len(row["boxes"]), 3)


def given(regions):
    return {name: regions[name] for name in ("region_features", "region_boxes", "region_mask")}


def test_detections_are_suppressed_within_a_name_and_names_may_change_places():
    near = [[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.52], [0.6, 0.6, 1, 1]]
    scores = np.array([[0.9, 0.2], [0.8, 0.3], [0.0005, 0.7]])
    image = ScoredImage(np.array(near)[:, None], scores, np.array([[1.0, 2.0]]))
    found = image.detections()
    assert found["object_ids"].tolist() == [1, 2, 2] and found["scores"].tolist() == [0.9, 0.7, 0.3]
    assert found["boxes"] == pytest.approx(np.array([near[0], near[2], near[1]]))
    other = image.renamed(np.array([1, 0]))
    assert other.detections()["object_ids"].tolist() == [2, 1, 1] and other.of_true.tolist() == [[2.0, 1.0]]
    own = ScoredImage(np.array([near[:2], near[1:], near[1:]]), scores, np.zeros((0, 2)))  # a box for each name
    assert own.detections()["boxes"][0] == pytest.approx(near[0])
    assert own.renamed(np.array([1, 0])).boxes[0, 1] == pytest.approx(near[0])
    nothing = ScoredImage(np.zeros((0, 1, 4)), np.zeros((0, 2)), np.zeros((0, 2))).detections()
    assert nothing["boxes"].shape == (0, 4) and len(nothing["scores"]) == 0
