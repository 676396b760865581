"""How UpDown is installed: every folder of the three packages that holds an `__init__.py`.

A lower bound is the oldest version that the tests pass with (`make test-oldest` installs exactly these); an upper one
stands where a library's minor releases break us. `constraints.txt` holds the versions that `make` installs.
"""

import re
from pathlib import Path

REQUIRED = [
    "accelerate>=1.10",
    "datasets>=5.0",
    "evaluate>=0.4.6",
    "huggingface-hub>=1.31",
    "Jinja2>=3.1",
    "matplotlib>=3.9",
    "numpy>=2.0",
    "pillow>=11.3",
    "pycocotools>=2.0.8",
    "PyYAML>=6.0.2",
    "safetensors>=0.8",
    "timm>=1.0.25",
    "tokenizers>=0.23.1",
    "torch>=2.8",
    "torchvision>=0.23",
    "transformers>=5.21,<5.25",
]

EXTRAS = {
    "metrics": ["pycocoevalcap>=1.2"],  # data of METEOR, SPICE (with Java), and the referee of our metrics
    "features": ["h5py>=3.11", "lmdb>=1.5.1", "msgpack>=1.1"],  # feature files of other projects in HDF5 and LMDB
    "distill": ["onnxruntime>=1.21"],  # a teacher in ONNX that draws pseudo-boxes
    "faiss": ["faiss-cpu>=1.9"],  # searching millions of images; without it the search is exact and in numpy
    "lora": ["peft>=0.20"],  # adapters of low rank in a prefix language model
    "ocr": ["onnxruntime>=1.21", "rapidocr>=3.10"],  # reads the words in images; its models are in rapidocr's wheel
    "spice": ["spacy>=3.8"],  # SPICE without Java; the English model and WordNet are not on PyPI: README.md, Evaluating
    "video": ["av>=18.1"],  # PyAV, which decodes video files
    "wups": ["nltk>=3.9.1"],  # WUPS of phrases (NExT-OE's); WordNet itself is `apt install wordnet-base`
    "tracking": ["tensorboard>=2.18", "trackio>=0.2"],
    "lint": ["mypy>=1.18.1", "ruff>=0.14", "types-PyYAML>=6.0.12"],
}
EXTRAS["test"] = [
    "hypothesis>=6.130",
    "pytest>=8.4",
    "pytest-xdist>=3.6.1",
    "tensorboard>=2.18",
    *EXTRAS["lint"],
    *EXTRAS["metrics"],
    *EXTRAS["features"],
    *EXTRAS["distill"],
    *EXTRAS["faiss"],
    *EXTRAS["lora"],
    *EXTRAS["video"],
    *EXTRAS["wups"],
]
EXTRAS["all"] = sorted({requirement for extra in EXTRAS.values() for requirement in extra})

HERE = Path(__file__).resolve().parent
PACKAGES = [
    ".".join(path.parent.relative_to(HERE).parts)
    for folder in ("modeling_updown", "processors", "training")
    for path in sorted((HERE / folder).rglob("__init__.py"))
]

PACKAGE_DATA = {
    "modeling_updown": ["py.typed"],
    "processors": ["py.typed"],
    "training": [
        "py.typed",
        "data/boxes/*.json",
        "metrics/captioning/*.json",
        "recipes/*/*.yaml",
        "probes/claims/*.yaml",
        "demo_photos/*",
        "tasks/*_card.md",
    ],
}

# in no package, since they belong beside the published models; training/shipped.py finds them in a checkout too
PUBLISHED = ("card_template.md", "updown-captioning-flickr8k")

URLS = {
    "Paper": "https://doi.org/10.1109/CVPR.2018.00636",
    "Models": "https://huggingface.co/updown",
}


def version() -> str:
    """`modeling_updown.__version__`, read without importing what is not installed yet."""
    door = Path(__file__).with_name("modeling_updown") / "__init__.py"
    return re.findall(r'^__version__ = "(.+)"$', door.read_text(encoding="utf-8"), flags=re.MULTILINE)[0]


def published_files() -> list[tuple[str, list[str]]]:
    """What travels from hub_cards: (folder under the environment's root, files), as setuptools wants it."""
    paths = [HERE / "hub_cards" / name for name in PUBLISHED]
    listed = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    files = [file for file in listed if file.suffix != ".py"]  # links to the code, which is installed itself
    folders = sorted({file.parent.relative_to(HERE / "hub_cards") for file in files})
    return [
        (
            str(Path("share", "updown", folder)),
            [str(file.relative_to(HERE)) for file in files if file.parent == HERE / "hub_cards" / folder],
        )
        for folder in folders
    ]


def main() -> None:
    """Hand everything above to setuptools."""
    from setuptools import setup

    readme = Path(__file__).with_name("README.md")
    setup(
        name="modeling-updown",
        version=version(),
        description="Bottom-up and top-down attention: region-based captioning, VQA and retrieval for transformers",
        long_description=readme.read_text(encoding="utf-8") if readme.exists() else "",
        long_description_content_type="text/markdown",
        license="Apache-2.0",
        classifiers=[
            "Development Status :: 4 - Beta",
            "Intended Audience :: Science/Research",
            "Programming Language :: Python :: 3.11",
            "Topic :: Scientific/Engineering :: Artificial Intelligence",
            "Topic :: Scientific/Engineering :: Image Recognition",
            "Typing :: Typed",
        ],
        project_urls=URLS,
        python_requires=">=3.11",
        packages=PACKAGES,
        package_data=PACKAGE_DATA,
        data_files=published_files(),
        install_requires=REQUIRED,
        extras_require=EXTRAS,
        entry_points={"console_scripts": ["updown = training.cli:main"]},
    )


if __name__ == "__main__":
    main()
