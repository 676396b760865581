"""`updown find`: the moments of a clip that a sentence is about, by a model of moments or frame by frame."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.commands.clips import add_frames, is_clip, load_media, sampling_of
from training.commands.index import load_retrieval_model
from training.commands.shared import TRAINED_RETRIEVAL, add_command, check_weights, model_folder, open_pipeline, quiet
from training.console import positive, say, say_json

TASK = "moment-retrieval"
FRAMES_PER_SECOND = 2.0
MOST_FRAMES = 256


def add_find(commands: Any) -> None:
    """`updown find`."""
    parser = add_command(
        commands,
        "find",
        run_find,
        summary="find the moments of a clip that a sentence is about",
        example='updown find clip.mp4 "the dog jumps" --draw timeline.png\n'
        '  updown find clip.mp4 "the dog jumps" --top-k 3 --fps 4 --json\n'
        '  updown find clip.mp4 "the dog jumps" --model runs/moments_scenes/best',
    )
    parser.add_argument("clip", metavar="CLIP", help="a video or an animated GIF: a file or a URL")
    parser.add_argument("sentence", metavar="SENTENCE", help="what happens, in quotes")
    parser.add_argument(
        "--model",
        metavar="DIR_OR_HUB_ID",
        help="a saved model of moments; or a retrieval model, which scores each frame by itself (default: the "
        f"published {TRAINED_RETRIEVAL})",
    )
    parser.add_argument("--top-k", type=positive, default=1, metavar="K", help="moments at most (%(default)s)")
    parser.add_argument(
        "--draw", type=Path, metavar="PICTURE.png", help="draw a timeline: frames, the score over time, the moments"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    add_frames(parser, default=f"{FRAMES_PER_SECOND:g} a second, up to {MOST_FRAMES} frames")


def run_find(arguments: argparse.Namespace) -> int:
    """Find the moments, print them, and draw them with `--draw`."""
    from modeling_updown import draw_moments
    from modeling_updown.drawing_updown import check_picture

    check_picture(arguments.draw)
    if not arguments.sentence.strip():
        raise ValueError("the sentence is empty: write what happens in the clip")
    sampling = sampling_of(arguments, fps=FRAMES_PER_SECOND, max_frames=MOST_FRAMES)
    clip = load_media(arguments.clip, sampling)
    if not is_clip(clip):
        raise ValueError(f"{arguments.clip} is an image, which has no moments: give a video or an animated GIF")
    folder = model_folder(arguments.model, default=TRAINED_RETRIEVAL)
    finds = by_model if is_moment_model(folder) else frame_by_frame
    found = finds(folder, clip, arguments.sentence, most=arguments.top_k)
    if arguments.json:
        say_json({"clip": arguments.clip, "sentence": arguments.sentence, **found, "seconds": clip.seconds.tolist()})
    else:
        print_moments(arguments.sentence, found)
    if arguments.draw:
        draw_moments(clip, found, sentence=arguments.sentence, path=arguments.draw)
        if not arguments.json:
            say(f"  drawn: {arguments.draw}")
    return 0


def is_moment_model(folder: str) -> bool:
    """Whether a folder or Hub id holds a model of moments rather than a retrieval model; `ValueError` for others."""
    import modeling_updown
    from training.saved_models import check_kind

    kinds = [modeling_updown.UpDownForMomentRetrieval, modeling_updown.UpDownFusionForImageTextRetrieval]
    with quiet():
        config = check_kind(folder, kinds)
        check_weights(folder)
    return "UpDownForMomentRetrieval" in (config.architectures or [])


def by_model(folder: str, clip: Any, sentence: str, *, most: int) -> dict[str, Any]:
    """`spans` of a model of moments, their likelihood in `score`; `scored_by` says so in words."""
    spans = open_pipeline(TASK, folder)(clip, sentence, top_k=most)
    return {"scored_by": f"found by {Path(folder).name}", "spans": spans}


def frame_by_frame(folder: str, clip: Any, sentence: str, *, most: int) -> dict[str, Any]:
    """`spans` of the frames that fit the sentence best by a retrieval model, and the `frame_scores` of all."""
    from training.search.embedding import Embedder
    from training.search.moments import best_spans, frame_scores

    scores = frame_scores(Embedder(*load_retrieval_model(folder)), clip.frames, sentence)
    start, end = clip.part_seconds or (0.0, clip.end_seconds)
    spans = best_spans(scores, clip.seconds.clip(min=start), end=end, most=most)
    name = Path(folder).name
    return {"scored_by": f"scored frame by frame by {name}", "spans": spans, "frame_scores": scores.tolist()}


def print_moments(sentence: str, found: Mapping[str, Any]) -> None:
    """Print the sentence, what found the moments, and one line for each: its score, and from when to when it is."""
    say(f"{sentence}  ({found['scored_by']})")
    for span in found["spans"]:
        say(f"  {span['score']:6.3f} from {span['start']:.1f} to {span['end']:.1f} s")
