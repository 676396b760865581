"""Images of every kind a user brings, and the pixels that come of them."""

import base64
import io
import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from processors import image_processing_updown
from processors.image_processing_updown import UpDownImageProcessor, UpDownImageProcessorPil, load_image
from tests.shared_files import shared

PROCESSORS = [UpDownImageProcessor, UpDownImageProcessorPil]
RED, WHITE = (255, 0, 0), (255, 255, 255)


def drawn_image(width: int = 90, height: int = 60) -> Image.Image:
    """A smooth image whose left half is red and whose right half grows blue towards the bottom."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[:, : width // 2, 0] = 255
    pixels[:, width // 2 :, 2] = np.linspace(0, 255, height)[:, None]
    return Image.fromarray(pixels)


def drawn_image_levels() -> np.ndarray:
    """The drawn image in 0..1."""
    return np.asarray(drawn_image(), dtype=np.float32) / 255


def same_pixels(first: Any, second: Any) -> bool:
    return np.array_equal(np.asarray(first), np.asarray(second))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds one line of nothing."""
    chunks = b""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    for name, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")):
        chunks += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return b"\x89PNG\r\n\x1a\n" + chunks


# ---- load_image: kinds of sources


def test_every_source_gives_the_same_image(tmp_path: Path) -> None:
    image = drawn_image()
    content = encoded(image)
    path = tmp_path / "a photo.png"
    path.write_bytes(content)
    url = "data:image/png;base64," + base64.b64encode(content).decode()
    for source in (image, content, path, str(path), url):
        assert same_pixels(load_image(source), image)


def test_bytes_and_open_files_of_every_kind(tmp_path: Path) -> None:
    image = drawn_image()
    content = encoded(image)
    path = tmp_path / "a photo.png"
    path.write_bytes(content)
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("photo.png", content)
    memory = io.BytesIO(content)
    memory.seek(9)
    with open(path, "rb") as file, zipfile.ZipFile(tmp_path / "photos.zip").open("photo.png") as zipped:
        for source in (
            bytearray(content),
            memoryview(content),
            memory,
            memory,
            file,
            zipped,
            io.BufferedReader(memory),
        ):
            assert same_pixels(load_image(source), image)
        assert not file.closed and not zipped.closed
        assert len(UpDownImageProcessor()([file, memoryview(content)])["pixel_values"]) == 2
    with pytest.raises(ValueError, match=r"a photo.png cannot be read as an image \(.*closed file.*\); give its path"):
        load_image(file)
    text = tmp_path / "notes.txt"
    text.write_text("no image")
    with open(text) as notes, pytest.raises(TypeError, match='notes.txt gives str, not bytes; open it with "rb"'):
        load_image(notes)
    with open(path, encoding="utf-8") as as_text, pytest.raises(ValueError, match='open it with "rb"'):
        load_image(as_text)
    with pytest.raises(ValueError, match="the given file object is empty"):
        load_image(io.BytesIO())


def test_base64_as_pipelines_take_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = drawn_image()
    text = base64.b64encode(encoded(image)).decode()
    smallest = base64.b64encode(encoded(Image.new("1", (1, 1)))).decode()
    for source in (text, base64.encodebytes(encoded(image)).decode()):
        assert same_pixels(load_image(source), image)
    assert load_image(smallest).size == (1, 1)
    with pytest.raises(ValueError, match="the given base64 is not an image"):
        load_image("abcd" * 40)
    with pytest.raises(FileNotFoundError, match="there is no image at aaa"):
        load_image("a" * 120 + ".jpg")
    monkeypatch.chdir(tmp_path)
    (tmp_path / ("a" * 100)).write_bytes(encoded(image))
    assert same_pixels(load_image("a" * 100), image)  # a file comes first


def test_a_file_object_is_read_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_processing_updown, "MAX_DOWNLOAD_BYTES", 2**20)
    with pytest.raises(ValueError, match="holds more than 1 MiB; give the path of the file instead"):
        load_image(io.BytesIO(bytes(2**20 + 1)))


def test_exif_rotation_is_applied_also_to_opened_images(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    path = tmp_path / "turned.png"
    drawn_image().save(path, exif=exif)
    upright = np.rot90(np.asarray(drawn_image()), k=-1)
    assert same_pixels(load_image(path), upright)
    with Image.open(path) as opened:
        assert same_pixels(load_image(opened), upright)
        assert opened.size == (90, 60)  # the user's own image is left alone


def test_broken_exif_does_not_lose_the_image() -> None:
    content = encoded(drawn_image(), "JPEG", exif=b"Exif\0\0" + b"\x99" * 40)
    assert load_image(content).size == (90, 60)


@pytest.mark.parametrize(
    ("image", "pixel"),
    [
        (Image.new("L", (3, 2), 128), (128, 128, 128)),
        (Image.new("1", (3, 2), 1), WHITE),
        (Image.new("LA", (3, 2), (128, 0)), WHITE),
        (Image.new("RGBA", (3, 2), (255, 0, 0, 0)), WHITE),
        (Image.new("RGBA", (3, 2), (255, 0, 0, 255)), RED),
        (Image.new("RGBA", (3, 2), (0, 0, 0, 128)), (127, 127, 127)),
        (Image.new("RGB", (3, 2), RED).quantize(4), RED),
        (Image.new("CMYK", (3, 2), (0, 255, 255, 0)), RED),
        (Image.fromarray(np.full((2, 3), 65535, np.uint16)), WHITE),
        (Image.fromarray(np.full((2, 3), 32896, np.uint16)), (128, 128, 128)),
        (Image.fromarray(np.full((2, 3), 255, np.uint16)), (1, 1, 1)),
        (Image.fromarray(np.full((2, 3), 32896, np.int32)), (128, 128, 128)),
        (Image.fromarray(np.full((2, 3), 200, np.int32)), (200, 200, 200)),
        (Image.fromarray(np.full((2, 3), 0.5, np.float32)), (128, 128, 128)),
        (Image.fromarray(np.full((2, 3), np.nan, np.float32)), (0, 0, 0)),
    ],
)
def test_colour_modes(image: Image.Image, pixel: tuple[int, int, int]) -> None:
    loaded = load_image(image)
    assert loaded.mode == "RGB" and loaded.size == (3, 2)
    assert loaded.getpixel((1, 1)) == pixel


def test_palette_and_grey_transparency_from_files() -> None:
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    assert load_image(encoded(palette, transparency=0)).getpixel((0, 0)) == WHITE
    assert load_image(encoded(palette, transparency=1)).getpixel((0, 0)) == RED
    assert load_image(encoded(Image.new("L", (2, 2), 7), transparency=7)).getpixel((0, 0)) == WHITE
    assert (
        load_image(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")).getchannel("R").getpixel((4, 4)) == 255
    )
    assert load_image(encoded(Image.fromarray(np.full((2, 2), 32896, np.uint16)))).getpixel((0, 0)) == (128, 128, 128)


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    assert load_image(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])).getpixel((0, 0)) == RED


# ---- load_image: what goes wrong


def test_missing_and_wrong_files_name_themselves(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no image at nowhere.jpg; check the path"):
        load_image("nowhere.jpg")
    with pytest.raises(IsADirectoryError, match="is a folder; give the path of one image"):
        load_image(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no image at /dev/zero"):
        load_image("/dev/zero")
    with pytest.raises(TypeError, match="an image is a path, .* not int"):
        load_image(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty \\(0 bytes\\); download or copy it again"),
        (b"not an image at all", "is not an image \\(JPEG, .*\\); convert it"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image"),
        (encoded(drawn_image())[:-200], "is damaged or cut short \\(.*\\); download or copy it again"),
        (encoded(drawn_image(), "JPEG")[:900], "is damaged or cut short"),
        (encoded(drawn_image())[:20], "photo.png is"),
    ],
)
def test_broken_files_get_one_clear_sentence(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_image(path)
    assert str(path) in str(caught.value)


def test_image_without_pixels() -> None:
    with pytest.raises(ValueError, match="is 0 x 5 pixels; an image needs at least one pixel"):
        load_image(Image.new("RGB", (0, 5)))


def test_urls_answer_or_say_so(tmp_path: Path) -> None:
    with pytest.raises(
        ConnectionError, match="http://127.0.0.1:9/photo.jpg cannot be downloaded .*; check the address"
    ):
        load_image("http://127.0.0.1:9/photo.jpg")
    with pytest.raises(ValueError, match="not followed by base64"):
        load_image("data:image/png;base64,???")


# ---- load_image: sizes


def test_gigapixel_bombs_are_refused_before_decoding() -> None:
    with pytest.raises(ValueError, match="more pixels than are safe to decode; .* raise PIL.Image.MAX_IMAGE_PIXELS"):
        load_image(png_header(60_000, 60_000))
    huge_jpeg = bytearray(encoded(drawn_image(), "JPEG"))
    size_at = huge_jpeg.index(b"\xff\xc0") + 5  # the frame header holds height and width
    huge_jpeg[size_at : size_at + 4] = struct.pack(">HH", 60_000, 60_000)
    with pytest.raises(ValueError, match="below 1000000000 \\(it is 60000 x 60000\\)"):
        load_image(bytes(huge_jpeg))


def test_panoramas_load_reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    panorama = drawn_image(2000, 200)
    monkeypatch.setattr(image_processing_updown, "MAX_IMAGE_PIXELS", 50_000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)  # Pillow refuses at twice this
    jpeg = load_image(encoded(panorama, "JPEG", quality=95))
    assert jpeg.size == (500, 50)  # reduced by 3 is asked, 2 by the decoder and 2 after it
    assert np.abs(np.asarray(jpeg, dtype=int) - np.asarray(panorama.reduce(4), dtype=int)).mean() < 3
    with pytest.raises(ValueError, match="baseline JPEG"):
        load_image(encoded(panorama, "JPEG", progressive=True))
    with pytest.raises(ValueError, match="raise PIL.Image.MAX_IMAGE_PIXELS"):
        load_image(encoded(panorama))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert same_pixels(load_image(encoded(panorama)), panorama.reduce(3))


# ---- the processors


@pytest.mark.parametrize("processor_class", PROCESSORS)
def test_channels_are_red_green_blue(processor_class: Any) -> None:
    square = processor_class()(Image.new("RGB", (50, 40), RED), return_tensors="pt").pixel_values
    assert square.dtype == torch.float32 and square.shape == (1, 3, 224, 224)
    assert square[0, :, 100, 100].tolist() == [1.0, -1.0, -1.0]


@pytest.mark.parametrize("processor_class", PROCESSORS)
def test_pixels_are_pillows_bicubic(processor_class: Any) -> None:
    image = drawn_image()
    resized = image.resize((32, 24), Image.Resampling.BICUBIC)
    expected = torch.tensor(np.asarray(resized)).permute(2, 0, 1) / 127.5 - 1
    pixels = processor_class(size={"height": 24, "width": 32})(image, return_tensors="pt").pixel_values[0]
    assert (pixels - expected).abs().max() <= 1 / 127.5 + 1e-6  # one level of 255


def test_backends_agree_on_a_real_image() -> None:
    path = shared("data/photos/china.jpg")
    pixels = [processor_class()(path, return_tensors="pt").pixel_values for processor_class in PROCESSORS]
    assert (pixels[0] - pixels[1]).abs().max() <= 1 / 127.5 + 1e-6
    assert (pixels[0] - pixels[1]).abs().mean() < 1e-4


@pytest.mark.parametrize("processor_class", PROCESSORS)
@pytest.mark.parametrize("size", [{"height": 32, "width": 32}, {"shortest_edge": 30, "longest_edge": 40}])
def test_batch_equals_single(processor_class: Any, size: dict[str, int]) -> None:
    images = [drawn_image(), drawn_image(50, 70), Image.new("L", (31, 500), 9)]
    processor = processor_class(size=size)
    batch = processor(images, return_tensors="pt")
    for index, image in enumerate(images):
        alone = processor(image, return_tensors="pt").pixel_values[0]
        height, width = alone.shape[1:]
        assert torch.equal(batch.pixel_values[index, :, :height, :width], alone)


@pytest.mark.parametrize("processor_class", PROCESSORS)
def test_kept_aspect_ratio_pads_and_masks(processor_class: Any) -> None:
    processor = processor_class(size={"shortest_edge": 20, "longest_edge": 40})
    batch = processor([Image.new("RGB", (60, 30), WHITE), Image.new("RGB", (10, 40), WHITE)], return_tensors="pt")
    assert processor.model_input_names == list(batch) == ["pixel_values", "pixel_mask"]
    assert batch.pixel_mask.dtype == torch.bool
    real = torch.zeros(2, 40, 40, dtype=torch.bool)
    real[0, :20, :40] = True
    real[1, :40, :10] = True  # the longest edge allows no more
    assert torch.equal(batch.pixel_mask, real)
    assert torch.equal(batch.pixel_values, real[:, None].expand(2, 3, 40, 40).float())  # white is 1, padding is 0
    assert processor_class().model_input_names == ["pixel_values"]


@pytest.mark.parametrize("processor_class", PROCESSORS)
def test_a_thread_of_pixels_is_not_blown_up(processor_class: Any) -> None:
    thread = Image.new("RGB", (20_000, 1))
    with pytest.raises(ValueError, match='20000 x 1 pixels is too long and thin .* add "longest_edge"'):
        processor_class(size={"shortest_edge": 600})(thread)
    assert processor_class()(thread, return_tensors="pt").pixel_values.shape == (1, 3, 224, 224)


@pytest.mark.parametrize("processor_class", PROCESSORS)
def test_arrays_of_every_layout_give_the_image(processor_class: Any) -> None:
    processor = processor_class(size={"height": 16, "width": 16})
    image = drawn_image()
    expected = processor(image, return_tensors="pt").pixel_values
    last = np.array(image)  # (H, W, 3)
    first = torch.tensor(last).permute(2, 0, 1)  # (3, H, W)
    blue_first = last[..., ::-1].copy()
    frozen = last.copy()
    frozen.flags.writeable = False
    opaque = np.dstack([last, np.full(last.shape[:2], 255, np.uint8)])
    for same in (last, first, first.numpy(), blue_first[..., ::-1], frozen, opaque, [last], last[None], (first,)):
        assert torch.equal(processor(same, return_tensors="pt").pixel_values, expected)
    for rounded_later in (last.astype(np.float64), last.astype(np.uint16) * 257, first.float(), last.astype(np.int64)):
        close = processor(rounded_later, return_tensors="pt").pixel_values
        assert (close - expected).abs().mean() < 0.02  # bicubic overshoots where 8 bits are clipped


@pytest.mark.parametrize("processor_class", PROCESSORS)
def test_grey_arrays(processor_class: Any) -> None:
    processor = processor_class(size={"height": 8, "width": 8})
    grey = np.full((20, 30), 255, np.uint8)
    for array in (grey, grey[None], grey[..., None], [grey, grey], torch.tensor(grey), grey.astype(bool)):
        pixels = processor(array, return_tensors="pt").pixel_values
        assert torch.allclose(pixels, torch.ones(len(pixels), 3, 8, 8), atol=1e-5)


@pytest.mark.parametrize("processor_class", PROCESSORS)
def test_floats_in_0_to_1_are_the_image(processor_class: Any) -> None:
    processor = processor_class(size={"height": 16, "width": 16})
    image = drawn_image()
    expected = processor(image, return_tensors="pt").pixel_values
    last = np.array(image) / 255  # float64, (H, W, 3)
    first = torch.tensor(last.astype(np.float32)).permute(2, 0, 1)
    for same in (last, last.astype(np.float32), first, first.numpy(), [last, last], last[None], first[None]):
        for pixels in processor(same, return_tensors="pt").pixel_values:
            assert torch.equal(pixels, expected[0])
    half = processor(first.half(), return_tensors="pt").pixel_values
    assert (half - expected).abs().max() <= 1 / 127.5 + 1e-6  # one level of 255
    kept = processor(last, do_rescale=False, return_tensors="pt").pixel_values
    assert (kept - expected).abs().mean() < 0.02  # bicubic overshoots where 8 bits are clipped
    dark = np.ones((8, 8, 3), np.int64)  # whole numbers are levels of 255, whatever they are
    assert torch.allclose(processor(dark, return_tensors="pt").pixel_values, torch.tensor(1 / 127.5 - 1))


def test_floats_that_look_normalised_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(image_processing_updown.logger, "warning_once", warnings.append)
    processor = UpDownImageProcessor(size={"height": 8, "width": 8})
    white = np.ones((10, 10, 3), np.float32)
    for fine in (white * 255, white, white * 0, white - 300):
        processor(fine)
    assert warnings == []
    processor(2 * drawn_image_levels() - 1)
    assert len(warnings) == 1 and "from -1.00 to 1.00 looks normalised already" in warnings[0]
    processor(2 * drawn_image_levels() - 1, do_rescale=False, do_normalize=False)
    assert len(warnings) == 1


@pytest.mark.parametrize("processor_class", PROCESSORS)
def test_a_resize_that_overshoots_is_still_an_image(processor_class: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(image_processing_updown.logger, "warning_once", warnings.append)
    processor = processor_class(size={"height": 16, "width": 16})
    levels = drawn_image_levels()
    expected = processor(levels, return_tensors="pt").pixel_values
    beyond = np.where(levels > 0.9, levels + 0.09, np.where(levels < 0.1, levels - 0.09, levels))
    clipped = processor(beyond.clip(0, 1), return_tensors="pt").pixel_values
    assert beyond.max() > 1 and beyond.min() < 0 and (clipped - expected).abs().max() < 0.2
    for image in (beyond, torch.tensor(beyond.astype(np.float32)), beyond.clip(min=0), beyond.clip(max=1)):
        assert (processor(image, return_tensors="pt").pixel_values - clipped).abs().max() < 1e-6
    assert warnings == []
    for lowest, highest in ((-0.2, 1.0), (0.0, 1.2)):
        UpDownImageProcessor()(np.linspace(lowest, highest, 300, dtype=np.float32).reshape(10, 10, 3))
    assert ["looks normalised already" in text for text in warnings] == [True, True]


def test_8_bits_given_in_16_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(image_processing_updown.logger, "warning_once", warnings.append)
    processor = UpDownImageProcessor(size={"height": 8, "width": 8})
    levels = np.asarray(drawn_image())
    for fine in (levels, levels.astype(np.uint16) * 257, 0 * levels.astype(np.uint16)):
        processor(fine)
    assert warnings == []
    processor(levels.astype(np.uint16))
    processor(Image.fromarray(levels[..., 0].astype(np.uint16)))
    assert len(warnings) == 2
    for text, channels in zip(warnings, (levels, levels[..., 0]), strict=True):
        assert f"an image of 16 bits has no level above {channels.max()} of 65535" in text and "as uint8" in text


@pytest.mark.parametrize("processor_class", PROCESSORS)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_std": 0.0}, "image_std is 0.0, but it must be a number from 1e-06 to 1e.06"),
        ({"image_std": [0.5, 0.0, 0.5]}, r"image_std is [\[(]0.5, 0.0, 0.5[\])], but each must be"),
        ({"image_std": [0.5, -0.5, 0.5]}, "image_std is"),
        ({"image_std": [0.5, 0.5]}, r"image_std is [\[(]0.5, 0.5[\])], but must be one number, or three"),
        ({"image_mean": [0.5, 0.5]}, r"image_mean is [\[(]0.5, 0.5[\])], but must be one number, or three"),
        ({"image_mean": [0.5, float("nan"), 0.5]}, "image_mean is .* but each must be a number from -1e.06 to 1e.06"),
        ({"rescale_factor": 1e300}, "rescale_factor is 1e.300, but it must be"),
        ({"rescale_factor": 0.0}, "rescale_factor is 0.0"),
        ({"rescale_factor": float("inf")}, "rescale_factor is inf"),
        ({"rescale_factor": float("nan")}, "rescale_factor is nan"),
    ],
)
def test_settings_that_leave_no_image(
    processor_class: Any, settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        processor_class(**settings)
    with pytest.raises(ValueError, match=message):
        processor_class()(drawn_image(), **settings)
    processor_class().save_pretrained(tmp_path)
    saved = tmp_path / "preprocessor_config.json"
    saved.write_text(json.dumps(json.loads(saved.read_text()) | settings))
    with pytest.raises(ValueError, match=message):
        processor_class.from_pretrained(tmp_path)


def test_settings_of_other_scales_are_fine() -> None:
    white = Image.new("RGB", (8, 8), WHITE)
    caffe = UpDownImageProcessor(do_rescale=False, image_mean=[103.0, 116.0, 123.0], image_std=[1.0, 1.0, 1.0])
    assert caffe(white, return_tensors="pt").pixel_values[0, :, 0, 0].tolist() == [152.0, 139.0, 132.0]
    signed = UpDownImageProcessor(rescale_factor=np.float32(1 / 127.5), image_mean=1.0, image_std=np.float64(1.0))
    assert torch.allclose(signed(white, return_tensors="pt").pixel_values, torch.ones(1, 3, 224, 224))


@pytest.mark.parametrize("processor_class", PROCESSORS)
@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "list of images is empty"),
        (np.zeros((0, 5, 3), np.uint8), r"shape \(0, 5, 3\); give \(3, height, width\)"),
        (np.zeros((7, 5, 9), np.uint8), r"shape \(7, 5, 9\); give"),
        (torch.full((3, 4, 4), float("nan")), "holds NaN or infinity"),
    ],
)
def test_bad_arrays(processor_class: Any, images: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        processor_class()(images)


def test_paths_in_lists_and_errors_in_them(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    drawn_image().save(path)
    processor = UpDownImageProcessor(size={"height": 8, "width": 8})
    batch = processor([str(path), path, encoded(drawn_image())], return_tensors="pt").pixel_values
    assert torch.equal(batch[0], batch[1]) and torch.equal(batch[0], batch[2])
    with pytest.raises(FileNotFoundError, match="no image at gone.jpg"):
        processor([path, "gone.jpg"])


def test_saved_settings_come_back(tmp_path: Path) -> None:
    processor = UpDownImageProcessor(size={"shortest_edge": 600, "longest_edge": 1000}, image_mean=[0.1, 0.2, 0.3])
    processor.save_pretrained(tmp_path)
    loaded = UpDownImageProcessor.from_pretrained(tmp_path)
    assert loaded.to_dict() == processor.to_dict()
    assert dict(loaded.size) == {"shortest_edge": 600, "longest_edge": 1000}
    assert UpDownImageProcessorPil.from_pretrained(tmp_path).image_mean == (0.1, 0.2, 0.3)
