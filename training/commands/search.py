"""`updown search`: images for texts, texts for images, or images similar to an image; printed, as JSON, or drawn."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.commands.index import add_retrieval_model, load_retrieval_model
from training.commands.shared import add_command, is_image, model_folder, one_sentence
from training.console import positive, say, say_json, whole_number

if TYPE_CHECKING:
    from training.search.index import Found, ImageIndex

FAISS_KINDS = ("flat", "ivf", "hnsw")  # as in training/search/nearest.py, which is slow to import
MOST_NAMED = 5


def add_search(commands: Any) -> None:
    """`updown search`."""
    parser = add_command(
        commands,
        "search",
        run_search,
        summary="find the images that a text describes, or the texts that describe an image, in an index",
        example='updown search "two dogs on a beach" --index index/ --output sheet.jpg\n'
        "  updown search photo.jpg --index index/                the indexed texts that describe it\n"
        "  updown search photo.jpg --index index/ --similar      the indexed images that are similar to it",
    )
    parser.add_argument("queries", nargs="+", metavar="QUERY", help="a text in quotes, or an image: a file or a URL")
    parser.add_argument("--index", type=Path, required=True, metavar="FOLDER", help="an index of `updown index`")
    add_retrieval_model(parser, default="the one that made the index")
    parser.add_argument("--top-k", type=positive, default=10, metavar="K", help="results per query (%(default)s)")
    parser.add_argument(
        "--rerank",
        type=whole_number,
        default=0,
        metavar="N",
        help="re-rank the N nearest by the model's match score: slower and more accurate (%(default)s)",
    )
    parser.add_argument("--similar", action="store_true", help="for an image, find images like it instead of texts")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="PICTURE.jpg",
        help="draw the results on one sheet; with several queries, on PICTURE_1.jpg and so on",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    parser.add_argument(
        "--images", type=Path, metavar="FOLDER", help="the folder of the images, if they were moved after indexing"
    )
    parser.add_argument("--photos", dest="images", type=Path, help=argparse.SUPPRESS)  # its earlier name
    parser.add_argument(
        "--faiss",
        nargs="?",
        const="flat",
        choices=FAISS_KINDS,
        help="search with faiss: flat gives the same results as without; ivf and hnsw, for many queries to millions of "
        "images, miss some results, and their recall is printed",
    )


def run_search(arguments: argparse.Namespace) -> int:
    """Answer each query; among several, an image that cannot be read is reported and skipped."""
    from modeling_updown.drawing_updown import check_picture

    check_picture(arguments.output)
    queries, images = readable_queries(arguments.queries)
    check_queries(arguments, queries, images)
    index = open_index(arguments)
    if arguments.faiss:
        index.use_faiss(arguments.faiss)
    answers: list[dict[str, Any]] = []
    unread = 0
    for number, query in queries.items():
        table, found = answered(index, query, images.get(query), arguments)
        results = described(index, table, found)
        answers.append({"query": query, "found": table, "results": results})
        if not arguments.json:
            print_results(query, table, results)
        lost = list(found.unread)
        if arguments.output:
            alone = len(arguments.queries) == 1
            picture = arguments.output if alone else arguments.output.with_stem(f"{arguments.output.stem}_{number}")
            lost += draw(index, query, images.get(query), table, results, found, path=picture)
            say(f"  drawn: {picture}", file=sys.stderr if arguments.json else sys.stdout)
        print_unread(lost)
        unread += len(lost)
    if arguments.json:
        say_json(answers)
    print_recall(index, arguments.faiss, {answer["found"] for answer in answers})
    return 1 if unread or len(queries) < len(arguments.queries) else 0


def readable_queries(given: Sequence[str]) -> tuple[dict[int, str], dict[str, Any]]:
    """The queries by their numbers from 1, and the images among them; unreadable ones are reported on stderr.

    Raises the error of `load_image` if no query is left.
    """
    from modeling_updown import load_image

    queries, images = dict(enumerate(given, start=1)), {}
    for number, query in enumerate(given, start=1):
        try:
            if is_image(query):
                images[query] = load_image(query)
        except (OSError, ValueError) as error:
            del queries[number]
            if len(given) == 1 or (number == len(given) and not queries):
                raise
            say(f"updown search: skipped: {one_sentence(error)}", file=sys.stderr)
    return queries, images


def check_queries(arguments: argparse.Namespace, queries: Mapping[int, str], images: Mapping[str, Any]) -> None:
    """Raises `ValueError` for options that do not fit the queries."""
    words = next((query for query in queries.values() if query not in images), None)
    if words is not None and not words.strip():
        raise ValueError("the query is empty: write what the image shows")
    if arguments.similar and words is not None:
        raise ValueError(f"--similar finds images similar to an image, and {words[:60]!r} is a text: leave it out")
    if arguments.similar and arguments.rerank:
        raise ValueError("--rerank compares texts with images, --similar images with images: leave one of them out")


def open_index(arguments: argparse.Namespace) -> "ImageIndex":
    """The index, opened with the model that made it."""
    from training.search.index import ImageIndex
    from training.search.index_files import read_manifest, resolved_place

    stored = read_manifest(arguments.index)["model"]
    name = arguments.model
    if name is None:
        if not stored:
            raise ValueError(f"the index {arguments.index} does not record its model: give it with --model")
        folder = resolved_place(stored, arguments.index)
        if stored.startswith((".", "/")) and not folder.is_dir():
            raise ValueError(f"the model that made the index is not at {folder} any more: give it with --model")
        name = str(folder) if folder.is_dir() else stored
    loaded = load_retrieval_model(model_folder(name))
    return ImageIndex.open(arguments.index, *loaded, image_folder=arguments.images)


def answered(index: "ImageIndex", query: str, image: Any, arguments: argparse.Namespace) -> tuple[str, "Found"]:
    """The table that was searched, `photos` or `texts`, and the results."""
    if image is None:
        return "photos", index.search(query, top_k=arguments.top_k, rerank=arguments.rerank)
    if arguments.similar:
        return "photos", index.search_similar(image, top_k=arguments.top_k)
    return "texts", index.search_texts(image, top_k=arguments.top_k, rerank=arguments.rerank)


def described(index: "ImageIndex", table: str, found: "Found") -> list[dict[str, Any]]:
    """Each result as a dict: `rank` from 1, `score` (-1..1), with re-ranking `match` (0..1 or None), and for an image
    `id`, `path` (None if unknown) and `captions`, for a text `text` and `photo`, the image it was indexed with.
    """
    reranked = any(prob is not None for prob in found.match_probs)
    results = []
    for rank, (place, score, prob) in enumerate(zip(found.rows, found.scores, found.match_probs, strict=True), start=1):
        result: dict[str, Any] = {"rank": rank, "score": round(score, 6)}
        if reranked:
            result["match"] = None if prob is None else round(prob, 6)
        if table == "texts":
            entry = index.texts.entries[place]
            results.append(result | {"text": entry["text"], "photo": entry.get("photo")})
        else:
            results.append(result | {"id": index.images.entries[place]["id"], **image_facts(index, place)})
    return results


def image_facts(index: "ImageIndex", place: int) -> dict[str, Any]:
    """`path` and `captions` of an image, and of a clip's frame its `seconds`."""
    try:
        path: str | None = str(index.image_path(place))
    except ValueError:
        path = None
    seconds = index.images.entries[place].get("seconds")
    return {"path": path, "captions": index.captions(place)} | ({} if seconds is None else {"seconds": seconds})


def print_results(query: str, table: str, results: list[dict[str, Any]]) -> None:
    """Print the query, and one line per result: rank, cosine, with re-ranking the match, and the image or text."""
    say(query)
    for result in results:
        match = result.get("match")
        matched = ("  match  -  " if match is None else f"  match {match:4.0%}") if "match" in result else ""
        name = result["text"] if table == "texts" else result["path"] or result["id"]
        if result.get("path") and "seconds" in result:
            name += f" at {result['seconds']:g} s"
        say(f"  {result['rank']:>3}  {result['score']:6.3f}{matched}  {name}")


def draw(
    index: "ImageIndex",
    query: str,
    image: Any,
    table: str,
    results: list[dict[str, Any]],
    found: "Found",
    *,
    path: Path,
) -> list[str]:
    """Draw the results of one query; returns a line for each image that cannot be read, whose tile stays grey."""
    from modeling_updown import draw_found_images, draw_found_texts
    from training.search.index import readable

    if table == "texts":
        draw_found_texts(image, results, path=path)
        return []
    lost: list[str] = []
    images, kept = readable(index.image, found.rows, range(len(found.rows)), lost)
    shown = dict(zip(kept, images, strict=True))
    pictures = [shown.get(place) for place in range(len(results))]
    draw_found_images(pictures, results, query="" if image is not None else query, query_image=image, path=path)
    return lost


def print_unread(lines: list[str]) -> None:
    """Print the number of unreadable images and the first few of them on stderr."""
    if lines:
        more = [f"and {len(lines) - MOST_NAMED} more"] if len(lines) > MOST_NAMED else []
        named = [f"  {line}" for line in (*lines[:MOST_NAMED], *more)]
        say(f"{len(lines)} images could not be read:", *named, file=sys.stderr)


def print_recall(index: "ImageIndex", kind: str | None, tables: set[str]) -> None:
    """Print the recall of an approximate search on stderr."""
    for table in sorted(tables) if kind in ("ivf", "hnsw") else []:
        share = index.faiss_recall(table)
        say(
            f"faiss {kind} finds {share:.1%} of the 10 nearest {table.replace('photos', 'images')} (measured on this "
            f"index)",
            file=sys.stderr,
        )
