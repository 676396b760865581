"""`pipeline("image-to-text")`: the output of old, every kind of input, the regions behind words, published folders."""

import io
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoConfig, GenerationConfig, pipeline
from transformers.pipelines.pt_utils import KeyDataset

import modeling_updown
from modeling_updown import UpDownImageToTextPipeline
from modeling_updown.pipeline_captioning import next_word_weights, without_padding
from modeling_updown.saving_updown import write_code
from tests import fresh_python, tiny

IMAGES = [tiny.tiny_image(seed) for seed in range(5)]


@pytest.fixture(scope="module")
def captioner() -> UpDownImageToTextPipeline:
    model = tiny.tiny_captioner()
    model.generation_config.update(max_new_tokens=6)
    return pipeline("image-to-text", model=model, processor=tiny.tiny_processor(), device="cpu")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as it stands on the Hub: weights, processor, flat code, and JSON that names the classes in it."""
    folder = tiny.save_tiny_captioner(tmp_path_factory.mktemp("published"))
    named = ["modeling_captioning", "pipeline_captioning", "processing_updown", "tokenization_updown"]
    write_code(folder, named, config=AutoConfig.from_pretrained(folder))
    edit_json(
        folder / "config.json",
        auto_map={
            "AutoConfig": "configuration_updown.UpDownCaptioningConfig",
            "AutoModelForImageTextToText": "modeling_captioning.UpDownForImageCaptioning",
        },
        custom_pipelines={
            "image-to-text": {
                "impl": "pipeline_captioning.UpDownImageToTextPipeline",
                "pt": ["AutoModelForImageTextToText"],
                "type": "multimodal",
            }
        },
    )
    backends = ["image_processing_updown.UpDownImageProcessorPil", "image_processing_updown.UpDownImageProcessor"]
    processor_config = json.loads((folder / "processor_config.json").read_text())
    edit_json(
        folder / "processor_config.json",
        auto_map={"AutoProcessor": "processing_updown.UpDownProcessor"},
        image_processor=processor_config["image_processor"] | {"auto_map": {"AutoImageProcessor": backends}},
    )
    edit_json(
        folder / "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "tokenization_updown.UpDownTokenizer"]}
    )
    return folder


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def texts(outputs: Any) -> list[str]:
    """The first caption of each image."""
    return [captions[0]["generated_text"] for captions in outputs]


def in_bytes(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def by_hand(captioner: UpDownImageToTextPipeline, image: Any, **settings: Any) -> list[str]:
    """The captions of an image without the pipeline."""
    pixel_values = captioner.image_processor(images=image, return_tensors="pt").pixel_values
    ids = captioner.model.generate(pixel_values=pixel_values, **settings)
    return captioner.tokenizer.batch_decode(ids, skip_special_tokens=True)


def test_output_is_that_of_old(captioner: UpDownImageToTextPipeline) -> None:
    expected = [by_hand(captioner, image)[0] for image in IMAGES]
    assert len(set(expected)) > 2  # else the comparisons below would prove little
    assert captioner(IMAGES[0]) == [{"generated_text": expected[0]}]
    assert captioner(images=IMAGES[0]) == [{"generated_text": expected[0]}]
    assert captioner(IMAGES) == [[{"generated_text": text}] for text in expected]
    assert captioner([IMAGES[0]]) == [[{"generated_text": expected[0]}]]
    assert captioner([]) == []


@pytest.mark.parametrize("settings", [{}, {"num_beams": 3}, {"num_beams": 3, "num_return_sequences": 2}])
def test_batch_is_single(captioner: UpDownImageToTextPipeline, settings: dict[str, Any]) -> None:
    asked = settings | {"return_regions": True, "return_token_ids": True}
    alone = [captioner(image, **asked) for image in IMAGES]
    for many in (captioner(IMAGES, batch_size=3, **asked), captioner(IMAGES, **asked)):
        for captions, expected in zip(many, alone, strict=True):
            for caption, wanted in zip(captions, expected, strict=True):
                for name in ("generated_text", "words", "generated_token_ids"):
                    assert caption[name] == wanted[name]
                assert torch.allclose(caption["region_weights"], wanted["region_weights"], atol=1e-5)
                assert torch.equal(caption["region_boxes"], wanted["region_boxes"])


@pytest.fixture(scope="module", params=[tiny.tiny_detector, tiny.tiny_pyramid_detector])
def detecting_captioner(request: pytest.FixtureRequest) -> UpDownImageToTextPipeline:
    """A captioner on a detector, whose images keep their shapes and have regions of unlike number."""
    detector = request.param(score_threshold=0.6)
    model: Any = tiny.tiny_captioner(vision_config=detector.config)
    model.region_source.load_state_dict(detector.state_dict())
    model.generation_config.update(max_new_tokens=6)
    image_processor = modeling_updown.UpDownImageProcessor(size={"shortest_edge": 48, "longest_edge": 96})
    return pipeline(
        "image-to-text",
        model=model,
        image_processor=image_processor,
        tokenizer=tiny.tiny_processor().tokenizer,
        device="cpu",
    )


@pytest.mark.parametrize("settings", [{}, {"num_beams": 3, "prompt": "two men"}])
def test_images_of_several_sizes_make_a_batch(
    detecting_captioner: UpDownImageToTextPipeline, settings: dict[str, Any]
) -> None:
    sizes = [(64, 48), (100, 60), (48, 64), (30, 90), (64, 64), (64, 48), (96, 30)]  # width, height
    images = [tiny.tiny_image(seed, width=width, height=height) for seed, (width, height) in enumerate(sizes)]
    asked = settings | {"return_regions": True}
    alone = [detecting_captioner(image, **asked) for image in images]
    assert len({captions[0]["generated_text"] for captions in alone}) > 3
    assert len({len(captions[0]["region_boxes"]) for captions in alone}) > 1
    rows = datasets.Dataset.from_dict({"image": images})
    for many in (
        detecting_captioner(images, batch_size=3, **asked),
        list(detecting_captioner(rows, batch_size=4, **asked)),
        list(detecting_captioner((image for image in images), batch_size=2, **asked)),
    ):
        for (caption,), (expected,) in zip(many, alone, strict=True):
            assert caption["generated_text"] == expected["generated_text"] and caption["words"] == expected["words"]
            assert torch.allclose(caption["region_boxes"], expected["region_boxes"], atol=1e-5)
            assert torch.allclose(caption["region_weights"], expected["region_weights"], atol=1e-4)
    (named,) = detecting_captioner(images[1], **settings)
    assert named["generated_text"] == alone[1][0]["generated_text"]


def test_a_grid_takes_images_of_one_size_or_one_at_a_time() -> None:
    image_processor = modeling_updown.UpDownImageProcessor(size={"shortest_edge": 48, "longest_edge": 96})
    tokenizer = tiny.tiny_processor().tokenizer
    on_a_grid = UpDownImageToTextPipeline(
        tiny.tiny_captioner(), image_processor=image_processor, tokenizer=tokenizer, device="cpu"
    )
    images = [tiny.tiny_image(0, width=64, height=48), tiny.tiny_image(1, width=48, height=64)]
    with pytest.raises(ValueError, match='a grid takes images of one size: give its image processor size={"height"'):
        on_a_grid(images, batch_size=2)
    alone = on_a_grid(images)
    assert on_a_grid([images[0], images[0]], batch_size=2) == [alone[0]] * 2  # a mask that is True everywhere
    assert [on_a_grid(image) for image in images] == alone


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_beams": 4, "num_return_sequences": 3},
        {"num_beams": 3, "prompt": "a dog in"},
        {"do_sample": True, "num_return_sequences": 2},
        {"num_beams": 2, "do_sample": True},
    ],
)
def test_region_weights_are_those_of_the_words(captioner: UpDownImageToTextPipeline, settings: dict[str, Any]) -> None:
    """Whatever search found the caption, its weights are those of reading it word by word."""
    for image in IMAGES[:3]:
        pixel_values = captioner.image_processor(images=image, return_tensors="pt").pixel_values
        for caption in captioner(image, return_regions=True, return_token_ids=True, **settings):
            ids = torch.tensor([caption["generated_token_ids"]])
            read = captioner.model(ids[:, :-1], pixel_values=pixel_values, output_attentions=True)
            special = torch.isin(ids[0, 1:], torch.tensor(captioner.tokenizer.all_special_ids))
            assert torch.allclose(caption["region_weights"], read.attentions[0][0][~special], atol=1e-5)
            assert " ".join(caption["words"]) == caption["generated_text"]
            assert torch.allclose(caption["region_weights"].sum(-1), torch.ones(len(caption["words"])))
            assert caption["region_boxes"][4].tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3])


def test_beams_are_followed() -> None:
    """Two captions of three words by hand: the row of each step is the one that the word came from."""
    attentions = [(torch.tensor([[[0.0]], [[1.0]]]) + 10 * step,) for step in range(3)]
    followed = next_word_weights(attentions, torch.zeros(2, 4), torch.tensor([[0, 1, 1], [1, 0, -1]]))
    assert followed[..., 0].tolist() == [[0.0, 11.0, 21.0], [1.0, 10.0, 20.0]]
    assert next_word_weights(attentions, torch.zeros(2, 4), None)[1, :, 0].tolist() == [1.0, 11.0, 21.0]


def test_captions_hold_the_words_that_are_asked_for(captioner: UpDownImageToTextPipeline) -> None:
    """Alone, in a batch and beside a prompt, whose own words count; with the attention of each word."""
    for words in (["dog|child", "old table"], "ball"):
        asked = words if isinstance(words, list) else [words]
        for (caption,) in captioner(IMAGES, words=words, num_beams=2, batch_size=2, return_regions=True):
            text = caption["generated_text"]
            assert all(any(f" {one} " in f" {text} " for one in word.split("|")) for word in asked)
            assert caption["words"] == text.split()
            assert caption["region_weights"].sum(dim=1) == pytest.approx(torch.ones(len(caption["words"])), abs=1e-4)
        alone = [captioner(image, words=words, num_beams=2) for image in IMAGES]
        assert captioner(IMAGES, words=words, num_beams=2, batch_size=3) == alone
    (prompted,) = captioner(IMAGES[0], prompt="a brown dog", words=["brown dog", "grass"])
    assert prompted["generated_text"].startswith("a brown dog") and "grass" in prompted["generated_text"].split()
    with pytest.raises(ValueError, match="vocabulary has no word 'kitten', so no caption can hold it"):
        captioner(IMAGES[0], words=["dog|kitten"])


@pytest.mark.parametrize("settings", [{}, {"num_beams": 3, "num_return_sequences": 2}, {"words": "ball"}])
@pytest.mark.parametrize("prompt", [None, "two men"])
def test_log_probabilities_are_the_models_own(
    captioner: UpDownImageToTextPipeline, settings: dict[str, Any], prompt: str | None
) -> None:
    """The mean over the words after the prompt and the end, however they were chosen."""
    start = 1 if prompt is None else 3
    for caption in captioner(IMAGES[0], prompt=prompt, return_log_probs=True, return_token_ids=True, **settings):
        pixels = captioner.image_processor(IMAGES[0], return_tensors="pt").pixel_values
        ids = torch.tensor([caption["generated_token_ids"]])
        with torch.no_grad():
            log_probs = captioner.model(ids[:, :-1], pixel_values=pixels).logits[0].log_softmax(dim=-1)
        picked = log_probs[torch.arange(ids.shape[1] - 1), ids[0, 1:]][start - 1 :]
        assert caption["log_prob_per_word"] == pytest.approx(picked.mean().item(), abs=1e-5)


def test_prompt_begins_the_caption(captioner: UpDownImageToTextPipeline) -> None:
    for text in texts(captioner(IMAGES, prompt="A photo of", batch_size=2)):
        assert text.split()[0] == "a"  # the tiny vocabulary knows neither "photo" nor "of"
    for captions in captioner(IMAGES, prompt="two dogs", num_beams=2, return_regions=True):
        assert captions[0]["words"][0] == "two"


def test_settings_come_from_the_model_unless_given(captioner: UpDownImageToTextPipeline) -> None:
    image = IMAGES[0]
    assert len(captioner(image, return_token_ids=True)[0]["generated_token_ids"]) <= 7
    model = tiny.tiny_captioner()
    model.generation_config = GenerationConfig(
        max_new_tokens=3, num_beams=3, bos_token_id=1, eos_token_id=2, pad_token_id=0
    )
    own = UpDownImageToTextPipeline(model, processor=tiny.tiny_processor(), device="cpu")
    assert own(image)[0]["generated_text"] == by_hand(own, image)[0]
    assert len(own(image, return_token_ids=True, min_new_tokens=3)[0]["generated_token_ids"]) == 4
    wanted = by_hand(own, image, max_new_tokens=9, num_beams=2)
    assert texts([own(image, max_new_tokens=9, num_beams=2)]) == wanted
    assert texts([own(image, max_new_tokens=9, generate_kwargs={"num_beams": 2})]) == wanted
    made_so = UpDownImageToTextPipeline(
        model,
        processor=tiny.tiny_processor(),
        device="cpu",
        max_new_tokens=9,
        generate_kwargs={"num_beams": 2},
        return_token_ids=True,
    )
    assert texts([made_so(image)]) == wanted
    assert "generated_token_ids" in made_so(image)[0]
    assert texts([made_so(image, max_new_tokens=3)]) == by_hand(own, image, max_new_tokens=3, num_beams=2)


def test_images_of_every_kind(captioner: UpDownImageToTextPipeline, tmp_path: Path) -> None:
    image = IMAGES[1]
    image.save(tmp_path / "photo.png")
    array = np.array(image)
    kinds = [
        str(tmp_path / "photo.png"),
        tmp_path / "photo.png",
        in_bytes(image),
        array,
        torch.from_numpy(array).permute(2, 0, 1),
        {"image": image, "captions": []},
        {"bytes": None, "path": str(tmp_path / "photo.png")},
    ]
    expected = captioner(image)
    for kind in kinds:
        assert captioner(kind) == expected
    assert captioner(kinds) == [expected] * len(kinds)
    assert captioner(tuple(kinds[:2]), batch_size=2) == [expected] * 2
    assert captioner(np.stack([array, array])) == [expected] * 2


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "P", "1", "I;16"])
def test_images_of_every_mode(captioner: UpDownImageToTextPipeline, mode: str) -> None:
    assert isinstance(captioner(Image.new(mode, (50, 30)))[0]["generated_text"], str)
    blank = Image.new(mode, (1, 1))
    assert captioner([blank, IMAGES[0]], batch_size=2)[1] == captioner(IMAGES[0])


def test_data_sets_and_streams(captioner: UpDownImageToTextPipeline) -> None:
    expected = captioner(IMAGES)
    rows = datasets.Dataset.from_dict({"image": IMAGES, "image_id": list("abcde")})
    renamed = rows.rename_column("image", "picture")
    many: list[Any] = [
        rows,
        renamed,
        rows["image"],
        rows.with_format("torch"),
        rows.to_iterable_dataset(),
        KeyDataset(rows, "image"),
        (image for image in IMAGES),
        iter(IMAGES),
    ]
    for images in many:
        stream = captioner(images, batch_size=2)
        assert not isinstance(stream, list)
        assert list(stream) == expected


def test_streams_are_lazy(captioner: UpDownImageToTextPipeline) -> None:
    taken = []

    def images() -> Iterator[Image.Image]:
        for index, image in enumerate(IMAGES):
            taken.append(index)
            yield image

    stream = iter(captioner(images()))
    next(stream)
    assert len(taken) <= 2


def test_broken_image_is_named(captioner: UpDownImageToTextPipeline, tmp_path: Path) -> None:
    whole = in_bytes(IMAGES[0])
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"^image 1 cannot be read: .*cut\.png"):
        captioner([IMAGES[0], str(tmp_path / "cut.png"), IMAGES[1]])
    with pytest.raises(ValueError, match=r"^image 2 cannot be read: there is no image at .*gone\.jpg"):
        captioner([IMAGES[0], IMAGES[1], "gone.jpg"], batch_size=3)
    with pytest.raises(FileNotFoundError, match=r"gone\.jpg"):
        captioner("gone.jpg")
    image = datasets.Image()
    rows = datasets.Dataset.from_dict(
        {"image": [{"bytes": whole, "path": None}, {"bytes": whole[:60], "path": None}]},
        features=datasets.Features({"image": image}),
    )
    for images in (rows, rows.to_iterable_dataset(), KeyDataset(rows, "image"), (b for b in (whole, b"no image"))):
        stream = iter(captioner(images))
        assert next(stream) == captioner(IMAGES[0])
        with pytest.raises(ValueError, match="^image 1 cannot be read: "):
            next(stream)
    with pytest.raises(ValueError, match='image 0 .* a row without an image: it needs "image"'):
        captioner([{"file": "dog.jpg"}])


def test_arguments_are_checked(captioner: UpDownImageToTextPipeline) -> None:
    with pytest.raises(TypeError, match="neither image-to-text nor generate has the argument num_beans"):
        captioner(IMAGES[0], num_beans=3)
    with pytest.raises(ValueError, match="num_beams is given both directly and in generate_kwargs"):
        captioner(IMAGES[0], num_beams=3, generate_kwargs={"num_beams": 2})
    with pytest.raises(TypeError, match="there is no image to caption"):
        captioner()
    with pytest.raises(ValueError, match="the pipeline has no image_processor: give image_processor="):
        pipeline("image-to-text", model=captioner.model, tokenizer=captioner.tokenizer)
    parts = pipeline(
        "image-to-text", model=captioner.model, tokenizer=captioner.tokenizer, image_processor=captioner.image_processor
    )
    assert parts(IMAGES[0]) == captioner(IMAGES[0])


def test_model_without_region_source_says_so() -> None:
    model = tiny.tiny_captioner(vision_config=None, region_feature_size=96)
    fed = UpDownImageToTextPipeline(model, processor=tiny.tiny_processor(), device="cpu")
    for asked in ({}, {"return_regions": True}):
        with pytest.raises(ValueError, match="owns no region source"):
            fed(IMAGES[0], **asked)


def test_half_precision(captioner: UpDownImageToTextPipeline) -> None:
    half = pipeline(
        "image-to-text", model=tiny.tiny_captioner().bfloat16(), processor=tiny.tiny_processor(), device="cpu"
    )
    (caption,) = half(IMAGES[0], max_new_tokens=3, return_regions=True)
    assert caption["region_weights"].dtype == torch.float32
    assert torch.allclose(caption["region_weights"].sum(-1), torch.ones(len(caption["words"])), atol=0.02)


def test_padding_is_cut_after_the_end() -> None:
    assert without_padding([1, 5, 6, 2, 0, 0], [2]) == [1, 5, 6, 2]
    assert without_padding([0, 5, 6, 0, 0], [0]) == [0, 5, 6, 0]  # one token begins, ends and pads
    assert without_padding([1, 5, 6], []) == [1, 5, 6]


def test_installed_loads_published_folders(captioner: UpDownImageToTextPipeline, published: Path) -> None:
    """By the installed classes, with and without the flag."""
    for flag in (None, False, True):
        loaded = pipeline("image-to-text", model=str(published), trust_remote_code=flag, device="cpu")
        assert type(loaded) is UpDownImageToTextPipeline
        assert type(loaded.model) is modeling_updown.UpDownForImageCaptioning
        assert loaded(IMAGES, max_new_tokens=6) == captioner(IMAGES)


def test_pipeline_saves_what_it_loads(captioner: UpDownImageToTextPipeline, tmp_path: Path) -> None:
    captioner.save_pretrained(tmp_path)
    assert pipeline("image-to-text", model=str(tmp_path), device="cpu")(IMAGES) == captioner(IMAGES)


def test_published_folder_loads_without_our_package(
    captioner: UpDownImageToTextPipeline, published: Path, tmp_path: Path
) -> None:
    """A process elsewhere, in which nothing named like our packages can be imported."""
    IMAGES[0].save(tmp_path / "photo.png")
    code = f"""
        import importlib.abc, json, sys

        class Absent(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path, target=None):
                if name.split(".")[0] in ("modeling_updown", "processors", "training"):
                    raise ModuleNotFoundError(f"No module named {{name!r}}")

        sys.meta_path.insert(0, Absent())
        from transformers import AutoModelForImageTextToText, AutoProcessor, pipeline

        folder, image = {str(published)!r}, {str(tmp_path / "photo.png")!r}
        try:
            pipeline("image-to-text", model=folder, trust_remote_code=False)
        except ValueError as error:
            print("trust_remote_code=True" in str(error))
        captioner = pipeline("image-to-text", model=folder, trust_remote_code=True, device="cpu")
        (caption,) = captioner(image, max_new_tokens=6, num_beams=2, return_regions=True)
        print(json.dumps([caption["generated_text"], caption["region_weights"].tolist()]))
        processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
        model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True)
        inputs = processor(images=image, return_tensors="pt")
        ids = model.generate(**inputs, max_new_tokens=6, num_beams=2)
        print(processor.batch_decode(ids, skip_special_tokens=True)[0])
        print(captioner(image, words="dog|ball", max_new_tokens=6, num_beams=2)[0]["generated_text"])
    """
    result = fresh_python.run([sys.executable, "-I", "-c", textwrap.dedent(code)], cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    refused, caption, text, with_word = result.stdout.strip().splitlines()
    (wanted,) = captioner(IMAGES[0], num_beams=2, return_regions=True)
    assert refused == "True"
    assert text == wanted["generated_text"]
    assert with_word == captioner(IMAGES[0], words="dog|ball", num_beams=2)[0]["generated_text"]
    assert json.loads(caption)[0] == wanted["generated_text"]
    assert torch.allclose(torch.tensor(json.loads(caption)[1]), wanted["region_weights"], atol=1e-5)
