"""`pipeline("visual-question-answering")` with a region source given: transformers' LXMERT and VisualBERT, and fusion
models without a source, score as their classes do on the detector's regions; what does not fit is named."""

from typing import Any

import pytest
import torch
from transformers import (
    BertTokenizer,
    LxmertConfig,
    LxmertForQuestionAnswering,
    PreTrainedModel,
    VisualBertConfig,
    VisualBertForQuestionAnswering,
    pipeline,
)

from modeling_updown import Regions, UpDownVisualQuestionAnsweringPipeline

from .. import tiny

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "is", "it", "red", "a", "dog", "?"]
ANSWERS = ["yes", "no", "red"]
QUESTIONS = ["is it red?", "dog"]
WIDTH = 128  # of the tiny detector's regions
SIZE: dict[str, Any] = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": len(PIECES)}
SHAPES = (("region_features", (2, 3, 4)), ("region_boxes", (2, 3, 4)))


def tokenizer() -> BertTokenizer:
    return BertTokenizer({piece: number for number, piece in enumerate(PIECES)}, model_max_length=20)


def lxmert(width: int = WIDTH) -> LxmertForQuestionAnswering:
    """A random LXMERT of a layer each, whose config names no answers."""
    torch.manual_seed(0)
    layers = {"l_layers": 1, "x_layers": 1, "r_layers": 1}
    config = LxmertConfig(**SIZE, **layers, num_qa_labels=3, visual_feat_dim=width, max_position_embeddings=20)
    return LxmertForQuestionAnswering(config).eval()


def visual_bert() -> VisualBertForQuestionAnswering:
    torch.manual_seed(0)
    names = dict(enumerate(ANSWERS))
    config = VisualBertConfig(**SIZE, num_hidden_layers=1, visual_embedding_dim=WIDTH, id2label=names)
    return VisualBertForQuestionAnswering(config).eval()


@pytest.fixture(scope="module")
def detector() -> Any:
    return tiny.tiny_detector(score_threshold=0.6)


def answerer(model: PreTrainedModel, detector: Any, **more: Any) -> UpDownVisualQuestionAnsweringPipeline:
    processor = tiny.tiny_question_processor().image_processor
    parts: dict[str, Any] = {"tokenizer": tokenizer(), "image_processor": processor, "device": "cpu"}
    return UpDownVisualQuestionAnsweringPipeline(model, **parts, region_source=detector, **more)


def regions_of(detector: Any, image: Any) -> Regions:
    with torch.no_grad():
        made = detector(**tiny.tiny_question_processor().image_processor(images=image, return_tensors="pt"))
    return Regions(made.region_features, made.region_boxes, made.region_mask)


def assert_scores(found: list[dict[str, Any]], scores: torch.Tensor) -> None:
    """The answers, best first, have these scores of `ANSWERS`."""
    assert [answer["answer"] for answer in found] == [ANSWERS[number] for number in scores.argsort(descending=True)]
    assert [answer["score"] for answer in found] == pytest.approx(
        scores.sort(descending=True).values.tolist(), abs=1e-5
    )


def same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> bool:
    scores = pytest.approx([answer["score"] for answer in expected], abs=1e-5)
    return [a["answer"] for a in found] == [a["answer"] for a in expected] and [a["score"] for a in found] == scores


@torch.no_grad()
def test_lxmert_answers_about_an_image(detector: Any) -> None:
    """Its class, called on the detector's regions as LXMERT's own code would, one image and question at a time."""
    model = lxmert()
    vqa = answerer(model, detector, answers=ANSWERS)
    images = [tiny.tiny_image(1), tiny.tiny_image(2)]
    for image in images:
        regions = regions_of(detector, image)
        for question in QUESTIONS:
            words = tokenizer()(question, return_tensors="pt")
            visual = {"visual_feats": regions.region_features, "visual_pos": regions.region_boxes}
            scores = model(words["input_ids"], **visual).question_answering_score[0].sigmoid()
            assert_scores(vqa(image, question), scores)
    rows = [{"image": image, "question": question} for image in images for question in QUESTIONS]
    alone = [vqa(row["image"], row["question"]) for row in rows]
    assert all(same(*pair) for pair in zip(vqa(rows, batch_size=2), alone, strict=True))
    best = vqa(images[0], QUESTIONS[0], choices=["no", "Yes"])
    assert {answer["answer"] for answer in best} == {"no", "Yes"}


@torch.no_grad()
def test_visual_bert_chooses_one_of_its_answers(detector: Any) -> None:
    model, image = visual_bert(), tiny.tiny_image(1)
    vqa, features = answerer(model, detector), regions_of(detector, image).region_features
    words = tokenizer()(QUESTIONS[0], return_tensors="pt")
    seen = {"visual_embeds": features, "visual_attention_mask": torch.ones(features.shape[:2])}
    logits = model(words["input_ids"], attention_mask=words["attention_mask"], **seen).logits[0]
    found = vqa(image, QUESTIONS[0])
    assert_scores(found, logits.softmax(dim=0))
    assert sum(answer["score"] for answer in found) == pytest.approx(1, abs=1e-5)


@torch.no_grad()
def test_a_fusion_model_without_a_source_is_given_one(detector: Any) -> None:
    bert = tiny.tiny_encoder_config(vocab_size=len(PIECES))
    fields: dict[str, Any] = {"vision_config": None, "region_feature_size": WIDTH, "text_config": bert}
    model, image = tiny.tiny_fusion_vqa(**fields, region_embedding="uniter", pooler=True), tiny.tiny_image(1)
    names = model.config.id2label
    found = answerer(model, detector)(image, QUESTIONS, return_regions=True)
    regions = regions_of(detector, image)
    for answers, question in zip(found, QUESTIONS, strict=True):
        scores = model(tokenizer()(question, return_tensors="pt")["input_ids"], **regions).logits[0].sigmoid()
        assert answers[0]["answer"] == names[int(scores.argmax())]
        assert answers[0]["score"] == pytest.approx(scores.max().item(), abs=1e-5)
        assert torch.equal(answers[0]["region_boxes"], regions.region_boxes[0])


def test_what_does_not_fit_is_named(detector: Any) -> None:
    with pytest.raises(ValueError, match="reads regions and has no detector of its own: give .*region_source"):
        answerer(lxmert(), None, answers=ANSWERS)
    with pytest.raises(ValueError, match="makes features of width 128, but LxmertForQuestionAnswering takes 64"):
        answerer(lxmert(64), detector, answers=ANSWERS)
    with pytest.raises(ValueError, match="scores 3 answers, but has names for 2: give answers="):
        answerer(lxmert(), detector)
    for model in (lxmert(), visual_bert()):
        with pytest.raises(ValueError, match="scores 3 answers, but has names for 1"):
            answerer(model, detector, answers=["yes"])
    with pytest.raises(ValueError, match="LxmertForQuestionAnswering has no attention over regions"):
        answerer(lxmert(), detector, answers=ANSWERS)(tiny.tiny_image(1), "red", return_regions=True)


# -- the arguments by themselves


def test_padding_is_zero_whatever_stood_there() -> None:
    draw = torch.Generator().manual_seed(0)
    given = {name: torch.rand(shape, generator=draw) for name, shape in SHAPES}
    mask = torch.tensor([[True, True, False], [True, True, True]])
    for values in given.values():
        values[0, 2] = torch.nan
    regions = Regions(**given, region_mask=mask)
    made = regions.for_lxmert()
    assert list(made) == ["visual_feats", "visual_pos", "visual_attention_mask"]
    assert torch.equal(made["visual_feats"][mask], given["region_features"][mask])
    assert torch.equal(made["visual_pos"][mask], given["region_boxes"][mask])
    assert not made["visual_feats"][0, 2].any() and not made["visual_pos"][0, 2].any()
    assert made["visual_attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    other = regions.for_visual_bert()
    assert torch.equal(other["visual_embeds"], made["visual_feats"])
    assert other["visual_token_type_ids"].tolist() == [[1, 1, 1], [1, 1, 1]]
    assert Regions(given["region_features"], None).for_visual_bert()["visual_attention_mask"].all()


@torch.no_grad()
def test_lxmert_cannot_see_padding() -> None:
    draw = torch.Generator().manual_seed(0)
    features, boxes = torch.rand(1, 5, WIDTH, generator=draw), torch.rand(1, 5, 4, generator=draw)
    model, words = lxmert(), torch.tensor([[2, 5, 6, 7, 3]])
    real = torch.arange(5)[None] < 3
    padded = model(words, **Regions(features, boxes, real).for_lxmert()).question_answering_score
    alone = model(words, **Regions(features[:, :3], boxes[:, :3]).for_lxmert()).question_answering_score
    torch.testing.assert_close(padded, alone, atol=1e-6, rtol=1e-5)


def test_images_without_regions_or_boxes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"images \[1\] of the batch have no region at all"):
        Regions(torch.zeros(2, 1, 4), torch.zeros(2, 1, 4), torch.tensor([[True], [False]])).for_lxmert()
    with pytest.raises(ValueError, match="LXMERT embeds boxes"):
        Regions(torch.zeros(1, 1, 4)).for_lxmert()


def test_regions_may_be_kept_for_the_next_question() -> None:
    """Of the images asked about last; what is answered is the same, also of a source that is given."""
    images, asked = [tiny.tiny_image(1), tiny.tiny_image(2)], "is there a brown dog?"
    parts: dict[str, Any] = {"processor": tiny.tiny_fusion_processor(), "device": "cpu"}
    own, given = tiny.tiny_fusion_vqa(), tiny.tiny_fusion_vqa(vision_config=None, region_feature_size=96)
    for model, more in ((own, {}), (given, {"region_source": tiny.tiny_grid()})):
        every_time = pipeline("visual-question-answering", model=model, **parts, **more)
        expected = [every_time(image, asked) for image in images]
        kept, calls = pipeline("visual-question-answering", model=model, keep_regions=True, **parts, **more), []
        source: Any = more.get("region_source", model.region_source)
        hook = source.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        order = (0, 0, 1, 1, 0)
        assert [kept(images[place], asked) for place in order] == [expected[place] for place in order]
        assert kept(images[0], asked, top_k=1, return_regions=True)[0]["answer"] == expected[0][0]["answer"]
        assert len(calls) == 3
        hook.remove()
