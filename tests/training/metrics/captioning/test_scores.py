"""BLEU, ROUGE-L, CIDEr and the self-critical reward against the official evaluator, hand-worked numbers and a twin."""

import gzip
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.benchmarks.cider_reward import END, counted_documents, naive_cider_d, random_caption
from tests.shared_files import shared
from training.metrics.captioning.ngrams import ExactIndex
from training.metrics.captioning.scores import (
    CiderD,
    bleu,
    caption_scores,
    document_frequencies,
    rouge_l,
    tokenised_caption_scores,
)

OFFICIAL_NAMES = {
    "Bleu_1": "bleu_1",
    "Bleu_2": "bleu_2",
    "Bleu_3": "bleu_3",
    "Bleu_4": "bleu_4",
    "ROUGE_L": "rouge_l",
    "CIDEr": "cider",
    "CIDErD_vrama": "cider_d",
    "CIDEr_plain": "cider_plain",
}
MODULE = Path(__file__).resolve().parents[4] / "training/metrics/captioning/updown_caption.py"


def golden(name: str) -> Any:
    path = shared(f"golden/{name}")
    return json.loads(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_text())


def assert_official(scores: dict[str, Any], expected: dict[str, Any]) -> None:
    for official, ours in OFFICIAL_NAMES.items():
        if official in expected["corpus"]:
            assert scores[ours] == pytest.approx(expected["corpus"][official], abs=1e-12)
            assert scores[f"{ours}_x100"] == pytest.approx(100 * expected["corpus"][official], abs=1e-10)
            assert scores["per_item"][ours] == pytest.approx(expected["per_item"][official], abs=1e-12)


@pytest.mark.parametrize("name", ["caption_adversarial", "caption_coco1000"])
def test_raw_captions_score_as_the_official_evaluator_says(name: str) -> None:
    data = golden(f"metrics/{name}.json.gz")
    assert_official(caption_scores(data["inputs"]["candidate"], data["inputs"]["references"]), data["expected"])


def test_one_image_scores_as_the_official_evaluator_says() -> None:
    expected = golden("metrics/caption_adversarial.json.gz")["expected"]
    for case in expected["single_image"]:
        item = expected["tokenised"][case["i"]]
        with pytest.warns(UserWarning, match="CIDEr of a single image is 0"):
            scores = tokenised_caption_scores([item["candidate"]], [item["references"]])
        assert [scores[f"bleu_{order}"] for order in (1, 2, 3, 4)] == pytest.approx(case["Bleu"], abs=1e-12)
        assert scores["cider"] == case["CIDEr"] == 0


def test_given_document_frequencies_score_as_the_official_evaluator_says() -> None:
    data = golden("metrics/cider_fixed_df.json.gz")
    inputs, expected = data["inputs"], data["expected"]
    scorer = CiderD(inputs["references"], document_frequency=inputs["df"], num_documents=inputs["num_images"])
    assert scorer.score(inputs["candidate"]) == pytest.approx(expected["CIDErD"]["per_item"], abs=1e-12)
    assert scorer.score_plain(inputs["candidate"]) == pytest.approx(expected["CIDEr_plain"]["per_item"], abs=1e-12)
    one_image = CiderD(inputs["references"][:1], document_frequency=inputs["df"], num_documents=inputs["num_images"])
    assert one_image.score(inputs["candidate"][:1]) == pytest.approx(expected["CIDErD"]["per_item"][:1], abs=1e-12)


def test_frequencies_of_another_corpus_score_as_the_reference_implementation() -> None:
    data = golden("reference/cider.json")
    items = data["items"]
    scorer = CiderD(
        [item["refs"] for item in items],
        document_frequency=document_frequencies(data["df_documents"]["tokenized_refs"]),
        num_documents=data["df_documents"]["ref_len"],
    )
    expected = [item["ciderD_precomputed"] for item in items]
    assert scorer.score([item["candidate"] for item in items]) == pytest.approx(expected, abs=1e-12)


def test_reward_is_the_reference_implementations_with_the_end_token_as_a_word() -> None:
    from safetensors.numpy import load_file

    tensors = load_file(shared("golden/reference/captioner.safetensors"))
    images = len(tensors["sc.greedy_seq"])
    each = len(tensors["sc.sample_seq"]) // images
    scorer = CiderD.from_token_ids([tensors[f"sc.gts.{image}"] for image in range(images)], end_token_id=0)
    samples = scorer.reward(torch.from_numpy(tensors["sc.sample_seq"]), torch.arange(images).repeat_interleave(each))
    greedy = scorer.reward(tensors["sc.greedy_seq"], np.arange(images))
    assert samples == pytest.approx(tensors["sc.scores_abs"], abs=1e-12)
    advantages = (samples - greedy.repeat(each))[:, None]
    rewards = tensors["sc.reward_scst"]
    assert np.broadcast_to(advantages, rewards.shape) == pytest.approx(rewards, abs=1e-12)


def test_bleu_by_hand() -> None:
    corpus, per_item = bleu(["the the the cat"], [["the cat sat", "a the the dog dog dog"]])
    # 3 of 4 words ("the" counts at most twice), 2 of 3 pairs; the closest length is 3, so nothing is taken off.
    assert corpus[0] == pytest.approx(3 / 4)
    assert corpus[1] == pytest.approx(math.sqrt(3 / 4 * 2 / 3))
    assert per_item[1] == pytest.approx([corpus[1]])
    shorter, _ = bleu(["a cat"], [["a cat sat down"]])
    assert shorter[0] == pytest.approx(math.exp(1 - 4 / 2))


def test_corpus_bleu_is_made_of_sums() -> None:
    corpus, per_item = bleu(["a b c d", "x"], [["a b c d"], ["y"]])
    assert corpus[0] == pytest.approx(4 / 5)
    assert per_item[0] == pytest.approx([1, 0], abs=1e-6)


def test_rouge_l_by_hand() -> None:
    # The best precision, 2 of 2, comes from the first reference and the best recall, 1 of 1, from the second.
    _corpus, per_item = rouge_l(["a b", ""], [["a x x x b", "b"], [""]])
    assert per_item == [1.0, 1.0]
    _, (value,) = rouge_l(["a c b"], [["a b"]])
    assert value == pytest.approx((1 + 1.44) * (2 / 3) * 1 / (1 + 1.44 * 2 / 3))


def test_cider_by_hand() -> None:
    # Two images, every word in one image's references only: each weight is ln 2 and cancels.
    scorer = CiderD([["a b"], ["c d e"]])
    same, longer = scorer.score(["a b", "c d"])
    assert same == pytest.approx(10 * (1 + 1) / 4)
    words, pairs = 2 / math.sqrt(2 * 3), 1 / math.sqrt(1 * 2)
    assert longer == pytest.approx(10 / 4 * math.exp(-1 / 72) * (words + pairs))
    assert scorer.score_plain(["a b", "c d"])[1] == pytest.approx(10 / 4 * (words + pairs))


def test_repeating_a_word_is_clipped_in_cider_d_but_not_in_plain_cider() -> None:
    scorer = CiderD([["a b"], ["c"]])
    # |candidate| = 3, |reference| = sqrt 2, in units of ln 2; lengths in bigrams are 2 and 1.
    assert scorer.score(["a a a", ""])[0] == pytest.approx(10 / 4 * math.exp(-1 / 72) / (3 * math.sqrt(2)))
    assert scorer.score_plain(["a a a", ""])[0] == pytest.approx(10 / 4 * 3 / (3 * math.sqrt(2)))
    assert scorer.score(["a a a", ""])[1] == 0


@pytest.mark.parametrize("seed", [0, 1])
def test_reward_equals_the_brute_force_twin(seed: int) -> None:
    generator = np.random.default_rng(seed)
    references = [[random_caption(generator) for _ in range(1 + image % 4)] for image in range(30)]
    references[3][0] = []
    references[4] = [[*list(range(1, 300)), END]]
    images = generator.integers(0, 30, 40)
    captions = [[int(word) % 50 for word in random_caption(generator)] for _ in images]
    captions = [caption[: caption.index(END) + 1] for caption in captions]
    captions[0] = references[images[0]][0] or [END]
    sequences = np.full((40, 310), END)
    for row, caption in zip(sequences, captions, strict=True):
        row[: len(caption)] = caption
    frequencies = counted_documents(references)
    expected = [
        naive_cider_d(caption, references[image], frequencies=frequencies, num_images=30)
        for caption, image in zip(captions, images, strict=True)
    ]
    scorer = CiderD.from_token_ids(references, end_token_id=END)
    assert scorer.reward(sequences, images) == pytest.approx(expected, abs=1e-12)
    texts = CiderD([[" ".join(map(str, caption)) for caption in image] for image in references])
    as_text = [" ".join(map(str, caption)) for caption in captions]
    assert texts.score(as_text, images.tolist()) == pytest.approx(expected, abs=1e-12)


def test_a_sample_cut_short_has_no_end_token_and_padding_is_no_word() -> None:
    references = [[[1, 2, 0, 0]], [[3, 4, 5, 0]]]
    scorer = CiderD.from_token_ids(references, end_token_id=0, pad_token_id=-100)
    ended, cut, padded = scorer.reward(np.array([[1, 2, 0], [1, 2, 9], [1, 2, -100]]), np.zeros(3, int))
    assert ended == pytest.approx(7.5)  # every n-gram there is: 3 orders of 4
    assert cut < ended
    assert padded == pytest.approx(CiderD([["1 2 0"], ["3 4 5 0"]]).score(["1 2"], [0])[0])


def test_a_frequency_table_with_tuples_and_without_beginnings_works() -> None:
    given = {("a", "b"): 2, "c": 3}
    scorer = CiderD([["a b"]], document_frequency=given, num_documents=10)
    weight_of_word, weight_of_pair = math.log(10), math.log(10 / 2)
    expected = 10 / 4 * (weight_of_word**2 / (weight_of_word**2 * math.sqrt(2)) + 0)
    assert scorer.score_plain(["a"]) == pytest.approx([expected])
    assert weight_of_pair < weight_of_word
    assert scorer.score(["a b"]) == pytest.approx([5.0])


def test_a_hash_table_finds_every_key_and_nothing_else() -> None:
    keys = np.random.default_rng(0).choice(10**12, 5000, replace=False)
    index = ExactIndex(keys)
    assert (index.find(keys) == np.arange(5000)).all()
    assert (index.find(np.setdiff1d(np.arange(5000), keys)) == -1).all()


@pytest.mark.parametrize(
    ("candidates", "references", "error", "message"),
    [
        (["a"], [["a"], ["b"]], ValueError, "1 candidates but 2 lists of references"),
        ([], [], ValueError, "there are no candidates"),
        (["a", "b"], [["a"], []], ValueError, r"references\[1\] is empty"),
        (["a", None], [["a"], ["b"]], TypeError, r"candidates\[1\] is a NoneType"),
        (["a", "b"], [["a"], ["b", 3]], TypeError, r"references\[1\] holds a int"),
        (["a", "b"], [["a"], "b"], TypeError, r"references\[1\] is one string"),
        ("ab", [["a"], ["b"]], TypeError, "candidates is one string"),
        (["a", "b"], [[""], ["."]], ValueError, "no reference caption holds any word"),
    ],
)
def test_ugly_inputs_are_named(candidates: Any, references: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        caption_scores(candidates, references)


def test_empty_captions_score_zero() -> None:
    scores = caption_scores(["", "a cat"], [["a dog"], ["a cat", ""]])
    assert scores["per_item"]["cider"][0] == 0
    assert scores["per_item"]["bleu_1"][0] == pytest.approx(0, abs=1e-12)
    assert scores["per_item"]["rouge_l"] == [0, 1]


def test_a_scorer_says_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="single image is 0"):
        CiderD([["a dog"]])
    with pytest.raises(ValueError, match="belong together"):
        CiderD([["a dog"]], num_documents=5)
    with pytest.raises(ValueError, match="num_documents is 5 but an n-gram stands in 7"):
        CiderD([["a dog"]], document_frequency={"a": 7}, num_documents=5)
    with pytest.raises(ValueError, match="n-grams of 1 to 4 words"):
        CiderD([["a dog"]], document_frequency={"a b c d e": 1}, num_documents=5)
    scorer = CiderD([["a dog"], ["a cat"]])
    with pytest.raises(ValueError, match="3 candidates for 2 images"):
        scorer.score(["a", "b", "c"])
    with pytest.raises(ValueError, match="from 0 to 2; there are 2 images"):
        scorer.score(["a", "b"], [0, 2])
    with pytest.raises(ValueError, match="from_token_ids"):
        scorer.reward(np.zeros((1, 3), int), np.zeros(1, int))
    ids = CiderD.from_token_ids([[[1, 0]], [[2, 0]]], end_token_id=0)
    with pytest.raises(ValueError, match="call reward"):
        ids.score(["1"])
    with pytest.raises(ValueError, match="pad_token_id missing"):
        ids.reward(np.array([[1, -100]]), np.array([0]))
    with pytest.raises(ValueError, match=r"references\[1\] is empty"):
        CiderD.from_token_ids([[[1, 0]], []], end_token_id=0)


def test_the_evaluate_module_loads_from_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    evaluate = pytest.importorskip("evaluate")
    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.syspath_prepend(str(tmp_path))  # before the folder of another module's test
    for name in [name for name in sys.modules if name.split(".")[0] == "evaluate_modules"]:
        monkeypatch.delitem(sys.modules, name)
    metric = evaluate.load(str(MODULE), cache_dir=str(tmp_path))
    predictions, references = ["a dog runs.", "a cat"], [["a dog runs fast"], ["a cat sleeps", "the cat"]]
    scores = metric.compute(predictions=predictions, references=references)
    expected = caption_scores(predictions, references)
    assert scores == {name: value for name, value in expected.items() if name != "per_item"}
