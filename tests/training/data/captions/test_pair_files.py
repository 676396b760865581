"""Files of pairs in every published layout, read in blocks; what is broken is named by file and line."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from training.data.captions import pair_files
from training.data.captions.pair_files import line_blocks, pair_chunks

PAIRS = [("http://a.example/1/x.jpg", "a red bus"), ("http://b.example/y.png?w=3", 'she said "hello" \u2028 and left')]


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def read(path: Path, captions: Path | None = None, **columns: Any) -> list[tuple[Any, ...]]:
    """Every row as (url, caption), with the name where the file has names."""
    rows: list[tuple[Any, ...]] = []
    for chunk in pair_chunks(path, columns=columns, captions=captions):
        parts = [part.to_pylist() for part in (chunk.urls, chunk.captions, chunk.names) if part is not None]
        rows.extend(zip(*parts, strict=True))
    return rows


def parquet(path: Path, **columns: list[Any]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_every_published_layout_gives_the_same_pairs(tmp_path: Path) -> None:
    urls, texts = map(list, zip(*PAIRS, strict=True))
    labelled = "".join(f"{text}\t{url}\tbus,red\t/m/0\t0.9,0.1\n" for url, text in PAIRS)
    lists = {"image_urls": urls, "user_ids": ["7@N0", "8@N0"], "captions": texts}
    laion = "\n".join(json.dumps({"URL": url, "TEXT": text, "similarity": 0.3}) for url, text in PAIRS)
    for path in (
        write(tmp_path / "Train_GCC-training.tsv", "".join(f"{text}\t{url}\n" for url, text in PAIRS)),
        write(tmp_path / "Image_Labels_Subset_Train_GCC-Labels-training.tsv", labelled),
        write(tmp_path / "cc12m.tsv", "\ufeff" + "\r\n".join(f"{url}\t{text}" for url, text in PAIRS)),
        write(tmp_path / "header.tsv", "caption\tnsfw\turl\n" + "".join(f"{text}\tno\t{url}\n" for url, text in PAIRS)),
        write(tmp_path / "sbu-captions-all.json", lists),
        write(tmp_path / "ccs_filtered.json", [{"caption": text, "url": url} for url, text in PAIRS]),
        write(tmp_path / "laion.jsonl", laion),
        parquet(tmp_path / "laion.parquet", TEXT=texts, URL=urls, WIDTH=[3, 4]),
    ):
        assert read(path) == PAIRS, path.name
    both = write(tmp_path / "urls.txt", "\n".join(urls)), write(tmp_path / "captions.txt", "\n".join(texts) + "\n")
    assert read(both[0], both[1]) == PAIRS


def test_names_of_images_and_columns_of_your_own(tmp_path: Path) -> None:
    albef = write(tmp_path / "sbu.json", [{"image": "a.jpg", "caption": "a cat", "url": "http://a/b"}])
    assert read(albef) == [("http://a/b", "a cat", "a.jpg")]
    keys = parquet(tmp_path / "00000.parquet", key=["000000000", "000000001"], caption=["a cat", None])
    assert read(keys) == [("a cat", "000000000"), (None, "000000001")]
    mine = write(tmp_path / "mine.jsonl", '{"Satz": "ein Hund", "nummer": 17}\n')
    assert read(mine, caption="Satz", name="nummer") == [("ein Hund", "17")]
    numbered = write(tmp_path / "numbered.tsv", "7.jpg\thttp://a/b\tein Hund\n")
    assert read(numbered, caption=2, name=0) == [("ein Hund", "7.jpg")]
    assert read(numbered, caption=2, name=0, url=1) == [("http://a/b", "ein Hund", "7.jpg")]


def test_holes_are_kept_as_holes_so_that_rows_keep_their_numbers(tmp_path: Path) -> None:
    holes = write(
        tmp_path / "l.jsonl", '{"URL": "http://a", "TEXT": null}\n\n{"TEXT": "b"}\n{"URL": "u", "TEXT": " c "}'
    )
    assert read(holes) == [("http://a", None), (None, None), (None, "b"), ("u", "c")]
    assert read(write(tmp_path / "t.tsv", "http://a\tb\n\nhttp://c\t\n")) == [
        ("http://a", "b"),
        ("", ""),
        ("http://c", ""),
    ]
    texts = write(tmp_path / "captions.txt", "\nb\n")
    assert read(write(tmp_path / "urls.txt", "http://a\nhttp://b\n"), texts) == [("http://a", ""), ("http://b", "b")]


def test_blocks_are_cut_at_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"http://a/{i}\tHühner {'x' * (i % 7)}" for i in range(50)]
    path = write(tmp_path / "cc12m.tsv", "\n".join(lines))
    whole = read(path)
    for size in (1, 7, 30, 1000):
        monkeypatch.setattr(pair_files, "BLOCK_BYTES", max(size, 40))
        blocks = list(line_blocks(path))
        assert [line for _, block in blocks for line in block] == lines
        assert [first for first, _ in blocks] == [1 + sum(len(b) for _, b in blocks[:i]) for i in range(len(blocks))]
        assert read(path) == whole
    monkeypatch.setattr(pair_files, "ROWS_A_CHUNK", 3)
    lists = {"image_urls": [url for url, _ in whole], "captions": [text for _, text in whole]}
    assert read(write(tmp_path / "sbu.json", lists)) == whole
    records = [{"url": url, "caption": text} for url, text in whole]
    assert read(write(tmp_path / "blip.json", records)) == whole
    urls, texts = (write(tmp_path / f"{key}.txt", "\n".join(lists[key])) for key in ("image_urls", "captions"))
    assert read(urls, texts) == whole


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.tsv",
            "http://a\tb\nhttp://c\nhttp://d\te\n",
            "a.tsv, line 2: expected 2 columns .* found 'http://c'; is it",
        ),
        ("a.tsv", "url\tcaption\nhttp://a\tb\n\nx\n", "a.tsv, line 4: expected 2 columns"),
        ("a.tsv", "http://a\n", "a.tsv, line 1: expected a caption and a url with a tab between them"),
        ("a.tsv", "1.jpg\ta cat\n", "has no column caption or .*it has .*1.jpg.*in a .tsv without a header by numbers"),
        ("a.jsonl", '{"caption": "a"}\n{"caption": "b"\n', "a.jsonl, line 2 is not valid JSON .*; is it cut short"),
        ("a.jsonl", '{"caption": "a"}\n["b"]\n', r"a.jsonl, line 2: expected an object .* found \[\"b\"\]"),
        ("a.jsonl", '{"caption": "a"}\n{"caption": 5}\n', "a.jsonl, line 2: the caption 5 is not text"),
        ("a.jsonl", '{"caption": "a", "url": ["b"]}\n', "a.jsonl, line 1: the url .*'b'.* is not text"),
        ("a.jsonl", '{"caption": "\\ud800"}\n', r"a.jsonl, line 1: the caption '\\ud800' is not text"),
        ("a.jsonl", "[" * 100_000, "a.jsonl, line 1 is not valid JSON"),
        ("a.json", [{"caption": "a"}, {"caption": ["b"]}], r"a.json: record 1: the caption \['b'\] is not text"),
        ("a.json", {"captions": ["a"], "image_urls": ["u", 7.5]}, "'image_urls', element 1: the image_urls 7.5 is not"),
        ("a.json", {"captions": ["a"], "image_urls": ["u", "v"]}, "holds 1 captions, 2 image_urls; its lists should"),
        ("a.json", {"images": []}, "has no column caption"),
        ("a.json", '{"captions": ["a", ', "a.json is not valid JSON"),
        ("a.json", "", "a.json is empty"),
        ("a.parquet", "PAR1", "a.parquet cannot be read as Parquet"),
        ("a.csv", "a,b", "a.csv is no file of pairs: .*read by the format 'folder'"),
        ("a.txt", "http://a", "is a list of urls: give the file with a caption a line for them as captions="),
    ],
)
def test_what_is_broken_is_named(tmp_path: Path, name: str, content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(write(tmp_path / name, content))


def test_files_that_do_not_match_or_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for lengths in ((2, 3), (3, 2), (0, 1)):
        urls, texts = (write(tmp_path / f"{n}.txt", "x\n" * n) for n in lengths)
        with pytest.raises(
            ValueError, match=f"{lengths[0]}.txt has {lengths[0]} lines and .* has {lengths[1]} lines; a"
        ):
            read(urls, texts)
    tsv = write(tmp_path / "a.tsv", "http://a\tb\n")
    with pytest.raises(ValueError, match="captions= goes with a .txt of urls"):
        read(tsv, urls)
    with pytest.raises(ValueError, match="has the columns 0 to 1, but columns says caption: 2"):
        read(tsv, caption=2, url=0)
    with pytest.raises(ValueError, match="columns 0 to 1, but columns says url: 'link'"):
        read(tsv, caption=1, url="link")
    with pytest.raises(ValueError, match="a.tsv has no column Satz; it has http://a, b"):
        read(tsv, caption="Satz")
    for ending in (".tsv", ".jsonl", ".json", ".parquet"):
        with pytest.raises(ValueError, match=f"absent{ending}.*No such file"):
            read(tmp_path / f"absent{ending}")
    (tmp_path / "latin.tsv").write_bytes(b"http://a\tb\nhttp://c\tH\xfchner\n")
    with pytest.raises(ValueError, match="latin.tsv, line 2 is not UTF-8 text"):
        read(tmp_path / "latin.tsv")
    with pytest.raises(ValueError, match=r"list.parquet: row 0: the caption \['a'\] is not text"):
        read(parquet(tmp_path / "list.parquet", caption=[["a"]]))
    monkeypatch.setattr(pair_files, "BLOCK_BYTES", 100)
    with pytest.raises(ValueError, match="long.tsv, line 2 is longer than 100 bytes"):
        read(write(tmp_path / "long.tsv", "http://a\tb\n" + "x" * 500))
