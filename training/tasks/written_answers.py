"""Question answering by a prefix language model: prompts -> inputs -> loss -> answers that are written or ranked.

    question, knowledge --prompt_ids--> BOS "question: .. answer:" --> answer EOS, of which the words are learnt

The rows, regions and scores are those of `vqa.py`, whose `PrefixVqaTask` joins both. What a question's answers are
worth is its soft targets': one is drawn by its score in every epoch, or all are learnt, weighed by it
(`answers.learn`). Scoring lets the model write (`evaluate.answers=generate`), or takes the likeliest answer of its
vocabulary (`rank`).
"""

import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig

from modeling_updown import boundary_token_ids
from modeling_updown.answer_prompts_updown import answer_ids, left_padded, prompt_ids, right_padded, written_texts
from modeling_updown.compat_updown import checkpoint_activations
from modeling_updown.losses_updown import IGNORED_LABEL
from modeling_updown.outputs_updown import check_finite
from training.data.files import listed
from training.data.knowledge import knowledge_of, read_facts
from training.data.questions.answer_vocabulary import AnswerVocabulary
from training.saved_models import load_whole
from training.tasks.build import build_on_text, build_region_source, source_fields
from training.tasks.top_down import TopDownTask
from training.tasks.vqa_recipe import VqaRecipe
from training.text.word_pieces import train_word_pieces

WRITTEN_READS = (
    *("text.pretrained", "text.vocabulary_size", "text.learning_rate", "train.max_words"),
    *("train.gradient_checkpointing", "evaluate.answers", "evaluate.num_beams", "evaluate.final_num_beams"),
    "evaluate.length_penalty",
)


class WrittenAnswersTask(TopDownTask):
    """What a task on questions does otherwise with a model that writes; the rest is `VqaTask`'s."""

    recipe: VqaRecipe
    vocabulary: AnswerVocabulary
    targets: Any
    token_ids: list[torch.Tensor]
    num_beams: int
    answer_rows: list[list[int]]  # the token ids of each answer of the vocabulary

    # -- model --------------------------------------------------------------------------------------------------------

    def build_writer(self, questions: Sequence[str], answers: AnswerVocabulary) -> Any:
        """A new model: a pretrained language model, or a new one with word pieces of what it will read and write."""
        recipe = self.recipe
        source = build_region_source(recipe.regions)
        texts = [*read_and_written(recipe, self.model_class.config_class, questions), *answers.answers]
        fields = {
            **recipe.model,
            **source_fields(source[0], recipe.regions),
            "id2label": dict(enumerate(answers.answers)),
        }
        model, tokenizer = build_on_text(
            self.model_class,
            recipe,
            fields,
            token_ids=boundary_token_ids,
            new_tokenizer=partial(train_word_pieces, texts, vocabulary_size=recipe.text.vocabulary_size),
            new_text_model="gpt2",
        )
        if not recipe.text.pretrained:
            never = (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.cls_token_id, tokenizer.unk_token_id)
            model.generation_config.suppress_tokens = sorted({token for token in never if token is not None})
        return self.assembled(model, tokenizer, source)

    def load_weights(self, folder: str | Path) -> Any:
        """As the base class has it; a captioner of `init_from` has the same weights."""
        if not self.any_head:
            return super().load_weights(folder)
        config = AutoConfig.from_pretrained(folder)
        config.architectures = [self.model_class.__name__]
        return load_whole(self.model_class, str(folder), dtype=torch.float32, config=config)

    def set_trained(self) -> None:
        """As the base class has it; the model answers as the recipe's last evaluation does, and its layers are made
        twice where the recipe would rather have memory than time."""
        super().set_trained()
        settings, knowledge = self.recipe.evaluate, knowledge_of(self.recipe.data)
        generation = self.model.generation_config
        generation.update(num_beams=settings.final_num_beams, do_sample=False, max_length=None)
        generation.max_new_tokens = self.recipe.train.max_words + 1  # EOS
        self.model.config.answer_length_penalty = settings.length_penalty
        self.model.config.knowledge_sentences = knowledge.sentences if knowledge else 0
        if self.recipe.train.gradient_checkpointing:
            checkpoint_activations(self.model)

    # -- inputs -------------------------------------------------------------------------------------------------------

    def encode_asked(self, texts: Sequence[str], knowledge: Sequence[Sequence[str]]) -> list[torch.Tensor]:
        """The prompts of questions; one warning for all that are cut."""
        config = self.model.config
        if config.knowledge_sentences and not knowledge:
            warnings.warn(
                f"the model learnt with {config.knowledge_sentences} sentences beside each question, and "
                "data.knowledge names none: give it a file",
                stacklevel=2,
            )
        prompts, cut = prompt_ids(texts, self.processor.tokenizer, config, knowledge=knowledge)
        lengths = {"questions": config.max_question_words, "knowledge": config.max_knowledge_words}
        said = [f"{count} {name} to {lengths[name]}" for name, count in cut.items() if count]
        if said:
            warnings.warn(f"of {len(texts)} prompts are cut, in word pieces: {', '.join(said)}", stacklevel=2)
        return [torch.tensor(ids) for ids in prompts]

    def encode_answers(self, answers: Sequence[str], *, most: int | None = None) -> list[list[int]]:
        """Each answer's token ids with EOS, cut to `most` before it."""
        return answer_ids(answers, self.processor.tokenizer, self.model.config, most=most)

    def word_inputs(self, rows: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        """As the base class has it, padding on the left, where no answer is."""
        return left_padded([row.tolist() for row in rows], padding=self.padding_id)

    @property
    def padding_id(self) -> int:
        """The padding of prompts and answers: the model config's."""
        return boundary_token_ids(self.processor.tokenizer, config=self.model.config)["pad_token_id"]

    def learnt_groups(self, groups: list[np.ndarray]) -> list[np.ndarray]:
        """The questions of each group that have an answer to write; prepares the answers, cut to `train.max_words`."""
        most = self.recipe.train.max_words
        self.answer_rows = self.encode_answers(self.vocabulary.answers, most=most)
        whole = self.encode_answers(self.vocabulary.answers)
        cut = [text for text, ids in zip(self.vocabulary.answers, whole, strict=True) if len(ids) > most + 1]
        if cut:
            warnings.warn(
                f"{len(cut)} of {len(whole)} answers are longer than {most} word pieces (train.max_words) and learnt "
                f"without their end: {listed(cut)}",
                stacklevel=2,
            )
        unknown = self.processor.tokenizer.unk_token_id
        lost = [text for text, ids in zip(self.vocabulary.answers, self.answer_rows, strict=True) if unknown in ids]
        if unknown is not None and lost:
            raise ValueError(
                f"{len(lost)} of {len(self.answer_rows)} answers have words that the tokenizer does not know: "
                f"{listed(lost)}; start from a language model with word pieces, or leave these answers out"
            )
        answered = np.diff(self.targets.starts) > 0
        kept = [group[answered[group]] for group in groups]
        return [group for group in kept if len(group)]

    def learnt_inputs(self, chosen: np.ndarray, owners: np.ndarray, *, epoch: int) -> dict[str, torch.Tensor]:
        """Questions by number (Q,), about the images `owners` (Q,) of the batch, each followed by an answer (N, T).

        `labels` are -100 on the prompts; `answer_weights` (N,) sum to 1 over the answers of a question.
        """
        rows, prompts, weights, images = [], [], [], []
        for question, owner in zip(chosen.tolist(), owners.tolist(), strict=True):
            numbers, shares = self.learnt_answers(question, epoch=epoch)
            prompt = self.token_ids[question].tolist()
            rows += [[*prompt, *self.answer_rows[number]] for number in numbers]
            prompts += [len(prompt)] * len(numbers)
            weights += shares
            images += [owner] * len(numbers)
        inputs = left_padded(rows, padding=self.padding_id)
        width = inputs["input_ids"].shape[1]
        starts = torch.tensor([width - len(row) + length for row, length in zip(rows, prompts, strict=True)])
        asked = torch.arange(width) < starts[:, None]
        return {
            **inputs,
            "image_index": torch.tensor(images),
            "labels": inputs["input_ids"].masked_fill(asked, IGNORED_LABEL),
            "answer_weights": torch.tensor(weights, dtype=torch.float32),
        }

    def learnt_answers(self, question: int, *, epoch: int) -> tuple[list[int], list[float]]:
        """The answers that are learnt of a question in an epoch, and what each weighs."""
        numbers, scores = self.targets[question]
        shares = scores / scores.sum()
        if self.recipe.answers.learn == "weigh":
            return numbers.tolist(), shares.tolist()
        draw = np.random.default_rng([self.recipe.seed, epoch, question])
        return [int(draw.choice(numbers, p=shares))], [1.0]

    # -- loss ---------------------------------------------------------------------------------------------------------

    def loss(
        self, model: torch.nn.Module, inputs: dict[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, float]]:
        """Sum of the loss over the words of answers, and their number, both weighed."""
        weights = inputs["answer_weights"]
        output = model(**{name: value for name, value in inputs.items() if name != "answer_weights"})
        words = (inputs["labels"] != IGNORED_LABEL).sum(dim=1) * weights
        return -(output.label_log_probs.sum(dim=1) * weights).sum(), words.sum(), {}

    # -- score --------------------------------------------------------------------------------------------------------

    def best_answers(
        self, model: Any, inputs: dict[str, torch.Tensor], rows: np.ndarray, choices: list[list[str]]
    ) -> Iterator[dict[str, Any]]:
        """The best answer to each question, and the best of its choices where it has some, with their likelihoods."""
        asked = self.on_device(inputs)
        texts, scores = (self.ranked if self.recipe.evaluate.answers == "rank" else self.written)(model, asked)
        check_finite(scores, model, what="likelihoods of answers")
        chosen = self.chosen(model, asked, choices) if any(choices) else [""] * len(rows)
        for row, text, score, choice in zip(rows.tolist(), texts, scores.exp().tolist(), chosen, strict=True):
            yield {"row": row, "answer": text, "score": score, **({"choice": choice} if choice else {})}

    def written(self, model: Any, asked: dict[str, torch.Tensor]) -> tuple[list[str], torch.Tensor]:
        """What the model writes for each of N questions, and its log-likelihood (N,)."""
        decoding = {"num_beams": self.num_beams, "max_new_tokens": self.recipe.train.max_words + 1}
        ids, scores = model.write_answers(
            **asked, length_penalty=self.recipe.evaluate.length_penalty, decoding=decoding
        )
        return written_texts(ids[:, 0], self.processor.tokenizer, model.config), scores[:, 0]

    def ranked(self, model: Any, asked: dict[str, torch.Tensor]) -> tuple[list[str], torch.Tensor]:
        """The likeliest answer of the vocabulary to each of N questions, and its log-likelihood (N,)."""
        ids, mask = right_padded(self.encode_answers(self.vocabulary.answers), padding=self.padding_id)
        best = self.likelihoods(model, asked, ids, mask).max(dim=1)
        return [self.vocabulary.answers[number] for number in best.indices.tolist()], best.values

    def chosen(self, model: Any, asked: dict[str, torch.Tensor], choices: list[list[str]]) -> list[str]:
        """The likeliest of each question's choices, "" where it has none."""
        most = max(map(len, choices))
        texts = [text for own in choices for text in (*own, *[""] * (most - len(own)))]
        ids, mask = (
            part.unflatten(0, (len(choices), most))
            for part in right_padded(self.encode_answers(texts), padding=self.padding_id)
        )
        scores = self.likelihoods(model, asked, ids, mask).cpu()
        return [own[int(scores[row, : len(own)].argmax())] if own else "" for row, own in enumerate(choices)]

    def likelihoods(
        self, model: Any, asked: dict[str, torch.Tensor], ids: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """`score_answers` with the recipe's length penalty."""
        device = self.accelerator.device
        return model.score_answers(
            answer_ids=ids.to(device),
            answer_mask=mask.to(device),
            length_penalty=self.recipe.evaluate.length_penalty,
            **asked,
        )

    def decoding(self) -> dict[str, Any]:
        """How answers are found."""
        settings = self.recipe.evaluate
        if settings.answers == "rank":
            return {"decoding": {"answers": "rank", "length_penalty": settings.length_penalty}}
        beams = {"length_penalty": settings.length_penalty} if self.num_beams > 1 else {}
        return {"decoding": {"answers": "generate", "num_beams": self.num_beams, **beams}}


def read_and_written(recipe: VqaRecipe, config_class: Any, questions: Sequence[str]) -> list[str]:
    """Questions in their template, and the sentences of knowledge in theirs: what word pieces are made of."""
    names = ("question", "knowledge")
    prompts = {name: str(recipe.model.get(f"{name}_prompt", getattr(config_class, f"{name}_prompt"))) for name in names}
    knowledge = knowledge_of(recipe.data)
    texts = {"question": questions, "knowledge": read_facts(knowledge.file) if knowledge else []}
    return [prompts[name].replace(f"{{{name}}}", text) for name in names for text in texts[name]]
