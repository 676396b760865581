"""`pipeline("visual-question-answering")`: the output of old, every kind of input, choices, regions, bad input."""

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    BertConfig,
    BertTokenizer,
    ViltConfig,
    ViltForQuestionAnswering,
    pipeline,
)
from transformers.pipelines.pt_utils import KeyDataset

import modeling_updown
from modeling_updown import UpDownVisualQuestionAnsweringPipeline
from modeling_updown.pipeline_questions import ImageQuestions, Question, join_questions, merged, question_list
from modeling_updown.pipeline_vqa import QUESTIONS_AT_ONCE, scores_of
from tests import tiny

IMAGES = [tiny.tiny_image(seed) for seed in range(4)]
QUESTIONS = [*tiny.QUESTIONS[:3], "is there a red ball?"]
ROWS: list[dict[str, Any]] = [
    {"image": image, "question": question} for image, question in zip(IMAGES, QUESTIONS, strict=True)
]


def answerer(model: Any, **options: Any) -> Any:
    """The pipeline of a model with the tiny words and images."""
    processor = tiny.tiny_question_processor()
    return pipeline("visual-question-answering", model=model, processor=processor, device="cpu", **options)


@pytest.fixture(scope="module")
def vqa() -> UpDownVisualQuestionAnsweringPipeline:
    return answerer(tiny.tiny_vqa())


@pytest.fixture(scope="module")
def choosing() -> UpDownVisualQuestionAnsweringPipeline:
    """A model with a head for choices, two glimpses and two layers of attention."""
    return answerer(tiny.tiny_vqa(scores_choices=True, num_glimpses=2, num_attention_layers=2))


def by_hand(vqa: Any, image: Any, question: str) -> Any:
    """The model's output without the pipeline."""
    inputs = dict(vqa.image_processor(images=image, return_tensors="pt"))
    inputs |= vqa.tokenizer(question, truncation=True, return_tensors="pt")
    with torch.no_grad():
        return vqa.model(**inputs)


def ranked(scores: torch.Tensor, names: Any, top_k: int) -> list[dict[str, Any]]:
    """Scores and their names, sorted by Python."""
    order = sorted(range(len(scores)), key=lambda number: -float(scores[number]))[:top_k]
    return [{"score": pytest.approx(float(scores[number]), abs=1e-5), "answer": names[number]} for number in order]


def in_bytes(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def same(found: Any, expected: Any) -> bool:
    """Whether answers are the same, scores up to what a batch of another size rounds."""
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    return found["answer"] == expected["answer"] and abs(found["score"] - expected["score"]) < 1e-5


def test_output_is_that_of_old(vqa: UpDownVisualQuestionAnsweringPipeline) -> None:
    expected = []
    for row in ROWS:
        scores = by_hand(vqa, row["image"], row["question"]).logits[0].sigmoid()
        expected.append(ranked(scores, tiny.ANSWERS, 5))
    assert len({answers[0]["answer"] for answers in expected}) > 1  # else the comparisons below would prove little
    assert vqa(image=IMAGES[0], question=QUESTIONS[0]) == expected[0]
    for found in (vqa(IMAGES[0], QUESTIONS[0]), vqa(ROWS[0]), vqa({**ROWS[0], "choices": []})):
        assert found == expected[0]
    assert vqa(IMAGES[0], QUESTIONS[0], top_k=2) == expected[0][:2]
    assert len(vqa(IMAGES[0], QUESTIONS[0], top_k=1000)) == len(tiny.ANSWERS)
    assert vqa(ROWS) == expected
    assert vqa([ROWS[0]]) == [expected[0]]
    assert vqa(image=IMAGES, question=QUESTIONS) == expected
    assert vqa(tuple(IMAGES), tuple(QUESTIONS), batch_size=3) == expected
    assert vqa([]) == vqa([], []) == vqa([], "is it?") == vqa(IMAGES[0], []) == []


def test_one_image_or_one_question_goes_with_all(vqa: UpDownVisualQuestionAnsweringPipeline) -> None:
    for_all = [vqa(IMAGES[1], question) for question in QUESTIONS]
    of_all = [vqa(image, QUESTIONS[1]) for image in IMAGES]
    assert same(vqa(IMAGES[1], QUESTIONS), for_all)
    assert same(vqa(IMAGES[1], datasets.Dataset.from_dict({"question": QUESTIONS})["question"]), for_all)
    assert same(vqa([IMAGES[1]] * 4, QUESTIONS), for_all)
    assert same(vqa(IMAGES, QUESTIONS[1]), of_all)
    assert same(vqa(np.stack([np.array(image) for image in IMAGES]), QUESTIONS[1], batch_size=4), of_all)
    assert same(vqa(IMAGES[1], QUESTIONS[:1]), for_all[:1])


def test_batch_is_single(choosing: UpDownVisualQuestionAnsweringPipeline) -> None:
    alone = [choosing(**row, return_regions=True) for row in ROWS]
    for many in (choosing(ROWS, batch_size=3, return_regions=True), choosing(ROWS, num_workers=2, return_regions=True)):
        assert same(many, alone)
        for answers, expected in zip(many, alone, strict=True):
            assert torch.allclose(answers[0]["region_weights"], expected[0]["region_weights"], atol=1e-5)
            assert torch.equal(answers[0]["region_boxes"], expected[0]["region_boxes"])


@pytest.mark.parametrize("detector", [tiny.tiny_detector, tiny.tiny_pyramid_detector])
def test_images_of_several_sizes_make_a_batch(detector: Any) -> None:
    """On a detector, images keep their shapes and have regions of unlike number."""
    source = detector(score_threshold=0.6)
    model: Any = tiny.tiny_vqa(vision_config=source.config)
    model.region_source.load_state_dict(source.state_dict())
    processor = tiny.tiny_question_processor()
    processor.image_processor = modeling_updown.UpDownImageProcessor(size={"shortest_edge": 48, "longest_edge": 96})
    vqa = UpDownVisualQuestionAnsweringPipeline(model, processor=processor, device="cpu")
    sizes = [(64, 48), (100, 60), (48, 64), (30, 90)]  # width, height
    images = [tiny.tiny_image(seed, width=width, height=height) for seed, (width, height) in enumerate(sizes)]
    alone = [vqa(image, text, return_regions=True) for image, text in zip(images, QUESTIONS, strict=True)]
    assert len({len(answers[0]["region_boxes"]) for answers in alone}) > 1
    for answers, expected in zip(vqa(images, QUESTIONS, batch_size=3, return_regions=True), alone, strict=True):
        assert [answer["answer"] for answer in answers] == [answer["answer"] for answer in expected]
        assert torch.allclose(answers[0]["region_boxes"], expected[0]["region_boxes"], atol=1e-5)
        assert torch.allclose(answers[0]["region_weights"], expected[0]["region_weights"], atol=1e-4)


def test_regions_of_an_image_are_made_once(vqa: UpDownVisualQuestionAnsweringPipeline, tmp_path: Path) -> None:
    batches: list[int] = []
    hook = vqa.model.region_source.register_forward_hook(lambda _, pixels, __: batches.append(len(pixels[0])))
    IMAGES[0].save(tmp_path / "a.png")
    many = [QUESTIONS[number % 4] for number in range(QUESTIONS_AT_ONCE + 3)]
    found = vqa(IMAGES[0], many)
    vqa([{"image": str(tmp_path / "a.png"), "question": text} for text in QUESTIONS])
    vqa([ROWS[0], ROWS[1], {**ROWS[0], "question": QUESTIONS[2]}])
    shared = datasets.Dataset.from_dict({"image": [IMAGES[0]] * 3 + [IMAGES[1]], "question": QUESTIONS})
    of_set = list(vqa(shared, batch_size=4))
    hook.remove()
    assert batches == [1, 1, 1, 1, 2]  # of a data set, neighbours in a batch
    assert same(of_set, [vqa(IMAGES[place // 3], text) for place, text in enumerate(QUESTIONS)])
    assert same(found, [vqa(IMAGES[0], QUESTIONS[number % 4]) for number in range(4)] * 64 + found[:3])


def test_data_sets_and_streams(vqa: UpDownVisualQuestionAnsweringPipeline) -> None:
    expected = vqa(ROWS)
    of_one_question = vqa(IMAGES, QUESTIONS[0])
    rows = datasets.Dataset.from_dict({"image": IMAGES, "question": QUESTIONS, "question_id": list("abcd")})
    streams: list[tuple[Any, Any]] = [
        (rows, None),
        (rows.rename_column("image", "picture"), None),
        (rows.with_format("torch"), None),
        (rows.to_iterable_dataset(), None),
        ((row for row in ROWS), None),
        (iter(ROWS), None),
        (KeyDataset(rows, "image"), QUESTIONS),
        (rows["image"], rows["question"]),
    ]
    for images, question in streams:
        stream = vqa(images, question, batch_size=3)
        assert not isinstance(stream, list)
        assert same(list(stream), expected)
    one_question = (rows, rows.remove_columns("question"), rows["image"], KeyDataset(rows, "image"), iter(IMAGES))
    for num_workers, images in zip((0, 0, 0, 0, 2), one_question, strict=True):
        assert same(list(vqa(images, QUESTIONS[0], num_workers=num_workers)), of_one_question)


def test_streams_are_lazy(vqa: UpDownVisualQuestionAnsweringPipeline) -> None:
    taken = []

    def rows() -> Iterator[dict[str, Any]]:
        for place, row in enumerate(ROWS):
            taken.append(place)
            yield row

    next(iter(vqa(rows())))
    assert len(taken) <= 2


def test_images_of_every_kind(vqa: UpDownVisualQuestionAnsweringPipeline, tmp_path: Path) -> None:
    image = IMAGES[1]
    image.save(tmp_path / "photo.png")
    array = np.array(image)
    kinds = [
        str(tmp_path / "photo.png"),
        tmp_path / "photo.png",
        in_bytes(image),
        array,
        torch.from_numpy(array).permute(2, 0, 1),
        {"bytes": None, "path": str(tmp_path / "photo.png")},
    ]
    expected = vqa(image, QUESTIONS[0])
    for kind in kinds:
        assert same(vqa(kind, QUESTIONS[0]), expected)
        assert same(vqa({"image": kind, "question": QUESTIONS[0]}), expected)
    assert same(vqa(kinds, QUESTIONS[0]), [expected] * len(kinds))


def test_choices_by_the_vocabulary(vqa: UpDownVisualQuestionAnsweringPipeline) -> None:
    """Spelt as people spell them; the score is that of the answer as the vocabulary has it."""
    choices = ["Yes.", "two", "brown", "At a table"]
    scores = by_hand(vqa, IMAGES[0], QUESTIONS[0]).logits[0].sigmoid()
    expected = ranked(torch.stack([scores[tiny.ANSWERS.index(name)] for name in ("yes", "2", "brown")]), choices, 3)
    assert vqa(IMAGES[0], QUESTIONS[0], choices=choices[:3]) == expected
    assert vqa(IMAGES[0], QUESTIONS[0], choices=choices[:3], top_k=1) == expected[:1]
    with pytest.raises(ValueError, match="the question: the choices 'purple', '7' are not among the 6 answers of the"):
        vqa(IMAGES[0], QUESTIONS[0], choices=["purple", "yes", "7"])
    named = answerer(
        tiny.tiny_vqa(id2label={0: "night stand", 1: "yes", 2: "at table", 3: "At the table", 4: "at a table"})
    )
    assert {text: named.answer_ids[text] for text in ("at table", "At the table", "at a table")} == {
        "at table": 2,
        "At the table": 3,
        "at a table": 4,
    }


def test_choices_by_the_head(choosing: UpDownVisualQuestionAnsweringPipeline) -> None:
    """Whatever else is in the batch, choices are scored as alone, and the scores add up to 1."""
    rows: list[dict[str, Any]] = [
        {**ROWS[0], "choices": ["a dog", "purple", "a small child in the ball"]},
        {**ROWS[1], "choices": []},
        {**ROWS[2], "choices": [f"{number} dogs" for number in range(12)]},
        {**ROWS[3], "choices": None},
    ]
    found = choosing(rows, batch_size=4)
    assert [len(answers) for answers in found] == [3, 5, 12, 5]
    for answers, row in zip(found, rows, strict=True):
        assert same(answers, choosing(row))
    ids = [choosing.tokenizer(text).input_ids or [1] for text in rows[0]["choices"]]
    widest = max(map(len, ids))
    inputs = dict(choosing.image_processor(images=IMAGES[0], return_tensors="pt"))
    inputs |= choosing.tokenizer(QUESTIONS[0], return_tensors="pt")
    padded = torch.tensor([[row + [0] * (widest - len(row)) for row in ids]])
    with torch.no_grad():
        logits = choosing.model(**inputs, choice_input_ids=padded).choice_logits[0]
    assert found[0] == ranked(logits.softmax(dim=0), rows[0]["choices"], 3)
    assert sum(answer["score"] for answer in found[2]) == pytest.approx(1)
    all_alike = choosing(rows, choices=["yes", "nobody"], top_k=1)  # the call's go before the rows'
    assert all(len(answers) == 1 and answers[0]["answer"] in ("yes", "nobody") for answers in all_alike)


def test_regions_are_those_of_the_model(
    vqa: UpDownVisualQuestionAnsweringPipeline, choosing: UpDownVisualQuestionAnsweringPipeline
) -> None:
    for asked, glimpses in ((vqa, 1), (choosing, 2)):
        best, *others = asked(IMAGES[0], QUESTIONS[0], return_regions=True)
        output = by_hand(asked, IMAGES[0], QUESTIONS[0])
        assert torch.allclose(best["region_weights"], output.attentions[-1][0], atol=1e-6)
        assert torch.allclose(best["region_weights"].sum(dim=-1), torch.ones(glimpses))
        assert torch.equal(best["region_boxes"], output.region_boxes[0])
        assert not any("region_weights" in answer for answer in others)
    made_so = answerer(tiny.tiny_vqa(), return_regions=True, top_k=1)
    assert [set(answer) for answer in made_so(IMAGES[0], QUESTIONS[0])] == [
        {"score", "answer", "region_weights", "region_boxes"}
    ]
    assert same(made_so(IMAGES[0], QUESTIONS[0], return_regions=False), vqa(IMAGES[0], QUESTIONS[0], top_k=1))


@pytest.mark.parametrize(
    ("image", "question", "sentence"),
    [
        (IMAGES[0], "", "the question is empty: ask something"),
        (IMAGES[0], " \n", "the question is empty"),
        (IMAGES[0], ["is it?", "\t"], "question 1 is empty"),
        (IMAGES[0], 7, "the question is a int, not text"),
        (IMAGES[0], b"is it?", "the question is a bytes, not text"),
        (IMAGES[:2], ["is it?", None], "question 1 is missing: ask vqa"),
        (IMAGES[:2], ["is it?", 2.5], "question 1 is a float, not text"),
        (IMAGES[0], None, "the question is missing: ask vqa.image=..., question='...'., or give rows"),
        (None, "is it?", "there is no image to ask about: give image=..."),
        ({"question": "is it?"}, None, "the question has no image: its image is missing or empty"),
        ([ROWS[0], {"image": None, "question": "is it?"}], None, "question 1 has no image"),
        ([IMAGES[0], "a.jpg"], None, "question 0 is missing"),
        (IMAGES[:3], ["is it?"] * 2, "3 images and 2 questions: give a question for each image, or one for all"),
        (iter(IMAGES), QUESTIONS, "a stream of images takes one question: stream rows"),
        ([{**ROWS[0], "choices": "yes"}], None, "the choices of question 0 must be a list"),
        ([{**ROWS[0], "choices": ["yes", "no", "yes "]}], None, "the choices of question 0 hold 'yes' twice"),
        (datasets.Dataset.from_dict({"image": IMAGES}), None, "none of the columns .'image'. is called question"),
    ],
)
def test_what_cannot_be_asked(
    vqa: UpDownVisualQuestionAnsweringPipeline, image: Any, question: Any, sentence: str
) -> None:
    with pytest.raises((ValueError, TypeError), match=f"^{sentence}"):
        vqa(image, question)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"choices": []}, r"choices must be a list of one answer or more to choose from, not \[\]"),
        ({"choices": "yes"}, "choices must be a list of one answer or more to choose from, not 'yes'"),
        ({"choices": ["yes", "no", "yes"]}, "choices hold 'yes' twice: give each answer once"),
        ({"choices": ["yes", " "]}, "choices hold ' ', which is not an answer"),
        ({"choices": ["yes", 3]}, "choices hold 3, which is not an answer: give texts"),
        ({"top_k": 0}, "top_k is 0, but must be at least 1"),
        ({"topk": 2, "a": 1}, "visual-question-answering does not have the argument a, topk: is it misspelt"),
    ],
)
def test_settings_are_checked(
    vqa: UpDownVisualQuestionAnsweringPipeline, settings: dict[str, Any], sentence: str
) -> None:
    nothing: list[Any] = []
    for images in (IMAGES[0], nothing):
        with pytest.raises((ValueError, TypeError), match=f"^{sentence}"):
            vqa(images, "is it?", **settings)


def test_long_questions_are_cut_with_one_warning(
    vqa: UpDownVisualQuestionAnsweringPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    long = "how many men ride on the wave is there a brown dog " * 42  # 12 words each
    with caplog.at_level(logging.WARNING):
        found = vqa(IMAGES[:3], long, batch_size=2)
    assert [record.getMessage() for record in caplog.records] == [
        "question 0 has 504 words, of which the model reads the first 14; further long ones are truncated without a "
        "warning"
    ]
    assert same(found[0], vqa(IMAGES[0], " ".join(long.split()[:14])))
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        vqa(IMAGES[0], long)  # another call says it again
    assert [record.getMessage().split(",")[0] for record in caplog.records] == ["the question has 504 words"]


@pytest.mark.parametrize("text", ["\U0001f642\U0001f642", "???", "zebra giraffe", "\u4f60\u597d"])
def test_questions_without_a_known_word_are_answered(
    vqa: UpDownVisualQuestionAnsweringPipeline, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        answers = vqa(IMAGES[0], text)
    assert [record.getMessage().split(",")[0] for record in caplog.records] == [
        f"the question ({text!r}) has no word of the model's vocabulary"
    ]
    assert len(answers) == 5 and all(0 < answer["score"] < 1 for answer in answers)
    assert same(vqa(IMAGES[0], [QUESTIONS[0], text]), [vqa(IMAGES[0], QUESTIONS[0]), answers])
    caplog.clear()
    vqa(IMAGES[0], "is it a zebra?")
    assert not caplog.records


def test_broken_image_is_named(vqa: UpDownVisualQuestionAnsweringPipeline, tmp_path: Path) -> None:
    whole = in_bytes(IMAGES[0])
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"^image 1 cannot be read: .*cut\.png"):
        vqa([IMAGES[0], str(tmp_path / "cut.png"), IMAGES[1]], QUESTIONS[0])
    with pytest.raises(ValueError, match=r"^image 2 cannot be read: there is no image at .*gone\.jpg"):
        vqa([*ROWS[:2], {"image": "gone.jpg", "question": "is it?"}], batch_size=3)
    for questions in ("is it?", ["is it?", "where?"]):
        with pytest.raises(FileNotFoundError, match=r"^there is no image at gone\.jpg"):
            vqa("gone.jpg", questions)
    rows = datasets.Dataset.from_dict(
        {"image": [{"bytes": whole, "path": None}, {"bytes": whole[:60], "path": None}], "question": QUESTIONS[:2]},
        features=datasets.Features({"image": datasets.Image(), "question": datasets.Value("string")}),
    )
    for images in (rows, rows.to_iterable_dataset(), rows.rename_column("image", "picture")):
        stream = iter(vqa(images))
        assert same(next(stream), vqa(IMAGES[0], QUESTIONS[0]))
        with pytest.raises(ValueError, match="^image 1 cannot be read: "):
            next(stream)
    with pytest.raises(ValueError, match='image 0 .* a row without an image: it needs "image"'):
        vqa([{"image": {"file": "dog.jpg"}, "question": "is it?"}])


def test_model_without_region_source_says_so() -> None:
    fed = answerer(tiny.tiny_vqa(vision_config=None, region_feature_size=96))
    with pytest.raises(ValueError, match="owns no region source"):
        fed(IMAGES[0], "is it?")


def test_parts_are_asked_for(vqa: UpDownVisualQuestionAnsweringPipeline) -> None:
    with pytest.raises(ValueError, match="the pipeline has no tokenizer: give tokenizer="):
        pipeline("visual-question-answering", model=vqa.model, image_processor=vqa.image_processor)
    parts = pipeline("vqa", model=vqa.model, tokenizer=vqa.tokenizer, image_processor=vqa.image_processor)
    assert same(parts(ROWS), vqa(ROWS))
    with pytest.raises(ValueError, match="UpDownForImageCaptioning generates its answers"):
        answerer(tiny.tiny_captioner())


def test_half_precision(vqa: UpDownVisualQuestionAnsweringPipeline) -> None:
    (best, *_) = answerer(tiny.tiny_vqa().bfloat16())(IMAGES[0], QUESTIONS[0], return_regions=True)
    assert best["region_weights"].dtype == torch.float32
    assert best["score"] == pytest.approx(vqa(IMAGES[0], QUESTIONS[0])[0]["score"], abs=0.02)


def test_questions_padded_on_the_left_are_the_same(vqa: UpDownVisualQuestionAnsweringPipeline) -> None:
    """hengyuan-hu's words: padding on the left, and one id for padding and unknown words."""
    words = ["is", "there", "a", "dog", "how", "many"]
    tokenizer = modeling_updown.UpDownTokenizer.from_question_vocabulary(words)
    model = tiny.tiny_vqa(vocab_size=7, pad_token_id=6, reads_padding=True)
    left = UpDownVisualQuestionAnsweringPipeline(
        model, tokenizer=tokenizer, image_processor=vqa.image_processor, device="cpu"
    )
    questions = ["is there a dog", "how many?", "zebra"]
    alone = [left(IMAGES[0], question) for question in questions]
    assert same(left(IMAGES[0], questions), alone)
    padded = tokenizer(questions[:2], padding=True, return_tensors="pt")
    pixels = vqa.image_processor(images=[IMAGES[0]] * 2, return_tensors="pt")
    with torch.no_grad():
        logits = model(**pixels, **padded).logits
    for answers, row in zip(alone, logits, strict=False):
        assert answers == ranked(row.sigmoid(), tiny.ANSWERS, 5)


def test_other_peoples_models_answer_too(tmp_path: Path) -> None:
    """ViLT, as transformers 4 had it: it shares nothing between questions, and weighs no regions."""
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "is", "it", "red"]))
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = ViltConfig(vocab_size=8, image_size=64, patch_size=16, id2label={0: "yes", 1: "no", 2: "red"}, **size)
    other = UpDownVisualQuestionAnsweringPipeline(
        ViltForQuestionAnswering(config).eval(),
        tokenizer=BertTokenizer(str(tmp_path / "vocab.txt"), model_max_length=BertConfig().max_position_embeddings),
        image_processor=tiny.tiny_question_processor().image_processor,
        device="cpu",
    )
    alone = [[other(image, text) for text in ("is it red?", "red")] for image in IMAGES[:2]]
    assert {answer["answer"] for answer in alone[0][0]} == {"yes", "no", "red"}
    assert same(other(IMAGES[0], ["is it red?", "red"]), alone[0])
    rows = [{"image": image, "question": text} for image in IMAGES[:2] for text in ("is it red?", "red")]
    assert same(other(rows, batch_size=2), [*alone[0], *alone[1]])
    with pytest.raises(ValueError, match="ViltForQuestionAnswering has no attention over regions: leave out return"):
        other(IMAGES[0], "red", return_regions=True)


def test_pipeline_saves_what_it_loads(vqa: UpDownVisualQuestionAnsweringPipeline, tmp_path: Path) -> None:
    vqa.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.py"))  # code is for `updown push`, which writes all of it
    assert same(pipeline("visual-question-answering", model=str(tmp_path), device="cpu")(ROWS), vqa(ROWS))


def test_rows_about_one_image_are_merged() -> None:
    texts = [
        (image, Question(str(place), place)) for place, image in enumerate(["a.jpg", IMAGES[0], "a.jpg", b"a", b"a"])
    ]
    images, places = merged([ImageQuestions(image, (question,), question.place) for image, question in texts])
    assert [[question.text for question in image.questions] for image in images] == [["0", "2"], ["1"], ["3", "4"]]
    assert places == [0, 2, 1, 3, 4]


def test_a_batch_has_each_image_once() -> None:
    images = [{"pixel_values": torch.full((1, 3, 2, 2), float(number))} for number in (1, 1, 2, 1)]
    items = [{"photo": image, "questions": [place, place]} for place, image in enumerate(images)]
    joined = join_questions(items)
    assert joined["photos"]["pixel_values"][:, 0, 0, 0].tolist() == [1, 2, 1]
    assert joined["image_index"].tolist() == [0, 0, 0, 0, 1, 1, 2, 2]
    assert joined["questions"] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_scores_are_of_the_answers_asked_for() -> None:
    class Output:
        logits = torch.tensor([[0.0, 2.0, -2.0]])
        choice_logits = torch.tensor([[1.0, 1.0, float("-inf")]])

    assert scores_of(Question("q"), Output, 0).tolist() == pytest.approx([0.5, 0.8808, 0.1192], abs=1e-4)
    by_vocabulary = Question("q", choices=("c", "a"), answer_ids=(2, 0))
    assert scores_of(by_vocabulary, Output, 0).tolist() == pytest.approx([0.1192, 0.5], abs=1e-4)
    assert scores_of(Question("q", choices=("c", "a")), Output, 0).tolist() == [0.5, 0.5]


def test_lists_of_questions_come_in_many_kinds() -> None:
    assert question_list("is it?") == "is it?" and question_list(None) is None and question_list(b"is") == b"is"
    assert question_list(("a", "b")) == question_list(np.array(["a", "b"])) == ["a", "b"]
