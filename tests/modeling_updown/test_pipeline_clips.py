"""Clips in the pipelines: the regions of their frames, in batches with images, and equal to the models' own outputs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline

from modeling_updown import Clip, UpDownVideoProcessor, clip_regions, load_clip, pipeline_clips
from modeling_updown.clips_updown import join_batches
from modeling_updown.counting_updown import ObjectCounter
from modeling_updown.drawing_clips_updown import draw_clip_answer, draw_clip_attention, draw_moments, strongest_place
from modeling_updown.modeling_attention import TextRows
from modeling_updown.pipeline_clips import as_clip, join_media
from processors.clip_sampling_updown import ClipSampling
from tests import tiny
from tests.video_files import write_video

QUESTION = "how many dogs are there?"


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "clip.mp4", num_frames=8)


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return pipeline("image-to-text", model=str(tiny.save_tiny_captioner(tmp_path_factory.mktemp("captioner"))))


@pytest.fixture(scope="module")
def vqa(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tiny.save_tiny_vqa(tmp_path_factory.mktemp("vqa"), num_glimpses=2)
    return pipeline("visual-question-answering", model=str(folder))


def regions_by_hand(pipe: Any, source: Any, **sampling: Any) -> Any:
    """Regions of a clip by the video processor and `clip_regions`, without the pipeline."""
    processor = UpDownVideoProcessor.from_image_processor(pipe.image_processor, **sampling)
    inputs = processor(source, return_tensors="pt")
    return clip_regions(pipe.model.region_source, **inputs)


def test_a_caption_of_a_clip_is_that_of_its_regions(captioner: Any, video: Path) -> None:
    (found,) = captioner(str(video), num_frames=4, return_regions=True, return_log_probs=True)
    regions = regions_by_hand(captioner, str(video), num_frames=4)
    ids = captioner.model.generate(**regions, max_new_tokens=20)
    assert found["generated_text"] == captioner.tokenizer.decode(ids[0], skip_special_tokens=True).strip()
    assert found["region_weights"].shape == (len(found["words"]), 4 * 9)
    torch.testing.assert_close(found["region_seconds"], regions.region_seconds[0])
    torch.testing.assert_close(found["region_weights"].sum(dim=1), torch.ones(len(found["words"])))
    assert found["region_seconds"].unique().tolist() == pytest.approx([0, 0.2, 0.4, 0.7])


def test_every_way_to_give_a_clip_says_the_same(captioner: Any, video: Path, tmp_path: Path) -> None:
    clip = load_clip(video)
    for number, frame in enumerate(clip.frames):
        frame.save(tmp_path / f"frame_{number}.png")
    expected = captioner(str(video), return_log_probs=True)
    with open(video, "rb") as file:
        for source in (video, video.read_bytes(), file, clip, {"video": str(video)}, {"video": clip.frames}):
            assert captioner(source, return_log_probs=True) == expected
    assert captioner({"video": str(tmp_path)}, return_log_probs=True) == expected


def test_a_batch_of_clips_and_images_equals_each_alone(captioner: Any, video: Path) -> None:
    clip, image = load_clip(video, ClipSampling(num_frames=3)), tiny.tiny_image(2)
    alone = [captioner(one, return_log_probs=True, return_regions=True)[0] for one in (image, clip, video)]
    together = captioner([image, clip, str(video)], batch_size=3, return_log_probs=True, return_regions=True)
    for one, (other,) in zip(alone, together, strict=True):
        assert one["generated_text"] == other["generated_text"]
        assert one["log_prob_per_word"] == pytest.approx(other["log_prob_per_word"], abs=1e-5)
        torch.testing.assert_close(one["region_weights"], other["region_weights"], atol=1e-5, rtol=0)
    assert "region_seconds" not in alone[0] and together[0][0]["region_seconds"].unique().tolist() == [0]


def test_an_image_is_a_clip_of_one_frame(captioner: Any, vqa: Any) -> None:
    image = tiny.tiny_image(2)
    clip = Clip([image], np.zeros(1), 1.0)
    assert captioner(image, return_log_probs=True) == captioner(clip, return_log_probs=True)
    for one, other in zip(vqa(image, QUESTION), vqa(clip, QUESTION), strict=True):
        assert one["answer"] == other["answer"] and one["score"] == pytest.approx(other["score"], abs=1e-6)


def test_a_model_of_times_takes_images_too(tmp_path: Path) -> None:
    timed = pipeline("image-to-text", model=str(tiny.save_tiny_captioner(tmp_path, time_embedding="both")))
    image = tiny.tiny_image(2)
    one, other = timed(image, return_log_probs=True), timed(Clip([image], np.zeros(1), 1.0), return_log_probs=True)
    assert one == other


def test_an_animation_is_its_first_frame_unless_frames_are_asked_for(captioner: Any, tmp_path: Path) -> None:
    frames = [tiny.tiny_image(seed) for seed in range(3)]
    frames[0].save(tmp_path / "moves.gif", save_all=True, append_images=frames[1:], duration=100)
    (still,) = captioner(str(tmp_path / "moves.gif"), return_regions=True)
    (clip,) = captioner(str(tmp_path / "moves.gif"), num_frames=3, return_regions=True)
    assert "region_seconds" not in still and clip["region_seconds"].unique().tolist() == pytest.approx([0, 0.1, 0.2])


def test_answers_about_a_clip_are_those_of_its_regions(vqa: Any, video: Path) -> None:
    found = vqa(str(video), QUESTION, num_frames=3, return_regions=True)
    regions = regions_by_hand(vqa, str(video), num_frames=3)
    words = vqa.tokenizer([QUESTION], return_tensors="pt")["input_ids"]
    scores = vqa.model(words, **regions).logits[0].sigmoid()
    best = scores.topk(5)
    assert [one["answer"] for one in found] == [vqa.model.config.id2label[place] for place in best.indices.tolist()]
    assert [one["score"] for one in found] == pytest.approx(best.values.tolist(), abs=1e-6)
    assert found[0]["region_weights"].shape == (2, 27)
    torch.testing.assert_close(found[0]["region_seconds"], regions.region_seconds[0])
    rows = [{"video": str(video), "question": QUESTION}, {"image": tiny.tiny_image(1), "question": QUESTION}]
    both = vqa(rows, batch_size=2, num_frames=3)
    assert [one["answer"] for one in both[0]] == [one["answer"] for one in found]
    assert [one["score"] for one in both[1]] == pytest.approx(
        [one["score"] for one in vqa(tiny.tiny_image(1), QUESTION)], abs=1e-5
    )


def test_objects_of_a_clip_are_counted_in_each_frame(vqa: Any, video: Path) -> None:
    model = tiny.tiny_vqa(counted_objects=4)
    regions = join_batches([model.region_source(torch.randn(3, 3, 64, 64))]).of_rows(
        torch.tensor([[0, 1, 2], [1, -1, -1]])
    )
    seconds = torch.tensor([[0.0, 1.0, 2.0], [0.0, 0.0, 0.0]]).repeat_interleave(9, dim=1)
    regions.region_seconds = seconds
    scores = torch.randn(2, 27) * 3
    rows = TextRows.of(None, num_texts=2, num_images=2, device=scores.device)
    counts = model.counted(scores, regions, rows)
    counter = model.counter
    assert isinstance(counter, ObjectCounter)
    parts = [
        counter(scores[:1, at : at + 9], regions.region_boxes[:1, at : at + 9], torch.ones(1, 9).bool())
        for at in (0, 9, 18)
    ]
    torch.testing.assert_close(counts[:1], torch.stack(parts).mean(dim=0))
    first = counter(scores[1:, :9], regions.region_boxes[1:, :9], torch.ones(1, 9).bool())
    torch.testing.assert_close(counts[1:], first)
    regions.region_seconds = None
    with pytest.raises(ValueError, match="in one image at a time"):
        model.counted(scores, regions, rows)


def test_moments_are_those_of_the_model(video: Path, tmp_path: Path) -> None:
    folder = tiny.save_tiny_moments(tmp_path, vision_config=tiny.tiny_grid_config(), region_feature_size=96)
    finder = pipeline("moment-retrieval", model=str(folder))
    sentences = ["a dog runs", "two men at the table"]
    found = finder(str(video), sentences, num_frames=4, top_k=3)
    regions = regions_by_hand(finder, str(video), num_frames=4)
    regions.region_images = None
    words = finder.tokenizer(sentences, padding=True, return_tensors="pt")
    inputs = {name: words[name] for name in ("input_ids", "attention_mask")}
    output = finder.model(**inputs, **regions, duration_seconds=torch.tensor([0.8]))
    for spans, expected in zip(found, finder.model.predict_spans(output, most=3), strict=True):
        rows = torch.tensor([[span[name] for name in ("start", "end", "score")] for span in spans])
        torch.testing.assert_close(rows, expected, atol=1e-5, rtol=0)
        assert len(spans) == 3 and ((rows[:, :2] >= 0) & (rows[:, :2] <= 0.8 + 1e-6)).all()
    assert finder(str(video), sentences[0], num_frames=4, top_k=1)[0]["start"] == pytest.approx(
        found[0][0]["start"], abs=1e-5
    )
    part = finder(str(video), sentences, num_frames=4, top_k=3, start_seconds=0.2, end_seconds=0.6)
    alone = finder({"video": load_clip(video).frames[2:6]}, sentences, num_frames=4, top_k=3, frame_rate=10.0)
    for spans, others in zip(part, alone, strict=True):  # a part is read as a clip of its own
        for span, other in zip(spans, others, strict=True):
            assert span["start"] == pytest.approx(other["start"] + 0.2, abs=1e-4) and span["start"] >= 0.2
            assert span["end"] == pytest.approx(other["end"] + 0.2, abs=1e-4) and span["end"] <= 0.6 + 1e-4
            assert span["score"] == pytest.approx(other["score"], abs=1e-4)
    frames, gif = load_clip(video).frames, str(tmp_path / "clip.gif")
    frames[0].save(gif, save_all=True, append_images=frames[1:], duration=500)
    step = finder.model.config.moment_step_seconds
    assert finder(gif, sentences[0]) == finder(load_clip(gif, ClipSampling(fps=1 / step)), sentences[0])
    assert finder(gif, sentences[0]) != finder(frames[0], sentences[0])
    with pytest.raises(ValueError, match="a sentence is empty or no text"):
        finder(str(video), " ")
    with pytest.raises(TypeError, match="give a clip and a sentence"):
        finder(str(video))


def test_bad_clips_are_refused_in_one_sentence(captioner: Any, vqa: Any, video: Path) -> None:
    with pytest.raises(ValueError, match="the span from 9 s to its end lies outside of"):
        captioner(str(video), start_seconds=9.0)
    with pytest.raises(ValueError, match="is empty: a clip needs one frame or more"):
        vqa({"video": [], "question": QUESTION})
    with pytest.raises(TypeError, match="has the argument frames: is it misspelt"):
        captioner(str(video), frames=3)


def test_frames_that_fill_the_memory_are_refused(captioner: Any, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = captioner.image_processor(images=load_clip(video).frames[:1], return_tensors="pt")["pixel_values"]
    monkeypatch.setattr(pipeline_clips, "MANY_FRAMES", 1)
    monkeypatch.setattr(pipeline_clips, "MAX_PIXEL_BYTES", 5 * 4 * frame.numel())
    assert captioner(str(video), num_frames=5)
    with pytest.raises(ValueError, match="8 frames of .* take .* take 5 frames or fewer"):
        captioner(str(video), num_frames=8)


def test_join_media_pads_frames_and_keeps_images_alone() -> None:
    image = {"pixel_values": torch.ones(1, 3, 2, 4), "pixel_mask": torch.ones(1, 2, 4)}
    assert set(join_media([image, image])) == {"pixel_values", "pixel_mask"}
    clip = {"pixel_values_videos": torch.ones(1, 2, 3, 3, 2), "pixel_mask_videos": torch.ones(1, 2, 3, 2).bool()}
    clip |= {"frame_seconds": torch.tensor([[0.0, 0.5]]), "frame_mask": torch.ones(1, 2).bool()}
    joined = join_media([image, clip])
    assert joined["pixel_values_videos"].sum(dim=(2, 3, 4)).tolist() == [[24, 0], [18, 18]]
    assert joined["pixel_mask_videos"].sum(dim=(2, 3)).tolist() == [[8, 0], [6, 6]]
    assert joined["frame_seconds"].tolist() == [[0, 0], [0, 0.5]]
    assert as_clip(clip) == clip


def test_pictures_show_when_and_where(tmp_path: Path) -> None:
    clip = Clip([Image.new("RGB", (64, 48), (80, 80, 80))] * 3, np.array([0.0, 0.5, 1.0]), 1.5)
    box = torch.tensor([[0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]]).repeat(3, 1)
    weights = torch.tensor([[0.0, 0.0, 0.1, 0.7, 0.2, 0.0]])
    seconds = torch.tensor([0.0, 0.0, 0.5, 0.5, 1.0, 1.0])
    assert strongest_place(weights[0].numpy(), np.array([0, 0, 1, 1, 2, 2])) == (1, 3)
    result = {"generated_text": "dog", "words": ["dog"], "region_weights": weights, "region_boxes": box}
    with pytest.raises(ValueError, match="the result has no region_seconds"):
        draw_clip_attention(clip, result)
    picture = draw_clip_attention(clip, result | {"region_seconds": seconds}, path=tmp_path / "strip.png")
    assert Image.open(tmp_path / "strip.png").size == picture.size
    with pytest.raises(ValueError, match="are not those of the clip's frames"):
        draw_clip_attention(clip, result | {"region_seconds": seconds + 0.2})
    answers = [{"answer": "yes", "score": 0.7, **result, "region_seconds": seconds}]
    assert draw_clip_answer(clip, answers, question="is it?").width > 1000
    spans = [{"start": 0.5, "end": 1.0, "score": 0.4}]
    shaded = draw_moments(clip, {"spans": spans, "frame_scores": [0.1, 0.4, 0.1]}, sentence="a dog")
    levels = np.asarray(shaded, dtype=int)
    coloured = (levels[..., 0] - levels[..., 2] > 60).any(axis=0).nonzero()[0]  # columns with the colour of the span
    assert coloured.min() / shaded.width == pytest.approx(1 / 3, abs=0.02)
    assert coloured.max() / shaded.width == pytest.approx(2 / 3, abs=0.02)
    several = draw_moments(clip, {"spans": spans}, sentence="a dog runs to its friend " * 9)
    assert several.height > shaded.height and several.width == shaded.width  # the sentence is wrapped
    part = Clip(clip.frames, clip.seconds + 3, 9.0, part_seconds=(3.0, 4.5))
    found = {"spans": [{"start": 3.5, "end": 4.0, "score": 0.4}], "frame_scores": [0.1, 0.4, 0.1]}
    levels = np.asarray(draw_moments(part, found, sentence="a dog"), dtype=int)
    columns = (levels[..., 0] - levels[..., 2] > 60).any(axis=0).nonzero()[0]
    assert columns.min() == pytest.approx(coloured.min(), abs=2)  # the timeline is that of the part
    assert columns.max() == pytest.approx(coloured.max(), abs=2)
    with pytest.raises(ValueError, match="2 frame_scores and 3 frames"):
        draw_moments(clip, {"spans": spans, "frame_scores": [0.1, 0.4]})
