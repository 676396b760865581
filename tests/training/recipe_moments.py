"""What shipped recipes read of clips with moments, tiny, at the paths that they name: DiDeMo, Charades-STA, ActivityNet
Captions, QVHighlights, and a store of the clips of each."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from tests.training.recipe_files import WHAT, write_json, write_lines
from training.regions.clips import FRAMES_OF_CLIPS
from training.regions.store import RegionStoreWriter

CLIPS = {"train": 10, "val": 4, "test": 4}
FEATURE_WIDTH, REGIONS_A_STEP = 16, 2


def write_moments(data: Path) -> None:
    """The annotations of every split, and the stores beside them."""
    stores = data.parent / "runs" / "regions"
    for name, seconds, write in (
        ("didemo", 28, write_didemo),
        ("charades", 30, write_charades),
        ("activitynet", 60, write_activitynet),
        ("qvhighlights", 150, write_qvhighlights),
    ):
        writer: Callable[[Path], Sequence[str]] = write
        write_clip_store(stores / f"{name}_clips", writer(data), seconds=seconds)


def write_clip_store(folder: Path, ids: Sequence[str], *, seconds: int) -> None:
    """Random regions, two a frame every two seconds, as `updown extract` of clips has them."""
    steps, draw = torch.arange(0.0, seconds, 2.0), torch.Generator().manual_seed(0)
    size = (len(steps), REGIONS_A_STEP)
    with RegionStoreWriter(folder, fingerprint={FRAMES_OF_CLIPS: "every 2 s"}) as writer:
        for name in ids:
            regions = {
                "region_features": torch.randn(*size, FEATURE_WIDTH, generator=draw),
                "region_boxes": torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(*size, 4),
                "region_seconds": steps[:, None].expand(size),
                "clip_ids": [name] * len(steps),
            }
            writer.append([f"{name}#{int(step):06d}" for step in steps], regions)


def sentence(number: int) -> str:
    return f"a dog {WHAT[number % len(WHAT)]}"


def write_didemo(data: Path) -> list[str]:
    """Segments of four people, of whom three agree."""
    ids = []
    for split, number in CLIPS.items():
        records: list[dict[str, Any]] = []
        for clip in range(number):
            name, piece = f"{split}_{clip}.mov", clip % 6
            times = [[piece, piece]] * 3 + [[0, 5]]
            about = {"annotation_id": len(ids), "video": name, "num_segments": 6, "reference_description": ""}
            records.append({**about, "description": sentence(clip), "times": times, "train_times": []})
            ids.append(name)
        write_json(data / "didemo" / f"{split}_data.json", records)
    return ids


def write_charades(data: Path) -> list[str]:
    """A line a sentence, and Charades' tables with the lengths of the clips."""
    ids = []
    for split in ("train", "test"):
        names = [f"{split.upper()}{clip}" for clip in range(CLIPS[split])]
        lines = [f"{name} {clip}.0 {clip + 9}.5##{sentence(clip)}." for clip, name in enumerate(names)]
        write_lines(data / "charades_sta" / f"charades_sta_{split}.txt", lines)
        lengths = ["id,subject,length", *(f"{name},A,30.5" for name in names)]
        write_lines(data / "charades_sta" / f"Charades_v1_{split}.csv", lengths)
        ids += names
    return ids


def write_activitynet(data: Path) -> list[str]:
    """Two sentences a video."""
    ids = []
    for split, file in (("train", "train"), ("val", "val_1"), ("test", "val_2")):
        names = [f"v_{split}{clip}" for clip in range(CLIPS[split])]
        videos = {
            name: {"duration": 61.5, "timestamps": [[0, 20.5], [15.0, 61.5]], "sentences": [sentence(0), sentence(1)]}
            for name in names
        }
        write_json(data / "activitynet" / f"{file}.json", videos)
        ids += names
    return ids


def write_qvhighlights(data: Path) -> list[str]:
    """Two windows a query with ratings of the clips in them; those of test are hidden."""
    ids = []
    for number, (split, count) in enumerate(CLIPS.items()):
        lines = []
        for clip in range(count):
            name, windows = f"{split}{clip}_60.0_210.0", [[2 * clip, 2 * clip + 8], [100, 110]]
            clips = [second // 2 for start, end in windows for second in range(start, end, 2)]
            said = {"qid": 100 * number + clip, "query": sentence(clip), "duration": 150, "vid": name}
            truth = {"relevant_windows": windows, "relevant_clip_ids": clips}
            ratings = [[one % 5, 3, 4] for one in range(len(clips))]
            lines.append(json.dumps({**said, **({} if split == "test" else {**truth, "saliency_scores": ratings})}))
            ids.append(name)
        write_lines(data / "qvhighlights" / f"highlight_{split}_release.jsonl", lines)
    return ids
