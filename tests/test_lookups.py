"""Where a newcomer looks first for a thing: the file is guessed from the thing's name, and the thing is there."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# thing -> the file that is guessed, and the name that it defines
DEFINED = {
    "a format of captions": ("training/data/captions/formats.py", "CAPTION_FORMATS"),
    "a format of questions": ("training/data/questions/formats.py", "VQA_FORMATS"),
    "Karpathy's files": ("training/data/captions/formats.py", "read_karpathy"),
    "feature files in TSV": ("training/regions/formats/tsv.py", "BuaTsv"),
    "a metric": ("training/metrics/captioning/cider.py", "CiderD"),
    "document frequencies": ("training/metrics/captioning/cider.py", "document_frequencies"),
    "the card's names of metrics": ("training/publish/card.py", "METRIC_NAMES"),
    "the list of tasks": ("training/tasks/__init__.py", "TASKS"),
    "a command": ("training/commands/caption.py", "add_caption"),
    "updown demo": ("training/commands/demo.py", "add_demo"),
    "going on with a run": ("training/checkpoints.py", "load_checkpoint"),
    "the schedule of learning rates": ("training/schedule.py", "learning_rate_factor"),
    "images in BGR": ("processors/image_processing_updown.py", "channel_order"),
    "NMS": ("modeling_updown/boxes_updown.py", "suppress"),
    "RoI pooling": ("modeling_updown/boxes_updown.py", "max_pool_rois"),
    "which 10 to 100 regions": ("modeling_updown/region_selection_updown.py", "select_per_class"),
    "the cache of beam search": ("modeling_updown/modeling_captioning.py", "CaptioningCache"),
    "gated tanh": ("modeling_updown/modeling_attention.py", "GatedLayer"),
    "a new head": ("modeling_updown/heads_updown.py", "HEADS"),
    "the momentum queue": ("modeling_updown/momentum_updown.py", "MomentumQueue"),
    "hard negatives": ("modeling_updown/modeling_retrieval.py", "hard_negatives"),
    "gathering over processes": ("modeling_updown/losses_updown.py", "gather_rows"),
    "soft targets of VQA": ("training/metrics/vqa/soft_targets.py", "soft_targets"),
    "captions of an image that are learnt together": ("training/recipe_sections.py", "captions_per_image"),
}
# thing -> the file that is guessed, which names or imports the one that has it, and what is defined there
NAMED = {
    # words are masked before the model, by a function of the processors
    "80/10/10 of masked words": (
        "modeling_updown/modeling_pretraining.py",
        "processors/masking_updown.py",
        "mask_words",
    ),
    # searching is one file, writing to disk another: together they are over 600 lines
    "the search index on disk": ("training/search/index.py", "training/search/index_files.py", "IndexWriter"),
    # so are a store and the files of its shards
    "the layout of a region store": ("training/regions/store.py", "training/regions/shards.py", "write_shard"),
}


def module(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def defined_names(tree: ast.Module) -> set[str]:
    """The functions, classes, variables and arguments that a file defines; what it merely imports is none."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
    return names


@pytest.mark.parametrize("thing", DEFINED)
def test_a_thing_is_where_it_is_looked_for(thing: str) -> None:
    path, name = DEFINED[thing]
    assert name in defined_names(module(path))


@pytest.mark.parametrize("thing", NAMED)
def test_the_file_that_is_looked_into_names_the_one_that_has_it(thing: str) -> None:
    path, home, name = NAMED[thing]
    assert name in defined_names(module(home)) - defined_names(module(path))
    assert Path(home).stem in (ROOT / path).read_text(encoding="utf-8")


def test_most_things_are_found_at_once() -> None:
    assert len(DEFINED) + len(NAMED) == 27 and len(DEFINED) >= 24
