"""`Regions` and a question -> an answer in words, by the prefix language model.

    log p(a | q, r) = sum_t log p(a_t | a_<t, q_1 .. q_T, r_1 .. r_R)       the answer continues regions and question

The words of question and answer stand in a prompt (`answer_prompts_updown.py`). An answer is written by `generate`, or
the likeliest of given ones is taken (`score_answers`), as Cho et al. 2021 (VL-T5) and Li et al. 2021 (ALBEF, section
4.3) have them. Regions are read once an image, and a question once for all answers that are compared.
"""

from typing import Any

import torch
from torch.nn import functional as F
from transformers import LogitsProcessorList

from .answer_prompts_updown import written_mask
from .generation_updown import FiniteScores
from .modeling_captioning import IMAGE_INPUTS
from .modeling_prefix_lm import PrefixCache, UpDownPrefixLMForImageCaptioning

ANSWERS_AT_ONCE = 256  # rows of answers per forward pass: each holds keys and values of its regions and question


class UpDownPrefixLMForVisualQuestionAnswering(UpDownPrefixLMForImageCaptioning):
    """Answers questions with any Hugging Face causal language model; see the module's docstring.

    `forward` (-> `UpDownPrefixLMOutput`) and `generate` are the captioner's with the question as the first words:
    `input_ids` (N, T) hold the prompt, in training the answer too, with `labels` of -100 on the prompt. N questions are
    about P images, S next to each other for every image or as `image_index` (N,) says.

    Example:

    >>> from transformers import GPT2Config
    >>> from modeling_updown import UpDownPrefixLMConfig
    >>> gpt2 = GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=30, bos_token_id=1, eos_token_id=2)
    >>> config = UpDownPrefixLMConfig(text_config=gpt2, region_feature_size=8)
    >>> model = UpDownPrefixLMForVisualQuestionAnswering(config).eval()
    >>> regions = {"region_features": torch.randn(1, 4, 8), "region_boxes": torch.tensor([[[0, 0, 0.5, 1]] * 4])}
    >>> questions = torch.tensor([[1, 5, 6], [1, 7, 8]])  # two about one image
    >>> model.score_answers(questions, torch.tensor([[9, 2], [4, 2], [3, 2]]), **regions).shape
    torch.Size([2, 3])
    """

    def score_answers(
        self,
        input_ids: torch.Tensor,
        answer_ids: torch.Tensor,
        *,
        attention_mask: torch.Tensor | None = None,
        answer_mask: torch.Tensor | None = None,
        length_penalty: float | None = None,
        answers_at_once: int = ANSWERS_AT_ONCE,
        **images: Any,
    ) -> torch.Tensor:
        """The log-likelihood of each answer to each question, (N, C) float32, at most 0.

        Args:
            input_ids: (N, T) prompts, padding on the left.
            answer_ids: (C, U) answers to compare for every question, or (N, C, U) for each its own; EOS is part of one.
            attention_mask: (N, T), by default all real.
            answer_mask: as answer_ids, True = real, by default all; padding stands on the right.
            length_penalty: the sum over an answer's tokens is divided by their number to this power: 0 leaves the
                sum, 1 takes the mean; by default `config.answer_length_penalty`.
            answers_at_once: rows of answers per pass, which bounds memory; results do not depend on it.
            images: pixels or regions of P images and `image_index`, as `forward` takes them.

        Raises:
            ValueError: for shapes that do not fit, an answer without a token, and padding after a question.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask.long()
        ids, real = checked_answers(input_ids, answer_ids, answer_mask)
        if not bool(mask[:, -1].all()):
            raise ValueError("an answer follows the last column of input_ids: pad the questions on the left")
        asked = self(input_ids, attention_mask=mask, use_cache=True, logits_to_keep=1, return_dict=True, **images)
        if not isinstance(asked.cache, PrefixCache):
            raise ValueError("answers are compared by a cache, which layers in training forgo: call model.eval()")
        lengths = real.sum(dim=2)  # (N, C)
        scores = asked.logits[:, -1].float().log_softmax(dim=-1).gather(1, ids[:, :, 0])  # (N, C), the first tokens
        order, each = lengths.amax(dim=0).argsort(stable=True), max(1, answers_at_once // len(ids))
        for chosen in order.split(each):  # of similar lengths
            longest = int(lengths[:, chosen].max())
            if longest > 1:
                parts = ids[:, chosen, :longest], real[:, chosen, :longest]
                scores[:, chosen] += self.later_log_probs(asked.cache, mask, *parts)
        penalty = self.config.answer_length_penalty if length_penalty is None else length_penalty
        return scores / lengths.to(scores.dtype) ** penalty

    @torch.no_grad()
    def write_answers(
        self,
        input_ids: torch.Tensor,
        *,
        attention_mask: torch.Tensor | None = None,
        num_answers: int = 1,
        length_penalty: float | None = None,
        decoding: dict[str, Any] | None = None,
        **images: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The best answers that decoding finds for each question, the likeliest first, and how likely they are.

        Args:
            input_ids, attention_mask: (N, T) prompts, padding on the left.
            num_answers: K answers a question; several are those of as many beams or more.
            length_penalty: as for `score_answers`; beams are ranked by it too.
            decoding: more settings of `generate`, before the model's own `generation_config`.
            images: as for `score_answers`.

        Returns:
            The answers' token ids (N, K, U), whose real ones `written_mask` tells, and their `score_answers` (N, K).
        """
        index = images.pop("image_index", None)
        if images.get("pixel_values") is not None:  # so that its regions are made once for all that follows
            regions = self.get_regions(**images)
            images = {name: regions[name] for name in IMAGE_INPUTS if name in regions}
        given: dict[str, Any] = {**images, **({} if index is None else {"image_index": index})}
        settings = {"num_beams": self.generation_config.num_beams or 1, "do_sample": False, **(decoding or {})}
        settings |= {"num_beams": max(num_answers, settings["num_beams"]), "num_return_sequences": num_answers}
        penalty = self.config.answer_length_penalty if length_penalty is None else length_penalty
        settings |= {"length_penalty": penalty} if settings["num_beams"] > 1 else {}
        words = self.generate(
            input_ids=input_ids,
            attention_mask=attention_mask,
            logits_processor=LogitsProcessorList([FiniteScores(self)]),
            **settings,
            **given,
        )
        written = words[:, input_ids.shape[1] :].unflatten(0, (len(input_ids), num_answers))  # (N, K, U)
        scores = self.score_answers(
            *(input_ids, written),
            attention_mask=attention_mask,
            answer_mask=written_mask(written, self.config),
            length_penalty=penalty,
            **given,
        )
        order = scores.argsort(dim=1, descending=True, stable=True)  # (N, K)
        return written.gather(1, order[..., None].expand_as(written)), scores.gather(1, order)

    def later_log_probs(
        self, cache: PrefixCache, question_mask: torch.Tensor, ids: torch.Tensor, real: torch.Tensor
    ) -> torch.Tensor:
        """The log-likelihood (N, K) of the tokens of answers (N, K, U) after the first, each after its question.

        cache: of N questions, which is left as it is; question_mask (N, T), real (N, K, U) bool.
        """
        number = ids.shape[1]
        rows, kept = ids.flatten(0, 1), real.flatten(0, 1)  # (N x K, U)
        seen = torch.cat([question_mask.repeat_interleave(number, dim=0), kept[:, :-1].long()], dim=1)
        output = self(rows[:, :-1], attention_mask=seen, past_key_values=cache.repeated(number), return_dict=True)
        losses = F.cross_entropy(output.logits.float().transpose(1, 2), rows[:, 1:], reduction="none")  # (N x K, U - 1)
        return -losses.masked_fill(~kept[:, 1:], 0.0).sum(dim=1).view(len(ids), number)


def checked_answers(
    questions: torch.Tensor, answers: torch.Tensor, mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Answers (C, U) or (N, C, U) with their mask, of N questions (N, T) -> both (N, C, U), the mask bool.

    Raises `ValueError` for other shapes, and for an answer without a token.
    """
    real = torch.ones_like(answers, dtype=torch.bool) if mask is None else mask.bool()
    if answers.dim() == 2:
        answers, real = (values[None].expand(len(questions), *values.shape) for values in (answers, real))
    if answers.dim() != 3 or 0 in answers.shape or len(answers) != len(questions) or real.shape != answers.shape:
        raise ValueError(
            f"answer_ids have shape {tuple(answers.shape)} and answer_mask {tuple(real.shape)}, but must be (answers, "
            f"tokens) or ({len(questions)} questions, answers, tokens), both the same"
        )
    if not bool(real[:, :, 0].all()):
        raise ValueError("an answer has no token: give each one or more, such as EOS, and padding on the right")
    return answers, real
