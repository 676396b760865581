"""What shipped recipes read of clips with captions, questions and choices, tiny, at the paths that they name, and a
store of the clips of each, whose files have endings that the annotations leave out."""

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tests.training.recipe_files import write_json, write_lines
from tests.training.recipe_moments import CLIPS, sentence, write_clip_store

CHOICES = ("dog", "cat", "horse", "log", "bench")
QUESTION = "what is seen in the clip ?"
FRAMEQA_HEAD = ["gif_name", "question", "answer", "type", "vid_id", "key", "description"]
COUNT_HEAD = ["gif_name", "question", "answer", "vid_id", "key"]
CHOICE_HEAD = ["gif_name", "question", *(f"a{number}" for number in range(1, 6)), "answer", "vid_id", "key"]


def write_clips(data: Path) -> None:
    """The annotations of every split, and the stores beside them."""
    for name, ending, write in (
        ("msrvtt", ".mp4", write_msrvtt),
        ("msvd", ".avi", write_msvd),
        ("vatex", ".mp4", write_vatex),
        ("tgif", ".gif", write_tgif),
        ("next", ".mp4", write_next),
    ):
        writer: Callable[[Path], Sequence[str]] = write
        names = [f"{clip}{ending}" for clip in writer(data)]
        write_clip_store(data.parent / "runs" / "regions" / f"{name}_clips", names, seconds=10)
    write_activitynet_qa(data)


def numbered() -> list[tuple[int, str]]:
    """A number and the split of every clip."""
    return list(enumerate(split for split, count in CLIPS.items() for _ in range(count)))


def two_captions(number: int) -> list[str]:
    return [sentence(number), sentence(number).replace("a dog", "the brown dog")]


def write_msrvtt(data: Path) -> list[str]:
    """`videodatainfo` of the official splits, the split 1k-A, and MSRVTT-QA."""
    words = {"val": "validate"}
    videos = [{"video_id": f"video{n}", "split": words.get(split, split)} for n, split in numbered()]
    said = [{"video_id": f"video{n}", "caption": text} for n, _ in numbered() for text in two_captions(n)]
    folder = data / "msrvtt"
    for file, splits in (
        ("train_val_videodatainfo.json", ("train", "validate")),
        ("test_videodatainfo.json", ("test",)),
        ("MSRVTT_data.json", ("train", "validate", "test")),
    ):
        own = [video for video in videos if video["split"] in splits]
        names = {video["video_id"] for video in own}
        write_json(folder / file, {"videos": own, "sentences": [one for one in said if one["video_id"] in names]})
    train = [f"video{n}" for n, split in numbered() if split != "test"]
    write_lines(folder / "MSRVTT_train.9k.csv", ["video_id", *train])
    test = [(f"video{n}", sentence(n)) for n, split in numbered() if split == "test"]
    lines = [f"ret{place};msr{name[5:]};{name};{text}" for place, (name, text) in enumerate(test)]
    write_lines(folder / "MSRVTT_JSFUSION_test.csv", ["key;vid_key;video_id;sentence", *lines])
    write_qa(data / "msrvtt_qa", first=0)
    return [f"video{n}" for n, _ in numbered()]


def write_qa(folder: Path, *, first: int) -> None:
    """Two questions a clip in the layout of MSRVTT-QA and MSVD-QA."""
    for split in CLIPS:
        asked = [
            {"id": 2 * n + k, "video_id": n + first, "question": question, "answer": answer, "category_id": 0}
            for n, own in numbered()
            if own == split
            for k, (question, answer) in enumerate(((QUESTION, CHOICES[n % 2]), ("who jumps ?", "dog")))
        ]
        write_json(folder / f"{split}_qa.json", asked)


def write_msvd(data: Path) -> list[str]:
    """Lists of clips with captions, and MSVD-QA with its map of numbers."""
    names = [f"mv89psg6zh{n}_33_46" for n, _ in numbered()]
    for split in CLIPS:
        own = [{"id": names[n], "caption": two_captions(n)} for n, word in numbered() if word == split]
        write_json(data / "msvd" / f"msvd_{split}.json", own)
    write_qa(data / "msvd_qa", first=1)
    write_lines(data / "msvd_qa" / "youtube_mapping.txt", (f"{name} vid{n + 1}" for n, name in enumerate(names)))
    return names


def write_vatex(data: Path) -> list[str]:
    """English and Chinese captions."""
    files = {
        "train": "vatex_training_v1.0.json",
        "val": "vatex_validation_v1.0.json",
        "test": "vatex_public_test_english_v1.1.json",
    }
    names = [f"Ptf_2VRj-V{n}_000122_000132" for n, _ in numbered()]
    for split, file in files.items():
        own = [
            {"videoID": names[n], "enCap": two_captions(n), "chCap": ["一只狗"]}
            for n, word in numbered()
            if word == split
        ]
        write_json(data / "vatex" / file, own)
    return names


def write_tgif(data: Path) -> list[str]:
    """Tables of the four kinds, separated by tabs; there is no validation split."""
    for split in ("train", "test"):
        own = [(n, f"tumblr_{n}") for n, word in numbered() if word == split]
        tables: dict[str, tuple[list[str], list[list[object]]]] = {
            "frameqa": (
                FRAMEQA_HEAD,
                [[g, QUESTION, CHOICES[n % 2], n % 4, f"FRAMEQA{n}", n, sentence(n)] for n, g in own],
            ),
            "count": (COUNT_HEAD, [[g, "how many times ?", 2 + n % 3, f"COUNT{n}", n] for n, g in own]),
        }
        for kind, word in (("action", "ACTION"), ("transition", "TRANS")):
            tables[kind] = (CHOICE_HEAD, [[g, QUESTION, *CHOICES, n % 5, f"{word}{n}", n] for n, g in own])
        for kind, (head, rows) in tables.items():
            write_table(data / "tgif_qa" / f"{split.title()}_{kind}_question.csv", [head, *rows], delimiter="\t")
    return [f"tumblr_{n}" for n, _ in numbered()]


def write_next(data: Path) -> list[str]:
    """Questions with five answers, and with an open one; of a test question there is a further answer."""
    types = ("CW", "TN", "DC", "DL")
    head = ["video", "frame_count", "width", "height", "question", "answer", "qid", "type"]
    for split in CLIPS:
        own = [n for n, word in numbered() if word == split]
        asked = [[1000 + n, 300, 640, 480, QUESTION] for n in own]
        open_rows = [[*row, CHOICES[n % 2], 0, types[n % 4]] for row, n in zip(asked, own, strict=True)]
        write_table(data / "next_oe" / f"{split}.csv", [head, *open_rows])
        chosen = [[*row, n % 5, 0, types[n % 4], *CHOICES] for row, n in zip(asked, own, strict=True)]
        write_table(data / "next_qa" / f"{split}.csv", [[*head, *(f"a{k}" for k in range(5))], *chosen])
    last = max(n for n, _ in numbered())
    write_json(data / "next_oe" / "add_reference_answer_test.json", {str(1000 + last): {"0": "bench"}})
    return [str(1000 + n) for n, _ in numbered()]


def write_activitynet_qa(data: Path) -> None:
    """Questions and answers of the clips that `recipe_moments` wrote."""
    for split, count in CLIPS.items():
        asked, answered = [], []
        for n in range(count):
            name = {"question_id": f"v_{split}{n}_1"}
            asked.append({"video_name": f"{split}{n}", "question": QUESTION, **name})
            answered.append({"answer": CHOICES[n % 2], "type": n % 9, **name})
        write_json(data / "activitynet_qa" / f"{split}_q.json", asked)
        write_json(data / "activitynet_qa" / f"{split}_a.json", answered)


def write_table(path: Path, rows: Iterable[Iterable[object]], *, delimiter: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(rows)
