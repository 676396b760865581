"""`convert_checkpoint`: every tensor used once, nothing unpickled, a folder that loads; parity of what it makes is in
tests/modeling_updown/test_captioning_parity.py."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import GenerationConfig

from modeling_updown import UpDownForImageCaptioning, UpDownProcessor, UpDownTokenizer
from tests.shared_files import shared
from training.cli import main
from training.commands.checkpoint import FORMAT_HELP
from training.convert.captioning import (
    CAPTIONING_LSTM_NAMES,
    CAPTIONING_NAMES,
    captioning_config,
    captioning_weights,
)
from training.convert.checkpoint import FORMATS, convert_checkpoint
from training.convert.weights import read_weights

HIDDEN, WORD, WIDTH, ATTENTION, ROWS = 6, 5, 7, 4, 9  # 8 words and the end token


def source_shapes() -> dict[str, tuple[int, ...]]:
    """The shapes of a tiny UpDownModel of ruotianluo's, written down by hand."""
    gates = 4 * HIDDEN
    return {
        "embed.0.weight": (ROWS, WORD),
        "fc_embed.0.weight": (HIDDEN, WIDTH),
        "fc_embed.0.bias": (HIDDEN,),
        "att_embed.0.weight": (HIDDEN, WIDTH),
        "att_embed.0.bias": (HIDDEN,),
        "logit.weight": (ROWS, HIDDEN),
        "logit.bias": (ROWS,),
        "ctx2att.weight": (ATTENTION, HIDDEN),
        "ctx2att.bias": (ATTENTION,),
        "core.att_lstm.weight_ih": (gates, 2 * HIDDEN + WORD),
        "core.att_lstm.weight_hh": (gates, HIDDEN),
        "core.att_lstm.bias_ih": (gates,),
        "core.att_lstm.bias_hh": (gates,),
        "core.lang_lstm.weight_ih": (gates, 2 * HIDDEN),
        "core.lang_lstm.weight_hh": (gates, HIDDEN),
        "core.lang_lstm.bias_ih": (gates,),
        "core.lang_lstm.bias_hh": (gates,),
        "core.attention.h2att.weight": (ATTENTION, HIDDEN),
        "core.attention.h2att.bias": (ATTENTION,),
        "core.attention.alpha_net.weight": (1, ATTENTION),
        "core.attention.alpha_net.bias": (1,),
    }


def source_weights(**changed: Any) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = source_shapes() | changed
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items() if shape is not None}


@pytest.fixture
def weights_file(tmp_path: Path) -> Path:
    save_file(source_weights(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


WORDS = ["a", "dog", "runs", "the", "cat", "on", "mat", "UNK"]
VOCABULARY = {"vocab": {str(index): word for index, word in enumerate(WORDS, 1)}}


def test_every_number_of_the_source_arrives_once():
    """Each of our numbers is one of the source's (two, for biases), and together they hold each exactly once: with all
    numbers of the source 1, the sum of ours is the count of the source's."""
    ones = {name: torch.ones(shape) for name, shape in source_shapes().items()}
    ours = captioning_weights(ones)
    assert sum(value.sum().item() for value in ours.values()) == sum(value.numel() for value in ones.values())
    for name, value in ones.items():
        changed = captioning_weights(ones | {name: 2 * value})
        difference = sum((changed[key] - ours[key]).sum().item() for key in ours)
        assert difference == value.numel(), name


def test_published_size_is_covered():
    """The full-size model's names and shapes, without their numbers."""
    published = json.loads(shared("golden/published_shapes/updown_captioner_vocab9487.json").read_text())
    source = {entry["name"]: torch.empty(entry["shape"], device="meta") for entry in published["state_dict"]}
    assert sorted(source) == sorted([*CAPTIONING_NAMES.values(), *CAPTIONING_LSTM_NAMES])
    ours = captioning_weights(source)
    with torch.device("meta"):
        model = UpDownForImageCaptioning(captioning_config(source, {}))
    expected = {name: value.shape for name, value in model.state_dict().items()}
    assert {name: value.shape for name, value in ours.items()} == expected
    biases = sum(len(value) for name, value in source.items() if "bias_hh" in name)  # ours has one bias an LSTM
    assert biases and model.num_parameters() == published["n_params"] - biases


@pytest.mark.parametrize("nested", [True, False])
def test_folder_loads_and_captions(weights_file, tmp_path, nested):
    options = {"drop_prob_lm": 0.3, "max_length": 6}
    config = {"config": options, **VOCABULARY, "tensors": {}} if nested else {**options, **VOCABULARY}
    converted = convert_checkpoint("captioning-pytorch", weights_file, config=config, output=tmp_path / "folder")
    loaded = UpDownForImageCaptioning.from_pretrained(tmp_path / "folder")
    for name, value in converted.model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name
    assert loaded.config.region_dropout == loaded.config.word_dropout == loaded.config.output_dropout == 0.3
    assert (loaded.config.vocab_size, loaded.config.unk_token_id) == (9, 8)
    settings = loaded.generation_config
    assert (settings.max_new_tokens, settings.num_beams, settings.length_penalty) == (6, 5, 0.0)
    assert settings.suppress_tokens is None
    words = loaded.generate(region_features=torch.rand(2, 3, WIDTH))
    assert words.shape[0] == 2 and words[:, 0].tolist() == [0, 0] and words.shape[1] <= 7
    tokenizer = UpDownTokenizer.from_pretrained(tmp_path / "folder")
    assert tokenizer.decode([0, 1, 2, 3, 0, 0], skip_special_tokens=True) == "a dog runs"
    assert tokenizer("the cat").input_ids == [0, 4, 5]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 0, 0)
    processor = UpDownProcessor.from_pretrained(tmp_path / "folder")
    assert processor.batch_decode([[0, 5, 6, 0]], skip_special_tokens=True) == ["cat on"]


def test_settings_of_decoding(weights_file):
    options = {**VOCABULARY, "beam_size": 1, "suppress_UNK": 1, "seq_length": 16}
    settings = convert_checkpoint("captioning-pytorch", weights_file, config=options).model.generation_config
    assert (settings.num_beams, settings.suppress_tokens, settings.max_new_tokens) == (1, [8], 16)
    settings.save_pretrained(weights_file.parent)  # transformers refuses settings that contradict each other
    assert GenerationConfig.from_pretrained(weights_file.parent).suppress_tokens == [8]


def test_without_config_words_are_placeholders(weights_file):
    with pytest.warns(UserWarning, match="w1 .. w8"):
        converted = convert_checkpoint("captioning-pytorch", weights_file)
    assert converted.processor.decode([0, 1, 8, 0], skip_special_tokens=True) == "w1 w8"
    assert converted.model.config.unk_token_id is None
    assert converted.model.config.region_dropout == 0.5
    assert converted.model.generation_config.max_new_tokens == 20


@pytest.mark.parametrize(
    "options",
    [
        {"ix_to_word": VOCABULARY["vocab"]},
        {"opt": {"beam_size": 5}, "vocab": VOCABULARY["vocab"]},
        {"vocab": WORDS},
        {"vocab": ["<end>", *WORDS]},
        {"vocab": {word: int(index) for index, word in VOCABULARY["vocab"].items()}},
        {"config": None, "ix_to_word": {"0": "<end>", **VOCABULARY["vocab"]}},
    ],
)
def test_the_words_in_every_layout(weights_file, options):
    converted = convert_checkpoint("captioning-pytorch", weights_file, config=options)
    assert converted.processor.batch_decode([[0, 1, 7, 0]], skip_special_tokens=True) == [f"{WORDS[0]} {WORDS[6]}"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab": WORDS[:5]}, "names 4 words but the weights have 8"),
        ({"vocab": "vocabulary.txt"}, r"the option vocab should name the words, .* it is 'vocabulary.txt'"),
        ({"vocab": [1, 2]}, "the option vocab should name the words"),
        ({"vocab": {"one": "a"}}, "the option vocab should name the words"),
        ({"vocab": {"1": "a", "01": "b"}}, "the option vocab should name the words"),
        ({**VOCABULARY, "beam_size": "five"}, "the option beam_size is 'five', which is not a number"),
        ({**VOCABULARY, "drop_prob_lm": [0.5]}, "the option drop_prob_lm is .* not a number"),
        ({**VOCABULARY, "seq_length": float("inf")}, "the option seq_length is inf, which is not a number"),
    ],
)
def test_options_of_another_layout(weights_file, options, message):
    with pytest.raises(ValueError, match=message):
        convert_checkpoint("captioning-pytorch", weights_file, config=options)


def test_weights_that_are_not_finite_are_named(tmp_path):
    weights = source_weights()
    weights["logit.bias"][3] = torch.nan
    weights["ctx2att.weight"][0, 0] = torch.inf
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="hold NaN or infinity in ctx2att.weight, logit.bias: the training diverged"):
        convert_checkpoint("captioning-pytorch", tmp_path / "model.safetensors", config=VOCABULARY)


def test_help_names_every_format():
    assert FORMAT_HELP.replace(" or ", ", ").split(", ") == list(FORMATS)


def test_golden_inputs_and_outputs_are_passed_over(tmp_path):
    """A golden file holds the weights under `model.` between inputs, outputs and gradients."""
    weights = source_weights()
    golden = {f"model.{name}": value for name, value in weights.items()}
    golden |= {f"grad.nomask.{name}": 2 * value for name, value in weights.items()}
    golden |= {"in.att_feats": torch.zeros(1), "out.mask.xe_loss": torch.zeros(1), "sc.gts.0": torch.zeros(1)}
    save_file(golden, tmp_path / "golden.safetensors")
    assert sorted(read_weights(tmp_path / "golden.safetensors")) == sorted(weights)


def test_torch_files(tmp_path):
    weights = source_weights()
    expected = weights["logit.weight"]
    for number, content in enumerate([weights, {"state_dict": {f"module.{n}": v for n, v in weights.items()}}]):
        path = tmp_path / f"model{number}.pth"
        torch.save(content, path)
        torch.testing.assert_close(read_weights(path)["logit.weight"], expected)
    half = {name: value.half() for name, value in weights.items()}
    torch.save(half, tmp_path / "half.bin")
    assert read_weights(tmp_path / "half.bin")["logit.weight"].dtype == torch.float32


class Harmful:
    def __reduce__(self) -> tuple:
        return (print, ("unpickled",))


def test_nothing_is_unpickled(tmp_path, capsys):
    torch.save({"weights": source_weights(), "opt": Harmful()}, tmp_path / "infos.pth")
    with pytest.raises(ValueError, match="never unpickled.*save_file"):
        read_weights(tmp_path / "infos.pth")
    with pytest.raises(ValueError, match=r"is a folder: name the file of weights in it"):
        read_weights(tmp_path)
    assert "unpickled" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("broken.safetensors", b"\xff\xff\xff\xff\xff\xff\xff\x7f{}", "not a complete safetensors"),
        ("empty.safetensors", b"", "not a complete safetensors"),
        ("broken.pth", b"not a checkpoint", "damaged"),
        ("model.pkl", b"", "should end in"),
    ],
)
def test_broken_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_weights(tmp_path / name)


def test_files_without_a_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        read_weights(tmp_path / "absent.safetensors")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds a list"):
        read_weights(tmp_path / "list.pth")
    torch.save({"epoch": 3}, tmp_path / "number.pth")
    with pytest.raises(ValueError, match="epoch"):
        read_weights(tmp_path / "number.pth")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"logit.bias": None, "ctx2att.bias": None}, "missing ctx2att.bias, logit.bias; unexpected nothing"),
        ({"att_embed.4.running_mean": (3,)}, "missing nothing; unexpected att_embed.4.running_mean"),
        ({"fc_embed.0.weight": (HIDDEN, 3)}, "image vector of width 3 and regions of width 7"),
        ({"core.att_lstm.weight_ih": (24, 11)}, "11 columns, not the 17"),
        ({"core.lang_lstm.weight_hh": (24, 5)}, "do not fit together.*language_lstm"),
    ],
)
def test_weights_that_do_not_fit(tmp_path, changed, message):
    save_file(source_weights(**changed), tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="(?s)" + message):
        convert_checkpoint("captioning-pytorch", tmp_path / "model.safetensors", config=VOCABULARY)


def test_other_mistakes(weights_file):
    with pytest.raises(ValueError, match="unknown checkpoint format 'captioning'; known are .*captioning-pytorch"):
        convert_checkpoint("captioning", weights_file)
    with pytest.raises(ValueError, match="names 2 words but the weights have 8"):
        convert_checkpoint("captioning-pytorch", weights_file, config={"vocab": {"1": "a", "2": "b"}})


def test_command(weights_file, tmp_path):
    content = json.dumps({"config": {}, **VOCABULARY})
    (tmp_path / "options.json").write_text(content, encoding="utf-8-sig")  # with a byte order mark
    options = ["--config", str(tmp_path / "options.json"), "--output", str(tmp_path / "out")]
    assert main(["convert-checkpoint", "captioning-pytorch", str(weights_file), *options]) == 0
    assert UpDownForImageCaptioning.from_pretrained(tmp_path / "out").config.vocab_size == 9
