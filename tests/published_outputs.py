"""What the published models of hub_cards make of some images, written to a file or held against an earlier one.

    python -m tests.published_outputs IMAGES OUTPUT.json                  write captions, answers, boxes, similarities
    python -m tests.published_outputs IMAGES OUTPUT.json --before OLD.json    and exit with 1 where they differ

Run it before and after a change that is meant to change no output. IMAGES is a folder, of which the first 20 by name
are used.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import modeling_updown

CARDS = Path(__file__).parents[1] / "hub_cards"
NUM_IMAGES = 20
QUESTIONS = ("what color is the dog?", "how many people are there?", "is there a ball?")
TEXTS = ("a dog runs over the grass", "two children play in the sand", "a man climbs a rock")
TOLERANCE = 1e-4


def main() -> int:
    """Write the outputs; compare them where an earlier file is given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--before", type=Path)
    arguments = parser.parse_args()
    images = [Image.open(path).convert("RGB") for path in sorted(arguments.images.glob("*.jpg"))[:NUM_IMAGES]]
    made = outputs(images)
    arguments.output.write_text(json.dumps(made))
    if arguments.before is None:
        return 0
    faults = differences(json.loads(arguments.before.read_text()), made)
    print("\n".join(faults) or f"the outputs for {len(images)} images are the same, numbers within {TOLERANCE}")
    return 1 if faults else 0


@torch.no_grad()
def outputs(images: list[Image.Image]) -> dict[str, Any]:
    """Output of each published model by name: texts, and numbers as nested lists."""
    return {
        "captions": captions(CARDS / "updown-captioning-flickr8k", images),
        "answers": answers(CARDS / "updown-vqa-daquar-flickr8k", images),
        "regions": regions(CARDS / "updown-detector-lite", images),
        "similarities": similarities(CARDS / "updown-retrieval-flickr8k", images),
    }


def captions(folder: Path, images: list[Image.Image]) -> dict[str, Any]:
    """Greedy and beam captions, and the attention and scores of the greedy ones."""
    model = modeling_updown.UpDownForImageCaptioning.from_pretrained(folder).eval()
    processor = modeling_updown.UpDownProcessor.from_pretrained(folder)
    inputs = processor(images=images, return_tensors="pt")
    found: dict[str, Any] = {}
    for beams in (1, 5):
        ids = model.generate(**inputs, num_beams=beams)
        found[f"beams {beams}"] = processor.batch_decode(ids, skip_special_tokens=True)
    output = model(**inputs, input_ids=ids, output_attentions=True)
    return {**found, "logits": summary(output.logits), "attention": summary(output.attentions[0])}


def answers(folder: Path, images: list[Image.Image]) -> dict[str, Any]:
    """The answer to each question about each image, and all scores."""
    model = modeling_updown.UpDownForVisualQuestionAnswering.from_pretrained(folder).eval()
    processor = modeling_updown.UpDownProcessor.from_pretrained(folder)
    inputs = processor(images=images, return_tensors="pt")
    found = {}
    for question in QUESTIONS:
        words = processor.tokenizer([question] * len(images), add_special_tokens=False, return_tensors="pt")
        logits = model(**inputs, **words).logits
        found[question] = {
            "answers": [model.config.id2label[place] for place in logits.argmax(-1).tolist()],
            "logits": summary(logits),
        }
    return found


def regions(folder: Path, images: list[Image.Image]) -> dict[str, Any]:
    """Boxes, scores and classes of every region."""
    model = modeling_updown.UpDownDetector.from_pretrained(folder).eval()
    processor = modeling_updown.UpDownImageProcessor.from_pretrained(folder)
    found = []
    for image in images:
        output = model(**processor(images=[image], return_tensors="pt"))
        found.append(
            {
                "boxes": output.region_boxes[output.region_mask].tolist(),
                "scores": output.region_scores[output.region_mask].tolist(),
                "classes": output.object_ids[output.region_mask].tolist(),
                "features": summary(output.region_features),
            }
        )
    return {"images": found}


def similarities(folder: Path, images: list[Image.Image]) -> dict[str, Any]:
    """The cosine of each image and text."""
    model = modeling_updown.UpDownFusionForImageTextRetrieval.from_pretrained(folder).eval()
    processor = modeling_updown.UpDownProcessor.from_pretrained(folder)
    pictures = model.get_image_features(**processor(images=images, return_tensors="pt"))
    words = processor.tokenizer(list(TEXTS), padding=True, return_tensors="pt")
    texts = model.get_text_features(**{name: words[name] for name in ("input_ids", "attention_mask")})
    return {"cosines": (pictures @ texts.T).tolist()}


def summary(numbers: torch.Tensor) -> list[list[float]]:
    """Of each image's numbers the mean, the standard deviation and 32 of them, evenly spread."""
    flat = numbers.float().flatten(1)
    flat = flat.nan_to_num(neginf=-1e4)
    places = torch.linspace(0, flat.shape[1] - 1, 32).long()
    return torch.cat([flat.mean(1, keepdim=True), flat.std(1, keepdim=True), flat[:, places]], dim=1).tolist()


def differences(before: Any, after: Any, place: str = "") -> list[str]:
    """Where two outputs differ: other texts or lengths, or numbers further apart than `TOLERANCE` of their size."""
    if isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys():
        return [fault for key in before for fault in differences(before[key], after[key], f"{place}/{key}")]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [
            fault
            for number, (old, new) in enumerate(zip(before, after, strict=True))
            for fault in differences(old, new, f"{place}/{number}")
        ]
    if isinstance(before, float) and isinstance(after, float):
        return [] if abs(before - after) <= TOLERANCE * max(1.0, abs(before)) else [f"{place}: {before} -> {after}"]
    return [] if before == after else [f"{place}: {str(before)[:80]} -> {str(after)[:80]}"]


if __name__ == "__main__":
    sys.exit(main())
