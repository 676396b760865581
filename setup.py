"""How UpDown is installed. Every bound is a lower one; packages are named by hand because remapping breaks `pip -e`."""

from pathlib import Path

from setuptools import setup

REQUIRED = [
    "accelerate>=1.10",
    "datasets>=5.0",
    "evaluate>=0.4.6",
    "huggingface-hub>=1.31",
    "Jinja2>=3.1",
    "matplotlib>=3.9",
    "numpy>=1.26",
    "pillow>=11.3",
    "pycocotools>=2.0.8",
    "PyYAML>=6.0.2",
    "safetensors>=0.6",
    "timm>=1.0.20",
    "tokenizers>=0.22",
    "torch>=2.6",
    "torchvision>=0.21",
    "transformers>=5.21",
]

EXTRAS = {
    "demo": ["scikit-image>=0.24"],  # brings the photos that `updown demo` describes
    "metrics": ["pycocoevalcap>=1.2"],  # METEOR and SPICE (they need Java), and the referee of our own metrics
    "features": ["h5py>=3.11", "lmdb>=1.5", "msgpack>=1.1"],  # feature files of other projects in HDF5 and LMDB
    "distill": ["onnxruntime>=1.20"],  # a teacher in ONNX that draws pseudo-boxes
    "faiss": ["faiss-cpu>=1.9"],  # searching millions of photos; without it the search is exact and in numpy
    "lora": ["peft>=0.20"],  # adapters of low rank in a prefix language model
    "wups": ["nltk>=3.9.1"],  # WUPS of phrases (NExT-OE's); WordNet itself is `apt install wordnet-base`
    "tracking": ["tensorboard>=2.18", "trackio>=0.2"],
    "lint": ["mypy>=1.18", "ruff>=0.14", "types-PyYAML>=6.0.12"],
}
EXTRAS["test"] = [
    "hypothesis>=6.130",
    "pytest>=8.4",
    "pytest-xdist>=3.6",
    "tensorboard>=2.18",
    *EXTRAS["lint"],
    *EXTRAS["demo"],
    *EXTRAS["metrics"],
    *EXTRAS["features"],
    *EXTRAS["distill"],
    *EXTRAS["faiss"],
    *EXTRAS["lora"],
    *EXTRAS["wups"],
]
EXTRAS["all"] = sorted({requirement for extra in EXTRAS.values() for requirement in extra})

PACKAGES = [
    "modeling_updown",
    "processors",
    "training",
    "training.commands",
    "training.converters",
    "training.data",
    "training.data.region_files",
    "training.metrics",
    "training.tasks",
]

PACKAGE_DATA = {"training": ["recipes/*.yaml", "metrics/evaluate_modules/*/*"]}


def main() -> None:
    """Hand everything above to setuptools."""
    readme = Path(__file__).with_name("README.md")
    setup(
        name="updown",
        version="0.1.0",
        description="Bottom-up and top-down attention: region-based captioning, VQA and retrieval for transformers",
        long_description=readme.read_text(encoding="utf-8") if readme.exists() else "",
        long_description_content_type="text/markdown",
        license="Apache-2.0",
        python_requires=">=3.11",
        packages=PACKAGES,
        package_data=PACKAGE_DATA,
        # in no package, since a card belongs beside the published models; training/model_card.py finds it both ways
        data_files=[("share/updown", ["hub_cards/card_template.md"])],
        install_requires=REQUIRED,
        extras_require=EXTRAS,
        entry_points={"console_scripts": ["updown = training.cli:main"]},
    )


if __name__ == "__main__":
    main()
