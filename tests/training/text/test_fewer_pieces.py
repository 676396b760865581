"""A model without the word pieces that its texts never use answers as before, from fewer numbers."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from modeling_updown import UpDownFusionForVisualEntailment, UpDownProcessor
from tests.tiny import (
    CAPTIONS,
    QUESTIONS,
    save_tiny_captioner,
    save_tiny_entailment,
    tiny_entailment,
    tiny_image,
    tiny_masked_lm,
)
from training.text.fewer_pieces import fewer_pieces, main, read_all
from training.text.word_pieces import train_word_pieces

TEXTS = [CAPTIONS[0], QUESTIONS[1]]


def outputs(folder: Path, text: str) -> tuple[torch.Tensor, list[int]]:
    """An entailment model's scores of one image and a text, and the text's pieces."""
    model = UpDownFusionForVisualEntailment.from_pretrained(folder).eval()
    inputs = UpDownProcessor.from_pretrained(folder)(images=tiny_image(), text=text, return_tensors="pt")
    with torch.no_grad():
        return model(**inputs).logits, inputs["input_ids"][0].tolist()


def test_texts_of_kept_pieces_have_the_very_outputs(tmp_path: Path) -> None:
    old, new = save_tiny_entailment(tmp_path / "old"), tmp_path / "new"
    told = fewer_pieces(old, new, TEXTS)
    assert told["kept"] < told["pieces"]
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (old, new)]
    assert sizes[0] - sizes[1] >= told["bytes"] > 0
    for text in (*TEXTS, "a dog rides", "zyx"):  # what is spelt in letters is spelt so in both
        before, after = outputs(old, text), outputs(new, text)
        assert torch.equal(before[0], after[0])
        assert max(after[1]) < told["kept"] and len(before[1]) == len(after[1])


def test_a_word_that_no_text_says_is_spelt_and_not_unknown(tmp_path: Path) -> None:
    old, new = save_tiny_entailment(tmp_path / "old"), tmp_path / "new"
    fewer_pieces(old, new, TEXTS)
    tokenizers = [UpDownProcessor.from_pretrained(folder).tokenizer for folder in (old, new)]
    said = [tokenizer.tokenize("wooden") for tokenizer in tokenizers]
    assert said == [["wooden"], ["w", "##o", "##o", "##d", "##e", "##n"]]
    frames = [tokenizer("a dog")["input_ids"] for tokenizer in tokenizers]
    ends = [[tokenizer.cls_token_id, tokenizer.sep_token_id] for tokenizer in tokenizers]
    assert [[ids[0], ids[-1]] for ids in frames] == ends
    config = json.loads((new / "config.json").read_text())
    assert config["cls_token_id"] == tokenizers[1].cls_token_id and config["text_config"]["pad_token_id"] == 0


def test_all_pieces_of_letters_may_stay(tmp_path: Path) -> None:
    old, new = save_tiny_entailment(tmp_path / "old"), tmp_path / "new"
    fewer_pieces(old, new, TEXTS, letters=True)
    before, after = (set(UpDownProcessor.from_pretrained(folder).tokenizer.get_vocab()) for folder in (old, new))
    assert "wooden" in after
    assert not [piece for piece in before - after if piece.removeprefix("##").isalpha() and piece.isascii()]


def test_weights_but_the_words_stay_to_the_bit(tmp_path: Path) -> None:
    old, new = save_tiny_entailment(tmp_path / "old"), tmp_path / "new"
    fewer_pieces(old, new, TEXTS)
    before, after = (load_file(folder / "model.safetensors") for folder in (old, new))
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert before.keys() == after.keys() and changed == ["fusion.text_model.embeddings.word_embeddings.weight"]


def test_texts_of_files(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("1.jpg#0\ta dog runs\n1.jpg#1\ta dog sits\n")
    (tmp_path / "rows.jsonl").write_text('{"hypothesis": "a cat"}\n')
    places = [str(tmp_path / "lines.txt"), f"{tmp_path / 'rows.jsonl'}:hypothesis"]
    assert list(read_all(places)) == ["a dog runs", "a dog sits", "a cat"]
    with pytest.raises(ValueError, match=r"rows.jsonl, line 1: no 'premise'"):
        list(read_all([f"{tmp_path / 'rows.jsonl'}:premise"]))


def test_what_cannot_lose_pieces_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no config.json"):
        fewer_pieces(tmp_path, tmp_path / "new", TEXTS)
    captioner = save_tiny_captioner(tmp_path / "captioner")
    with pytest.raises(ValueError, match="UpDownForImageCaptioning: pieces are left out of"):
        fewer_pieces(captioner, tmp_path / "new", TEXTS)
    writer = tiny_masked_lm()
    writer.save_pretrained(tmp_path / "writer")
    with pytest.raises(ValueError, match="UpDownFusionForMaskedLM: pieces are left out"):
        fewer_pieces(tmp_path / "writer", tmp_path / "new", TEXTS)
    tiny_entailment().save_pretrained(tmp_path / "wordless")
    with pytest.raises(ValueError, match="wordless has no tokenizer.json"):
        fewer_pieces(tmp_path / "wordless", tmp_path / "new", TEXTS)
    entailment = save_tiny_entailment(tmp_path / "entailment")
    with pytest.raises(ValueError, match="is there: name a new folder"):
        fewer_pieces(entailment, writer_folder := tmp_path / "writer", TEXTS)
    assert writer_folder.is_dir()
    train_word_pieces(TEXTS, vocabulary_size=270).save_pretrained(entailment)
    with pytest.raises(ValueError, match="its tokenizer is BPE: pieces are left out of WordPiece alone"):
        fewer_pieces(entailment, tmp_path / "new", TEXTS)
    assert not (tmp_path / "new").exists()


def test_the_command_says_what_it_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_tiny_entailment(tmp_path / "old")
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    command = [str(folder), "--output", str(tmp_path / "new"), "--texts", str(tmp_path / "texts.txt")]
    assert main(command) == 0
    assert "pieces kept" in capsys.readouterr().out
    assert main(command) == 2  # the folder is there
    assert "fewer_pieces: " in capsys.readouterr().err
