"""`pipeline("visual-multiple-choice")`: scores are the model's, dialogues lose old rounds, mistakes named."""

import pytest
import torch
from transformers import pipeline

from modeling_updown import UpDownFusionForMultipleChoice, UpDownMultipleChoicePipeline, pipeline_multiple_choice

from ..tiny import (
    save_tiny_entailment,
    save_tiny_multiple_choice,
    tiny_encoder_config,
    tiny_fusion_processor,
    tiny_grid,
    tiny_image,
    tiny_multiple_choice,
    tiny_tokenizer,
)

QUESTION = "where are the people sitting?"
CHOICES = ["at the table", "on a wave in the ocean", "grass", "with a brown dog"]
CLS, SEP = 2, 3


@pytest.fixture(scope="module")
def choose(tmp_path_factory) -> UpDownMultipleChoicePipeline:
    folder = save_tiny_multiple_choice(tmp_path_factory.mktemp("chooser"))
    return pipeline("visual-multiple-choice", model=str(folder), device="cpu")


@pytest.fixture(scope="module")
def linking(tmp_path_factory) -> UpDownMultipleChoicePipeline:
    """One whose words carry regions."""
    folder = save_tiny_multiple_choice(tmp_path_factory.mktemp("linking"), region_links=True)
    return pipeline("visual-multiple-choice", model=str(folder), device="cpu")


def ids_of(text: str) -> list[int]:
    return tiny_tokenizer()(text, add_special_tokens=False)["input_ids"]


@torch.no_grad()
def by_hand(texts: list[str], choices: list[str], *, image: int = 2, **model) -> dict[str, float]:
    """Each choice by itself: [CLS] text [SEP] text [SEP] choice [SEP], and a softmax over all."""
    context = [CLS, *ids_of(texts[0])]
    for text in texts[1:]:
        context += [SEP, *ids_of(text)]
    pixels = tiny_fusion_processor()(images=tiny_image(image), return_tensors="pt")["pixel_values"]
    scorer = tiny_multiple_choice(**model)
    logits = [
        scorer(torch.tensor([[*context, SEP, *ids_of(choice), SEP]]), pixel_values=pixels).logits for choice in choices
    ]
    return dict(zip(choices, torch.cat(logits).flatten().softmax(dim=0).tolist(), strict=True))


def scores_of(found: dict) -> dict[str, float]:
    return dict(zip(found["labels"], found["scores"], strict=True))


def test_scores_are_those_of_each_choice_by_itself(choose, monkeypatch):
    """In the layout of zero-shot-classification; in passes of several too."""
    assert type(choose) is UpDownMultipleChoicePipeline and type(choose.model) is UpDownFusionForMultipleChoice
    expected = by_hand([QUESTION], CHOICES)
    found = choose(tiny_image(2), QUESTION, choices=CHOICES)
    assert found["sequence"] == QUESTION and scores_of(found) == pytest.approx(expected, abs=1e-5)
    assert found["labels"] == sorted(CHOICES, key=lambda choice: -expected[choice])
    assert sum(found["scores"]) == pytest.approx(1, abs=1e-6) and found["scores"] == sorted(found["scores"])[::-1]
    assert choose(tiny_image(2), QUESTION, choices=CHOICES, top_k=2)["labels"] == found["labels"][:2]
    monkeypatch.setattr(pipeline_multiple_choice, "CHOICES_AT_ONCE", 3)
    assert scores_of(choose(tiny_image(2), QUESTION, choices=CHOICES)) == pytest.approx(expected, abs=1e-5)


def test_texts_before_the_choices_are_read_in_their_order(choose):
    texts = ["a brown dog runs", "is there a ball?", "no", QUESTION]
    found = choose(tiny_image(2), texts, choices=CHOICES, kind="round")
    assert found["sequence"] == texts and scores_of(found) == pytest.approx(by_hand(texts, CHOICES), abs=1e-5)
    rows = [{"image": tiny_image(2), "text": texts, "choices": CHOICES, "kind": "round"}]
    more = {"image": tiny_image(1), "text": QUESTION, "choices": CHOICES[:2]}
    first, second = choose([*rows, more])
    assert scores_of(first) == pytest.approx(scores_of(found), abs=1e-6)
    assert scores_of(second) == pytest.approx(by_hand([QUESTION], CHOICES[:2], image=1), abs=1e-5)
    assert choose(more)["labels"] == second["labels"]


def test_a_long_dialogue_loses_its_oldest_rounds_with_a_word(choose, caplog):
    """64 positions, of which the longest choice leaves 56, for a caption, rounds of 7 tokens each, and the question."""
    rounds = ["is there a", "no"] * 12
    with caplog.at_level("WARNING"):
        found = choose(tiny_image(2), ["a dog", *rounds, QUESTION], choices=CHOICES, kind="round")
    kept = ["a dog", *rounds[-12:], QUESTION]  # 3 + 6 x 7 + 7 = 52; with another round 59
    assert scores_of(found) == pytest.approx(by_hand(kept, CHOICES), abs=1e-5)
    assert "before the choices have 94 tokens; the model reads 56: 12 of its texts are left out" in caplog.text
    caplog.clear()
    with caplog.at_level("WARNING"):
        choose(tiny_image(2), " ".join(["dog"] * 90), choices=CHOICES)
    assert "a text has 90 tokens; the model reads 29 of it: the rest is cut" in caplog.text


@torch.no_grad()
def test_words_carry_the_regions_of_their_boxes(linking):
    """The cell of a grid that covers the box best; the other word carries none."""
    image, text = tiny_image(2), "is [dog1] brown?"
    found = scores_of(linking(image, text, choices=CHOICES, boxes={"dog1": (0, 0, 20, 15)}))
    model, given = tiny_multiple_choice(region_links=True), tiny_fusion_processor()
    boxes = model.region_source(given(images=image, return_tensors="pt")["pixel_values"]).region_boxes[0]
    cell = int((boxes - torch.tensor([0, 0, 0.25, 0.25])).abs().sum(dim=1).argmin())
    asked = given(images=image, text=text, tags={"dog1": [cell]}, return_tensors="pt")
    logits = []
    for choice in CHOICES:
        own = torch.tensor([[[SEP, *ids_of(choice), SEP]]])
        links = asked["word_regions"][:, :-1]
        call = {"word_regions": links, "pixel_values": asked["pixel_values"], "choice_input_ids": own}
        logits.append(model(asked["input_ids"][:, :-1], **call).logits)
    expected = torch.cat(logits).flatten().softmax(dim=0).tolist()
    assert [found[choice] for choice in CHOICES] == pytest.approx(expected, abs=1e-5)
    other = scores_of(
        linking(image, text, choices=CHOICES, boxes={"dog1": {"xmin": 60, "ymin": 45, "xmax": 80, "ymax": 60}})
    )
    assert [other[choice] for choice in CHOICES] != pytest.approx(expected, abs=1e-6)


def test_a_box_that_no_text_names_is_told(linking, caplog):
    boxes = {"dog1": (0, 0, 20, 15), "cat2": (0, 0, 9, 9)}
    with caplog.at_level("WARNING"):
        linking(tiny_image(2), "is [dog1] brown?", choices=CHOICES, boxes=boxes)
    assert "the box of 'cat2' is not read, since no text names it in brackets: write [cat2]" in caplog.text
    assert "dog1" not in caplog.text


def test_a_region_source_may_be_given_and_its_regions_kept(tmp_path):
    folder = save_tiny_multiple_choice(tmp_path, vision_config=None, region_feature_size=96)
    with pytest.raises(ValueError, match="has no detector of its own: give the pipeline region_source="):
        pipeline("visual-multiple-choice", model=str(folder))
    source, calls = tiny_grid(), []
    options = {"model": str(folder), "region_source": source, "device": "cpu"}
    first = pipeline("visual-multiple-choice", **options)(tiny_image(), QUESTION, choices=CHOICES)
    source.register_forward_hook(lambda *_: calls.append(1))
    choose = pipeline("visual-multiple-choice", keep_regions=True, **options)
    for number in range(3):
        assert choose(tiny_image(), QUESTION, choices=CHOICES) == first and len(calls) == 1, number
    assert choose(tiny_image(1), QUESTION, choices=CHOICES) != first and len(calls) == 2


def test_a_short_text_encoder_is_refused(tmp_path):
    """One that has no room for a question beside a choice."""
    short = tiny_encoder_config(max_position_embeddings=8)
    choose = pipeline("visual-multiple-choice", model=str(save_tiny_multiple_choice(tmp_path, text_config=short)))
    assert choose(tiny_image(), "dog", choices=["table", "wave"])["labels"]
    short.max_position_embeddings = 4
    choose.model.config.text_config = short
    with pytest.raises(ValueError, match="the longest candidate has 1 word pieces, and the text encoder reads 4"):
        choose(tiny_image(), "dog", choices=["table", "wave"])


def test_mistakes_are_named(choose, linking, tmp_path):
    image = tiny_image()
    for call, error, message in (
        ((image,), TypeError, "there is nothing to choose"),
        ((image, QUESTION), TypeError, "there is nothing to choose"),
        (([image],), TypeError, "row 0 is no row"),
        (({"image": image},), TypeError, "this is no row"),
        ((image, " ", CHOICES), ValueError, "a text is empty"),
        ((image, [], CHOICES), TypeError, "there is nothing to choose"),
        ((image, QUESTION, ["a", "a"]), ValueError, "choices hold 'a' twice"),
        ((image, QUESTION, ["a", " "]), ValueError, "choices hold ' ', which is not an answer"),
        ((image, QUESTION, "a"), ValueError, "choices must be a list"),
        (("gone.jpg", QUESTION, CHOICES), OSError, "there is no image at gone.jpg"),
    ):
        with pytest.raises(error, match=message):
            choose(*call)
    with pytest.raises(TypeError, match="visual-multiple-choice has no argument threshold"):
        choose(image, QUESTION, choices=CHOICES, threshold=0.1)
    with pytest.raises(ValueError, match="kind is 'turn'; choose one of answer, rationale, round"):
        choose(image, QUESTION, choices=CHOICES, kind="turn")
    with pytest.raises(ValueError, match="top_k is 0"):
        choose(image, QUESTION, choices=CHOICES, top_k=0)
    with pytest.raises(ValueError, match="leave batch_size out"):
        choose(image, QUESTION, choices=CHOICES, batch_size=2)
    with pytest.raises(ValueError, match="this model links no words to regions"):
        choose(image, QUESTION, choices=CHOICES, boxes={"a": (0, 0, 9, 9)})
    with pytest.raises(ValueError, match=r"the tag \[dog1\], which names no region; .* give its box in pixels"):
        linking(image, "is [dog1] here?", choices=CHOICES)
    with pytest.raises(ValueError, match="the box of 'dog1', .*, has no area inside of the image of 80 x 60 pixels"):
        linking(image, "is [dog1] here?", choices=CHOICES, boxes={"dog1": (90, 0, 120, 9)})
    with pytest.raises(ValueError, match="the box of 'dog1' is no xmin, ymin, xmax and ymax"):
        linking(image, "is [dog1] here?", choices=CHOICES, boxes={"dog1": (0, "a", 1, 2)})
    with pytest.raises(ValueError, match="the box of 'dog1', .*nan.*has no area"):
        linking(image, "is [dog1] here?", choices=CHOICES, boxes={"dog1": (0, float("nan"), 1, 2)})
    with pytest.raises(ValueError, match="lacks .* of UpDownFusionForMultipleChoice"):
        pipeline("visual-multiple-choice", model=str(save_tiny_entailment(tmp_path)))
    with pytest.raises(ValueError, match="UpDownGrid does not do visual-multiple-choice"):
        pipeline("visual-multiple-choice", model=tiny_grid(), processor=tiny_fusion_processor())
