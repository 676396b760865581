"""`vqa-pytorch`: every tensor used as it is, one of several models chosen, a folder that loads; parity of what it makes
is in tests/modeling_updown/test_vqa_parity.py."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from modeling_updown import UpDownForVisualQuestionAnswering, UpDownProcessor, UpDownVqaConfig
from tests.shared_files import shared
from training.cli import main
from training.convert.checkpoint import convert_checkpoint
from training.convert.vqa import chosen_variant, vqa_config, vqa_names

WORDS, WORD, HIDDEN, WIDTH, ANSWERS = ["what", "is", "the", "man", "'s", "name"], 5, 6, 7, ["yes", "no", "2"]
OPTIONS: dict[str, Any] = {"question_vocab": WORDS, "ans2label": {"no": 1, "yes": 0, "2": 2}}
ATTENTIONS = ["multiply", "concat"]
BOTH = pytest.mark.parametrize("attention", ATTENTIONS)


def layer(name: str, columns: int, rows: int) -> dict[str, tuple[int, ...]]:
    """A weight-normed layer: bias, direction, length."""
    return {f"{name}.bias": (rows,), f"{name}.weight_g": (), f"{name}.weight_v": (rows, columns)}


def source_shapes(attention: str) -> dict[str, tuple[int, ...]]:
    """The shapes of a tiny model of hengyuan-hu's, written down by hand."""
    gates = 3 * HIDDEN
    attentions = {
        "multiply": layer("v_att.v_proj.main.0", WIDTH, HIDDEN) | layer("v_att.q_proj.main.0", HIDDEN, HIDDEN),
        "concat": layer("v_att.nonlinear.main.0", WIDTH + HIDDEN, HIDDEN),
    }
    return {
        "w_emb.emb.weight": (len(WORDS) + 1, WORD),
        "q_emb.rnn.weight_ih_l0": (gates, WORD),
        "q_emb.rnn.weight_hh_l0": (gates, HIDDEN),
        "q_emb.rnn.bias_ih_l0": (gates,),
        "q_emb.rnn.bias_hh_l0": (gates,),
        **attentions[attention],
        **layer("v_att.linear", HIDDEN, 1),
        **layer("q_net.main.0", HIDDEN, HIDDEN),
        **layer("v_net.main.0", WIDTH, HIDDEN),
        **layer("classifier.main.0", HIDDEN, 2 * HIDDEN),
        **layer("classifier.main.3", 2 * HIDDEN, len(ANSWERS)),
    }


def source_weights(attention: str = "multiply", **changed: Any) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = source_shapes(attention) | changed
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items() if shape is not None}


def saved(weights: dict[str, torch.Tensor], folder: Path) -> Path:
    save_file(weights, folder / "model.safetensors")
    return folder / "model.safetensors"


@BOTH
def test_folder_holds_every_tensor_as_it_is(tmp_path, attention):
    source = source_weights(attention)
    convert_checkpoint("vqa-pytorch", saved(source, tmp_path), config=OPTIONS, output=tmp_path / "out")
    loaded = UpDownForVisualQuestionAnswering.from_pretrained(tmp_path / "out")
    tensors, names = loaded.state_dict(), vqa_names(attention)
    assert sorted(tensors) == sorted(names) and sorted(names.values()) == sorted(source)
    for ours, theirs in names.items():
        assert torch.equal(tensors[ours], source[theirs]), ours
    assert not loaded.training
    config = loaded.config
    assert (config.activation, config.weight_norm, config.attention) == ("relu", True, attention)
    assert (config.vocab_size, config.pad_token_id, config.num_answers) == (7, 6, 3)
    assert config.id2label == dict(enumerate(ANSWERS))


@BOTH
def test_loaded_folder_answers_as_the_converted_model(tmp_path, attention):
    path = saved(source_weights(attention), tmp_path)
    converted = convert_checkpoint("vqa-pytorch", path, config={"config": OPTIONS}, output=tmp_path / "out")
    model = UpDownForVisualQuestionAnswering.from_pretrained(tmp_path / "out")
    processor = UpDownProcessor.from_pretrained(tmp_path / "out")
    texts = ["What is the man's name?", "zebra, is?", "the"]
    words = processor(text=texts, padding="max_length", return_tensors="pt")
    assert words["input_ids"].tolist() == [[6] * 8 + [0, 1, 2, 3, 4, 5], [6] * 12 + [6, 1], [6] * 13 + [2]]
    assert words["attention_mask"].sum(dim=1).tolist() == [6, 2, 1]
    images = {"region_features": torch.randn(3, 4, WIDTH)}
    with torch.no_grad():
        expected, logits = (one(**words, **images).logits for one in (converted.model, model))
    torch.testing.assert_close(logits, expected, rtol=0, atol=0)
    assert logits.std(dim=0).min() > 0


def by_hand(source: dict[str, torch.Tensor], name: str, inputs: torch.Tensor) -> torch.Tensor:
    direction = source[f"{name}.weight_v"]
    weight = source[f"{name}.weight_g"] * direction / direction.square().sum().sqrt()
    return inputs @ weight.T + source[f"{name}.bias"]


@BOTH
def test_equations_of_the_reference(tmp_path, attention):
    """Its own modules in a few lines: torch's GRU over 14 words, the padding in front; ReLU layers of one length."""
    source = source_weights(attention)
    model = convert_checkpoint("vqa-pytorch", saved(source, tmp_path), config=OPTIONS).model
    words = torch.tensor([[6] * 11 + [0, 1, 5], [3, 2] * 7])
    regions = torch.randn(2, 4, WIDTH)
    gru = torch.nn.GRU(WORD, HIDDEN, batch_first=True)
    gru.load_state_dict({name.removeprefix("q_emb.rnn."): value for name, value in source.items() if "rnn" in name})
    question = gru(source["w_emb.emb.weight"][words])[1][0]  # whatever the row of the padding holds is read as well
    if attention == "multiply":
        asked = by_hand(source, "v_att.q_proj.main.0", question).relu()
        hidden = by_hand(source, "v_att.v_proj.main.0", regions).relu() * asked[:, None]
    else:
        pairs = torch.cat([regions, question[:, None].expand(-1, 4, -1)], dim=2)
        hidden = by_hand(source, "v_att.nonlinear.main.0", pairs).relu()
    alpha = by_hand(source, "v_att.linear", hidden).softmax(dim=1)  # (2, R, 1)
    attended = (alpha * regions).sum(dim=1)
    joint = by_hand(source, "q_net.main.0", question).relu() * by_hand(source, "v_net.main.0", attended).relu()
    expected = by_hand(source, "classifier.main.3", by_hand(source, "classifier.main.0", joint).relu())
    with torch.no_grad():
        logits = model(words, region_features=regions).logits
    torch.testing.assert_close(logits, expected.detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["baseline0_newatt", "baseline0"])
def test_published_size_is_covered(name):
    """The full-size model's names and shapes, without their numbers."""
    published = json.loads(shared(f"golden/published_shapes/vqa_{name}.json").read_text())
    source = {entry["name"]: torch.empty(entry["shape"], device="meta") for entry in published["state_dict"]}
    attention = "multiply" if name == "baseline0_newatt" else "concat"
    names = vqa_names(attention)
    assert sorted(source) == sorted(names.values())
    with pytest.warns(UserWarning, match=f"none of the {len(source['classifier.main.3.bias'])} answers"):
        config = vqa_config(source, {}, attention=attention)
    with torch.device("meta"):
        model = UpDownForVisualQuestionAnswering(config)
    assert {n: value.shape for n, value in model.state_dict().items()} == {n: source[names[n]].shape for n in names}
    assert model.num_parameters() == published["n_params"]
    assert config.vocab_size == len(source["w_emb.emb.weight"])
    assert config.hidden_size == source["q_emb.rnn.weight_hh_l0"].shape[1]
    assert config.answer_hidden_size == len(source["classifier.main.0.weight_v"])


def test_words_and_answers_that_are_not_named(tmp_path):
    path = saved(source_weights(), tmp_path)
    with pytest.warns(UserWarning) as caught:
        converted = convert_checkpoint("vqa-pytorch", path, config={"label2ans": ["yes"]})
    messages = sorted(str(warning.message) for warning in caught if "the options name" in str(warning.message))
    assert messages[0].startswith("the options name 1 of 3 answers; the others are called 'answer 1' and so on")
    assert messages[1].startswith("the options name none of the 6 words; the others are called 'w0' and so on")
    assert list(converted.model.config.id2label.values()) == ["yes", "answer 1", "answer 2"]
    assert converted.processor.tokenizer("w0 w5").input_ids == [0, 5]


def test_vocabulary_by_id(tmp_path):
    """Ids as JSON has them, in any order; answers in the order of their labels."""
    by_id = {str(index): word for index, word in reversed(list(enumerate(WORDS)))}
    options = {"vocab": by_id, "label2ans": ANSWERS}
    converted = convert_checkpoint("vqa-pytorch", saved(source_weights(), tmp_path), config=options)
    assert converted.processor.tokenizer("the man's name").input_ids == [2, 3, 4, 5]
    assert converted.model.config.label2id == {"yes": 0, "no": 1, "2": 2}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"classifier.main.3.bias": None, "q_net.main.0.weight_g": None},
            "not vqa-pytorch: missing classifier.main.3.bias, q_net.main.0.weight_g; unexpected nothing",
        ),
        ({"q_emb.rnn.weight_ih_l0_reverse": (18, 5)}, "missing nothing; unexpected q_emb.rnn.weight_ih_l0_reverse"),
        ({"q_net.main.0.weight_v": (HIDDEN, 4)}, "do not fit together.*of_question"),
        ({"v_att.linear.weight_v": (2, HIDDEN)}, "do not fit together.*score"),
        ({"q_net.main.0.weight_g": (HIDDEN, 1)}, "do not fit together.*of_question.linear.gain"),
    ],
)
def test_weights_that_do_not_fit(tmp_path, changed, message):
    with pytest.raises(ValueError, match="(?s)" + message):
        convert_checkpoint("vqa-pytorch", saved(source_weights(**changed), tmp_path), config=OPTIONS)


def test_other_models_weights_are_listed(tmp_path):
    path = saved({"embed.0.weight": torch.zeros(3, 2), "logit.bias": torch.zeros(3)}, tmp_path)
    with pytest.raises(ValueError, match=r"missing .*w_emb\.emb\.weight; unexpected embed\.0\.weight, logit\.bias"):
        convert_checkpoint("vqa-pytorch", path, config=OPTIONS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"question_vocab": [*WORDS, "one"]}, "name 7 words, but the weights have 6: they are another model's"),
        ({"ans2label": {"yes": 0, "no": 1, "2": 2, "3": 3}}, "name 4 answers, but the weights have 3"),
        ({"question_vocab": {"0": 5.5}}, "the option question_vocab should name the words"),
        ({"question_vocab": {"what": 1}}, "the option question_vocab names 1 words but none with the index 0"),
        ({"label2ans": [], "ans2label": {"yes": "first"}}, "the option ans2label should name the words"),
        ({"label2ans": ["yes", "no", "no"]}, "answers twice .*'no'"),
        ({"question_vocab": ["what", "is", "the", "man", "is", "name"]}, "'is' has two ids, 1 and 4"),
    ],
)
def test_options_that_do_not_fit(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        convert_checkpoint("vqa-pytorch", saved(source_weights(), tmp_path), config=OPTIONS | options)


def several(folder: Path) -> Path:
    """Both models in one file, beside inputs and gradients, as the golden file has them."""
    file = {"in.q": torch.zeros(1)}
    for name, attention in zip(("newatt", "plain"), ATTENTIONS, strict=True):
        file |= {f"{name}.model.{key}": value for key, value in source_weights(attention).items()}
        file |= {f"{name}.grad.{key}": 2 * value for key, value in source_weights(attention).items()}
    return saved(file, folder)


@pytest.mark.parametrize("variant", [None, "baseline1"])
def test_a_file_of_several_models_wants_a_choice(tmp_path, variant):
    with pytest.raises(ValueError, match=r'several models \(newatt, plain\).*\{"variant": "newatt"\}'):
        convert_checkpoint("vqa-pytorch", several(tmp_path), config=OPTIONS | {"variant": variant})


@pytest.mark.parametrize(("variant", "attention"), [("newatt", "multiply"), ("plain", "concat")])
def test_the_chosen_model(tmp_path, variant, attention):
    converted = convert_checkpoint("vqa-pytorch", several(tmp_path), config=OPTIONS | {"variant": variant})
    assert converted.model.config.attention == attention
    assert torch.equal(converted.model.answers.weight, source_weights(attention)["classifier.main.3.weight_v"])


def run_command(weights: Path, options: dict[str, Any], folder: Path) -> Path:
    (folder / "options.json").write_text(json.dumps(options))
    arguments = ["--config", str(folder / "options.json"), "--output", str(folder / "out")]
    assert main(["convert-checkpoint", "vqa-pytorch", str(weights), *arguments]) == 0
    return folder / "out"


def test_command(tmp_path, capsys):
    folder = run_command(several(tmp_path), {"config": {"variant": "plain"}, **OPTIONS}, tmp_path)
    assert UpDownForVisualQuestionAnswering.from_pretrained(folder).config.attention == "concat"
    assert f'`updown ask IMAGE "QUESTION?" --model {folder}`' in capsys.readouterr().out


def test_command_names_what_is_wrong(tmp_path, capsys):
    weights = saved(source_weights(**{"classifier.main.3.bias": None}), tmp_path)
    assert main(["convert-checkpoint", "vqa-pytorch", str(weights), "--output", str(tmp_path / "out")]) == 2
    assert "missing classifier.main.3.bias; unexpected nothing" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:the options name")
@pytest.mark.parametrize("variant", ["baseline0_newatt", "baseline0"])
@pytest.mark.parametrize("alone", [True, False], ids=["its tensors alone", "the golden file"])
def test_command_on_the_golden_file(tmp_path, variant, alone):
    path = shared("golden/reference/vqa.safetensors")
    golden = load_file(path)
    options: dict[str, Any] = json.loads(shared("golden/reference/vqa.json").read_text())
    if alone:
        path = saved(chosen_variant(golden, variant), tmp_path)
    else:
        options = options | {"variant": variant}
    folder = run_command(path, options, tmp_path)
    model = UpDownForVisualQuestionAnswering.from_pretrained(folder)
    with torch.no_grad():
        logits = model(golden["in.q"], region_features=golden["in.v"]).logits
    torch.testing.assert_close(logits, golden[f"{variant}.out.logits"], atol=1e-5, rtol=1e-5)
    tokenizer = UpDownProcessor.from_pretrained(folder).tokenizer
    for row in options["question_tokens"]:
        assert tokenizer(row["question"]).input_ids == row["ids"]


def test_config_of_the_paper_is_not_the_references():
    """Defaults are the paper's; the converter sets what the reimplementation changed."""
    config = UpDownVqaConfig()
    assert (config.activation, config.weight_norm, config.attention, config.reads_padding) == (
        "gated_tanh",
        False,
        "concat",
        False,
    )
