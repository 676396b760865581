"""`uniter`: hidden states, heads, losses and gradients of UNITER's own code, every tensor used, mistakes named."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForPreTraining, AutoModelForVisualQuestionAnswering

from modeling_updown import (
    UpDownFusionForGrounding,
    UpDownFusionForImageTextRetrieval,
    UpDownFusionForMultipleChoice,
    UpDownFusionForPreTraining,
    UpDownFusionForVisualEntailment,
    UpDownFusionForVisualQuestionAnswering,
    UpDownFusionModel,
    UpDownProcessor,
)
from modeling_updown.losses_updown import answer_loss, mlm_loss, mrc_ce_loss
from modeling_updown.regions_updown import Regions
from tests.shared_files import shared
from training.cli import main
from training.convert.checkpoint import convert_checkpoint
from training.convert.weights import read_weights

NEAR = 1e-5  # float32 beside the reference's float64
Golden = dict[str, torch.Tensor]
pytestmark = pytest.mark.filterwarnings("ignore:the options name none of the")


@pytest.fixture(scope="module")
def golden() -> Golden:
    return load_file(shared("golden/reference/uniter.safetensors"))


@pytest.fixture(scope="module")
def options() -> dict[str, Any]:
    return json.loads(shared("golden/reference/uniter.json").read_text())


def converted(options: dict[str, Any], **more: Any) -> Any:
    path = shared("golden/reference/uniter.safetensors")
    return convert_checkpoint("uniter", path, config=options | more).model


@pytest.fixture(scope="module")
def pretrained(options) -> UpDownFusionForPreTraining:
    return converted(options)


def inputs(golden: Golden, task: str) -> dict[str, torch.Tensor]:
    """What the reference packed into one row of words and regions, as the fusion model takes it.

    A packed row is the words of a text, then the regions of its image, then padding; `gather_index` says which of the
    padded words (from 0) or regions (after them) stands in each place.
    """
    given = {name: golden[f"in.{task}.{name}"] for name in ("input_ids", "img_feat", "img_pos_feat", "gather_index")}
    real, num_texts = golden[f"in.{task}.attn_masks"].bool(), len(given["gather_index"])
    most_words, most_regions = given["input_ids"].shape[1], given["img_feat"].shape[1]
    num_words = (real & (given["gather_index"] < most_words)).sum(dim=1, keepdim=True)
    num_regions = real.sum(dim=1, keepdim=True) - num_words
    return {
        "input_ids": given["input_ids"].expand(num_texts, -1),
        "attention_mask": torch.arange(most_words) < num_words,
        "region_features": given["img_feat"].float().expand(num_texts, -1, -1),
        "region_boxes": given["img_pos_feat"][..., :4].float().expand(num_texts, -1, -1),
        "region_mask": torch.arange(most_regions) < num_regions,
    }


def assert_packed(states: torch.Tensor, expected: torch.Tensor, given: dict[str, torch.Tensor]) -> None:
    """States (N, T + R, H) of what is real are the reference's packed rows, within 1e-5."""
    for row, real in enumerate(torch.cat([given["attention_mask"], given["region_mask"]], dim=1)):
        found = states[row][real]
        torch.testing.assert_close(found.double(), expected[row, : len(found)], atol=NEAR, rtol=NEAR)


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found.double(), expected, atol=NEAR, rtol=NEAR)


@torch.no_grad()
def test_every_layer_is_that_of_the_reference(golden, pretrained):
    given = inputs(golden, "itm")
    output = pretrained.fusion(**given, output_hidden_states=True)
    for name, states in zip(("joint_emb", "hidden1", "hidden2", "hidden3"), output.hidden_states, strict=True):
        assert_packed(states, golden[f"out.base.{name}"], given)
    assert_packed(output.last_hidden_state, golden["out.base.hidden3"], given)
    assert_near(output.pooler_output, golden["out.base.pooled"])


@torch.no_grad()
def test_words_and_regions_are_embedded_as_there(golden, pretrained):
    given = inputs(golden, "itm")
    fusion, real = pretrained.fusion, given["region_mask"]
    regions = Regions(given["region_features"], given["region_boxes"], real)
    assert_near(fusion.embed_regions(regions)[real], golden["out.base.img_emb"][real])
    words = fusion(given["input_ids"], attention_mask=given["attention_mask"], output_hidden_states=True)
    seen = given["attention_mask"]
    assert_near(words.hidden_states[0][seen], golden["out.base.txt_emb"][seen])
    assert_near(words.last_hidden_state[seen], golden["out.base.hidden_text_only"][seen])


@torch.no_grad()
def test_masked_regions_carry_the_mask_embedding(golden, pretrained):
    """The reference adds it to features that it has not zeroed here."""
    given, masked = inputs(golden, "itm"), golden["in.base.img_masks"]
    shown: Any = {"seen_features": given["region_features"], "output_hidden_states": True}
    output = pretrained(**given, masked_regions=masked, object_probs=torch.full((3, 7, 13), 1 / 13), **shown)
    assert_packed(output.hidden_states[-1], golden["out.base.hidden_masked"], given)
    embedded, real = output.hidden_states[0][:, given["input_ids"].shape[1] :], given["region_mask"]
    assert_near(embedded[real], golden["out.base.img_emb_masked"][real])


def test_matching_and_alignment(golden, pretrained):
    """Log-odds and loss of given pairs, with the optimal transport that the reference adds to them."""
    given, labels = inputs(golden, "itm"), golden["in.itm.targets"]
    pretrained.zero_grad()
    images = pretrained.images(None, given["region_features"], given["region_boxes"], given["region_mask"])
    pairs = (given["input_ids"], given["attention_mask"], images, torch.arange(3))
    joint = pretrained.read_together(*pairs)
    losses = pretrained.joint_losses(joint, labels, *pairs)
    scores = golden["out.itm.scores"]
    assert_near(pretrained.match_of(joint, *pairs), scores[:, 1] - scores[:, 0])
    assert_near(losses["itm"], golden["out.itm.loss"].mean())
    assert_near(losses["wra"], golden["out.itm.ot_loss"])
    assert_near(pretrained.weighted(losses), golden["out.itm.total_loss"])
    pretrained.weighted(losses).backward()
    boxes = pretrained.fusion.region_embedding.of_boxes.weight.grad
    assert_near(boxes, golden["grad.itm.uniter.img_embeddings.pos_linear.weight"])
    words = pretrained.get_input_embeddings().weight.grad
    assert_near(words, golden["grad.itm.uniter.embeddings.word_embeddings.weight"])


def test_masked_words(golden, pretrained):
    given, labels = inputs(golden, "mlm"), golden["in.mlm.txt_labels"]
    pretrained.zero_grad()
    joint = pretrained.fusion(**given)
    scored = labels != -1
    logits = pretrained.word_logits(joint.word_states)
    assert_near(logits[scored], golden["out.mlm.logits"])
    loss = mlm_loss(logits, labels.masked_fill(~scored, -100))
    assert_near(loss, golden["out.mlm.loss"].mean())
    output = pretrained(**given, labels=labels.masked_fill(~scored, -100))
    assert_near(output.losses["mlm"], golden["out.mlm.loss"].mean())
    loss.backward()
    expected = golden["grad.mlm.uniter.embeddings.word_embeddings.weight"]
    assert_near(pretrained.get_input_embeddings().weight.grad, expected)


def test_masked_features(golden, pretrained):
    """The reference ties the head's last matrix to the projection; here the two gradients stand apart."""
    given, masked = inputs(golden, "mrfr"), golden["in.mrfr.img_masks"]
    given["region_features"] = given["region_features"].clone()
    given["region_features"][masked] = golden["in.mrfr.feat_targets"].float()
    pretrained.zero_grad()
    output = pretrained(**given, masked_regions=masked, object_probs=torch.full((3, 7, 13), 1 / 13))
    assert_near(output.region_predictions[masked], golden["out.mrfr.pred"])
    assert_near(output.losses["mrfr"], golden["out.mrfr.loss"].mean())
    output.losses["mrfr"].backward()
    embedding, head = pretrained.fusion.region_embedding, pretrained.feature_head[1]
    both = embedding.of_features.weight.grad + head.weight.grad.T
    assert_near(both, golden["grad.mrfr.uniter.img_embeddings.img_linear.weight"])
    expected = golden["grad.mrfr.uniter.img_embeddings.mask_embedding.weight"]
    assert_near(embedding.of_masked.weight.grad, expected[1:])


@torch.no_grad()
def test_masked_classes_soft_and_hard(golden, pretrained):
    given, masked = inputs(golden, "mrc"), golden["in.mrc.img_masks"]
    probs = torch.full((3, 7, 13), 1 / 13)
    probs[masked] = golden["in.mrc.label_targets"].float()
    output = pretrained(**given, masked_regions=masked, object_probs=probs)
    assert_near(output.object_logits[masked], golden["out.mrc.logits"])
    assert_near(output.losses["mrc_kl"], golden["out.mrckl.loss"].mean())
    assert_near(mrc_ce_loss(output.object_logits, probs, masked), golden["out.mrc.loss"].mean())


@torch.no_grad()
@pytest.mark.parametrize(
    ("task", "kind"), [("vqa", UpDownFusionForVisualQuestionAnswering), ("ve", UpDownFusionForVisualEntailment)]
)
def test_answers_and_entailment(golden, options, task, kind):
    model = converted(options, variant=task)
    assert type(model) is kind
    labels = golden[f"in.{task}.targets"]
    output = model(**inputs(golden, task), labels=labels)
    assert_near(output.logits, golden[f"out.{task}.scores"])
    assert_near(output.loss, golden[f"out.{task}.loss"].sum(dim=1).mean())
    assert_near(answer_loss(output.logits, labels), golden[f"out.{task}.loss"].sum() / len(labels))


@torch.no_grad()
def test_the_ranking_score_is_the_match(golden, options):
    model = converted(options, variant="itm_rank")
    assert isinstance(model, UpDownFusionForImageTextRetrieval)
    for task in ("itm_rank", "itm_hn_image", "itm_hn_text"):
        found = model.match(**inputs(golden, task))
        assert_near(found, golden[f"out.{task}.scores"].squeeze(1))


@torch.no_grad()
@pytest.mark.parametrize("variant", ["re", "re_mlp2"])
def test_referring_expressions(golden, options, variant):
    """Scores of the linear and of the deep head; what is no object there counts -1e4 after the same pass."""
    model = converted(options, variant=variant)
    assert isinstance(model, UpDownFusionForGrounding)
    given, scores = inputs(golden, "re"), golden[f"out.{variant}.scores"]
    real = given["region_mask"]
    found = model(**given).logits[:, 0]
    assert_near(found[real], scores[real])
    assert found[~real].eq(float("-inf")).all() and scores[~real].eq(-1e4).all()
    assert found.argmax(dim=1).tolist() == scores.argmax(dim=1).tolist()
    if variant == "re":
        assert found.argmax(dim=1).tolist() == golden["out.re.argmax"].tolist()
        others = golden["in.re_masked.obj_masks"].bool()
        masked = golden["out.re_masked.scores"]
        assert others[real].any() and masked[others].eq(-1e4).all()
        assert_near(found[~others], masked[~others])
        targets = golden["in.re.targets"].squeeze(1)
        assert_near(torch.nn.functional.cross_entropy(found, targets, reduction="none"), golden["out.re.loss"])


def test_the_loss_of_referring_expressions_is_that_of_the_best_region(golden, options):
    """Given the target's box as the true one; a mean where the reference sums."""
    model, given = converted(options, variant="re"), inputs(golden, "re")
    corners = torch.linspace(0, 0.6, 7)
    boxes = torch.stack([corners, corners, corners + 0.3, corners + 0.3], dim=-1).expand(3, 7, 4)
    targets = golden["in.re.targets"].squeeze(1)
    true = boxes[torch.arange(3), targets][:, None, None]
    output = model(**(given | {"region_boxes": boxes}), labels=true)
    expected = torch.nn.functional.cross_entropy(output.logits[:, 0], targets)
    torch.testing.assert_close(output.loss, expected)
    output.loss.backward()
    assert model.score.weight.grad.abs().max() > 0


@torch.no_grad()
@pytest.mark.parametrize("task", ["vcr_qa", "vcr_qar"])
def test_answers_and_rationales_of_vcr(golden, options, task):
    """Scores and loss, of whole texts, and of candidates that follow their context."""
    model = converted(options, variant="vcr")
    assert isinstance(model, UpDownFusionForMultipleChoice) and model.config.text_config.type_vocab_size == 4
    given, kinds = inputs(golden, task), golden[f"in.{task}.txt_type_ids"]
    images = {name: given.pop(name)[::4] for name in ("region_features", "region_boxes", "region_mask")}
    words = {**given, "token_type_ids": kinds}
    right = golden[f"in.{task}.targets"].view(2, 4).argmax(dim=1)
    output = model(**{name: part.unflatten(0, (2, 4)) for name, part in words.items()}, **images, labels=right)
    assert_near(output.logits.flatten(), golden[f"out.{task}.scores"].squeeze(1))
    assert_near(output.loss, golden[f"out.{task}.loss"])
    last = kinds.max()
    start = int((kinds[0] == last).int().argmax())  # the separator before the candidates, which all stand there
    assert (kinds[:4, start] == last).all() and (kinds[:4, :start] != last).all()
    both = {"input_ids": "choice_input_ids", "attention_mask": "choice_attention_mask"}
    both["token_type_ids"] = "choice_token_type_ids"
    item = {name: part[:1, :start] for name, part in words.items()}
    item |= {both[name]: part[None, :4, start:] for name, part in words.items()}
    found = model(**item, **{name: part[:1] for name, part in images.items()})
    assert_near(found.logits[0], golden[f"out.{task}.scores"][:4, 0])


@torch.no_grad()
def test_vcr_is_evaluated_as_there(golden, options):
    """Four answers, then four rationales with the right answer given, of each of two questions."""
    model, given = converted(options, variant="vcr"), inputs(golden, "vcr_eval")
    words = {**given, "token_type_ids": golden["in.vcr_eval.txt_type_ids"]}
    images = {name: words.pop(name)[::8] for name in ("region_features", "region_boxes", "region_mask")}
    output = model(**{name: part.unflatten(0, (2, 8)) for name, part in words.items()}, **images)
    assert_near(output.logits, golden["out.vcr_eval.scores"])


@torch.no_grad()
def test_a_saved_folder_loads_as_it_was(golden, options, pretrained, tmp_path, capsys):
    """By the command, from the golden file itself, whose options are JSON."""
    (tmp_path / "options.json").write_text(json.dumps(options))
    path, folder = shared("golden/reference/uniter.safetensors"), tmp_path / "out"
    command = ["convert-checkpoint", "uniter", str(path), "--config", str(tmp_path / "options.json")]
    assert main([*command, "--output", str(folder)]) == 0
    assert "UpDownFusionForPreTraining.from_pretrained" in capsys.readouterr().out
    loaded = AutoModelForPreTraining.from_pretrained(folder)
    given = inputs(golden, "itm")
    torch.testing.assert_close(loaded.match(**given), pretrained.match(**given), atol=1e-6, rtol=1e-6)
    assert not loaded.training and loaded.config.objectives["wra"] == 0.1
    processor = UpDownProcessor.from_pretrained(folder)
    assert processor.tokenizer.cls_token_id == loaded.config.cls_token_id == 101


# -- without the golden file --------------------------------------------------------------------------------------


SIZE, WIDTH, WORDS, CLASSES, INNER, PLACES = 8, 6, 12, 4, 10, 9
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "what", "is", "the", "man", "##s", "dog", "Dog"]


def layer(name: str, columns: int, rows: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def norm(name: str, size: int = SIZE) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def body_shapes() -> dict[str, tuple[int, ...]]:
    """The shapes of a UNITER of one layer, written down by hand."""
    block, image = "uniter.encoder.layer.0", "uniter.img_embeddings"
    attention = [layer(f"{block}.attention.self.{name}", SIZE, SIZE) for name in ("query", "key", "value")]
    shapes = {
        "uniter.embeddings.word_embeddings.weight": (WORDS, SIZE),
        "uniter.embeddings.position_embeddings.weight": (PLACES, SIZE),
        "uniter.embeddings.token_type_embeddings.weight": (2, SIZE),
        f"{image}.mask_embedding.weight": (2, WIDTH),
        **norm("uniter.embeddings.LayerNorm"),
        **norm(f"{image}.LayerNorm"),
        **norm(f"{image}.img_layer_norm"),
        **norm(f"{image}.pos_layer_norm"),
        **layer(f"{image}.img_linear", WIDTH, SIZE),
        **layer(f"{image}.pos_linear", 7, SIZE),
        **layer(f"{block}.attention.output.dense", SIZE, SIZE),
        **norm(f"{block}.attention.output.LayerNorm"),
        **layer(f"{block}.intermediate.dense", SIZE, INNER),
        **layer(f"{block}.output.dense", INNER, SIZE),
        **norm(f"{block}.output.LayerNorm"),
        **layer("uniter.pooler.dense", SIZE, SIZE),
    }
    return {name: shape for part in (shapes, *attention) for name, shape in part.items()}


HEAD_SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "itm": layer("itm_output", SIZE, 2),
    "mrc": {
        **layer("region_classifier.net.0", SIZE, SIZE),
        **norm("region_classifier.net.2"),
        **layer("region_classifier.net.3", SIZE, CLASSES),
    },
    "vqa": {
        **layer("vqa_output.0", SIZE, 2 * SIZE),
        **norm("vqa_output.2", 2 * SIZE),
        **layer("vqa_output.3", 2 * SIZE, 3),
    },
}
OPTIONS: dict[str, Any] = {"num_attention_heads": 2, "vocab": PIECES, "ans2label": {"no": 1, "yes": 0, "2": 2}}


def source(*heads: str, **changed: Any) -> dict[str, torch.Tensor]:
    """Random weights with these heads; `changed` adds tensors of a shape, or takes one away (None)."""
    draw = torch.Generator().manual_seed(0)
    shapes = body_shapes()
    for head in heads:
        shapes |= HEAD_SHAPES[head]
    shapes |= changed
    return {name: torch.randn(shape, generator=draw) for name, shape in shapes.items() if shape is not None}


def converted_from(weights: dict[str, torch.Tensor], folder: Path, **options: Any) -> Any:
    save_file(weights, folder / "uniter.safetensors")
    return convert_checkpoint("uniter", folder / "uniter.safetensors", config=OPTIONS | options)


def test_the_class_is_that_of_the_heads(tmp_path):
    body = converted_from(source(), tmp_path).model
    assert type(body) is UpDownFusionModel and not body.config.mask_embedding
    some = converted_from(source("itm", "mrc"), tmp_path, itm_ot_lambda=0).model
    assert type(some) is UpDownFusionForPreTraining
    assert some.config.objectives == {"itm": 1.0, "mrc_kl": 1.0} and some.config.num_objects == CLASSES - 1
    assert some.config.mask_embedding and not hasattr(some, "word_head")
    answers = converted_from(source("vqa"), tmp_path).model
    assert type(answers) is UpDownFusionForVisualQuestionAnswering
    assert answers.config.id2label == {0: "yes", 1: "no", 2: "2"}
    classes = {"neutral": 0, "entailment": 1, "contradiction": 2}
    for named, first in ((classes, "neutral"), (None, "contradiction")):  # UNITER's own order where none is named
        judging = converted_from(source("vqa"), tmp_path, ans2label=named).model
        assert type(judging) is UpDownFusionForVisualEntailment and judging.config.id2label[0] == first
        assert judging.config.problem_type == "multi_label_classification"


def test_every_tensor_is_used_as_it_is_or_folded(tmp_path):
    weights = source("vqa")
    model = converted_from(weights, tmp_path).model
    ours = model.state_dict()
    left = dict(ours)
    for name, value in weights.items():
        same = [key for key, tensor in left.items() if tensor.shape == value.shape and torch.equal(tensor, value)]
        if name in ("uniter.img_embeddings.pos_layer_norm.bias", "uniter.img_embeddings.mask_embedding.weight"):
            assert not same
            continue
        assert len(same) == 1, name
        left.pop(same[0])
    assert list(left) == ["fusion.region_embedding.norm_boxes.bias"]
    kinds = weights["uniter.embeddings.token_type_embeddings.weight"]
    expected = weights["uniter.img_embeddings.pos_layer_norm.bias"] + kinds[1]
    assert torch.equal(left["fusion.region_embedding.norm_boxes.bias"], expected)


@torch.no_grad()
def test_a_converted_answerer_reads_cased_words(tmp_path):
    made = converted_from(source("vqa"), tmp_path)
    made.save(tmp_path / "out")
    model = AutoModelForVisualQuestionAnswering.from_pretrained(tmp_path / "out")
    processor = UpDownProcessor.from_pretrained(tmp_path / "out")
    words = processor(text=["what is the Dog", "the mans dog"], padding=True, return_tensors="pt")
    assert words["input_ids"].tolist() == [[2, 5, 6, 7, 11, 3], [2, 7, 8, 9, 10, 3]]
    boxes = torch.tensor([[0.0, 0.0, 0.5, 1.0], [0.2, 0.1, 0.9, 0.4]])
    given = {
        "region_features": torch.arange(2.0 * 2 * WIDTH).sin().view(2, 2, WIDTH),
        "region_boxes": boxes.expand(2, 2, 4),
    }
    given |= {name: words[name] for name in ("input_ids", "attention_mask")}
    torch.testing.assert_close(model(**given).logits, made.model(**given).logits, atol=1e-6, rtol=1e-6)


def test_mistakes_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"missing uniter\.pooler\.dense\.bias; unexpected extra\.weight"):
        converted_from(source(**{"uniter.pooler.dense.bias": None, "extra.weight": (2,)}), tmp_path)
    with pytest.raises(ValueError, match=r"missing region_classifier\.net\.3\.bias"):
        converted_from(source("mrc", **{"region_classifier.net.3.bias": None}), tmp_path)
    with pytest.raises(ValueError, match="has the heads itm, vqa, of different tasks"):
        converted_from(source("itm", "vqa"), tmp_path)
    with pytest.raises(ValueError, match="num_attention_heads must divide the width 8, it is 0"):
        converted_from(source(), tmp_path, num_attention_heads=None)
    with pytest.raises(ValueError, match="num_attention_heads must divide the width 8, it is 3"):
        converted_from(source(), tmp_path, num_attention_heads=3)
    with pytest.raises(ValueError, match="name 13 words, but the weights have 12"):
        converted_from(source(), tmp_path, vocab=[*PIECES, "more"])
    with pytest.raises(ValueError, match="the option tokenizer: no tokenizer in"):
        converted_from(source(), tmp_path, tokenizer=str(tmp_path / "nothing"))
    several = {f"model.{name}": value for name, value in source("itm").items()}
    several |= {f"vqa.model.{name}": torch.zeros(shape) for name, shape in HEAD_SHAPES["vqa"].items()}
    with pytest.raises(ValueError, match="holds no model 're': choose one of vqa"):
        converted_from(several, tmp_path, variant="re")


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("uniter.img_embeddings.pos_layer_norm.bias", (1,)),
        ("uniter.img_embeddings.img_linear.weight", (SIZE * WIDTH,)),
        ("uniter.embeddings.token_type_embeddings.weight", (1, SIZE)),
        ("uniter.encoder.layer.0.intermediate.dense.weight", ()),
        ("itm_output.bias", ()),
        ("region_classifier.net.3.bias", ()),
    ],
)
def test_a_tensor_of_another_shape_is_refused_by_its_name(tmp_path, name, shape):
    """The first would be added to the type of regions by broadcasting."""
    with pytest.raises(ValueError, match=f"not uniter: {name} should be .*, it is "):
        converted_from(source("itm", "mrc", **{name: shape}), tmp_path)


def test_missing_tensors_of_a_layer_are_named(tmp_path):
    dense = "uniter.encoder.layer.0.intermediate.dense"
    with pytest.raises(ValueError, match=rf"missing {dense}\.bias, {dense}\.weight; unexpected nothing"):
        converted_from(source(**{f"{dense}.bias": None, f"{dense}.weight": None}), tmp_path)
    without = {name: None for name in body_shapes() if ".layer." in name}
    with pytest.raises(ValueError, match=r"missing uniter\.encoder\.layer\.0\.attention\.output\.LayerNorm\.bias"):
        converted_from(source(**without), tmp_path)
    with pytest.raises(ValueError, match="have 1 layers, but the option num_hidden_layers is 12"):
        converted_from(source(), tmp_path, num_hidden_layers=12)


def test_words_scored_by_other_embeddings_are_refused(tmp_path):
    head = {
        **layer("cls.predictions.transform.dense", SIZE, SIZE),
        **norm("cls.predictions.transform.LayerNorm"),
        "cls.predictions.bias": (WORDS,),
        "cls.predictions.decoder.weight": (WORDS, SIZE),
    }
    with pytest.raises(ValueError, match=r"decoder\.weight differs from .*word_embeddings"):
        converted_from(source(**head), tmp_path)
    weights = source(**head)
    weights["cls.predictions.decoder.weight"] = weights["uniter.embeddings.word_embeddings.weight"].clone()
    model = converted_from(weights, tmp_path).model
    assert torch.equal(model.word_head.word_bias, weights["cls.predictions.bias"])


def test_a_word_without_a_name_gets_one(tmp_path):
    with pytest.warns(UserWarning, match="none of the 12 words.*bert-base-cased"):
        made = converted_from(source(), tmp_path, vocab=None)
    assert made.processor.tokenizer.convert_ids_to_tokens([0, 2, 5]) == ["[PAD]", "[CLS]", "w5"]
    assert made.model.config.cls_token_id == 2 and read_weights(tmp_path / "uniter.safetensors")
