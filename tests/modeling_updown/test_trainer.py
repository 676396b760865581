"""transformers' Trainer trains and evaluates every class without special arguments."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import EvalPrediction, Trainer, TrainingArguments, default_data_collator

from tests.tiny import (
    noise_image,
    save_tiny_captioner,
    tiny_captioner,
    tiny_encoder_config,
    tiny_fusion_vqa,
    tiny_image,
    tiny_masked_lm,
    tiny_prefix_lm,
    tiny_pretraining,
    tiny_pyramid_detector,
    tiny_retrieval,
    tiny_text_config,
    tiny_vqa,
)

WIDTH, REGIONS, ROWS, BATCH = 10, 5, 6, 2
ALONE: dict[str, Any] = {"vision_config": None, "region_feature_size": WIDTH}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # so that training has the loss of evaluation
FUSION: dict[str, Any] = ALONE | {"text_config": tiny_encoder_config(**STILL)}
GPT2 = tiny_text_config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)

MODELS: dict[str, Callable[[], Any]] = {
    "captioner": lambda: tiny_captioner(**ALONE, region_dropout=0.0, word_dropout=0.0, output_dropout=0.0),
    "prefix lm": lambda: tiny_prefix_lm(**ALONE, text_config=GPT2),
    "vqa": lambda: tiny_vqa(**ALONE),
    "vqa of choices": lambda: tiny_vqa(**ALONE, scores_choices=True),
    "fusion vqa": lambda: tiny_fusion_vqa(**FUSION),
    "masked words": lambda: tiny_masked_lm(**FUSION),
    "pretraining": lambda: tiny_pretraining(**FUSION, objectives={"itc": 1, "mlm": 1, "mrfr": 1}),
    "retrieval": lambda: tiny_retrieval(**FUSION, objectives={"itc": 1}),
    "detector": lambda: tiny_pyramid_detector(region_batch_size=16, rpn_batch_size=32),
}


def rows_of(name: str, model: Any) -> list[dict[str, Any]]:
    """A data set of six rows, as torch stacks them: image, text, labels."""
    if name == "detector":
        return [detector_row(number) for number in range(ROWS)]
    chance, rows = torch.Generator().manual_seed(0), []
    for number in range(ROWS):
        corners = torch.rand(REGIONS, 2, generator=chance) / 2
        words = torch.randint(5, 20, (6,), generator=chance)
        length = 3 + number % 4
        row: dict[str, Any] = {
            "region_features": torch.randn(REGIONS, WIDTH, generator=chance),
            "region_boxes": torch.cat([corners, corners + 0.4], dim=-1),
            "input_ids": words,
            "attention_mask": (torch.arange(6) < length).long(),
            "labels": words.masked_fill(torch.arange(6) >= length, -100),
        }
        if "vqa" in name:
            row["labels"] = torch.rand(model.config.num_labels, generator=chance)
        if name == "vqa of choices":
            choices = torch.randint(5, 20, (3, 2), generator=chance)
            row |= {"choice_input_ids": choices, "correct_choice": torch.tensor(number % 3)}
        if name == "retrieval":
            row |= {"image_ids": torch.tensor(100 + number), "labels": torch.tensor(100 + number)}
        if name == "pretraining":
            row |= {"image_ids": torch.tensor(number), "masked_regions": torch.arange(REGIONS) % 2 == number % 2}
        rows.append(row)
    return rows


def detector_row(number: int) -> dict[str, Any]:
    box = torch.tensor([0.1, 0.2, 0.6, 0.8])
    return {
        "pixel_values": noise_image(64, 96, seed=number)[0],
        "labels": torch.tensor([1 + number, 12]),
        "true_boxes": torch.stack([box, box / 2]),
        "draw_seeds": torch.tensor(number),
    }


def batches(rows: Sequence[Any]) -> list[dict[str, Any]]:
    return [default_data_collator(list(rows[start : start + BATCH])) for start in range(0, len(rows), BATCH)]


class Judge:
    """A `compute_metrics` that keeps what it is given."""

    def __call__(self, given: EvalPrediction) -> dict[str, float]:
        self.predictions = given.predictions if isinstance(given.predictions, tuple) else (given.predictions,)
        self.labels = given.label_ids
        return {"seen": float(len(self.predictions[0]))}


@pytest.mark.parametrize("name", MODELS)
def test_trains_and_evaluates(name: str, tmp_path: Path) -> None:
    """One step over three accumulated batches, which changes nothing: its loss is that of all rows, as evaluated."""
    model = MODELS[name]()
    rows, judge = rows_of(name, model), Judge()
    with torch.no_grad():
        outputs = [model(**batch) for batch in batches(rows)]
    losses = torch.stack([output.loss for output in outputs])
    weights = torch.full((len(outputs),), 1 / len(outputs))
    if name in ("captioner", "prefix lm"):  # a mean over words
        counts = torch.tensor([float((batch["labels"][:, 1:] != -100).sum()) for batch in batches(rows)])
        weights = counts / counts.sum()
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=BATCH,
        gradient_accumulation_steps=len(outputs),
        num_train_epochs=1,
        learning_rate=0.0,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        train_sampling_strategy="sequential",
    )
    trainer = Trainer(model, arguments, train_dataset=rows, eval_dataset=rows, compute_metrics=judge)
    trained = trainer.train().training_loss
    found = trainer.evaluate()
    assert found["eval_loss"] == pytest.approx(losses.mean().item(), rel=1e-5)
    assert found["eval_seen"] == ROWS and len(judge.labels) == ROWS
    if name != "retrieval":  # whose scores are of each batch
        same = [part for part in judge.predictions if part.shape[1:] == outputs[0].logits.shape[1:]]
        logits = torch.from_numpy(same[0] if name == "detector" else judge.predictions[0])
        torch.testing.assert_close(logits[:BATCH], outputs[0].logits, atol=1e-5, rtol=1e-5)
    assert trained == pytest.approx((losses * weights).sum().item(), rel=1e-4)


def test_learns(tmp_path: Path) -> None:
    model = MODELS["vqa of choices"]()
    rows = rows_of("vqa of choices", model)
    settings = {"max_steps": 30, "learning_rate": 1e-2, "save_strategy": "no", "report_to": "none", "use_cpu": True}
    arguments = TrainingArguments(output_dir=str(tmp_path), disable_tqdm=True, **settings)
    trainer = Trainer(model, arguments, train_dataset=rows, eval_dataset=rows)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < before - 1


def test_names_of_old_are_read() -> None:
    model = MODELS["vqa of choices"]()
    batch = batches(rows_of("vqa of choices", model))[0]
    old = {"choice_labels" if name == "correct_choice" else name: value for name, value in batch.items()}
    with pytest.warns(DeprecationWarning, match="choice_labels is now called correct_choice"):
        assert torch.equal(model(**old).loss, model(**batch).loss)
    assert not torch.equal(model(**{**batch, "correct_choice": None}).loss, model(**batch).loss)
    detector, batch = MODELS["detector"](), batches(rows_of("detector", None))[0]
    old = {"label_boxes" if name == "true_boxes" else name: value for name, value in batch.items()}
    with torch.no_grad(), pytest.warns(DeprecationWarning, match="label_boxes is now called true_boxes"):
        assert torch.equal(detector(**old).loss, detector(**batch).loss)


def test_the_lines_of_readme_run_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"(?ms)^```python\n(.*?)^```", readme)
    (block,) = (block for block in blocks if "TrainingArguments" in block)
    monkeypatch.chdir(tmp_path)
    images = tmp_path / "training" / "demo_photos"
    images.mkdir(parents=True)
    for seed, name in enumerate(("riders", "skier")):
        tiny_image(seed).save(images / f"{name}.jpg")
    save_tiny_captioner(tmp_path / "hub_cards" / "updown-captioning-flickr8k")
    lines: dict[str, Any] = {}
    exec(block, lines)
    printed = float(capsys.readouterr().out.split()[-1])
    trainer, rows = lines["trainer"], lines["rows"]
    with torch.no_grad():
        expected = trainer.model(**default_data_collator(rows)).loss.item()
    assert printed == pytest.approx(expected, abs=1e-5) and trainer.state.global_step == 3
