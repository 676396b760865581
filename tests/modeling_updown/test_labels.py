"""Other labels than a model was saved with: as many outputs, now and after saving, as a BERT has that gets them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, BertConfig, BertForSequenceClassification

from modeling_updown import UpDownDetector, UpDownDetectorConfig, UpDownFusionConfig, UpDownVqaConfig
from tests.tiny import (
    noise_image,
    tiny_detector,
    tiny_detector_config,
    tiny_encoder_config,
    tiny_fusion_vqa,
    tiny_pyramid_detector,
    tiny_vqa,
    tiny_vqa_config,
)

TWO = {0: "yes", 1: "no"}
WAYS: dict[str, tuple[dict[str, Any], dict[int, str]]] = {
    "both": ({"id2label": TWO, "label2id": {"yes": 0, "no": 1}}, TWO),
    "id2label": ({"id2label": {"0": "yes", "1": "no"}}, TWO),
    "label2id": ({"label2id": {"yes": 0, "no": 1}}, TWO),
    "num_labels": ({"num_labels": 2}, {}),
    "num_answers": ({"num_answers": 2}, {}),
}


def reloaded(model: Any, folder: Path, **changes: Any) -> Any:
    """A saved model with other fields, saved and loaded again as it is."""
    model.save_pretrained(folder / "saved")
    changed = type(model).from_pretrained(folder / "saved", ignore_mismatched_sizes=True, **changes)
    changed.save_pretrained(folder / "again")
    again, info = type(model).from_pretrained(folder / "again", output_loading_info=True)
    assert not any(info.values())
    for name, tensor in changed.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
    return again


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", [tiny_vqa, tiny_fusion_vqa], ids=lambda make: make.__name__)
def test_a_model_of_other_answers(make: Any, way: str, tmp_path: Path) -> None:
    changes, expected = WAYS[way]
    model = make()
    again = reloaded(model, tmp_path, **changes)
    assert again.config.num_labels == again.config.num_answers == len(again.config.id2label) == 2
    assert again.config.id2label == (expected or again.config.id2label)
    assert again.config.label2id == {name: i for i, name in again.config.id2label.items()}
    ids = torch.tensor([[2, 3]])
    assert again(input_ids=ids, pixel_values=noise_image(64, 64)).logits.shape == (1, 2)
    assert all(torch.equal(w, again.state_dict()[n]) for n, w in model.state_dict().items() if "answers" not in n)


def test_bert_does_as_much(tmp_path: Path) -> None:
    config = BertConfig(**{**tiny_encoder_config().to_dict(), "id2label": {i: str(i) for i in range(6)}})
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    model = BertForSequenceClassification.from_pretrained(tmp_path, ignore_mismatched_sizes=True, **WAYS["both"][0])
    assert model.classifier.out_features == 2 and model.config.id2label == TWO


@pytest.mark.parametrize("make", [tiny_detector, tiny_pyramid_detector], ids=lambda make: make.__name__)
def test_a_detector_of_other_objects_and_attributes(make: Any, tmp_path: Path) -> None:
    objects, attributes = {0: "background", 1: "cat", 2: "dog"}, {0: "no attribute", 1: "wet"}
    again = reloaded(make(), tmp_path, id2label=objects, attribute_id2label=attributes)
    assert (again.config.num_objects, again.config.num_attributes) == (2, 1)
    regions = again(noise_image(96, 128))
    assert regions.object_probs.shape[-1] == 3 and regions.attribute_probs.shape[-1] == 2
    assert set(regions.object_ids.flatten().tolist()) <= {1, 2}


def test_a_detector_of_another_number_of_objects(tmp_path: Path) -> None:
    again = reloaded(tiny_detector(), tmp_path, num_labels=5)  # background among them
    assert again.config.num_objects == 4 and again.config.id2label[4] == "object 4"
    assert reloaded(again, tmp_path, num_objects=2, num_attributes=3).config.num_attributes == 3


@pytest.mark.parametrize("make", [tiny_detector, tiny_pyramid_detector], ids=lambda make: make.__name__)
def test_a_detector_whose_names_begin_at_1(make: Any, tmp_path: Path) -> None:
    again = reloaded(make(), tmp_path, id2label={1: "cat", "2": "dog"}, attribute_id2label={1: "wet"})
    assert again.config.id2label == {0: "background", 1: "cat", 2: "dog"} and again.config.num_objects == 2
    assert again.config.label2id == {"background": 0, "cat": 1, "dog": 2}
    assert again.config.attribute_id2label == {0: "no attribute", 1: "wet"} and again.config.num_attributes == 1
    assert again(noise_image(96, 128)).object_probs.shape[-1] == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id2label": {0: "cat", 1: "dog"}}, "id2label calls id 0 'cat', but .* 'background': number the names from 1"),
        ({"id2label": {"0": "cat"}}, "id2label calls id 0 'cat'"),
        ({"label2id": {"dog": 1, "cat": 0}}, "id2label calls id 0 'cat'"),
        ({"attribute_id2label": {0: "wet", 1: "dry"}}, "attribute_id2label calls id 0 'wet', but .* 'no attribute'"),
        ({"id2label": {1: "cat", 3: "dog"}}, "id2label names 2 ids beside 0, but not 2: number them 1, 2, 3"),
    ],
)
def test_id_0_of_a_detector_names_nothing(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    tiny_detector().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        UpDownDetector.from_pretrained(tmp_path, ignore_mismatched_sizes=True, **changes)
    if "label2id" not in changes:
        with pytest.raises(ValueError, match=message):
            UpDownDetectorConfig(**changes)


@pytest.mark.parametrize("nothing", ["background", "__background__", "BG", "__no_attribute__", "LABEL_0"])
def test_what_id_0_may_be_called(nothing: str) -> None:
    config = tiny_detector_config(id2label={0: nothing, 1: "cat"})
    assert config.num_objects == 1 and config.id2label == {0: nothing, 1: "cat"}
    config.num_labels = 3
    assert config.num_objects == 2


def test_a_captioners_own_detector_of_other_objects() -> None:
    config = tiny_vqa_config(vision_config=tiny_detector_config())
    changed = UpDownVqaConfig.from_dict(config.to_dict(), vision_config={"id2label": {0: "background", 1: "cat"}})
    assert changed.vision_config.num_objects == 1 and changed.vision_config.num_attributes == 5


def test_labels_set_later_count_too(tmp_path: Path) -> None:
    config = tiny_vqa_config()
    config.id2label = dict(TWO)
    assert config.num_answers == 2 and config.label2id == {"yes": 0, "no": 1}
    assert type(tiny_vqa())(config).answers.out_features == 2
    config.num_labels = 3
    assert config.num_answers == len(config.id2label) == 3
    detector = tiny_detector_config()
    detector.attribute_id2label = {0: "no attribute", 1: "wet"}
    assert detector.num_attributes == 1


@pytest.mark.parametrize("config", [UpDownVqaConfig(), UpDownDetectorConfig(), UpDownFusionConfig(num_answers=4)])
def test_a_config_stays_itself(config: Any, tmp_path: Path) -> None:
    config.save_pretrained(tmp_path)
    again, unused = AutoConfig.from_pretrained(tmp_path, return_unused_kwargs=True, unknown=1)
    said_later = ("_name_or_path", "transformers_version")
    differing = {key for key, value in config.to_dict().items() if again.to_dict()[key] != value}
    assert not differing - set(said_later) and unused["unknown"] == 1
