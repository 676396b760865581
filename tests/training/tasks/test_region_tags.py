"""Tags in a recipe: from a detector's names to a trained model, its store, and word vectors that classes start from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modeling_updown import Regions, UpDownImageProcessor, load_image
from tests.tiny import save_tiny_captioner, tiny_pyramid_detector, tiny_retrieval
from tests.training.tiny_run import (
    new_accelerator,
    tiny_recipe,
    tiny_retrieval_recipe,
    tiny_vqa_recipe,
    train_here,
)
from training.recipe_sections import Recipe, RegionsRecipe
from training.regions.store import RegionStore, RegionStoreWriter
from training.search.embedding import Embedder, check_store
from training.tasks import build_task
from training.tasks.build import source_fields

OBJECTS = ["cat", "tennis racket", "t-shirt", "zzyzx", *(f"thing {number}" for number in range(8))]
ATTRIBUTES = ["brown", "tall", "red", "old", "small"]
GRID = {"backbone": "test_vit", "image_size": 32, "grid_size": 2, "region_feature_size": 64}
RECIPES = {"captioning": tiny_recipe, "vqa": tiny_vqa_recipe, "retrieval": tiny_retrieval_recipe}
TRAIN = {"captioning": {}, "vqa": {}, "retrieval": {"momentum_queue": 8}}


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tiny detector that names its classes."""
    folder, model = tmp_path_factory.mktemp("detector"), tiny_pyramid_detector()
    model.config.id2label = dict(enumerate(OBJECTS, start=1))
    model.config.attribute_id2label = dict(enumerate(ATTRIBUTES, start=1))
    model.save_pretrained(folder)
    UpDownImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return str(folder)


def tagged(folder: Path, detector: str, *, word: str = "captioning", **regions: Any) -> Recipe:
    """A tiny recipe of a task on that detector's regions with tags of width 6; two steps."""
    recipe = RECIPES[word](folder, train={"max_steps": 2, "epochs": 1, **TRAIN[word]})  # type: ignore[operator]
    fields: dict[str, Any] = {"pretrained": detector, "store": str(folder / "store"), "tags": ["objects", "attributes"]}
    recipe.regions = RegionsRecipe(**(fields | regions))
    recipe.model |= {"tag_embedding_size": 6}
    return recipe


def named_store(folder: Path, *, names: list[str] = OBJECTS, columns: int | None = None) -> str:
    """Random regions of three images with the probabilities of named objects."""
    generator = torch.Generator().manual_seed(0)
    probs = torch.rand(3, 2, columns or len(names) + 1, generator=generator).softmax(dim=-1)
    boxes = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(3, 2, 4)
    regions = {"region_features": torch.randn(3, 2, 8, generator=generator), "region_boxes": boxes}
    with RegionStoreWriter(folder, fingerprint={}, class_names={"object_probs": names}) as writer:
        writer.append(["a", "b", "c"], {**regions, "object_probs": probs})
    return str(folder)


@pytest.mark.parametrize("word", RECIPES)
def test_a_task_trains_a_model_that_knows_its_detectors_names(word: str, tmp_path: Path, detector: str) -> None:
    recipe = tagged(tmp_path, detector, word=word)
    train_here(recipe)
    store = RegionStore(tmp_path / "store")
    assert store.class_names == {"object_probs": OBJECTS, "attribute_probs": ATTRIBUTES}
    assert (store.num_classes("object_probs"), store.num_classes("attribute_probs")) == (12, 5)
    task = build_task(recipe, new_accelerator())
    model, _ = task.load(Path(recipe.output) / "best")
    config = model.config
    assert (config.object_tag_names, config.attribute_tag_names) == (OBJECTS, ATTRIBUTES)
    assert config.region_size == config.region_feature_size + 12
    rows = task.evaluation_rows("val")
    images = task.images.batch(task.images.prepare(rows), np.array([0, 1]), flipped=np.zeros(2, dtype=bool))
    stored = RegionStore(tmp_path / "store").batch([rows[0]["image_id"]], columns=["object_probs"], dtype=torch.float32)
    assert torch.equal(images["object_probs"][0, : stored["object_probs"].shape[1]], stored["object_probs"][0])
    torch.testing.assert_close(
        stored["object_probs"].sum(dim=-1), torch.ones(stored["object_probs"].shape[:2]), atol=2e-3, rtol=0
    )


def test_reward_training_shares_tags_of_pixels(tmp_path: Path, detector: str) -> None:
    recipe = tagged(tmp_path, detector, store="")
    recipe.train.objective, recipe.train.baseline = "self_critical", "mean_of_others"
    task = build_task(recipe, new_accelerator())
    task.prepare()
    inputs = task.inputs(np.array([0, 5]), epoch=0)
    regions = task.regions_once({name: inputs[name] for name in ("pixel_values",)})
    expected = task.model.region_source(inputs["pixel_values"])
    assert torch.equal(regions["attribute_probs"], expected.attribute_probs)
    total, count, logged = task.loss(task.model, inputs)
    total.backward()
    gradient = task.model.region_tags.embeddings["object_tags"].weight.grad
    assert count > 0 and gradient is not None and gradient.abs().max() > 0 and "reward_x100" in logged


def test_a_withheld_image_has_no_names(tmp_path: Path, detector: str) -> None:
    recipe = tagged(tmp_path, detector, word="vqa")
    recipe.train.withhold = "image"
    task = build_task(recipe, new_accelerator())
    task.prepare()
    inputs = task.inputs(np.array([0, 1]), epoch=0)
    assert inputs["object_probs"].shape == (2, 1, 13) and not inputs["object_probs"].any()
    assert task.loss(task.model, inputs)[0].isfinite()


def test_a_store_without_a_source_tells_number_and_names(tmp_path: Path) -> None:
    regions = RegionsRecipe(store=named_store(tmp_path / "store"), tags=["objects"])
    assert source_fields(None, regions) == {
        "region_feature_size": 8,
        "object_tags": 12,
        "object_tag_names": OBJECTS,
    }
    with RegionStoreWriter(tmp_path / "nameless", fingerprint={}) as writer:
        writer.append(
            ["a"],
            RegionStore(tmp_path / "store").batch(["a"], columns=["region_features", "region_boxes", "object_probs"]),
        )
    regions.store = str(tmp_path / "nameless")
    assert source_fields(None, regions)["object_tags"] == 12
    assert source_fields(None, regions)["object_tag_names"] is None


def test_other_classes_than_the_models_are_refused(tmp_path: Path) -> None:
    """By their number, and by their names where both are known."""
    RegionStore(named_store(tmp_path / "right")).check_classes("object_probs", OBJECTS, number=12)
    RegionStore(tmp_path / "right").check_classes("object_probs", None, number=12)
    with pytest.raises(ValueError, match="object_probs in .*right are of 12 classes, where the model reads 5: extract"):
        RegionStore(tmp_path / "right").check_classes("object_probs", None, number=5)
    other = ["cat", "dog", *OBJECTS[2:]]
    with pytest.raises(ValueError, match="of other classes than the model reads, such as 'tennis racket' in .* 'dog'"):
        RegionStore(tmp_path / "right").check_classes("object_probs", other, number=12)
    with pytest.raises(ValueError, match="the store .*right names the classes of object_probs otherwise"):
        RegionStoreWriter(tmp_path / "right", fingerprint={}, class_names={"object_probs": other})
    with RegionStoreWriter(tmp_path / "right", fingerprint={}) as writer:  # who knows no names adds to them
        assert writer.done_ids == {"a", "b", "c"}
    assert RegionStore(tmp_path / "right").class_names == {"object_probs": OBJECTS}


def test_a_store_of_another_detector_is_refused_before_training(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"vision_config": None, "region_feature_size": 8, "object_tag_names": ["cat", "dog"]}
    folder = save_tiny_captioner(tmp_path / "model", **fields)
    recipe = tiny_recipe(tmp_path, regions=RegionsRecipe(store=named_store(tmp_path / "store")))
    task = build_task(recipe, new_accelerator())
    task.load(folder)
    with pytest.raises(ValueError, match="are of 12 classes, where the model reads 2"):
        task.images.prepare(task.rows("val"))


def test_regions_without_soft_labels_are_refused(tmp_path: Path, detector: str) -> None:
    plain = tagged(tmp_path, detector, tags=[])
    del plain.model["tag_embedding_size"]
    build_task(plain, new_accelerator()).prepare()
    with pytest.raises(ValueError, match="have no object_probs, which the model's tags are made of: extract them with"):
        build_task(tagged(tmp_path, detector), new_accelerator()).prepare()


@pytest.mark.parametrize(
    ("regions", "fault"),
    [
        ({"tags": ["colours"]}, "regions.tags names 'colours'; it takes objects, attributes"),
        ({"tags": [], "tag_vectors": "glove.txt"}, "regions.tag_vectors are those of tags: set regions.tags as well"),
        (
            {"pretrained": "", "source": GRID, "random_backbone": True},
            "a 'updown_grid' tells no objects: take a detector",
        ),
    ],
)
def test_tags_that_cannot_be_had(regions: dict[str, Any], fault: str, tmp_path: Path, detector: str) -> None:
    with pytest.raises(ValueError, match=fault):
        build_task(tagged(tmp_path, detector, **regions), new_accelerator()).prepare()
    with pytest.raises(ValueError, match="regions.tags: the regions of .*store have no attribute_probs: extract them"):
        source_fields(None, RegionsRecipe(store=named_store(tmp_path / "a store"), tags=["attributes"]))


def test_a_run_may_start_from_a_model_and_show_it_tags_alone(tmp_path: Path, detector: str) -> None:
    first = tagged(tmp_path, detector, store="")
    train_here(first)
    recipe = tagged(tmp_path, detector, store="", pretrained="", tags=[])
    recipe.init_from = str(Path(first.output) / "best")
    recipe.model = {"region_feature_dropout": 0.999, "tag_top_k": 2}
    task = build_task(recipe, new_accelerator())
    task.prepare()
    regions = task.regions_once({"pixel_values": task.inputs(np.array([0, 5]), epoch=0)["pixel_values"]})
    torch.manual_seed(0)
    shown = task.model.train().with_tags(regions["region_features"], Regions(**regions))
    width = regions["region_features"].shape[-1]
    assert not shown[..., :width].any() and shown[..., width:].any()
    likeliest = regions["object_probs"].clone()
    likeliest[..., 1:].scatter_(-1, likeliest[..., 1:].argsort(dim=-1)[..., :-2], 0)  # all but two
    few = task.model.with_tags(regions["region_features"], Regions(**{**regions, "object_probs": likeliest}))
    assert torch.equal(few[..., width:], shown[..., width:])
    recipe.model = {"tag_embedding_size": 7}
    with pytest.raises(ValueError, match="model: tag_embedding_size is 7, but the model of init_from has 6: leave it"):
        build_task(recipe, new_accelerator()).prepare()


# -- word vectors ----------------------------------------------------------------------------------------------------


def glove(path: Path, *words: str, size: int = 6) -> tuple[str, dict[str, torch.Tensor]]:
    """A file of random vectors, and what classes start from: those vectors with a standard deviation of 0.3."""
    vectors = torch.randn(len(words), size, generator=torch.Generator().manual_seed(1))
    path.write_text(
        "".join(f"{word} {' '.join(map(str, row))}\n" for word, row in zip(words, vectors.tolist(), strict=True))
    )
    return str(path), dict(zip(words, vectors, strict=True))


def test_classes_start_from_the_vectors_of_their_names(tmp_path: Path, detector: str) -> None:
    path, vectors = glove(tmp_path / "glove.txt", "cat", "tennis", "racket", "t-shirt", "shirt", "tall", "stranger")
    fresh = build_task(tagged(tmp_path, detector, store=""), new_accelerator())
    fresh.prepare()
    task = build_task(tagged(tmp_path, detector, store="", tag_vectors=path), new_accelerator())
    torch.manual_seed(0)
    task.prepare()
    asked = torch.stack([vectors[word] for word in ("cat", "tennis", "racket", "t-shirt", "shirt", "tall")])
    scaled = {word: 0.3 / asked.std() * vector for word, vector in vectors.items()}
    embeddings = task.model.region_tags.embeddings
    columns = embeddings["object_tags"].weight.detach().T  # (C, E)
    torch.testing.assert_close(columns[0], scaled["cat"])
    torch.testing.assert_close(columns[1], (scaled["tennis"] + scaled["racket"]) / 2)
    torch.testing.assert_close(columns[2], scaled["t-shirt"])  # the whole name before its parts
    torch.testing.assert_close(embeddings["attribute_tags"].weight.detach().T[1], scaled["tall"])
    assert 0.1 < columns[3:].std() < 0.6  # of names without a vector, still new


@pytest.mark.parametrize(
    ("words", "size", "fault"),
    [
        (["cat"], 5, "regions.tag_vectors are 5 wide: set model.tag_embedding_size to that, not 6"),
        (["stranger"], 6, "regions.tag_vectors: .*glove.txt has a vector of no class, such as 'cat'"),
    ],
)
def test_vectors_that_do_not_fit(words: list[str], size: int, fault: str, tmp_path: Path, detector: str) -> None:
    path, _ = glove(tmp_path / "glove.txt", *words, size=size)
    with pytest.raises(ValueError, match=fault):
        build_task(tagged(tmp_path, detector, store="", tag_vectors=path), new_accelerator()).prepare()


def test_classes_without_names_have_no_vectors_to_start_from(tmp_path: Path) -> None:
    path, _ = glove(tmp_path / "glove.txt", "cat")
    with RegionStoreWriter(tmp_path / "store", fingerprint={}) as writer:
        scenes = RegionStore(named_store(tmp_path / "named"))
        writer.append(["a"], scenes.batch(["a"], columns=["region_features", "region_boxes", "object_probs"]))
    recipe = tiny_recipe(
        tmp_path, regions=RegionsRecipe(store=str(tmp_path / "store"), tags=["objects"], tag_vectors=path)
    )
    with pytest.raises(
        ValueError, match="the region store says none of object_tags: give them as model.object_tag_names"
    ):
        build_task(recipe, new_accelerator()).build([["a cat"]])


# -- search ----------------------------------------------------------------------------------------------------------


def test_a_search_engine_reads_tags_of_images_and_stores(tmp_path: Path, detector: str) -> None:
    task = build_task(tagged(tmp_path, detector, word="retrieval"), new_accelerator())
    task.prepare()
    made = Embedder(task.model.eval(), task.processor, batch_size=2)
    store = RegionStore(tmp_path / "store")
    check_store(store, made)
    ids = store.image_ids[-3:]  # of the training split, which comes last
    vectors = made.regions_vectors(made.stored_regions(store, ids))
    rows = task.train_rows
    places = [rows["image_id"][:].index(image_id) for image_id in ids]
    images = [row["image"]["path"] or row["image"]["bytes"] for row in map(rows.__getitem__, places)]
    seen = made.regions([load_image(image) for image in images])
    np.testing.assert_allclose(made.regions_vectors(seen), vectors, atol=2e-3)  # the store is in float16
    named = {name: seen[name] for name in ("object_probs", "attribute_probs")}
    unnamed = {**seen, **{name: torch.zeros_like(value) for name, value in named.items()}}
    assert np.abs(made.regions_vectors(unnamed) - vectors).max() > 0.005
    with pytest.raises(ValueError, match="object_probs in .* are of 12 classes, where the model reads 3"):
        fields: dict[str, Any] = {"vision_config": None, "region_feature_size": 8, "object_tag_names": ["a", "b", "c"]}
        check_store(RegionStore(named_store(tmp_path / "other")), Embedder(tiny_retrieval(**fields), task.processor))
