"""The image inputs of pipelines: one image or several, lists, data sets or streams, for the image processor.

The first step of `pipeline_captioning` and `pipeline_vqa`: any input -> images, each with its index for messages ->
inputs of one size, padded to a batch. Every image gets a result, or an error names it.
"""

import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, IterableDataset
from transformers import AutoProcessor
from transformers.processing_utils import ImagesKwargs

from .compat_updown import pipeline_tools

PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
# settings of image processors that a call of a pipeline may change
IMAGE_SETTINGS = ({*ImagesKwargs.__annotations__, "exact_resize", "channel_order"}) - {"return_tensors", "device"}


class ListedImage(NamedTuple):
    """One of several images, and its index from 0 for error messages."""

    place: int
    image: Any


class ListedImages(Dataset):
    """A sequence of images as a torch data set, which pipelines load and batch."""

    def __init__(self, images: Any):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> ListedImage:
        with image_errors(index):
            return ListedImage(index, self.images[index])


def set_processor_parts(pipeline: Any) -> None:
    """Set a pipeline's missing image processor or tokenizer to that of its processor.

    Raises `ValueError` for a pipeline that lacks one of them, or whose model was loaded without some of its weights.
    """
    if getattr(pipeline.model, "loading_fault", ""):
        raise ValueError(pipeline.model.loading_fault)
    for part in ("image_processor", "tokenizer"):
        if getattr(pipeline, part) is None:
            setattr(pipeline, part, getattr(pipeline.processor, part, None))
        if getattr(pipeline, part) is None:
            reason = loading_error(pipeline.model)
            if reason:
                raise ValueError(
                    f"the pipeline has no {part}: {reason}; repair it, or give {part}=... or processor=..."
                )
            raise ValueError(
                f"the pipeline has no {part}: give {part}=... or processor=..., or save the processor into the "
                "model's folder (if it is there, AutoProcessor.from_pretrained(folder) says why it does not load)"
            )


def loading_error(model: Any) -> str:
    """The error of loading the processor in a model's folder, which `pipeline` hides; "" without a processor."""
    folder = getattr(model, "name_or_path", "")
    if not any(os.path.isfile(os.path.join(folder, name)) for name in PROCESSOR_FILES):
        return ""
    trusted = type(model).__module__.startswith(
        "transformers_modules"
    )  # the model was loaded with the code in its folder
    try:
        AutoProcessor.from_pretrained(folder, trust_remote_code=trusted)
    except Exception as error:  # a damaged file may raise anything
        return f"that of {folder} does not load ({' '.join(str(error).split())})"
    return ""


def save_parts(pipeline: Any, folder: str | os.PathLike[str], **kwargs: Any) -> None:
    """Save a pipeline's model and processor into one folder; those of a published model are saved with their code."""
    pipeline.model.save_pretrained(folder, **kwargs)
    if pipeline.processor is None:
        pipeline.tokenizer.save_pretrained(folder, **kwargs)
        pipeline.image_processor.save_pretrained(folder, **kwargs)
        return
    processor = copy.copy(pipeline.processor)  # with the pipeline's parts, which may be others
    processor.image_processor, processor.tokenizer = pipeline.image_processor, pipeline.tokenizer
    processor.save_pretrained(folder, **kwargs)


def image_loader(
    inputs: Any,
    preprocess: Callable[..., Any],
    params: Mapping[str, Any],
    *,
    num_workers: int,
    batch_size: int,
    collate_fn: Callable[..., Any],
) -> DataLoader:
    """Batches of the results of `preprocess` for each input, computed here or in `num_workers` processes."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # as transformers does, before processes are forked
    dataset: Any = pipeline_tools().PipelineDataset(inputs, preprocess, params)
    if not isinstance(inputs, Sized):
        dataset = pipeline_tools().PipelineIterator(inputs, preprocess, params)
        num_workers = min(num_workers, 1)  # each process would read the whole stream
    return DataLoader(dataset, num_workers=num_workers, batch_size=batch_size, collate_fn=collate_fn)


def image_inputs(
    image_processor: Any, image: Any, *, timeout: float | None = None, **settings: Any
) -> dict[str, torch.Tensor]:
    """One image, or a row with one, -> `pixel_values` (1, 3, height, width) and optionally `pixel_mask`.

    timeout: seconds for a download; settings: of the image processor. Raises `ValueError` for several images.
    """
    image = stored_image(image)
    if timeout is not None:
        image = image_processor.fetch_images(image, timeout=timeout)
    inputs = dict(image_processor(images=image, return_tensors="pt", **settings))
    if len(inputs["pixel_values"]) != 1:
        raise ValueError(
            f"it holds {len(inputs['pixel_values'])} images where one is expected: give a flat list of images, or their"
            " batches as a torch DataLoader"
        )
    return inputs


def join_images(items: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Inputs of single images -> one batch; pixels and their masks are padded with 0 on the right and below.

    >>> images = [{"pixel_values": torch.ones(1, 3, 2, 4)}, {"pixel_values": torch.ones(1, 3, 3, 2)}]
    >>> join_images(images)["pixel_values"].shape
    torch.Size([2, 3, 3, 4])
    """
    joined = {}
    for name in items[0]:
        parts = [item[name] for item in items]
        if name in ("pixel_values", "pixel_mask"):
            height, width = (max(part.shape[side] for part in parts) for side in (-2, -1))
            parts = [F.pad(part, (0, width - part.shape[-1], 0, height - part.shape[-2])) for part in parts]
        joined[name] = torch.cat(parts)
    return joined


def is_single_image(images: Any) -> bool:
    """Whether a value that can be iterated over is a single image, such as bytes or an open file.

    >>> is_single_image("dog.jpg"), is_single_image(bytearray(b"...")), is_single_image(["dog.jpg"])
    (True, True, False)
    """
    return isinstance(images, str | bytes | bytearray | memoryview) or hasattr(images, "read")


def are_several_images(images: Any) -> bool:
    """Whether a value holds several images: a list, or an array (P, 3, height, width)."""
    return isinstance(images, list | tuple) or getattr(images, "ndim", 0) == 4


def image_stream(images: Any) -> Any:
    """Several images, other than a list, as a lazy stream or data set of `ListedImage`; a single image unchanged."""
    if is_single_image(images):
        return images
    if hasattr(images, "cast_column"):
        images = image_column(images)
    if isinstance(images, DataLoader):
        images = (image for batch in images for image in batch_images(batch))
    if isinstance(images, Iterator | IterableDataset):
        return (ListedImage(index, image) for index, image in enumerate(images))
    return ListedImages(images) if isinstance(images, Sequence | Dataset) else images


def batch_images(batch: Any) -> Sequence:
    """The images of one batch of a DataLoader, or of the rows `dataset[:3]`, a dict of lists."""
    images: Any = batch.get("image") if isinstance(batch, Mapping) else batch
    return images if are_several_images(images) else [batch]


def image_column(rows: Any) -> Sequence | Iterator:
    """The images of a `datasets.Dataset` (or of a streamed one), undecoded."""
    rows, column = with_undecoded_images(rows)
    return rows[column] if hasattr(rows, "__len__") else (row[column] for row in rows)


def with_undecoded_images(rows: Any) -> tuple[Any, str]:
    """A `datasets.Dataset` and the column of its images: `image`, else its only column of images.

    The images are undecoded, so that our own loader reports a broken one with its index. Raises `ValueError` if there
    is no such column.
    """
    images = {name: kind for name, kind in (rows.features or {}).items() if type(kind).__name__ == "Image"}
    names = rows.column_names or []
    column = "image" if "image" in names or not names else next(iter(images), None)
    if column is None or (column != "image" and len(images) > 1):
        raise ValueError(f'which of the columns {names} holds the images? rename it: rows.rename_column(..., "image")')
    if column in images:
        rows = rows.cast_column(column, type(images[column])(decode=False))
    return rows, column


def stored_image(image: Any) -> Any:
    """The image of a data set's row (`image`) or of an undecoded image (`bytes`, `path`); other values unchanged."""
    if isinstance(image, Mapping):
        image = image.get("image", image)
    if isinstance(image, Mapping):
        image = image.get("bytes") or image.get("path")
        if image is None:
            raise ValueError('a row without an image: it needs "image", or "bytes" or "path"')
    return image


@contextmanager
def image_errors(index: int) -> Iterator[None]:
    """Add the index of the image to the message of an error."""
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        raise ValueError(f"image {index} cannot be read: {error}") from error
