"""Damaged files by the thousand, read in a process of its own, which a library may end: what test_fuzz_readers.py runs.

    python -m tests.training.regions.fuzz_batch FOLDER COUNT KIND...

Prints a JSON list of findings: what was raised that is no `ValueError` of ours, or does not name its file.
"""

import io
import json
import random
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.mutations import mutations
from tests.training.regions.formats import foreign
from training.data.boxes.formats import load_detection
from training.data.captions.formats import load_captions
from training.data.questions.formats import load_vqa
from training.data.splits import NoSuchSplitError
from training.recipe import read_recipe
from training.regions.formats import open_region_file

FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "os.fork", "webbrowser.open")
SLOW_SECONDS = 60.0
ODD_VALUES = [
    None,
    True,
    -1,
    1.5,
    1e308,
    float("nan"),
    float("inf"),
    10**30,
    "",
    "\ud800",
    "../x",
    [],
    {},
    [[]],
    [None],
    {"a": None},
]
FOREIGN_IMAGES = foreign.foreign_images((2, 1), width=4)
Findings = list[str]


def main(folder: Path, count: int, kinds: list[str]) -> None:
    ran: list[str] = []
    for library in ("h5py", "lmdb", "msgpack"):  # which ask the system who it is when they are imported
        __import__(library)
    sys.addaudithook(lambda event, _: ran.append(event) if event in FORBIDDEN else None)
    warnings.simplefilter("ignore")
    findings: Findings = []
    for kind in kinds:
        (folder / kind).mkdir()
        findings += KINDS[kind](folder / kind, count)
    print(json.dumps(findings + [f"{event} happened" for event in ran]))


def tried(read: Callable[[], Any], *, about: str, names: str | None) -> Findings:
    """What is wrong with what `read` raises, if anything: only a ValueError that `names` its file is right."""
    started = time.monotonic()
    try:
        read()
    except (MemoryError, Exception) as error:
        if type(error) not in (ValueError, NoSuchSplitError) or (names is not None and names not in str(error)):
            return [f"{about}: {type(error).__name__}: {str(error)[:200]}"]
    took = time.monotonic() - started
    return [f"{about}: took {took:.0f} s"] if took > SLOW_SECONDS else []


def region_file(folder: Path, count: int, *, path: Path, format: str, opened: Path | None = None) -> Findings:
    """Every image of every damaged copy of a file, which lies in `opened` or is it."""
    content, findings = path.read_bytes(), []
    for number, damaged in enumerate(mutations(content, count=count, seed=len(format))):
        path.write_bytes(damaged)
        about = f"{format} {path.name} {number}"
        read = partial(every_image, opened or path, format, about)
        findings += tried(read, about=about, names=folder.name)
    path.write_bytes(content)
    return findings


def every_image(path: Path, format: str, about: str) -> None:
    with open_region_file(path, format=format) as file:
        for entry in file.entries():
            found = tried(partial(file.image, entry), about=about, names=None)
            if found:
                raise RuntimeError(found[0])


def tsv(folder: Path, count: int) -> Findings:
    path = foreign.write_rows(folder / "a.tsv", [foreign.bua_row(image) for image in FOREIGN_IMAGES])
    other = foreign.write_rows(folder / "b.tsv", [foreign.lxmert_row(image) for image in FOREIGN_IMAGES])
    half = count // 2
    return region_file(folder, half, path=path, format="tsv") + region_file(
        folder, half, path=other, format="lxmert-tsv"
    )


def vinvl(folder: Path, count: int) -> Findings:
    foreign.write_vinvl(folder / "db", FOREIGN_IMAGES)
    findings: Findings = []
    for name in ("features.tsv", "predictions.tsv"):
        findings += region_file(folder, count // 2, path=folder / "db" / name, format="vinvl-tsv", opened=folder / "db")
    return findings


def lmdb(folder: Path, count: int) -> Findings:
    """The file of the database, and the records in it: JSON and .npz."""
    record = {"num_boxes": 1, "image_w": 400, "image_h": 300, "boxes": foreign.in_base64(FOREIGN_IMAGES[1].boxes)}
    record["features"] = foreign.in_base64(FOREIGN_IMAGES[1].features)
    values = [json.dumps(record).encode(), npz_bytes()]
    foreign.write_lmdb(folder / "whole", {"a": values[0], "b": values[1]})
    findings = region_file(
        folder, count // 2, path=folder / "whole" / "data.mdb", format="lmdb", opened=folder / "whole"
    )
    records = {
        f"{kind}-{number}": damaged
        for kind, value in enumerate(values)
        for number, damaged in enumerate(mutations(value, count=count // 4, seed=kind))
    }
    foreign.write_lmdb(folder / "records", records)
    return findings + tried(lambda: every_image(folder / "records", "lmdb", "lmdb"), about="lmdb", names=folder.name)


def hdf5(folder: Path, count: int) -> Findings:
    """The layout of rows, that of a data set an image, and that of rows with ids."""
    import h5py

    rows, images, ids = folder / "rows.hdf5", folder / "photos.hdf5", folder / "ids.hdf5"
    foreign.write_hdf5(rows, foreign.foreign_images((2, 2), width=4))
    with h5py.File(images, "w", libver="latest") as file:
        file["7_features"], file["7_boxes"], file["7_size"] = (
            FOREIGN_IMAGES[0].features,
            FOREIGN_IMAGES[0].scaled_boxes,
            [[300, 400]],
        )
    with h5py.File(ids, "w") as file:
        file["image_id"] = [7, 8]
        file.create_dataset("features", data=np.ones((2, 2, 4), dtype=np.float32), compression="gzip")
        file["boxes"] = np.tile(np.array([0, 0, 1, 1], dtype=np.float32), (2, 2, 1))
    return [f for path in (rows, images, ids) for f in region_file(folder, count // 3, path=path, format="hdf5")]


def npz(folder: Path, count: int) -> Findings:
    """.npz, .npy and .pth."""
    import torch

    path, array, tensor = folder / "a.npz", folder / "b.npy", folder / "c.pth"
    path.write_bytes(npz_bytes())
    np.save(array, np.ones((4, 1, 2), dtype=np.float32))
    torch.save(torch.ones(1, 4, 1, 2), tensor)
    findings: Findings = []
    for one, share in ((path, count // 2), (array, count // 4), (tensor, count // 4)):
        findings += region_file(folder, share, path=one, format="npz", opened=folder)
    return findings


def npz_bytes() -> bytes:
    content = io.BytesIO()
    image = FOREIGN_IMAGES[0]
    np.savez_compressed(content, x=image.features, bbox=image.boxes, image_h=image.height, image_w=image.width)
    return content.getvalue()


RECIPE = """task: captioning
data: {format: coco, annotations: {train: a.json, val: b.json}, images: images}
output: runs/x
regions: {source: {backbone: resnet18, image_size: 64}, weights: w.safetensors}
train: {epochs: 3, learning_rate: 1e-3, betas: [0.9, 0.98], schedule: cosine}
evaluate: {split: val, metric: cider_d}
"""


def recipes(folder: Path, count: int) -> Findings:
    path, findings = folder / "recipe.yaml", []
    for number, damaged in enumerate(mutations(RECIPE.encode(), count=count, seed=1)):
        path.write_bytes(damaged)
        findings += tried(partial(read_recipe, path), about=f"recipe {number}", names="recipe.yaml")
    return findings


def annotations(folder: Path, count: int) -> Findings:
    """Every file of every format in turn, its bytes damaged and, of JSON, its values made odd."""
    cases = list(annotation_cases(folder))
    share = max(count // sum(len(files) for _, files, _ in cases), 2)
    findings: Findings = []
    for case, (about, files, read) in enumerate(cases):
        for path in files:
            content = path.read_bytes()
            damaged = [
                *mutations(content, count=share // 2, seed=case),
                *odd_copies(content, share - share // 2, seed=case),
            ]
            for number, copy in enumerate(damaged):
                path.write_bytes(copy)
                findings += tried(read, about=f"{about} {path.name} {number}", names=folder.name)
            path.write_bytes(content)
    return findings


def odd_copies(content: bytes, count: int, *, seed: int) -> Iterator[bytes]:
    """Copies of a JSON file with one value, or of another file with one field, that is none of its kind."""
    draw = random.Random(seed)
    for _ in range(count):
        try:
            value = json.loads(content)
        except ValueError:
            yield next(mutations(content, count=1, seed=draw.randrange(10**6)))
            continue
        places = list(nodes(value))
        parent, key = draw.choice(places)
        if draw.random() < 0.2:
            del parent[key]
        else:
            parent[key] = draw.choice(ODD_VALUES)
        yield json.dumps(value).encode()


def nodes(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of everything within a JSON value."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    for key in keys:
        yield value, key
        yield from nodes(value[key])


Case = tuple[str, list[Path], Callable[[], Any]]


def annotation_cases(folder: Path) -> Iterator[Case]:
    """(name, files that are damaged, how they are read) of every format with files of its own."""
    for load, formats in ((load_captions, CAPTIONS), (load_vqa, QUESTIONS), (load_detection, BOXES)):
        for format, (files, options) in formats.items():
            place = folder / f"{load.__name__}-{format}"
            place.mkdir()
            (place / "photos").mkdir()
            for name, content in files.items():
                (place / name).write_text(content if isinstance(content, str) else json.dumps(content))
            paths = {name: str(place / value) for name, value in options.items() if value}
            read = partial(load, format.partition(" ")[0], **paths)
            yield f"{load.__name__} {format}", [place / name for name in files], read


IMAGES = [{"id": 1, "file_name": "1.jpg", "width": 20, "height": 10}]
COCO = {"images": IMAGES, "annotations": [{"id": 5, "image_id": 1, "caption": "a dog", "is_rejected": False}]}
KARPATHY = {"images": [{"filename": "1.jpg", "cocoid": 1, "split": "train", "sentences": [{"raw": "a dog"}]}]}
CAPTIONS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "coco": ({"a.json": COCO}, {"annotations": "a.json"}),
    "nocaps": ({"a.json": COCO}, {"annotations": "a.json"}),
    "vizwiz": ({"a.json": COCO}, {"annotations": "a.json"}),
    "karpathy": ({"a.json": KARPATHY}, {"annotations": "a.json"}),
    "flickr_tokens": ({"a.txt": "1.jpg#0\ta dog\n1.jpg#1\ta cat\n"}, {"tokens": "a.txt"}),
    "flickr30k_entities": ({"1.txt": "[/EN#1/people A man] runs\n"}, {"sentences": "."}),
    "folder csv": ({"a.csv": "file_name,caption\n1.jpg,a dog\n"}, {"folder": "photos", "table": "a.csv"}),
    "folder tsv": ({"a.tsv": "file_name\tcaption\tsplit\n1.jpg\ta dog\tval\n"}, {"folder": "photos", "table": "a.tsv"}),
    "folder jsonl": (
        {"a.jsonl": {"file_name": "1.jpg", "captions": ["a dog"]}},
        {"folder": "photos", "table": "a.jsonl"},
    ),
    "pairs tsv": ({"a.tsv": "file_name\tcaption\n1.jpg\ta dog\n"}, {"pairs": "a.tsv"}),
    "pairs json": ({"a.json": [{"caption": "a dog", "image": "1.jpg"}]}, {"pairs": "a.json"}),
    "pairs jsonl": ({"a.jsonl": {"TEXT": "a dog", "key": "1"}}, {"pairs": "a.jsonl"}),
    "visual_genome_regions": (
        {"regions.json": [{"id": 1, "regions": [{"phrase": "a dog"}]}]},
        {"region_descriptions": "regions.json"},
    ),
}
ASKED = {"data_subtype": "val2014", "questions": [{"question_id": 7, "image_id": 1, "question": "what is it?"}]}
NOTE = {"question_id": 7, "image_id": 1, "multiple_choice_answer": "dog", "answer_type": "other"}
NOTES = {"annotations": [{**NOTE, "answers": [{"answer": "dog", "answer_id": 1}]}]}
GQA = {"7": {"imageId": "1", "question": "what is it?", "answer": "dog", "types": {"structural": "query"}}}
AOKVQA = [{"question_id": "7", "image_id": 1, "question": "what?", "choices": ["a", "b"], "correct_choice_idx": 1}]
V7W_PAIR = {"qa_id": 7, "question": "what?", "answer": "a dog", "multiple_choices": ["a cat"], "type": "what"}
QUESTIONS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "vqa_v2": ({"q.json": ASKED, "a.json": NOTES}, {"questions": "q.json", "annotations": "a.json"}),
    "aokvqa": ({"a.json": AOKVQA}, {"annotations": "a.json"}),
    "lxmert_vqa": (
        {"q.json": [{"img_id": "COCO_val2014_000000000001", "question_id": 7, "sent": "what?", "label": {"dog": 0.9}}]},
        {"questions": "q.json"},
    ),
    "gqa": (
        {"q.json": GQA, "c.json": {"7": {"valid": ["dog"], "plausible": ["cat"]}}},
        {"questions": "q.json", "choices": "c.json"},
    ),
    "visual7w": (
        {"a.json": {"images": [{"image_id": 1, "filename": "1.jpg", "split": "val", "qa_pairs": [V7W_PAIR]}]}},
        {"annotations": "a.json"},
    ),
    "visual_genome_qa": (
        {"q.json": [{"id": 1, "qas": [{"qa_id": 7, "question": "what?", "answer": "Dog."}]}]},
        {"question_answers": "q.json"},
    ),
    "daquar": ({"qa.txt": "what is in the image1 ?\ndog\n"}, {"pairs": "qa.txt"}),
    "table csv": ({"q.csv": "image,question,answer\n1.jpg,what?,dog\n"}, {"table": "q.csv"}),
    "table json": ({"q.json": [{"image": "1.jpg", "question": "what?", "answers": ["dog"]}]}, {"table": "q.json"}),
}
INSTANCES = {
    "images": IMAGES,
    "annotations": [{"id": 5, "image_id": 1, "category_id": 3, "bbox": [1, 1, 5, 5], "attributes": ["red"]}],
    "categories": [{"id": 3, "name": "dog"}],
    "attributes": [{"id": 1, "name": "red"}],
}
DOG = {"object_id": 9, "names": ["dog"], "x": 1, "y": 1, "w": 5, "h": 5}
BOXES: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "coco": ({"a.json": INSTANCES, "split.json": KARPATHY}, {"annotations": "a.json", "split_file": "split.json"}),
    "visual_genome": (
        {
            "objects.json": [{"image_id": 1, "objects": [DOG]}],
            "image_data.json": [{"image_id": 1, "width": 20, "height": 10}],
            "attributes.json": [{"image_id": 1, "attributes": [{"object_id": 9, "attributes": ["red"]}]}],
            "objects_vocab.txt": "dog,puppy\ncat\n",
            "attributes_vocab.txt": "red\n",
        },
        {"annotations": ".", "vocabulary": "."},
    ),
}

KINDS: dict[str, Callable[[Path, int], Findings]] = {
    "tsv": tsv,
    "vinvl": vinvl,
    "lmdb": lmdb,
    "hdf5": hdf5,
    "npz": npz,
    "recipes": recipes,
    "annotations": annotations,
}

if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
