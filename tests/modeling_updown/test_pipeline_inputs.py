"""What people hand to both pipelines: batches of any make, open files, settings of the images, models that make NaN."""

import io
import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from transformers import GenerationConfig, pipeline

from tests import tiny
from tests.processors.test_image_download import answer, drip_body, server

IMAGES = [tiny.tiny_image(seed) for seed in range(5)]
PIXELS = torch.from_numpy(np.stack([np.array(image) for image in IMAGES])).permute(0, 3, 1, 2)  # (5, 3, H, W)
QUESTIONS = [*tiny.QUESTIONS, "is there a red ball?"]
NESTED = "image 0 cannot be read: it holds 2 images where one is expected: give a flat list of images"


@pytest.fixture(scope="module")
def captioner() -> Any:
    model = tiny.tiny_captioner()
    model.generation_config.update(max_new_tokens=6)
    return pipeline("image-to-text", model=model, processor=tiny.tiny_processor(), device="cpu")


@pytest.fixture(scope="module")
def vqa() -> Any:
    processor = tiny.tiny_question_processor()
    return pipeline("visual-question-answering", model=tiny.tiny_vqa(), processor=processor, device="cpu")


def in_file(image: Image.Image) -> io.BytesIO:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream


def as_rows(images: list[Any]) -> list[dict[str, Any]]:
    """What a `collate_fn` may leave as it is."""
    return [{"image": image} for image in images]


def as_columns(images: list[Any]) -> dict[str, Any]:
    return {"image": images, "question": QUESTIONS[: len(images)]}


def best(answers: Any) -> list[tuple[str, float]]:
    """The best answer to each question."""
    return [(found[0]["answer"], pytest.approx(found[0]["score"], abs=1e-5)) for found in answers]


# ---- every image is answered for


def test_captions_of_a_slice_of_rows(captioner: Any) -> None:
    expected = captioner(IMAGES)
    assert len({str(captions) for captions in expected}) > 3  # else the comparisons below would prove little
    rows = datasets.Dataset.from_dict({"image": IMAGES, "captions": [["a dog"]] * 5})
    assert captioner(rows[:3]) == expected[:3]
    assert captioner(rows[:1]) == expected[:1]
    assert captioner(rows[2]) == expected[2]
    assert captioner({"image": PIXELS[:2]}) == captioner(PIXELS[:2]) == expected[:2]
    assert captioner(rows.cast_column("image", datasets.Image(decode=False))[:3], batch_size=2) == expected[:3]


def test_captions_of_batches(captioner: Any) -> None:
    expected = captioner(IMAGES)
    loaders: list[Any] = [
        DataLoader(PIXELS, batch_size=2),  # type: ignore[arg-type]
        DataLoader(PIXELS, batch_size=None),  # type: ignore[arg-type]
        DataLoader([{"image": pixels} for pixels in PIXELS], batch_size=2),  # type: ignore[arg-type]
        DataLoader(IMAGES, batch_size=2, collate_fn=list),  # type: ignore[arg-type]
        DataLoader(IMAGES, batch_size=2, collate_fn=as_rows),  # type: ignore[arg-type]
    ]
    for loader in loaders:
        assert list(captioner(loader, batch_size=3)) == expected
    for batches in ([IMAGES[:2]], [PIXELS[:2]], [{"image": IMAGES[:2]}]):
        with pytest.raises(ValueError, match=NESTED):
            captioner(batches)
        with pytest.raises(ValueError, match=NESTED):
            list(captioner(iter(batches)))
    assert captioner([PIXELS[:1], [IMAGES[1]]]) == expected[:2]  # a batch of one is one image


def test_answers_to_a_slice_of_rows(vqa: Any) -> None:
    expected = best(vqa(IMAGES, QUESTIONS))
    rows = datasets.Dataset.from_dict({"image": IMAGES, "question": QUESTIONS, "place": range(5)})
    assert best(vqa(rows[:3])) == expected[:3]
    assert best(vqa(rows[:3], QUESTIONS[0])) == best(vqa(IMAGES[:3], QUESTIONS[0]))
    assert best(vqa({"image": IMAGES[:2], "question": QUESTIONS[1]})) == best(vqa(IMAGES[:2], QUESTIONS[1]))
    chosen = {"image": IMAGES[:2], "question": QUESTIONS[:2], "choices": [["yes", "no"], ["2", "red"]]}
    assert [{found["answer"] for found in answers} for answers in vqa(chosen)] == [{"yes", "no"}, {"2", "red"}]
    with pytest.raises(ValueError, match="the rows have 3 images and 2 of question: give one for each image"):
        vqa({"image": IMAGES[:3], "question": QUESTIONS[:2]})


def test_answers_to_batches(vqa: Any) -> None:
    about_one = best(vqa(IMAGES, QUESTIONS[0]))
    assert best(vqa(DataLoader(PIXELS, batch_size=2), QUESTIONS[0])) == about_one  # type: ignore[arg-type]
    columns = DataLoader(IMAGES, batch_size=2, collate_fn=as_columns)  # type: ignore[arg-type]
    wanted = [(image, QUESTIONS[place % 2]) for place, image in enumerate(IMAGES)]
    assert best(vqa(columns)) == [best([vqa(*row)])[0] for row in wanted]
    assert len({found[0]["score"] for found in vqa(IMAGES, QUESTIONS[0])}) > 2
    for batches in ([IMAGES[:2]], [PIXELS[:2]]):
        with pytest.raises(ValueError, match=NESTED):
            vqa(batches, QUESTIONS[0])
        with pytest.raises(ValueError, match=NESTED):
            list(vqa(iter(batches), QUESTIONS[0]))


def test_bytes_and_open_files_are_one_image(captioner: Any, vqa: Any, tmp_path: Path) -> None:
    expected, answers = captioner(IMAGES[1]), vqa(IMAGES[1], QUESTIONS[0])
    IMAGES[1].save(tmp_path / "photo.png")
    content = in_file(IMAGES[1]).getvalue()
    with open(tmp_path / "photo.png", "rb") as file:
        kinds: list[Any] = [in_file(IMAGES[1]), file, file, bytearray(content), memoryview(content)]
        for kind in kinds:
            assert captioner(kind) == expected
            assert vqa(kind, QUESTIONS[0]) == answers
        assert captioner(kinds) == [expected] * len(kinds)
        assert captioner({"image": in_file(IMAGES[1])}) == expected
        assert list(captioner(iter(kinds))) == [expected] * len(kinds)
    with pytest.raises(ValueError, match="the given file object is not an image"):
        captioner(io.BytesIO(b"no image"))


# ---- settings


def test_float_images_and_settings_of_the_processor(captioner: Any, vqa: Any) -> None:
    levels = PIXELS.float() / 255
    last = levels.permute(0, 2, 3, 1).numpy()
    expected = captioner(IMAGES)
    for images in (levels, last, last.astype(np.float64), list(levels)):
        assert captioner(images, batch_size=2) == expected
        assert best(vqa(images, QUESTIONS[0])) == best(vqa(IMAGES, QUESTIONS[0]))
    dark = captioner([image * 0 for image in levels])
    assert dark != expected
    assert captioner(IMAGES, rescale_factor=1e-6) == dark  # what floats in 0..1 became when they were divided by 255
    normalised = 2 * levels - 1
    assert captioner(normalised, do_rescale=False, do_normalize=False) == captioner(levels * 255)
    made_so = pipeline(
        "image-to-text", model=captioner.model, processor=captioner.processor, device="cpu", rescale_factor=1e-6
    )
    assert made_so(IMAGES, max_new_tokens=6) == dark
    assert vqa(IMAGES[0], QUESTIONS[0], rescale_factor=1e-6) != vqa(IMAGES[0], QUESTIONS[0])
    for pipe, asked in ((captioner, ()), (vqa, (QUESTIONS[0],))):
        with pytest.raises(TypeError, match="has the argument max_regions|not have the argument max_regions"):
            pipe(IMAGES[0], *asked, max_regions=3)


def test_what_old_pipelines_took_is_taken(captioner: Any, vqa: Any) -> None:
    asked = (IMAGES[0], QUESTIONS[0])
    assert vqa(*asked, padding="max_length", truncation=False, timeout=3, top_k=2) == vqa(*asked, top_k=2)
    assert captioner(IMAGES[0], timeout=3) == captioner(IMAGES[0])
    answers = {"/a.png": answer("200 OK", in_file(IMAGES[0]).getvalue()), "/slow": drip_body}
    with server(answers) as address:
        assert captioner(f"{address}/a.png", timeout=5) == captioner(IMAGES[0])
        assert vqa(f"{address}/a.png", QUESTIONS[0], timeout=5) == vqa(*asked)
        with pytest.raises(ConnectionError, match="not done after 0.2 seconds"):
            captioner(f"{address}/slow", timeout=0.2)
        with pytest.raises(ValueError, match="image 1 cannot be read: .*not done after 0.2 seconds"):
            vqa([IMAGES[0], f"{address}/slow"], QUESTIONS[0], timeout=0.2)


def test_the_users_length_wins(captioner: Any) -> None:
    """Over `max_new_tokens` of the model's folder (6) and of the pipeline."""
    image = IMAGES[0]
    assert length_of(captioner, image) == 7
    for asked in (
        {"max_length": 5},
        {"generate_kwargs": {"max_length": 5}},
        {"generation_config": GenerationConfig(max_length=5)},
        {"max_new_tokens": 4},
    ):
        assert length_of(captioner, image, **asked) == 5
    assert length_of(captioner, image, max_length=5, prompt="two men") == 5
    assert length_of(captioner, image, generation_config=GenerationConfig(max_length=5), prompt="two men") == 5
    assert length_of(captioner, image, max_length=12) == 12
    made_so = pipeline(
        "image-to-text", model=captioner.model, processor=captioner.processor, device="cpu", max_length=4
    )
    assert length_of(made_so, image) == 4 and length_of(made_so, image, max_new_tokens=2) == 3


def length_of(captioner: Any, image: Any, **settings: Any) -> int:
    (caption,) = captioner(image, return_token_ids=True, **settings)
    return len(caption["generated_token_ids"])


@pytest.mark.parametrize("settings", [{}, {"num_beams": 2}, {"prompt": "two men"}])
def test_strings_to_stop_at(captioner: Any, settings: dict[str, Any]) -> None:
    whole = captioner(IMAGES, max_new_tokens=9, **settings)
    words = [caption["generated_text"].split() for (caption,) in whole]
    start = len(settings.get("prompt", "").split())
    stop = words[2][start]
    if "num_beams" in settings:
        (stopped,) = captioner(IMAGES[2], max_new_tokens=9, stop_strings=stop, **settings)
        assert stop in stopped["generated_text"] and len(stopped["generated_text"].split()) < len(words[2])
        return
    for (stopped,), full in zip(
        captioner(IMAGES, max_new_tokens=9, stop_strings=[stop], batch_size=3, **settings), words, strict=True
    ):
        end = next((place + 1 for place, word in enumerate(full) if place >= start and stop in word), len(full))
        assert stopped["generated_text"].split() == full[:end]


# ---- processors that do not load


@pytest.mark.parametrize(
    ("task", "save"),
    [("image-to-text", tiny.save_tiny_captioner), ("visual-question-answering", tiny.save_tiny_vqa)],
)
@pytest.mark.parametrize(("name", "value"), [("image_std", 0.0), ("rescale_factor", 1e300), ("image_mean", [0.5, 0.5])])
def test_a_processor_that_does_not_load_says_why(task: str, save: Any, name: str, value: Any, tmp_path: Path) -> None:
    path = save(tmp_path) / "processor_config.json"
    saved = json.loads(path.read_text())
    saved["image_processor"][name] = value
    path.write_text(json.dumps(saved))
    with pytest.raises(ValueError, match=rf"no image_processor: that of {tmp_path} does not load .*{name} is .*repair"):
        pipeline(task, model=str(tmp_path), device="cpu")


# ---- models that make no numbers


@pytest.mark.parametrize(("weights", "what"), [("lm_head", "scores of words"), ("region_source", "region features")])
@pytest.mark.parametrize("settings", [{}, {"num_beams": 2}, {"return_regions": True}])
@pytest.mark.parametrize("make", [tiny.tiny_captioner, tiny.tiny_prefix_lm])
def test_a_captioner_of_nan(weights: str, what: str, settings: dict[str, Any], make: Any, tmp_path: Path) -> None:
    make().save_pretrained(tmp_path)
    tiny.tiny_processor().save_pretrained(tmp_path)
    broken = pipeline("image-to-text", model=str(tmp_path), device="cpu")
    spoil(broken.model, weights)
    with pytest.raises(ValueError, match=f"{tmp_path} makes {what} that are no numbers .*take another checkpoint"):
        broken(IMAGES[0], max_new_tokens=3, **settings)


@pytest.mark.parametrize(("weights", "what"), [("answers", "scores of answers"), ("region_source", "region features")])
@pytest.mark.parametrize("choices", [None, ["yes", "no"]])
def test_an_answerer_of_nan(weights: str, what: str, choices: Any, tmp_path: Path) -> None:
    folder = tiny.save_tiny_vqa(tmp_path)
    broken = pipeline("visual-question-answering", model=str(folder), device="cpu")
    spoil(broken.model, weights)
    with pytest.raises(ValueError, match=f"{tmp_path} makes {what} that are no numbers"):
        broken(IMAGES[0], QUESTIONS[0], choices=choices)


def test_a_counter_of_nan(tmp_path: Path) -> None:
    model = tiny.tiny_vqa(counted_objects=3)
    model.save_pretrained(tmp_path)
    tiny.tiny_question_processor().save_pretrained(tmp_path)
    broken = pipeline("visual-question-answering", model=str(tmp_path), device="cpu")
    assert broken(IMAGES[0], QUESTIONS[0])
    spoil(broken.model, "attention.0.score")
    with pytest.raises(ValueError, match=f"{tmp_path} makes scores of regions to count that are no numbers"):
        broken(IMAGES[0], QUESTIONS[0])


@pytest.mark.parametrize("weights", ["image_projection", "text_projection", "temperature"])
def test_a_comparer_of_nan(weights: str, tmp_path: Path) -> None:
    folder = tiny.save_tiny_retrieval(tmp_path)
    broken = pipeline("zero-shot-image-classification", model=str(folder), device="cpu")
    assert broken(IMAGES[0], candidate_labels=["a dog", "a cat"])
    spoil(broken.model, weights)
    with pytest.raises(ValueError, match=f"{tmp_path} makes (embeddings of|scores of images).* that are no numbers"):
        broken(IMAGES[0], candidate_labels=["a dog", "a cat"])


def test_a_scorer_of_choices_of_nan() -> None:
    processor = tiny.tiny_question_processor()
    model = tiny.tiny_vqa(scores_choices=True)
    spoil(model, "choice_score")
    broken = pipeline("visual-question-answering", model=model, processor=processor, device="cpu")
    assert broken(IMAGES[0], QUESTIONS[0])  # the answers of the vocabulary are sound
    with pytest.raises(ValueError, match=r"the model \(UpDownForVisual.* makes scores of choices that are no numbers"):
        broken(IMAGES[0], QUESTIONS[0], choices=["yes", "no"])


def spoil(model: Any, name: str) -> None:
    """One NaN among the weights of each part with this name; all in one image's words go through it."""
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if (name in key and weight.dim() != 1) or (name == "lm_head" and key.endswith("transformer.wte.weight")):
                (weight[..., 0] if weight.dim() else weight).fill_(float("nan"))


def test_words_that_are_ruled_out_are_no_fault(captioner: Any) -> None:
    ruled_out = captioner(IMAGES[0], bad_words_ids=[[6]], min_new_tokens=4, num_beams=2, max_new_tokens=5)
    assert "an" not in ruled_out[0]["generated_text"].split()
