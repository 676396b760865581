"""What tasks are built of: a recipe's data by split, region sources new and saved, how their images are prepared."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig

from modeling_updown import UpDownDetector, UpDownDetectorConfig, UpDownGrid, UpDownGridConfig, UpDownImageProcessor
from modeling_updown.nanodet_updown import NanoDet, graph_names
from tests import tiny
from tests.training.tiny_run import config_fields
from training.data.captions.formats import load_captions
from training.data.questions.formats import load_vqa
from training.data.splits import NoSuchSplitError
from training.recipe_sections import RegionsRecipe
from training.tasks.build import build_image_processor, build_region_source, by_split, load_by_split, override_config

GRID = {"backbone": "test_resnet", "image_size": 64, "grid_size": 3, "region_feature_size": 96}


def detector_fields(**changes: Any) -> dict[str, Any]:
    """A recipe's `regions.source` for the tiny pyramid detector."""
    fields = config_fields(tiny.tiny_pyramid_config())
    return {"model_type": "updown_detector", "num_objects": 7, "num_attributes": 3, **fields, **changes}


@pytest.fixture
def saved(tmp_path: Path) -> str:
    """A folder with a tiny detector and its processor."""
    tiny.tiny_pyramid_detector().save_pretrained(tmp_path)
    UpDownImageProcessor(size={"shortest_edge": 48, "longest_edge": 96}, image_mean=[0.1, 0.2, 0.3]).save_pretrained(
        tmp_path
    )
    return str(tmp_path)


def test_options_may_differ_by_split() -> None:
    data = {"format": "coco", "annotations": {"train": "a.json"}, "images": "photos", "classes": {"train": 1}}
    expected = {**data, "annotations": "a.json", "split": "train"}
    assert by_split(data, split="train", names=["annotations", "images"]) == expected
    with pytest.raises(ValueError, match="data.annotations names no split 'val'; it has train"):
        by_split(data, split="val", names=["annotations"])


def coco_file(path: Path, *images: str, **fields: str) -> str:
    """A COCO caption file of these image names, each image with these further fields."""
    listed = [{"id": i, "file_name": name, **fields} for i, name in enumerate(images)]
    notes = [{"id": i, "image_id": i, "caption": f"image {name}"} for i, name in enumerate(images)]
    path.write_text(json.dumps({"images": listed, "annotations": notes}))
    return str(path)


def table_file(path: Path, *images: str) -> str:
    path.write_text("file_name,caption,question,answer\n" + "".join(f"{name},a dog,what?,dog\n" for name in images))
    (path.parent / "photos").mkdir(exist_ok=True)
    for name in images:
        (path.parent / "photos" / name).touch()
    return str(path)


def test_the_key_of_a_mapping_names_the_split_of_its_file(tmp_path: Path) -> None:
    train, val = coco_file(tmp_path / "val_photos.json", "a.jpg"), coco_file(tmp_path / "val.json", "b.jpg", "c.jpg")
    data = {"format": "coco", "annotations": {"train": train, "val": val, "test": val}}
    for split, captions in (("train", ["image a.jpg"]), ("val", ["image b.jpg", "image c.jpg"])):
        rows = load_by_split(load_captions, data, split=split, names=["annotations"])
        assert [text for texts in rows["captions"] for text in texts] == captions
    test = load_by_split(load_captions, data, split="test", names=["annotations"])
    assert test["split"] == ["test", "test"] and test["image_id"] == ["0", "1"]


def test_the_key_names_the_split_for_every_format_with_such_files(tmp_path: Path) -> None:
    official = coco_file(tmp_path / "train.json", "a.jpg")
    table = table_file(tmp_path / "train.csv", "a.jpg")
    karpathy = {"filename": "a.jpg", "split": "val", "sentences": [{"raw": "a dog"}]}
    (tmp_path / "karpathy.json").write_text(json.dumps({"images": [karpathy]}))
    (tmp_path / "regions.json").write_text(json.dumps([{"id": 1, "regions": [{"phrase": "a dog"}]}]))
    (tmp_path / "daquar.train.txt").write_text("what is in the image1 ?\ndog\n")
    images = str(tmp_path / "photos")
    for load, format, options in (
        (load_captions, "nocaps", {"annotations": official}),
        (load_captions, "karpathy", {"annotations": str(tmp_path / "karpathy.json")}),
        (load_captions, "folder", {"table": table, "folder": images}),
        (load_captions, "visual_genome_regions", {"region_descriptions": str(tmp_path / "regions.json")}),
        (load_vqa, "folder", {"table": table, "folder": images}),
        (load_vqa, "daquar", {"pairs": str(tmp_path / "daquar.train.txt")}),
    ):
        by_key = {name: {"test": path} for name, path in options.items()}
        rows = load_by_split(load, {"format": format, **by_key}, split="test", names=list(options))
        assert rows["split"] == ["test"], format


def test_files_that_name_several_splits_keep_them(tmp_path: Path) -> None:
    images = [{"filename": f"{word}.jpg", "split": word, "sentences": [{"raw": "a dog"}]} for word in ("train", "val")]
    (tmp_path / "dataset.json").write_text(json.dumps({"images": images}))
    data = {"format": "karpathy", "annotations": dict.fromkeys(("train", "test"), str(tmp_path / "dataset.json"))}
    rows = load_by_split(load_captions, data, split="train", names=["annotations"])
    assert rows["image_id"] == ["train"]
    with pytest.raises(NoSuchSplitError, match="has no image of the split 'test'; it has train, val"):
        load_by_split(load_captions, data, split="test", names=["annotations"])
    plain = {**data, "annotations": str(tmp_path / "dataset.json")}
    with pytest.raises(NoSuchSplitError, match="no image of the split 'test'"):  # no key names it
        load_by_split(load_captions, plain, split="test", names=["annotations"])


@pytest.mark.parametrize(
    ("load", "data"),
    [
        (load_captions, {"format": "karpathy", "annotations": "nowhere.json"}),
        (load_vqa, {"format": "mixture", "parts": [{"format": "pope", "questions": "nowhere.json"}]}),
    ],
)
def test_a_data_set_that_is_not_there_is_named_with_the_cure(load: Any, data: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"cannot read nowhere\.json: No such file.*training/README\.md"):
        load_by_split(load, data, split="test", names=["annotations"])


def test_a_new_region_source_is_a_grid_or_a_detector() -> None:
    grid, weights = build_region_source(RegionsRecipe(source=GRID, random_backbone=True))
    assert isinstance(grid, UpDownGridConfig) and "backbone.conv1.0.weight" in weights
    config, weights = build_region_source(RegionsRecipe(source=detector_fields(), random_backbone=True))
    assert isinstance(config, UpDownDetectorConfig) and (config.num_objects, config.num_attributes) == (7, 3)
    assert weights["heads.object_score.weight"].shape == (8, 128)


def test_a_saved_region_source_keeps_its_weights(saved: str) -> None:
    config, weights = build_region_source(RegionsRecipe(pretrained=saved, source={"max_regions": 9}))
    expected = tiny.tiny_pyramid_detector().state_dict()
    assert weights.keys() == expected.keys() and all(torch.equal(weights[name], expected[name]) for name in weights)
    assert config.max_regions == 9 and config.min_regions == 4
    with pytest.raises(ValueError, match="regions.source: head_size is 64, but the model of .* has 32: leave it out"):
        build_region_source(RegionsRecipe(pretrained=saved, source={"head_size": 64}))


def test_a_grid_looks_through_a_saved_detectors_backbone(saved: str, tmp_path: Path) -> None:
    """Its one cell is then the mean of the detector's last map, of images prepared as for the detector."""
    one = {**GRID, "grid_size": 1}
    regions = RegionsRecipe(source=one, weights=saved)
    config, weights = build_region_source(regions)
    grid, detector = UpDownGrid(config).eval(), tiny.tiny_pyramid_detector()
    grid.load_state_dict(weights)
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        cells, last = grid(pixels).region_features, detector.backbone(pixels)[1]
        random = UpDownGrid(config).eval()(pixels).region_features
    assert torch.allclose(cells[:, 0], last.mean(dim=(2, 3)), atol=1e-5)
    assert not torch.allclose(random, cells, atol=1e-2)
    processor = build_image_processor(config, regions)
    assert list(processor.image_mean) == [0.1, 0.2, 0.3] and dict(processor.size) == {"height": 64, "width": 64}
    other = RegionsRecipe(source={**one, "backbone": "resnet18", "region_feature_size": 512}, weights=saved)
    with pytest.raises(ValueError, match="has the backbone test_resnet, and regions.source asks for resnet18"):
        build_region_source(other)
    captioner, caffe = str(tmp_path / "captioner"), str(tmp_path / "caffe")
    tiny.tiny_captioner(vision_config=None).save_pretrained(captioner)
    tiny.tiny_detector().save_pretrained(caffe)
    with pytest.raises(ValueError, match="regions.weights: .* holds 'updown_captioning' without a region source"):
        build_region_source(RegionsRecipe(source=GRID, weights=captioner))
    with pytest.raises(ValueError, match="caffe_resnet50, and regions.source asks for test_resnet"):
        build_region_source(RegionsRecipe(source=GRID, weights=caffe))


def test_a_new_detector_on_nanodet_has_its_weights_and_knows_its_pixels(tmp_path: Path) -> None:
    nanodet = NanoDet(tiny.tiny_nanodet_config())
    state, names = nanodet.state_dict(), graph_names()
    kinds = ("weight", "bias")
    published = {f"convs.{names[ours]}.{kind}": state[f"{ours}.{kind}"] for ours in names for kind in kinds}
    save_file(published, tmp_path / "nanodet.safetensors")
    save_file(UpDownGrid(UpDownGridConfig(**GRID)).backbone.state_dict(), tmp_path / "timm.safetensors")
    source = {"model_type": "updown_detector", **config_fields(tiny.tiny_nanodet_config())}
    regions = RegionsRecipe(
        source=source,
        weights=str(tmp_path / "timm.safetensors"),
        proposal_weights=str(tmp_path / "nanodet.safetensors"),
        processor={"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]},
    )
    config, weights = build_region_source(regions)
    assert all(torch.equal(weights[f"proposals.{name}"], value) for name, value in state.items())
    build_image_processor(config, regions)
    assert (config.pixel_mean, config.pixel_std) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    regions.processor = {"channel_order": "bgr"}
    with pytest.raises(ValueError, match="NanoDet and timm's backbones read RGB: set channel_order to rgb"):
        build_image_processor(config, regions)
    for wrong, sentence in (
        (
            RegionsRecipe(source=source),
            "regions.proposal_weights: proposal_model is nanodet, which is not trained here",
        ),
        (
            RegionsRecipe(source=source, proposal_weights="no"),
            "regions.proposal_weights: there is no file no; name the",
        ),
        (RegionsRecipe(source=GRID, proposal_weights="no"), "the region source proposes boxes by itself or has none"),
    ):
        with pytest.raises(ValueError, match=sentence):
            build_region_source(wrong)
    assert build_region_source(RegionsRecipe(source=source, random_backbone=True))[0].proposal_model == "nanodet"


def test_region_sources_that_cannot_be_had(tmp_path: Path) -> None:
    captioner = str(tmp_path / "captioner")
    tiny.tiny_captioner(vision_config=None).save_pretrained(captioner)
    for regions, sentence in (
        (RegionsRecipe(), "regions.source is empty: give the fields"),
        (RegionsRecipe(pretrained=captioner), ".* holds 'updown_captioning' without a region source"),
        (RegionsRecipe(pretrained=str(tmp_path / "none")), "regions.pretrained: .*none"),
        (RegionsRecipe(source={"model_type": "updown_eyes"}), "vision_config names model_type 'updown_eyes'; known"),
        (RegionsRecipe(source=detector_fields(min_regions=20)), "min_regions=20 and max_regions=12 must be 1 or more"),
        (RegionsRecipe(source=detector_fields(backbone="resnet19")), "timm knows no backbone 'resnet19'; it has resn"),
        (RegionsRecipe(source=detector_fields(colour="red")), "unknown key 'colour' in regions.source; it takes num_"),
        (RegionsRecipe(source=GRID, weights="no.safetensors"), "regions.weights: there is no file or folder no.safe"),
    ):
        with pytest.raises(ValueError, match=sentence):
            build_region_source(regions)


@pytest.mark.parametrize("save", [tiny.save_tiny_captioner, tiny.save_tiny_retrieval, tiny.save_tiny_prefix_lm])
def test_a_model_lends_its_region_source_cut_otherwise(save: Any, tmp_path: Path) -> None:
    folder = str(save(tmp_path / "model"))
    config, state = build_region_source(RegionsRecipe(pretrained=folder, source={"regions": "pyramid"}))
    assert config is not None and config.regions == "pyramid" and config.num_regions == 14
    model = AutoConfig.from_pretrained(folder)
    assert model.vision_config.regions == "grid" and config.backbone == model.vision_config.backbone
    assert set(state) == set(UpDownGrid(config).state_dict())
    with pytest.raises(ValueError, match="backbone is 'resnet18', but the model"):
        build_region_source(RegionsRecipe(pretrained=folder, source={"backbone": "resnet18"}))


def test_a_saved_detector_gives_cells_and_leaves_out_other_boxes(saved: str) -> None:
    fields = {"grid_sizes": [1, 7], "duplicate_iou": 0.7, "min_region_side": 0.03, "nms_per_class": False}
    config, weights = build_region_source(RegionsRecipe(pretrained=saved, source=fields))
    assert {name: getattr(config, name) for name in fields} == fields and config.num_cells == 50
    assert set(weights) == set(tiny.tiny_pyramid_detector().state_dict())
    for wrong, sentence in (
        ({"grid_sizes": [0]}, r"grid_sizes=\[0\] must be cells a side of each grid, 1 to 64"),
        ({"grid_sizes": 7}, "regions.source: .*grid_sizes"),
        ({"duplicate_iou": 2}, "duplicate_iou=2 must be an IoU over 0, of 1 at most"),
        ({"min_regions": 20}, "min_regions=20 and max_regions=12 must be 1 or more, in this order"),
        ({"image_scales": [0.5]}, "unknown key 'image_scales' in regions.source"),
    ):
        with pytest.raises(ValueError, match=sentence):
            build_region_source(RegionsRecipe(pretrained=saved, source=wrong))


def test_a_grid_is_cut_at_several_scales(tmp_path: Path) -> None:
    folder = str(tiny.save_tiny_captioner(tmp_path / "model"))
    config, _ = build_region_source(RegionsRecipe(pretrained=folder, source={"image_scales": [0.5, 1.0]}))
    assert isinstance(config, UpDownGridConfig) and config.scales == [(0.5, 3), (1.0, 3)] and config.num_regions == 18
    with pytest.raises(ValueError, match="go together, one grid for each scale"):
        build_region_source(RegionsRecipe(pretrained=folder, source={"image_scales": [0.5], "grid_sizes": [1, 2]}))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (tiny.tiny_captioner, "region_dropout"),
        *((tiny.tiny_vqa, name) for name in ("region_dropout", "attention_dropout", "question_dropout")),
        (tiny.tiny_retrieval, "region_dropout"),
        *((tiny.tiny_fusion_vqa, name) for name in ("region_dropout", "answer_dropout")),
        (tiny.tiny_prefix_lm, "region_dropout"),
    ],
)
def test_a_loaded_model_drops_what_the_recipe_says(make: Any, name: str, tmp_path: Path) -> None:
    """With one seed its training output stays the same until the dropout is another."""
    made = make(**({"region_embedding_size": 8} if make is tiny.tiny_captioner else {}))
    made.save_pretrained(tmp_path)
    loaded: Any = type(made).from_pretrained(tmp_path).train()
    ids, side = torch.tensor([[3, 4, 5]]), loaded.config.vision_config.image_size
    found = []
    for share in (0.0, 0.0, 0.9):
        override_config(loaded.config, {name: share}, section="model")
        torch.manual_seed(0)
        output = loaded(input_ids=ids, pixel_values=torch.ones(1, 3, side, side), attention_mask=torch.ones_like(ids))
        found.append(output.logits if output.get("logits") is not None else output.image_embeds)
    assert torch.equal(found[0], found[1]) and not torch.allclose(found[0], found[2], atol=1e-4)


def test_cells_beside_a_pyramid_are_refused_until_they_are_left_out(tmp_path: Path) -> None:
    tiny.tiny_grid(grid_sizes=[1, 2]).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"grid_sizes=\[1, 2\] are cells, .* leave them out \(\[\] where"):
        build_region_source(RegionsRecipe(pretrained=str(tmp_path), source={"regions": "pyramid"}))
    source = {"regions": "pyramid", "grid_sizes": [], "pyramid_levels": [1, 2]}
    config, _ = build_region_source(RegionsRecipe(pretrained=str(tmp_path), source=source))
    assert config is not None and config.num_regions == 5


def test_images_are_prepared_as_the_backbone_was_trained() -> None:
    grid = build_image_processor(UpDownGridConfig(**GRID), RegionsRecipe())
    assert (grid.size.height, grid.size.width, grid.size.shortest_edge) == (64, 64, None)
    assert tuple(grid.image_mean) == (0.5, 0.5, 0.5) and grid.region_selection() == {}
    detector = build_image_processor(tiny.tiny_detector_config(), RegionsRecipe())  # caffe_resnet50
    assert (detector.size.shortest_edge, detector.size.longest_edge) == (600, 1000)
    assert tuple(detector.image_mean) == (0.485, 0.456, 0.406)
    assert detector.region_selection() == {"min_regions": 4, "max_regions": 12, "score_threshold": 0.2}
    with pytest.raises(ValueError, match="unknown key 'sise' in regions.processor"):
        build_image_processor(UpDownGridConfig(**GRID), RegionsRecipe(processor={"sise": 3}))


def test_a_recipe_may_prepare_images_otherwise(saved: str) -> None:
    size = {"shortest_edge": 320, "longest_edge": 640}
    fields = {"size": size, "exact_resize": True, "min_regions": 30}
    processor = build_image_processor(tiny.tiny_pyramid_config(max_regions=36), RegionsRecipe(processor=fields))
    assert (processor.size.shortest_edge, processor.exact_resize) == (320, True)
    assert processor.region_selection()["min_regions"] == 4  # as the config says, in pixels and in a store alike
    config = UpDownDetector.from_pretrained(saved).config
    config.max_regions = 8
    own = build_image_processor(config, RegionsRecipe(pretrained=saved, processor={"size": size}))
    assert tuple(own.image_mean) == (0.1, 0.2, 0.3) and own.size.longest_edge == 640
    assert own.region_selection() == {"min_regions": 4, "max_regions": 8, "score_threshold": 0.2}
    kept = build_image_processor(config, RegionsRecipe(pretrained=saved))
    assert (kept.size.shortest_edge, kept.size.longest_edge) == (48, 96)


def test_only_what_no_weight_depends_on_is_overridden() -> None:
    config = tiny.tiny_pyramid_config()
    override_config(config, {"max_regions": 7, "frozen_stages": 3, "head_size": 32}, section="model")
    assert (config.max_regions, config.frozen_stages) == (7, 3)
    for fields in ({"anchor_sizes": [[8], [16], [32], [64]]}, {"num_objects": 3}):
        with pytest.raises(ValueError, match=f"model: {next(iter(fields))} is .*: leave it out"):
            override_config(config, fields, section="model")
    with pytest.raises(ValueError, match="unknown key 'colour' in model; it takes num_objects"):
        override_config(config, {"colour": "red"}, section="model")
    captioner = tiny.tiny_captioning_config()
    with pytest.raises(ValueError, match="region_feature_dropout leaves a region nothing but its tags"):
        override_config(captioner, {"region_feature_dropout": 0.5}, section="model")
