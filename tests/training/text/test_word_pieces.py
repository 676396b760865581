"""Word pieces of the captions: the same in every process, nothing unknown, BERT's special tokens."""

import subprocess
import sys
from pathlib import Path

import pytest

from training.text.word_pieces import pretrained_tokenizer, train_word_pieces

CAPTIONS = ["a dog runs", "two dogs run on a beach", "a child sits on the sand", "dogs and children play"]
SHOW = """from training.text.word_pieces import train_word_pieces
print(sorted(train_word_pieces({}, vocabulary_size=290).get_vocab().items()))
"""


def test_the_same_captions_give_the_same_pieces_in_every_process() -> None:
    run = [sys.executable, "-c", SHOW.format(CAPTIONS)]
    found = {subprocess.run(run, capture_output=True, text=True, check=True).stdout for _ in range(2)}
    assert found == {f"{sorted(train_word_pieces(CAPTIONS, vocabulary_size=290).get_vocab().items())}\n"}


def test_nothing_is_unknown_and_case_is_lost() -> None:
    tokenizer = train_word_pieces(CAPTIONS, vocabulary_size=290)
    ids = tokenizer("A DOG, naïve 犬 🐕")["input_ids"]
    assert tokenizer.unk_token_id not in ids and ids[0] == tokenizer.cls_token_id and ids[-1] == tokenizer.sep_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == "a dog, naïve 犬 🐕"


def test_mistakes_are_named_with_their_cure(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="text.vocabulary_size is 10, but it must be at least 261: bytes"):
        train_word_pieces(CAPTIONS, vocabulary_size=10)
    with pytest.raises(ValueError, match="text.pretrained: no tokenizer in"):
        pretrained_tokenizer(str(tmp_path))
