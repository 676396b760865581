"""Reading: a batch is its rows, taught is step by step, beams are the best of all answers, copies say where they stand,
twins of the pointer and of characters, mistakes."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForDocumentQuestionAnswering

from modeling_updown import UpDownForTextReading, UpDownFusionConfig
from modeling_updown.reading_answers_updown import END, START, joined_words
from modeling_updown.reading_layers_updown import BIGRAMS, LETTERS, DynamicPointer, mean_pieces, phoc
from modeling_updown.reading_losses_updown import reading_loss
from tests.tiny import READ_ANSWERS, save_tiny_reading, tiny_fusion_config, tiny_grid_config, tiny_reading

FORMS: dict[str, dict[str, Any]] = {
    "pointer": {},
    "m4c": {"region_embedding": "uniter", "reading_question_layers": 1, "reading_appearance": True},
    "windows": {"reading_characters": "convolution", "reading_order": True, "reading_pointer_size": 6},
    "pieces": {"reading_characters": "", "reading_appearance": False},
    "documents": {"reading_objects": False},
    "classification": {"reading_head": "classification"},
    "lorra": {"reading_head": "lorra"},
    "lorra_documents": {"reading_head": "lorra", "reading_objects": False},
}
WRITING = ("pointer", "m4c", "windows", "pieces", "documents")
COUNT = len(READ_ANSWERS)
WORDS, REGIONS, TOKENS = (3, 1, 0), (4, 2, 1), (5, 3, 1)  # of each of three images


def photos(form: str = "pointer") -> dict[str, torch.Tensor]:
    """Three images with 3, 1 and no OCR words and a question each; padding of words and regions holds NaN."""
    draw = torch.Generator().manual_seed(0)
    corners, places = torch.rand(3, 4, 2, generator=draw) / 2, torch.rand(3, 3, 2, generator=draw) / 2
    inputs = {
        "input_ids": torch.tensor([[2, 9, 8, 7, 3], [2, 11, 3, 0, 0], [12, 0, 0, 0, 0]]),
        "region_features": torch.randn(3, 4, 12, generator=draw),
        "region_boxes": torch.cat([corners, corners + 0.4], dim=-1),
        "region_mask": torch.arange(4) < torch.tensor(REGIONS)[:, None],
        "ocr_boxes": torch.cat([places, places + 0.3], dim=-1),
        "ocr_mask": torch.arange(3) < torch.tensor(WORDS)[:, None],
        "ocr_input_ids": torch.randint(4, 20, (3, 3, 2), generator=draw) * torch.tensor([1, 0]),
        "ocr_characters": torch.randint(1, 257, (3, 3, 6), generator=draw),
        "ocr_features": torch.randn(3, 3, 12, generator=draw),
    }
    inputs["ocr_input_ids"][0, 0, 1] = 7
    for name in ("region_features", "region_boxes"):
        inputs[name][~inputs["region_mask"]] = float("nan")
    for name in ("ocr_boxes", "ocr_features"):
        inputs[name][~inputs["ocr_mask"]] = float("nan")
    if "documents" in form:
        inputs = {name: values for name, values in inputs.items() if not name.startswith("region")}
    return inputs


def row_of(inputs: dict[str, torch.Tensor], row: int) -> dict[str, torch.Tensor]:
    """One image, its words and its question without padding; without words their arguments are left out."""
    lengths = {"input": TOKENS, "region": REGIONS, "ocr": WORDS}
    cut = {}
    for name, values in inputs.items():
        length = lengths[name.split("_")[0]][row]
        if length:
            cut[name] = values[row : row + 1, :length]
    return cut


def assert_near(ours: torch.Tensor, theirs: torch.Tensor, *, atol: float = 2e-5) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=atol)


@torch.no_grad()
@pytest.mark.parametrize("form", FORMS)
def test_a_batch_is_its_rows(form):
    model, inputs = tiny_reading(**FORMS[form]), photos(form)
    steps = 3 if form in WRITING else 1
    chosen = torch.tensor([[START, 5, COUNT + 2], [START, COUNT, 4], [START, 4, 4]])[:, :steps]
    whole = model(**inputs, decoder_input_ids=chosen, output_attentions=True)
    for row, words in enumerate(WORDS):
        alone = model(**row_of(inputs, row), decoder_input_ids=chosen[row : row + 1], output_attentions=True)
        assert alone.logits.shape == (1, steps, COUNT + words)
        assert_near(whole.logits[row, :, : COUNT + words], alone.logits[0])
        assert whole.logits[row, :, COUNT + words :].lt(-9000).all()
        regions = 0 if "documents" in form else REGIONS[row]
        first = 0 if "documents" in form else max(REGIONS)
        for weights, own in zip(whole.attentions, alone.attentions, strict=True):
            assert_near(weights[row, :, :regions], own[0, :, :regions])
            assert_near(weights[row, :, first : first + words], own[0, :, regions:])
            assert_near(weights[row].sum(dim=-1), torch.full((steps,), float(regions + words > 0)))


@torch.no_grad()
@pytest.mark.parametrize("form", WRITING)
def test_taught_is_step_by_step(form):
    model, inputs = tiny_reading(**FORMS[form]), photos(form)
    chosen = torch.tensor([[START, 5, COUNT + 2, COUNT], [START, COUNT, 4, 6], [START, 4, 4, END]])
    taught = model(**inputs, decoder_input_ids=chosen).logits
    for step in range(1, 5):
        assert_near(model(**inputs, decoder_input_ids=chosen[:, :step]).logits[:, -1], taught[:, step - 1])


@torch.no_grad()
@pytest.mark.parametrize("form", WRITING)
def test_greedy_search_is_its_own_loop(form):
    model, inputs = tiny_reading(**FORMS[form]), photos(form)
    allowed = torch.ones(COUNT + 3, dtype=torch.bool)
    allowed[[0, 1, 3]] = False
    chosen = torch.full((3, 1), START)
    for _ in range(model.max_steps):
        scores = model(**inputs, decoder_input_ids=chosen).logits[:, -1].masked_fill(~allowed, float("-inf"))
        chosen = torch.cat([chosen, scores.argmax(dim=-1, keepdim=True)], dim=1)
    over = (chosen == END).cumsum(dim=1) - (chosen == END).long() > 0
    expected = chosen.masked_fill(over, 0)
    written = model.generate(**inputs)
    torch.testing.assert_close(written, expected[:, : written.shape[1]])
    assert not expected[:, written.shape[1] :].any()


def best_of_all(model: UpDownForTextReading, inputs: dict[str, torch.Tensor], *, steps: int) -> tuple[float, list[int]]:
    """The likeliest answer of one image, by scoring all that there are; the log of the product of the softmaxes."""
    numbers = [number for number in range(model.config.num_labels + inputs["ocr_boxes"].shape[1]) if number > 3]
    found = []
    for length in range(steps):
        found += [[*answer, END] for answer in itertools.product(numbers, repeat=length)]
    found += [list(answer) for answer in itertools.product(numbers, repeat=steps)]
    encoded, best = model.encode(**inputs), (float("-inf"), [0])
    for answer in found:
        before = torch.tensor([[START, *answer[:-1]]])
        scores = model(encoded=encoded, decoder_input_ids=before).logits[0].log_softmax(dim=-1)
        best = max(best, (scores[torch.arange(len(answer)), torch.tensor(answer)].sum().item(), answer))
    return best


@torch.no_grad()
@pytest.mark.parametrize("form", ["pointer", "documents"])
@pytest.mark.parametrize("seed", [1, 2])
def test_beams_find_the_best_of_all_answers(form, seed):
    """Three OCR words beside two answers: 5 + 25 + 125 answers, and the empty one."""
    model = tiny_reading(**FORMS[form], id2label=dict(enumerate(READ_ANSWERS[:6])), reading_max_steps=3)
    for weight in model.pointer.parameters():  # copies and answers of about the same scores, which differ
        weight.mul_(3.0 + seed)
    model.answers.weight.mul_(seed)
    inputs = row_of(photos(form), 0)
    score, answer = best_of_all(model, inputs, steps=3)
    out = model.generate(**inputs, num_beams=160, length_penalty=0.0, return_dict_in_generate=True, output_scores=True)
    written = out.sequences[0, 1:].tolist()
    assert written[: len(answer)] == answer and not any(written[len(answer) :])
    assert out.sequences_scores[0].item() == pytest.approx(score, abs=1e-4)
    parts = model.compute_transition_scores(out.sequences, out.scores, out.beam_indices)
    assert parts.sum().item() == pytest.approx(score, abs=1e-4)
    [read] = model.read([["one", "two", "three"]], **inputs, num_beams=160, length_penalty=0.0)
    assert read.score == pytest.approx(float(torch.tensor(score).exp()), abs=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("form", ["classification", "lorra"])
def test_a_single_pass_answers_with_its_best_entry(form):
    model, inputs = tiny_reading(**FORMS[form]), photos(form)
    scores = model(**inputs).logits[:, 0]
    scores[:, [0, 1, 3]] = float("-inf")
    assert model.generate(**inputs)[:, 1].tolist() == scores.argmax(dim=-1).tolist()


@torch.no_grad()
def test_several_answers_and_questions_of_one_image():
    model, inputs = tiny_reading(), photos()
    encoded = model.encode(**inputs)
    chosen = torch.tensor([[START, 4], [START, COUNT], [START, 5], [START, 6], [START, 4], [START, 7]])
    both = model(encoded=encoded, decoder_input_ids=chosen).logits
    for answer in (0, 1):
        assert_near(both[answer::2], model(**inputs, decoder_input_ids=chosen[answer::2]).logits)
    asked = {**inputs, "input_ids": inputs["input_ids"][[1, 0, 0]], "image_index": torch.tensor([1, 0, 1])}
    found = model(**asked).logits
    assert_near(found[:2], model(**inputs).logits[[1, 0]])
    assert (found[2] - found[0]).abs().max() > 1e-4  # another question about the same image


@torch.no_grad()
def test_read_says_what_was_copied_from_where():
    model, inputs = tiny_reading(), photos()
    model.pointer.query.bias.add_(5.0)
    texts = [["STOP", "bus", "12"], ["main"], []]
    answers = model.read(texts, **inputs, token_type_ids=torch.zeros_like(inputs["input_ids"]))
    sequences = model.generate(**inputs)[:, 1:].tolist()
    assert any(word.place is not None for answer in answers for word in answer.words)
    for image, (answer, numbers) in enumerate(zip(answers, sequences, strict=True)):
        assert answer.answer == joined_words(answer.words) and 0 < answer.score < 1
        for word, number in zip(answer.words, numbers, strict=False):
            if number < COUNT:
                assert (word.text, word.place, word.box) == (READ_ANSWERS[number], None, None)
                continue
            place = number - COUNT
            assert (word.text, word.place) == (texts[image][place], place)
            assert word.box == pytest.approx(inputs["ocr_boxes"][image, place].tolist())


@torch.no_grad()
def test_an_image_without_words_is_answered_from_the_vocabulary():
    model, inputs = tiny_reading(), photos()
    without = {name: values for name, values in inputs.items() if not name.startswith("ocr")}
    assert model(**without).logits.shape == (3, 1, COUNT)
    assert_near(model(**without).logits[2], model(**inputs).logits[2, :, :COUNT])
    assert all(word.place is None for answer in model.read([], **without) for word in answer.words)


def test_the_pointer_and_its_gradient_against_a_slow_twin():
    draw = torch.Generator().manual_seed(3)
    pointer = DynamicPointer(size=6, pointer_size=4).double()
    steps = torch.randn(2, 3, 6, generator=draw, dtype=torch.float64, requires_grad=True)
    words = torch.randn(2, 4, 6, generator=draw, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    targets = torch.rand(2, 3, 4, generator=draw, dtype=torch.float64)
    learnt = torch.tensor([[True, True, False], [True, False, False]])
    inputs = [steps, words, *pointer.parameters()]
    ours = torch.autograd.grad(reading_loss(pointer(steps, words, mask), targets, learnt), inputs)
    total = steps.new_zeros(())
    for row, step in learnt.nonzero().tolist():
        for word in range(4):
            query = pointer.query.weight @ steps[row, step] + pointer.query.bias
            key = pointer.key.weight @ words[row, word] + pointer.key.bias
            score = (query * key).sum() / 2.0 - (0.0 if mask[row, word] else 10_000.0)
            right = targets[row, step, word]
            total = total - right * F.logsigmoid(score) - (1 - right) * F.logsigmoid(-score)
    theirs = torch.autograd.grad(total / 3, inputs)
    for own, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-9, atol=1e-9)


def slow_phoc(text: str) -> list[float]:
    """The histogram of a word, letter by letter, in fractions."""
    word = "".join(letter for letter in text.lower() if letter in LETTERS)
    parts: list[float] = []
    for level, kinds, width in (*((level, list(LETTERS), 1) for level in (2, 3, 4, 5)), (2, list(BIGRAMS), 2)):
        for part in range(level):
            found = dict.fromkeys(kinds, 0.0)
            for place in range(len(word) - width + 1):
                begin, end = place / len(word), (place + width) / len(word)
                shared = min(end, (part + 1) / level) - max(begin, part / level)
                if shared / (end - begin) >= 0.5 - 1e-9 and word[place : place + width] in found:
                    found[word[place : place + width]] = 1.0
            parts += found.values()
    return parts


def codes_of(texts: list[str]) -> torch.Tensor:
    length = max(1, *(len(text.encode()) for text in texts))
    return torch.tensor(
        [[*(byte + 1 for byte in text.encode()), *[0] * (length - len(text.encode()))] for text in texts]
    )


def test_histograms_of_characters_against_a_slow_twin():
    texts = ["a", "Stop", "coca-cola", "", "24/7", "the inn", "停x車y", "ON", "aaaaabbbbb", "Resonances!"]
    found = phoc(codes_of(texts))
    assert found.shape == (len(texts), 604) and len(set(BIGRAMS)) == 50
    for own, text in zip(found, texts, strict=True):
        assert own.tolist() == slow_phoc(text), text


def test_pieces_are_means_of_what_is_there():
    table = torch.nn.Embedding(6, 2)
    means = mean_pieces(table, torch.tensor([[[3, 5, 0], [0, 0, 0]]]), padding=0)
    torch.testing.assert_close(means[0, 0], (table.weight[3] + table.weight[5]) / 2)
    assert not means[0, 1].any()


@pytest.mark.parametrize("form", FORMS)
def test_every_weight_learns_that_reads(form):
    model = tiny_reading(**FORMS[form]).train()
    labels = torch.tensor([[COUNT + 1, 5, END], [COUNT, END, -100], [4, END, -100]])
    inputs = {**photos(form), "labels": labels[:, : 3 if form in WRITING else 1]}
    out = model(**inputs)
    out.loss.backward()
    assert out.loss.isfinite()
    idle = {
        name
        for name, weight in model.named_parameters()
        if weight.requires_grad and (weight.grad is None or not weight.grad.any())
    }
    of_words = ("fusion.text_model.embeddings", "question_model.embeddings", "fusion.pooler")
    excused = ("key.bias", *(["norm_ocr.weight", "norm_ocr.bias"] if form == "classification" else []))
    wrong = {name for name in idle if not name.startswith(of_words) and not name.endswith(excused)}
    assert not wrong and model.get_input_embeddings().weight.grad.any()


def test_labels_by_number_and_by_score_are_one_loss():
    model, inputs = tiny_reading(), photos()
    labels = torch.tensor([[COUNT + 1, 5, END], [COUNT, END, -100], [4, END, -100]])
    before = torch.tensor([[START, COUNT + 1, 5], [START, COUNT, END], [START, 4, END]])
    scores = F.one_hot(labels.clamp(min=0), COUNT + 3).float() * (labels >= 0)[..., None]
    by_number = model(**inputs, labels=labels).loss
    assert_near(by_number, model(**inputs, labels=scores, decoder_input_ids=before).loss)
    scores[0, 0, 4] = 0.3  # a second answer, which is a third as right
    assert (model(**inputs, labels=scores, decoder_input_ids=before).loss - by_number).abs() > 1e-4


@torch.no_grad()
def test_saved_and_loaded_again(tmp_path: Path):
    folder = save_tiny_reading(tmp_path, **FORMS["m4c"])
    model = AutoModelForDocumentQuestionAnswering.from_pretrained(folder).eval()
    assert isinstance(model, UpDownForTextReading) and model.generation_config.eos_token_id == END
    torch.testing.assert_close(model(**photos()).logits, tiny_reading(**FORMS["m4c"])(**photos()).logits)
    torch.testing.assert_close(model.generate(**photos()), tiny_reading(**FORMS["m4c"]).generate(**photos()))


@torch.no_grad()
def test_half_precision_and_pixels():
    model, inputs = tiny_reading().to(torch.bfloat16), photos()
    assert model(**inputs).logits.isfinite().all()
    own = tiny_reading(vision_config=tiny_grid_config(), region_feature_size=96)
    words = {name: values[:2] for name, values in inputs.items() if name.startswith(("ocr", "input"))}
    assert own.generate(**words, pixel_values=torch.rand(2, 3, 64, 64), num_beams=2).shape[0] == 2


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"ocr_boxes": None}, "have no ocr_boxes"),
        ({"ocr_input_ids": None}, "reads ocr_input_ids"),
        ({"ocr_characters": torch.ones(3, 2, 4).long()}, "ocr_characters have shape"),
        ({"ocr_mask": torch.ones(3, 2)}, "ocr_mask has shape"),
        ({"ocr_boxes": torch.full((3, 3, 4), float("nan"))}, "ocr_boxes hold NaN"),
        ({"ocr_boxes": torch.zeros(2, 3, 4)}, "ocr_boxes have shape"),
        ({"ocr_boxes": torch.zeros(3, 9, 4)}, "9 OCR words an image, but config.reading_max_ocr is 8"),
        ({"image_index": torch.tensor([[0, 1], [1, 2], [0, 2]])}, "one image a question"),
        ({"decoder_input_ids": torch.full((3, 2), COUNT + 3)}, "decoder_input_ids name 11"),
        ({"decoder_input_ids": torch.ones(3, 6).long()}, "of 1 to 5 steps"),
        ({"decoder_input_ids": torch.ones(2, 1).long()}, "2 answers to 3 questions"),
        ({"labels": torch.full((3, 1), COUNT + 3)}, "labels must be in 0..10"),
        ({"labels": torch.zeros(3, 1, COUNT)}, "labels have shape"),
        ({"labels": torch.zeros(3, 2, COUNT + 3)}, "need decoder_input_ids"),
        ({"input_ids": None}, "either input_ids or inputs_embeds"),
    ],
)
def test_mistakes_are_named(changes, told):
    inputs = {name: values for name, values in {**photos(), **changes}.items() if values is not None}
    with pytest.raises(ValueError, match=told):
        tiny_reading()(**inputs)


def test_words_among_the_regions_are_not_passed_over():
    inputs = {name: values for name, values in photos().items() if not name.startswith("ocr")}
    texts = [["", "STOP", "", ""], [""] * 4, [""] * 4]
    with pytest.raises(ValueError, match="region_texts hold words"):
        tiny_reading().generate(**inputs, region_texts=texts)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"reading_max_steps": 0}, "reading_max_steps=0"),
        ({"reading_dropout": 1.0}, "reading_dropout"),
        ({"reading_subwords": False, "reading_characters": ""}, "nothing says what an OCR word is"),
        ({"reading_question_layers": 1}, "takes region_embedding='uniter'"),
        ({"num_answers": 4}, "has 4 entries"),
    ],
)
def test_wrong_configs_are_refused(fields, told):
    with pytest.raises(ValueError, match=told):
        UpDownForTextReading(UpDownFusionConfig(**{"text_config": tiny_fusion_config().text_config, **fields}))
