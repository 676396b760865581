"""`pipeline("text-reading")`: questions answered from OCR words that are given or read by an engine."""

import pytest
import torch
from PIL import Image
from transformers import pipeline

import modeling_updown
from modeling_updown import UpDownForTextReading, UpDownProcessor, word_in_box
from tests import tiny
from training.scenes.draw import draw_scene

WORDS = [{"text": "two dogs", "box": [0.1, 0.1, 0.5, 0.2]}, {"text": "ball", "box": [0.1, 0.4, 0.5, 0.5]}]
QUESTION = "how many dogs?"


def stand_in_engine(image):
    """An OCR engine that reads the same two words in every image, with the image's size as the third."""
    return [word_in_box("stop", (0, 0, 0.5, 0.5)), word_in_box(f"{image.size[0]}", (0, 0.5, 0.5, 1))]


def reader(folder, *, ocr=None, **changes):
    saved = tiny.save_tiny_reading(folder, reading_objects=False, **changes)
    return pipeline("text-reading", model=str(saved), ocr=ocr)


def test_answers_are_those_of_the_model_and_say_where_words_stand(tmp_path):
    read = reader(tmp_path)
    found = read(question=[QUESTION, "where is the ball?"], words=WORDS)
    model, processor = read.model, UpDownProcessor.from_pretrained(tmp_path)
    inputs = processor(text=[QUESTION], words=WORDS, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    [own] = model.read([["two", "dogs", "ball"]], **inputs)
    assert found[0]["answer"] == own.answer and found[0]["score"] == pytest.approx(own.score, abs=1e-5)
    assert len(found) == 2 and read(question=QUESTION, words=WORDS)["answer"] == own.answer
    for word, expected in zip(found[0]["words"], own.words, strict=True):
        assert word["text"] == expected.text
        assert word["box"] == (None if expected.box is None else pytest.approx(list(expected.box)))


def test_an_engine_reads_the_words_once_for_all_questions(tmp_path):
    calls = []
    read = reader(tmp_path, ocr=lambda image: calls.append(image) or stand_in_engine(image))
    with torch.no_grad():
        read.model.answers.bias.fill_(-100)  # so that a word is copied
    found = read(Image.new("RGB", (60, 40)), [QUESTION, "what is it?"])
    assert len(calls) == 1 and isinstance(calls[0], Image.Image)
    assert {word["text"] for own in found for word in own["words"]} <= {"stop", "60"}
    rows = read([{"image": Image.new("RGB", (60, 40)), "question": QUESTION}])
    assert rows[0]["words"] == found[0]["words"] and rows[0]["score"] == pytest.approx(found[0]["score"], abs=1e-5)


def test_objects_are_read_by_a_given_region_source(tmp_path):
    source = tiny.tiny_grid()
    saved = tiny.save_tiny_reading(tmp_path, region_feature_size=source.config.region_feature_size)
    with pytest.raises(ValueError, match="reads regions and has no detector of its own"):
        pipeline("text-reading", model=str(saved))
    model, processor = UpDownForTextReading.from_pretrained(saved), UpDownProcessor.from_pretrained(saved)
    read = pipeline("text-reading", model=model, processor=processor, region_source=source)
    image = draw_scene(0, seed=0, image_size=32)[0]
    assert isinstance(read(image, QUESTION, words=WORDS)["answer"], str)


@pytest.mark.parametrize(
    ("given", "kind", "told"),
    [
        ({"question": QUESTION}, ValueError, "there is no image to read"),
        ({"question": " ", "words": WORDS}, ValueError, "a question is empty"),
        ({"image": Image.new("RGB", (9, 9))}, TypeError, "there is nothing to answer"),
        ({"image": Image.new("RGB", (9, 9)), "question": QUESTION}, ValueError, "has no OCR engine"),
        ({"question": QUESTION, "words": WORDS, "top_k": 2}, TypeError, "has no argument top_k"),
        ({"question": QUESTION, "words": WORDS, "num_beams": 0}, ValueError, "at least 1"),
        ({"question": QUESTION, "words": [{"text": "a"}]}, ValueError, "give a text and a box"),
    ],
)
def test_mistakes_are_named(tmp_path, given, kind, told):
    with pytest.raises(kind, match=told):
        reader(tmp_path)(**given)


def test_an_image_without_words_is_answered_from_the_vocabulary(tmp_path):
    read = reader(tmp_path, ocr=lambda image: [])
    found = read(Image.new("RGB", (60, 40)), QUESTION)
    assert all(word["box"] is None for word in found["words"]) and 0 < found["score"] <= 1


def test_the_task_is_ours_and_transformers_own_stays():
    from transformers.pipelines import check_task

    assert check_task("text-reading")[1]["impl"] is modeling_updown.UpDownTextReadingPipeline
