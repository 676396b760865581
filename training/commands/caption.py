"""`updown caption`: captions of images and clips, and the attention of each word."""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.commands.clips import add_frames, is_clip, load_media, media_paths, sampling_of
from training.commands.ground import load_grounder, print_found
from training.commands.shared import (
    add_command,
    add_model,
    exit_code,
    is_image,
    load_pipeline,
    one_sentence,
    picture_path,
)
from training.console import positive, say, whole_number
from training.data.captions.phrase_places import noun_phrase_places


def add_caption(commands: Any) -> None:
    """`updown caption`."""
    parser = add_command(
        commands,
        "caption",
        run_caption,
        summary="describe images and clips",
        example='updown caption dog.jpg --draw look.png\n  updown caption dog.jpg --words "dog|puppy" --words ball\n'
        "  updown caption dog.jpg --num-captions 3 --sample --temperature 0.7 --seed 0\n"
        "  updown caption dog.jpg --ground --draw found.png\n"
        "  updown caption clip.mp4 --draw strip.png              when and where each word looked",
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="an image or a clip: a file, a folder, or a URL")
    add_model(parser)
    parser.add_argument(
        "--num-beams",
        type=positive,
        metavar="K",
        help="beam search with K beams (default: the model's; 1 with --sample); with --words, K for each set of words",
    )
    parser.add_argument(
        "--words",
        action="append",
        nargs="?",
        const="",
        metavar="WORD|WORD",
        help='a word that every caption holds, or one of several: "cat|kitten"; give it again for a further one',
    )
    parser.add_argument("--show-regions", action="store_true", help="show the strongest region of each word")
    parser.add_argument(
        "--num-captions",
        type=positive,
        metavar="N",
        help="N captions of each image, each with its log-probability per word, the best first (or as drawn)",
    )
    parser.add_argument("--sample", action="store_true", help="draw words at random, each by its probability")
    parser.add_argument(
        "--temperature",
        type=above_zero,
        metavar="T",
        help="with --sample: below 1 keeps to likely words, above 1 strays (default: 1)",
    )
    parser.add_argument("--seed", type=whole_number, metavar="SEED", help="with --sample: draw the same again")
    parser.add_argument(
        "--draw",
        type=Path,
        metavar="PICTURE.png",
        help="draw the attention of each word of the first caption, or with --ground the boxes of what it names; with "
        "several images, PICTURE_name.png for each",
    )
    parser.add_argument(
        "--ground",
        nargs="?",
        const="",
        metavar="DIR_OR_HUB_ID",
        help="find whatever each caption names in the image, by a grounding model (default: the published one)",
    )
    add_frames(parser)


def run_caption(arguments: argparse.Namespace) -> int:
    """Describe each image or clip; one that cannot be read is reported and skipped."""
    from modeling_updown.drawing_updown import check_picture

    check_picture(arguments.draw)
    if arguments.ground and is_image(arguments.ground):
        raise ValueError(f"{arguments.ground} is an image, and --ground takes a model: put images before --ground")
    words, show_regions = required_words(arguments.words), arguments.show_regions or "" in (arguments.words or ())
    check_sampling(arguments)
    sampling, images = sampling_of(arguments), media_paths(arguments.images)
    grounder = None if arguments.ground is None else load_grounder(arguments.ground or None)
    captioner = load_captioner(arguments.model)
    options = generation_options(arguments, own_beams=captioner.model.generation_config.num_beams)
    options |= {"words": words} if words else {}
    broken = 0
    drawn: set[Path] = set()
    for path in images:
        try:
            image = load_media(path, sampling)
            check_grounded(image, path, ground=grounder is not None)
        except (OSError, ValueError) as error:
            say(f"updown caption: skipped: {one_sentence(error)}", file=sys.stderr)
            broken += 1
            continue
        results = describe_all(captioner, image, **options)
        found = []
        for result in results:
            likely = f" ({result['log_prob_per_word']:.2f} per word)" if arguments.num_captions else ""
            say(f"{path}: {result['generated_text']}{likely}")
            if show_regions:
                print_words(result, size=(image.frames[0] if is_clip(image) else image).size)
            if grounder is not None:
                found.append(grounded(grounder, image, result["generated_text"]))
                print_found(found[-1], indent="  ")
        if arguments.draw:
            picture = picture_path(arguments.draw, path, alone=len(images) == 1, taken=drawn)
            draw_caption(image, results[0], found, path=picture)
    return exit_code(broken, of=len(images))


def draw_caption(
    image: Any, result: Mapping[str, Any], found: Sequence[Sequence[Mapping[str, Any]]], *, path: Path
) -> None:
    """Draw the attention of a caption's words, or where captions were grounded, the boxes of what the first names."""
    from modeling_updown import draw_attention, draw_clip_attention, draw_phrases

    if is_clip(image):
        draw_clip_attention(image, result, path=path)
    elif not found:
        draw_attention(image, result, path=path)
    elif found[0]:
        draw_phrases(image, found[0], path=path)
    else:
        say(f"  not drawn: {result['generated_text']!r} names nothing that is known")
        return
    say(f"  drawn: {path}")


def check_grounded(image: Any, path: str, *, ground: bool) -> None:
    """Raises `ValueError` for a clip where captions are to be grounded."""
    if ground and is_clip(image):
        raise ValueError(f"{path} is a clip, and --ground finds boxes in an image: leave --ground out for clips")


def grounded(grounder: Any, image: Any, caption: str) -> list[dict[str, Any]]:
    """What a caption names with its boxes, as `pipeline("phrase-grounding")` has it; empty where it names nothing."""
    places = noun_phrase_places(caption)
    return grounder(image, caption, phrases=places) if places else []


def above_zero(text: str) -> float:
    """The type of an argument: a finite number > 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def required_words(given: Sequence[str] | None) -> list[str]:
    """What every `--words WORD` asks for. Without a word it is the earlier name of `--show-regions`, with a note.

    Raises `ValueError` for an image in the place of words.
    """
    words = [word for word in given or () if word]
    if given is not None and len(words) < len(given):
        say("updown caption: --words without a word is now called --show-regions", file=sys.stderr)
    image = next((word for word in words if is_image(word)), None)
    if image is not None:
        raise ValueError(
            f"{image} is an image, and --words takes a word that captions hold: put images before --words, and show "
            "the strongest region of each word with --show-regions"
        )
    return words


def check_sampling(arguments: argparse.Namespace) -> None:
    """Raises `ValueError` for options that mean something beside others alone."""
    for name in ("temperature", "seed"):
        if getattr(arguments, name) is not None and not arguments.sample:
            raise ValueError(f"--{name} changes what --sample draws: add --sample, or leave --{name} out")
    beams, captions = arguments.num_beams, arguments.num_captions
    if beams is not None and (captions or 1) > beams and not arguments.sample:
        raise ValueError(
            f"--num-beams {beams} finds no {captions} captions: raise it to {captions}, leave it out, or add --sample"
        )


def generation_options(arguments: argparse.Namespace, *, own_beams: int | None) -> dict[str, Any]:
    """The pipeline's options that the arguments ask for; none changes what the model does by itself.

    own_beams: of the model's generation config; raised to the number of captions where these come of beams.
    """
    options: dict[str, Any] = {}
    if arguments.num_captions:
        options |= {"num_return_sequences": arguments.num_captions, "return_log_probs": True}
    if arguments.sample:
        options |= {"do_sample": True, "num_beams": arguments.num_beams or 1, "top_k": 0}
        options |= {"temperature": arguments.temperature or 1.0}
        if arguments.seed is not None:
            from transformers import set_seed

            set_seed(arguments.seed)
    elif arguments.num_beams:
        options["num_beams"] = arguments.num_beams
    elif (arguments.num_captions or 1) > (own_beams or 1):
        options["num_beams"] = arguments.num_captions
    return options


def load_captioner(model: str | None) -> Any:
    """The image-to-text pipeline of a model; raises `ValueError` for a model of another task."""
    return load_pipeline("image-to-text", model)


def describe(captioner: Any, image: Any, **options: Any) -> Mapping[str, Any]:
    """The pipeline's first caption of an image, with its words, their region weights and the boxes."""
    return describe_all(captioner, image, **options)[0]


def describe_all(captioner: Any, image: Any, **options: Any) -> list[Mapping[str, Any]]:
    """All captions of an image, each as `describe` has it."""
    result = captioner(image, return_regions=True, **options)
    return result if isinstance(result, list) else [result]


def print_words(result: Mapping[str, Any], *, size: tuple[int, int]) -> None:
    """Print each word with its strongest region, in pixels of an image or frame of `size` (width, height).

    In a clip it is that of the frame with the most attention, as in the picture of `draw_clip_attention`.
    """
    import numpy as np

    from modeling_updown.drawing_clips_updown import strongest_place

    width, height = size
    seconds = result.get("region_seconds", [0.0] * len(result["region_boxes"]))
    frames = np.unique(np.asarray(seconds), return_inverse=True)[1]
    for word, weights in zip(result["words"], result["region_weights"], strict=True):
        _, strongest = strongest_place(np.asarray(weights, dtype=np.float64), frames)
        left, top, right, bottom = (float(side) for side in result["region_boxes"][strongest])
        place = f"{left * width:.0f},{top * height:.0f} to {right * width:.0f},{bottom * height:.0f}"
        when = f" at {float(result['region_seconds'][strongest]):.1f} s" if "region_seconds" in result else ""
        say(f"  {word:<14} {float(weights[strongest]):4.0%} on region {strongest}{when} at {place} pixels")
