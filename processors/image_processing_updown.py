"""Images to `pixel_values`: loading from any source, resizing and normalising.

The first step of the flow: image -> image processor -> `pixel_values` -> region source. The defaults are those of the
timm backbones that this project trains on (224 x 224, bicubic, mean and standard deviation 0.5); the detector of
Anderson et al. 2018 keeps the aspect ratio (`size={"shortest_edge": 600, "longest_edge": 1000}`), which adds padding
and a `pixel_mask`.
"""

import base64
import binascii
import contextlib
import io
import math
import numbers
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from torch.nn import functional as F
from transformers import PilBackend, TorchvisionBackend
from transformers.image_processing_base import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor
from transformers.image_utils import IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD, SizeDict
from transformers.processing_utils import ImagesKwargs
from transformers.utils import logging

from .code_updown import write_code
from .image_download_updown import MAX_DOWNLOAD_BYTES, download_image

logger = logging.get_logger(__name__)

ImageSource = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image
ImageArray = np.ndarray | torch.Tensor

# formats of images; Pillow passes some others to external programs (EPS to Ghostscript)
Image.init()
IMAGE_FORMATS = tuple(
    name
    for name in ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "DIB", "TIFF", "JPEG2000", "PPM", "TGA", "ICO")
    if name in Image.OPEN
)
MAX_IMAGE_PIXELS = 2**26  # larger images are reduced by a whole factor: 67 megapixels are 201 MB in RGB
MAX_JPEG_PIXELS = 10**9  # a JPEG can be decoded at 1/8 of its size in little memory, other formats cannot
SHORTEST_BASE64 = 90  # letters; the smallest PNG has 67 bytes
# limits of `rescale_factor`, `image_mean` and `image_std`, beyond which normalised images lose their content
SMALLEST_FACTOR, LARGEST_FACTOR = 1e-6, 1e6
OVERSHOOT = 0.1  # how far a resize may take levels outside 0..1: bicubic makes -0.06..1.06 of a sharp edge

# possible values of white in the modes of more than 8 bits; the smallest that is not below the brightest pixel is used
WHITE_LEVELS = {"I;16": (65535,), "I": (255, 65535, 2**31 - 1), "F": (1.0, 255.0, 65535.0)}


def load_image(source: ImageSource, *, timeout: float | None = None) -> Image.Image:
    """Loads one image as RGB, upright, 8 bits per channel.

    EXIF rotation is applied; grey, palette, 1-bit, CMYK and 16-bit images are converted (16 bits are scaled, not
    clipped); transparent images get a white background; of an animation the first frame is used. Images over
    `MAX_IMAGE_PIXELS` are reduced by a whole factor.

    Args:
        source: a path, an http(s) or `data:image/` URL, the bytes of an image file or their base64, a file opened in
            binary mode (such as `io.BytesIO`; read from its beginning if it can seek), or a `PIL.Image`.
        timeout: seconds for the download from a URL; by default `DOWNLOAD_SECONDS`.

    Raises:
        FileNotFoundError, IsADirectoryError: if there is no such file.
        ConnectionError: if the download fails; see `download_image`.
        ValueError: for a file that is empty, not an image, damaged, or too large to decode safely.
        TypeError: for a source of another type.

    >>> load_image(Image.new("RGBA", (4, 2), (255, 0, 0, 0))).getpixel((0, 0))
    (255, 255, 255)
    """
    if isinstance(source, Image.Image):
        return _decode(source, name=getattr(source, "filename", "") or "the given PIL image")
    name, stream = _open_stream(source, timeout=timeout)
    with stream:
        return _decode(_open_image(stream, name=name), name=name)


def _open_stream(source: Any, *, timeout: float | None) -> tuple[str, BinaryIO]:
    if isinstance(source, bytes | bytearray | memoryview):
        return "the given bytes", io.BytesIO(source)
    if hasattr(source, "read"):
        return _read_file_object(source)
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"an image is a path, URL, bytes, open file, PIL image or array, not {type(source).__name__}")
    text = os.fsdecode(source)
    if text[:8].lower().startswith(("http://", "https://")):
        return text, io.BytesIO(download_image(text, timeout=timeout))
    if text.startswith("data:image/"):
        return "the data URL", io.BytesIO(_decode_data_url(text))
    if len(text) >= SHORTEST_BASE64 and not os.path.isfile(text):
        with contextlib.suppress(ValueError):  # not base64, so it is a path
            return "the given base64", io.BytesIO(base64.b64decode("".join(text.split()), validate=True))
    return _open_file(text)


def _open_file(path: str) -> tuple[str, BinaryIO]:
    name = path if len(path) <= 200 else path[:200] + "..."
    if os.path.isdir(path):
        raise IsADirectoryError(f"{name} is a folder; give the path of one image in it")
    try:
        if not os.path.isfile(path):
            raise FileNotFoundError(f"there is no image at {name}; check the path (working folder {Path.cwd()})")
        return name, open(path, "rb")
    except PermissionError:
        raise PermissionError(f"{name} may not be read; change its permissions or copy it") from None


def _read_file_object(file: Any) -> tuple[str, BinaryIO]:
    """The name and content of an open file, which is not closed."""
    name = getattr(file, "name", None)
    name = name if isinstance(name, str) else "the given file object"
    try:
        if file.seekable():
            file.seek(0)
        content = file.read(MAX_DOWNLOAD_BYTES + 1)
    except (AttributeError, TypeError, ValueError, OSError) as error:  # ValueError: closed, or read as UTF-8 text
        raise ValueError(f'{name} cannot be read as an image ({error}); give its path, or open it with "rb"') from error
    if not isinstance(content, bytes):
        raise TypeError(f'{name} gives {type(content).__name__}, not bytes; open it with "rb"')
    if len(content) > MAX_DOWNLOAD_BYTES:
        raise ValueError(f"{name} holds more than {MAX_DOWNLOAD_BYTES >> 20} MiB; give the path of the file instead")
    return name, io.BytesIO(content)


def _decode_data_url(url: str) -> bytes:
    header, _, payload = url.partition(",")
    try:
        return base64.b64decode(payload, validate=True)
    except binascii.Error as error:
        raise ValueError(f"{header[:40]} is not followed by base64 ({error}); encode the image again") from error


def _open_image(stream: BinaryIO, *, name: str) -> Image.Image:
    """Opens an image by its header, and sets a large JPEG to decode at 1/2, 1/4 or 1/8 of its size."""
    start = stream.read(2)
    if not start:
        raise ValueError(f"{name} is empty (0 bytes); download or copy it again")
    try:
        image = Image.open(stream, formats=IMAGE_FORMATS)
    except UnidentifiedImageError:
        raise ValueError(f"{name} is not an image ({', '.join(IMAGE_FORMATS)}); convert it to JPEG or PNG") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        if start != b"\xff\xd8":
            raise _too_large(name, cure="or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it") from None
        image = _open_huge_jpeg(stream, name=name)
    except Exception as error:  # decoders may raise anything for malformed headers
        raise _damaged(name, error) from error
    if isinstance(image, JpegImageFile):
        factor = _reduction(image.size)
        image.draft("RGB", (image.width // factor, image.height // factor))
    return image


def _open_huge_jpeg(stream: BinaryIO, *, name: str) -> JpegImageFile:
    """Opens a JPEG over Pillow's pixel limit, if it can be decoded at a fraction of its size in little memory."""
    stream.seek(0)
    image = JpegImageFile(stream)
    if image.info.get("progressive"):
        raise _too_large(name, cure="or a baseline JPEG (a progressive one is decoded at full size)")
    if math.prod(image.size) > MAX_JPEG_PIXELS:
        raise _too_large(name, cure=f"below {MAX_JPEG_PIXELS} (it is {image.width} x {image.height})")
    return image


def _too_large(name: str, *, cure: str) -> ValueError:
    return ValueError(f"{name} holds more pixels than are safe to decode; save a copy of fewer pixels, {cure}")


def _damaged(name: str, error: Exception) -> ValueError:
    return ValueError(f"{name} is damaged or cut short ({error}); download or copy it again")


def _decode(image: Image.Image, *, name: str) -> Image.Image:
    if 0 in image.size:
        raise ValueError(f"{name} is {image.width} x {image.height} pixels; an image needs at least one pixel")
    try:
        image.load()
        with contextlib.suppress(Exception):  # broken EXIF data does not affect the pixels
            image = ImageOps.exif_transpose(image)
        image = _to_rgb(image)
    except Exception as error:  # decoders may raise anything for damaged files
        raise _damaged(name, error) from error
    factor = _reduction(image.size)
    return image if factor == 1 else image.reduce(factor)


def _reduction(size: tuple[int, int]) -> int:
    return math.ceil(math.sqrt(math.prod(size) / MAX_IMAGE_PIXELS))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        image = _to_8_bit(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    transparent = image.convert("RGBA")
    white = Image.new("RGB", transparent.size, "white")
    white.paste(transparent, mask=transparent.getchannel("A"))
    return white


def _to_8_bit(image: Image.Image) -> Image.Image:
    levels = np.nan_to_num(np.asarray(image, dtype=np.float32), posinf=0.0).clip(min=0)
    candidates = WHITE_LEVELS["I;16" if image.mode.startswith("I;16") else image.mode]
    if candidates == WHITE_LEVELS["I;16"]:
        _warn_of_8_bits(float(levels.max()))
    white = next((level for level in candidates if levels.max() <= level), levels.max())
    return Image.fromarray((levels * (255.0 / white)).round().astype(np.uint8))


def load_images(images: Any, *, timeout: float | None = None) -> Any:
    """Loads every path, URL, bytes or open file in an image or (nested) list; PIL images and arrays are kept.

    A grey array (H, W) becomes (1, H, W).

    Raises:
        OSError, ValueError, TypeError: as `load_image`.
    """
    if isinstance(images, list | tuple):
        return [load_images(image, timeout=timeout) for image in images]
    if isinstance(images, np.ndarray | torch.Tensor):
        return images[None] if images.ndim == 2 else images
    return images if isinstance(images, Image.Image) else load_image(images, timeout=timeout)


def check_image_array(array: ImageArray, *, do_rescale: bool | None) -> ImageArray:
    """Converts an image array, (C, H, W) or (H, W, C), to 8 bits or float32, finite and contiguous.

    16-bit and bool arrays are scaled to 0..255. If levels are to be rescaled, so are floats that are all in 0..1, as
    made by `torchvision` and `skimage`: they become 8 bits, after clipping the overshoot of a resize. Other floats are
    kept, with a warning if they look normalised already. 16-bit arrays whose levels fit 8 bits get a warning too.

    Raises:
        ValueError: for no pixels, another number of channels than 1, 3 or 4, or a value that is not finite.
    """
    shape = tuple(array.shape)
    if 0 in shape or not ({shape[0], shape[-1]} & {1, 3, 4}):
        raise ValueError(f"an image array has shape {shape}; give (3, height, width) or (height, width, 3)")
    kind = str(array.dtype).removeprefix("torch.")
    if kind == "uint8":
        return _plain(array)
    levels = torch.as_tensor(_plain(array)).float()
    if not torch.isfinite(levels).all():
        raise ValueError("an image array holds NaN or infinity; check where it was computed")
    if kind == "uint16":
        _warn_of_8_bits(float(levels.max()))
    if kind in ("bool", "uint16"):
        return _like(levels * (255.0 if kind == "bool" else 1 / 257), array)
    if do_rescale and kind.startswith(("float", "bfloat")):
        lowest, highest = levels.min(), levels.max()
        if lowest >= -OVERSHOOT and highest <= 1 + OVERSHOOT:
            return _like((levels.clamp(0, 1) * 255.0).round().to(torch.uint8), array)
        if max(-lowest, highest) < 10:
            logger.warning_once(
                f"an image given as floats from {lowest:.2f} to {highest:.2f} looks normalised already, but it will be "
                f"divided by 255: give 0..1 or 0..255, or pass do_rescale=False and do_normalize=False"
            )
    return _like(levels, array)


def _warn_of_8_bits(highest: float) -> None:
    """Warn of a 16-bit image whose levels fit 8 bits, which becomes black."""
    if 0 < highest < 256:
        logger.warning_once(
            f"an image of 16 bits has no level above {highest:.0f} of 65535, so it is nearly black: if these are 8 "
            "bits, give them as uint8"
        )


def _plain(array: ImageArray) -> ImageArray:
    # torch accepts neither negative strides (channels flipped with [..., ::-1]) nor read-only memory
    return np.require(array, requirements=["C", "W"]) if isinstance(array, np.ndarray) else array


def _like(levels: torch.Tensor, array: ImageArray) -> ImageArray:
    return levels.numpy() if isinstance(array, np.ndarray) else levels


def resize_exactly(images: list[Any], size: SizeDict) -> list[torch.Tensor]:
    """Images (C, H, W) resized in float32, bilinear, without antialiasing, as for Caffe's detectors.

    The shorter side becomes `size.shortest_edge`, unless the longer would exceed `size.longest_edge`; both are rounded
    half up. Without a shortest edge, the size is `size.height` x `size.width`.
    """
    resized = []
    for image in images:
        levels = torch.as_tensor(_plain(image))
        target = (size.height, size.width) if size.height else aspect_size(levels.shape[-2:], size)
        channels = (  # one at a time, since float32 takes four times the memory
            F.interpolate(channel[None, None].float(), size=target, mode="bilinear", align_corners=False)[0]
            for channel in levels
        )
        resized.append(torch.cat(list(channels)))
    return resized


def aspect_size(image_size: Sequence[int], size: SizeDict) -> tuple[int, int]:
    """(height, width) of an image resized with its aspect ratio; a side has at least one pixel.

    >>> aspect_size((427, 640), SizeDict(shortest_edge=600, longest_edge=1000))
    (600, 899)
    """
    scale = size.shortest_edge / min(image_size)
    if size.longest_edge and scale * max(image_size) > size.longest_edge:
        scale = size.longest_edge / max(image_size)
    height, width = (max(1, int(side * scale + 0.5)) for side in image_size)
    return height, width


def check_resized_pixels(images: list[Any], size: SizeDict) -> None:
    """Checks that resizing does not make long thin images huge: 20000 x 1 at shortest edge 600 has 7 gigapixels.

    Raises:
        ValueError: if an image (C, H, W) would have over `MAX_IMAGE_PIXELS` after resizing.
    """
    for image in images:
        height, width = image.shape[-2:]
        scale = size.shortest_edge / min(height, width)
        if size.longest_edge:
            scale = min(scale, size.longest_edge / max(height, width))
        if height * width * scale**2 > MAX_IMAGE_PIXELS:
            raise ValueError(
                f"an image of {width} x {height} pixels is too long and thin to be resized to shortest edge "
                f'{size.shortest_edge}; add "longest_edge" to size or crop the image'
            )


def check_factor(name: str, value: Any) -> None:
    """Raises `ValueError` for a `rescale_factor`, `image_mean` or `image_std` that is out of range.

    >>> check_factor("image_std", [0.5, 0.0, 0.5])
    Traceback (most recent call last):
    ...
    ValueError: image_std is [0.5, 0.0, 0.5], but each must be a number from 1e-06 to 1e+06
    """
    if value is None:
        return
    smallest = -LARGEST_FACTOR if name == "image_mean" else SMALLEST_FACTOR
    values = list(value) if isinstance(value, Iterable) and not isinstance(value, str | Mapping) else [value]
    if name == "rescale_factor":  # a negative one inverts the image
        values = [abs(number) if isinstance(number, numbers.Real) else number for number in values]
    good = (isinstance(number, numbers.Real) and smallest <= float(number) <= LARGEST_FACTOR for number in values)
    if not values or not all(good):
        each = "each" if len(values) > 1 else "it"
        raise ValueError(f"{name} is {value}, but {each} must be a number from {smallest:g} to {LARGEST_FACTOR:g}")
    if name != "rescale_factor" and len(values) not in (1, 3, 4):
        raise ValueError(f"{name} is {value}, but must be one number, or three: of red, green and blue")


class UpDownImageProcessorKwargs(ImagesKwargs, total=False):  # type: ignore[call-arg]
    """Arguments of our image processors besides those of transformers.

    exact_resize (`bool`, defaults to `False`): resize in float32, bilinear, without antialiasing.
    channel_order (`"rgb"` or `"bgr"`, defaults to `"rgb"`): of `pixel_values`; mean and deviation are in this order.
    min_regions, max_regions, score_threshold (*optional*): how many regions a detector keeps, saved with its processor;
        see `region_selection`.
    """

    exact_resize: bool
    channel_order: str
    min_regions: int | None
    max_regions: int | None
    score_threshold: float | int | None


class ImagePreparation(BaseImageProcessor):
    """The base class of both backends: defaults, loading, and padding with a mask if the aspect ratio is kept."""

    resample = Image.Resampling.BICUBIC
    image_mean = IMAGENET_STANDARD_MEAN
    image_std = IMAGENET_STANDARD_STD
    size: Any = {"height": 224, "width": 224}
    do_convert_rgb = True
    do_resize = True
    do_rescale = True
    do_normalize = True
    valid_kwargs = UpDownImageProcessorKwargs
    exact_resize = False
    channel_order = "rgb"
    min_regions: int | None = None
    max_regions: int | None = None
    score_threshold: float | None = None

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.check_levels()

    def check_levels(self, **given: Any) -> None:
        """Raises `ValueError` for factors out of range, `given` or else saved (see `check_factor`)."""
        for name in ("rescale_factor", "image_mean", "image_std"):
            check_factor(name, given.get(name, getattr(self, name)))

    @property
    def model_input_names(self) -> list[str]:  # type: ignore[override]
        """The names of the returned inputs."""
        return ["pixel_values", "pixel_mask"] if self.size.shortest_edge else ["pixel_values"]

    def preprocess(self, images: Any, *args: Any, **kwargs: Any) -> BatchFeature:
        """Images -> `pixel_values`, after checking the settings of this call."""
        self.check_levels(**{name: value for name, value in kwargs.items() if value is not None})
        return super().preprocess(images, *args, **kwargs)

    def fetch_images(self, image_url_or_urls: Any, *, timeout: float | None = None) -> Any:
        """Loads paths, URLs, bytes and open files; see `load_images`."""
        if isinstance(image_url_or_urls, list | tuple) and not image_url_or_urls:
            raise ValueError("the list of images is empty; give at least one image")
        return load_images(image_url_or_urls, timeout=timeout)

    def process_image(self, image: Any, *args: Any, **kwargs: Any) -> Any:
        """One image as (3, H, W), with unchanged levels."""
        if not isinstance(image, Image.Image):
            image = check_image_array(image, do_rescale=kwargs.get("do_rescale"))
        elif kwargs.get("do_convert_rgb"):
            image = load_image(image)
        return super().process_image(image, *args, **kwargs)

    def region_selection(self) -> dict[str, Any]:
        """The processor's region selection as arguments of the detector's `forward`; without it the config decides."""
        chosen = {name: getattr(self, name) for name in ("min_regions", "max_regions", "score_threshold")}
        return {name: value for name, value in chosen.items() if value is not None}

    def post_process_object_detection(
        self, outputs: Any, threshold: float | None = None, target_sizes: Any = None
    ) -> list[dict[str, torch.Tensor]]:
        """A detector's outputs -> for each image `scores`, `labels` and `boxes` (xyxy), the best first.

        Args:
            outputs: the output of `UpDownDetector`, of which the regressed boxes are used, without the cells; or that
                of `UpDownFusionForGrounding`, a text for each image, whose phrases are the labels, from 0.
            threshold: regions of a lower score are left out; by default the processor's `score_threshold`.
            target_sizes: (B, 2) or pairs: height and width of each image in pixels, for boxes in pixels; else 0..1.

        Raises `ValueError` for scores and boxes that are not finite.
        """
        if outputs.get("phrase_scores") is not None:
            return post_process_phrases(outputs, threshold=threshold or 0.0, target_sizes=target_sizes)
        for what, name in (("scores", "region_scores"), ("boxes", "pred_boxes")):
            if not bool(torch.isfinite(outputs[name][outputs["region_mask"]]).all()):
                raise ValueError(
                    f"the detector makes {what} of regions that are not numbers (NaN or infinity): its weights are "
                    "damaged, or NaN since their training, so take another checkpoint"
                )
        threshold = (self.score_threshold or 0.0) if threshold is None else threshold
        detected = outputs["region_mask"]
        if outputs.get("cell_mask") is not None:
            detected = detected & ~outputs["cell_mask"]
        results = []
        for image in range(len(detected)):
            kept = detected[image] & (outputs["region_scores"][image] >= threshold)
            scores, order = outputs["region_scores"][image][kept].sort(descending=True, stable=True)
            boxes = outputs["pred_boxes"][image][kept][order]
            if target_sizes is not None:
                height, width = (float(side) for side in target_sizes[image])
                boxes = boxes * boxes.new_tensor([width, height, width, height])
            results.append({"scores": scores, "labels": outputs["object_ids"][image][kept][order], "boxes": boxes})
        return results

    def _preprocess(self, images: Any, *args: Any, **kwargs: Any) -> BatchFeature:
        exact, order = kwargs.pop("exact_resize", False), kwargs.pop("channel_order", "rgb")
        for name in ("min_regions", "max_regions", "score_threshold"):
            kwargs.pop(name, None)
        if order not in ("rgb", "bgr"):
            raise ValueError(f"channel_order is {order!r}; choose 'rgb' or 'bgr'")
        if order == "bgr":
            images = [image[::-1].copy() if isinstance(image, np.ndarray) else image.flip(0) for image in images]
        size, return_tensors = kwargs["size"], kwargs["return_tensors"]
        if exact and kwargs["do_resize"]:
            if size.shortest_edge:
                check_resized_pixels(images, size)
            images = resize_exactly(images, size)
            images = images if self.backend == "torchvision" else [image.numpy() for image in images]
            kwargs["do_resize"] = False
        if not size.shortest_edge:
            return super()._preprocess(images, *args, **kwargs)
        check_resized_pixels(images, size)
        resized = super()._preprocess(images, *args, **{**kwargs, "return_tensors": None})["pixel_values"]
        pixel_values, pixel_mask = self.pad(resized, return_mask=True)  # type: ignore[attr-defined]
        return BatchFeature(
            {"pixel_values": pixel_values, "pixel_mask": [mask > 0 for mask in pixel_mask]}, tensor_type=return_tensors
        )

    def save_pretrained(self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> Any:
        """Save as transformers does; the image processor of a published model is saved with its code."""
        write_image_code(self, save_directory)
        return super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)


def post_process_phrases(outputs: Any, *, threshold: float, target_sizes: Any = None) -> list[dict[str, torch.Tensor]]:
    """Phrases and regions as `post_process_object_detection` has them: every pair whose score is high enough.

    outputs: `phrase_scores` (N, K, R) and `pred_boxes` (N, K, R, 4). Raises `ValueError` for numbers that are not
    finite.
    """
    results = []
    for text, (scores, boxes) in enumerate(zip(outputs["phrase_scores"], outputs["pred_boxes"], strict=True)):
        if not bool(torch.isfinite(scores).all() and torch.isfinite(boxes).all()):
            raise ValueError(
                "the model makes scores or boxes that are not numbers (NaN or infinity): its weights are damaged, or "
                "NaN since their training, so take another checkpoint"
            )
        phrases = torch.arange(len(scores), device=scores.device)[:, None].expand_as(scores)
        kept = (scores >= threshold) & (scores > 0)  # padding has 0
        best, order = scores[kept].sort(descending=True, stable=True)
        found = boxes[kept][order]
        if target_sizes is not None:
            height, width = (float(side) for side in target_sizes[text])
            found = found * found.new_tensor([width, height, width, height])
        results.append({"scores": best, "labels": phrases[kept][order], "boxes": found})
    return results


def write_image_code(image_processor: Any, folder: str | os.PathLike[str]) -> bool:
    """Write the code of one of our image processors if it comes from a published folder; returns whether it does."""
    if not isinstance(image_processor, ImagePreparation) or not getattr(image_processor, "auto_map", None):
        return False
    write_code(__file__, folder)
    twins = (UpDownImageProcessorPil, UpDownImageProcessor)  # without torchvision, and with it
    image_processor.auto_map = {"AutoImageProcessor": [f"{Path(__file__).stem}.{twin.__name__}" for twin in twins]}
    return True


class UpDownImageProcessor(ImagePreparation, TorchvisionBackend):
    """Images to `pixel_values` (B, 3, H, W) float32 in RGB order, on torch tensors.

    Every image is resized to `size` (224 x 224 without regard to its aspect ratio), divided by 255 and normalised with
    mean and standard deviation 0.5 to -1..1. With `size={"shortest_edge": s, "longest_edge": l}` the aspect ratio is
    kept, images are padded with 0 on the right and below to the largest of the batch, and `pixel_mask` (B, H, W) bool
    is True on real pixels. Accepts the sources of `load_image`, arrays, and lists of these.

    Example:
        >>> processor = UpDownImageProcessor()
        >>> red = Image.new("RGB", (640, 480), (255, 0, 0))
        >>> processor(red, return_tensors="pt").pixel_values[0, :, 0, 0].tolist()
        [1.0, -1.0, -1.0]
    """


class UpDownImageProcessorPil(ImagePreparation, PilBackend):
    """`UpDownImageProcessor` with Pillow and numpy instead of torchvision; outputs differ only by rounding."""
