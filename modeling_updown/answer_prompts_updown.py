"""Questions as prompts of a prefix language model, and its answers as token ids and back.

    knowledge, question --prompt_ids--> BOS "question: what is it? answer:" --model--> a dog EOS
    answers --answer_ids--> a dog EOS --written_texts--> "a dog"

The templates and lengths are the config's (`UpDownPrefixLMConfig`). Training (`training/tasks/written_answers.py`) and
the pipeline (`pipeline_vqa.py`) make the same ids here. Names of special tokens in a text are read as ordinary text.
"""

from collections.abc import Sequence
from typing import Any

import torch


def token_ids(texts: Sequence[str], tokenizer: Any, **options: Any) -> Any:
    """The tokenizer's output for texts, without special tokens."""
    return tokenizer(
        list(texts),
        add_special_tokens=False,
        split_special_tokens=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
        **options,
    )


def cut_texts(texts: Sequence[str], tokenizer: Any, *, most: int) -> tuple[list[str], int]:
    """Texts of which none has more than `most` tokens, cut after a token, and how many of them were cut."""
    if not texts:
        return [], 0
    lengths = [len(ids) for ids in token_ids(texts, tokenizer)["input_ids"]]
    long = [place for place, length in enumerate(lengths) if length > most]
    kept = list(texts)
    if long:
        ends = token_ids([texts[place] for place in long], tokenizer, return_offsets_mapping=True)["offset_mapping"]
        for place, offsets in zip(long, ends, strict=True):
            kept[place] = texts[place][: offsets[most - 1][1]]
    return kept, len(long)


def prompt_ids(
    questions: Sequence[str], tokenizer: Any, config: Any, *, knowledge: Sequence[Sequence[str]] = ()
) -> tuple[list[list[int]], dict[str, int]]:
    """Each question's prompt: BOS, the sentences beside it where it has some, and the question, in their templates.

    Args:
        questions: N texts.
        config: of the model: `question_prompt`, `knowledge_prompt`, `max_question_words`, `max_knowledge_words`,
            `bos_token_id`.
        knowledge: the sentences beside each question, the nearest first; they are joined by spaces.

    Returns:
        Token ids, and how many questions and knowledges were cut to what the config lets the model read.
    """
    asked, long = cut_texts(questions, tokenizer, most=config.max_question_words)
    joined = [" ".join(sentences) for sentences in knowledge] or [""] * len(asked)
    known, more = cut_texts(joined, tokenizer, most=config.max_knowledge_words)
    before, after = config.question_prompt.split("{question}")
    opening, closing = config.knowledge_prompt.split("{knowledge}")
    texts = [
        (opening + fact + closing if fact else "") + before + question + after
        for fact, question in zip(known, asked, strict=True)
    ]
    found = token_ids(texts, tokenizer)["input_ids"] if texts else []
    return [[config.bos_token_id, *ids] for ids in found], {"questions": long, "knowledge": more}


def answer_ids(answers: Sequence[str], tokenizer: Any, config: Any, *, most: int | None = None) -> list[list[int]]:
    """Each answer's token ids as they follow the prompt, then EOS; cut to `most` tokens before it.

    An answer is read after the template's last words, since tokenizers split words otherwise at a text's start.
    """
    if not answers:
        return []
    end = end_token(config)
    closing = config.question_prompt.split("{question}")[1].strip()
    (first,) = token_ids([closing], tokenizer)["input_ids"] if closing else [[]]
    texts = [f"{closing} {answer.strip()}".rstrip() for answer in answers]
    rows = []
    for text, ids in zip(texts, token_ids(texts, tokenizer)["input_ids"], strict=True):
        if ids[: len(first)] != first:
            raise ValueError(
                f"the tokenizer joins the end of question_prompt with the answer in {text!r:.80}: end question_prompt "
                "with a mark such as a colon"
            )
        rows.append([*ids[len(first) :][:most], end])
    return rows


def end_token(config: Any) -> int:
    """The token that ends an answer: the first of a config's EOS."""
    ends = config.eos_token_id
    return next(iter(ends)) if isinstance(ends, list) else ends


def left_padded(rows: Sequence[Sequence[int]], *, padding: int) -> dict[str, torch.Tensor]:
    """Token ids of N texts as `input_ids` and `attention_mask` (N, T) int64, padding on the left, where no answer is.

    >>> left_padded([[1, 5], [1]], padding=0)["input_ids"].tolist()
    [[1, 5], [0, 1]]
    """
    longest = max(map(len, rows))
    input_ids = torch.tensor([[padding] * (longest - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return {"input_ids": input_ids, "attention_mask": mask}


def right_padded(rows: Sequence[Sequence[int]], *, padding: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids of N answers (N, U), padding on the right, and which of them are real, (N, U) bool.

    >>> right_padded([[5, 2], [2]], padding=0)[1].tolist()
    [[True, True], [True, False]]
    """
    longest = max(map(len, rows))
    input_ids = torch.tensor([list(row) + [padding] * (longest - len(row)) for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    return input_ids, torch.arange(longest) < lengths[:, None]


def written_mask(written: torch.Tensor, config: Any) -> torch.Tensor:
    """Which tokens (..., U) of what `generate` wrote are real, bool: up to the first EOS and with it.

    >>> from transformers import PreTrainedConfig
    >>> written_mask(torch.tensor([[5, 2, 2], [5, 6, 7]]), PreTrainedConfig(eos_token_id=2)).tolist()
    [[True, True, False], [True, True, True]]
    """
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    ended = torch.isin(written, torch.tensor(ends, device=written.device))
    return (ended.long().cumsum(dim=-1) - ended.long()) == 0


def written_texts(written: torch.Tensor, tokenizer: Any, config: Any) -> list[str]:
    """What the token ids (N, U) of `generate` say."""
    mask = written_mask(written, config)
    rows = [row[real].tolist() for row, real in zip(written.cpu(), mask.cpu(), strict=True)]
    return [text.strip() for text in tokenizer.batch_decode(rows, skip_special_tokens=True)]
