"""Constrained beam search (Anderson et al. 2017, algorithm 1): the best captions among those with all required words.

    generate(required_words=...) --constrained_settings--> generate(custom_generate=ConstrainedBeamSearch(...))

Every state of the automaton (`required_words_updown`) keeps beams of its own, so a caption with a required word that
the model finds unlikely never competes with captions without it. A caption may end only where every word is in it.
transformers prepares inputs, score processors and stopping criteria, and calls the search as its decoding loop through
`custom_generate`, which is public.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers.generation import GenerateBeamDecoderOnlyOutput

from .compat_updown import CACHE
from .required_words_updown import RequiredWords, continuing_token_ids, required_token_ids

CARRIED = ("use_cache", "logits_to_keep", "output_attentions", "output_hidden_states")  # to `forward`, at every step
REFUSED = ("custom_generate", "streamer", "assistant_model", "cache", "past_key_values", "inputs_embeds")
NOT_A_BEAM = float("-inf")


def constrained_settings(model: Any, required_words: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `generate` under which transformers runs a constrained search with the arguments `given`.

    Raises `ValueError` for words that cannot be required, and for arguments that another decoding loop needs.
    """
    idle = [name for name in REFUSED if given.get(name) is not None]
    if idle:
        raise ValueError(f"required_words have a search of their own, which takes no {idle[0]}: leave {idle[0]} out")
    settings = dict(given)
    tokenizer = settings.pop("tokenizer", None)
    constraints = required_token_ids(required_words, tokenizer)
    vocab_size = model.get_output_embeddings().weight.shape[0]
    pieces: frozenset[int] = frozenset()
    if tokenizer is not None and constraints and constraints[0]:
        pieces = continuing_token_ids(tokenizer, vocab_size, after=constraints[0][0][-1])
    words = RequiredWords(constraints, vocab_size=vocab_size, continuing=pieces)
    search = ConstrainedBeamSearch(
        words,
        num_beams=asked(model, settings, "num_beams", 1),
        num_captions=asked(model, settings, "num_return_sequences", 1),
        do_sample=asked(model, settings, "do_sample", False),
    )
    rows = {"num_beams": search.rows_per_image, "num_return_sequences": 1}
    settings = {name: value for name, value in settings.items() if name not in rows}
    if settings.get("generation_config") is None:
        return {**settings, **rows, "custom_generate": search}
    config = settings["generation_config"] = copy.deepcopy(settings["generation_config"])
    for name, value in rows.items():
        setattr(config, name, value)
    return {**settings, "custom_generate": search}


def asked(model: Any, given: Mapping[str, Any], name: str, default: Any) -> Any:
    """A setting of `generate`: the argument, else that of the given generation config, else the model's own."""
    configs = (given.get("generation_config"), model.generation_config)
    values = [given.get(name), *(getattr(config, name, None) for config in configs)]
    return next((value for value in values if value is not None), default)


@dataclass
class Beams:
    """The captions that a search goes on with: G searches, S states, k beams; a score of -inf is no beam."""

    scores: torch.Tensor  # (G, S, k) sum of log-probabilities
    tokens: torch.Tensor  # (G, S, k, T) with the prompt
    rows: torch.Tensor  # (G, S, k, generated words) the row whose scores each word was chosen from


@dataclass
class Kept:
    """The best captions that have ended: G searches, p places, filled from the best on; -inf is an empty place."""

    scores: torch.Tensor  # (G, p) log-probability over length to the power of the length penalty
    tokens: torch.Tensor  # (G, p, L) padded
    rows: torch.Tensor  # (G, p, L - prompt), -1 after the end
    padding: int

    def add(self, scores: torch.Tensor, tokens: torch.Tensor, rows: torch.Tensor) -> None:
        """Keep the best of these captions and of the new ones: scores (G, n), tokens (G, n, T), rows (G, n, t)."""
        self.scores, chosen = torch.cat([self.scores, scores], dim=1).topk(self.scores.shape[1], dim=1)
        self.tokens = best_of(self.tokens, tokens, chosen, blank=self.padding)
        self.rows = best_of(self.rows, rows, chosen, blank=-1)


class ConstrainedBeamSearch:
    """The decoding loop for `generate(custom_generate=...)`; see the module's docstring.

    Args:
        words: the automaton of what is required.
        num_beams: k, the beams of each state.
        num_captions: n, the captions of each image.
        do_sample: draw beams from the model's distribution in the place of the best ones: each of the n captions then
            is the first that a search of its own ends, whose states draw their beams without replacement
            (Gumbel-top-k, Kool et al. 2019). Else they are the n best captions of one search, the best first.

    Captions are ranked as by transformers: log-probability over (number of generated words, the end token included)
    to the power of `length_penalty`. The search ends when no beam can beat the captions that it keeps (or as soon as
    it keeps enough, with `early_stopping=True`), or at `max_length`, where a caption with all words counts without its
    end. Score processors (`no_repeat_ngram_size`, `top_k`, ...) apply, but never rule out a token that brings a
    caption nearer to its required words.
    """

    def __init__(self, words: RequiredWords, *, num_beams: int, num_captions: int, do_sample: bool = False):
        self.words, self.num_beams, self.num_captions, self.do_sample = words, num_beams, num_captions, do_sample

    @property
    def rows_per_image(self) -> int:
        """How many rows of words each image needs."""
        return len(self.words.complete) * self.num_beams * (self.num_captions if self.do_sample else 1)

    def __call__(
        self,
        model: Any,
        input_ids: torch.Tensor,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: Any,
        **model_kwargs: Any,
    ) -> Any:
        """Prompts (N, T), the same one for the rows of an image -> (images x captions, L), or with
        `return_dict_in_generate` a `GenerateBeamDecoderOnlyOutput`.

        Raises `ValueError` where the required words take more tokens than there is room for, and where fewer captions
        than asked for hold them.
        """
        loop = SearchLoop(self, input_ids, generation_config)
        loop.check_room(input_ids, model_kwargs.get("attention_mask"))
        steps = ModelSteps(model, model_kwargs, generation_config)
        while loop.goes_on():
            tokens = loop.beams.tokens.flatten(0, 2)
            log_probs = steps.log_probs(tokens)  # (N, V)
            scores = loop.allowed(log_probs, logits_processor(tokens, log_probs.clone()))
            steps.record(scores)
            parents = loop.advance(scores, stopping_criteria)
            steps.reorder(parents)
        return loop.result(steps)


class SearchLoop:
    """The state of one call: running beams and kept captions of G searches."""

    def __init__(self, search: ConstrainedBeamSearch, input_ids: torch.Tensor, config: Any):
        self.search, self.config, self.device = search, config, input_ids.device
        words, num_beams = search.words, search.num_beams
        ends = config.eos_token_id
        self.ends = [] if ends is None else [int(end) for end in torch.as_tensor(ends).flatten()]
        self.next_state, self.complete, self.distance = (
            tensor.to(self.device) for tensor in (words.next_state.clone(), words.complete, words.distance)
        )
        num_states = len(self.complete)
        self.nearer = self.distance[self.next_state] < self.distance[:, None]  # (S, V)
        if self.nearer[:, self.ends].any():
            raise ValueError("required_words hold the token that ends a caption: leave it out")
        self.next_state[:, self.ends] = torch.arange(num_states, device=self.device)[:, None]
        shape = (-1, num_states, num_beams)
        self.prompt_length = input_ids.shape[1]
        tokens = input_ids.view(*shape, self.prompt_length)
        scores = tokens.new_full(tokens.shape[:3], NOT_A_BEAM, dtype=torch.float)
        self.beams = Beams(scores, tokens, rows=tokens.new_zeros(*tokens.shape[:3], 0))
        places = 1 if search.do_sample else max(num_beams, search.num_captions)
        padding = config.pad_token_id if config.pad_token_id is not None else (self.ends or [0])[0]
        whole = tokens.new_full((len(tokens), places, config.max_length), padding)
        self.kept = Kept(
            scores.new_full((len(tokens), places), NOT_A_BEAM),
            whole,
            torch.full_like(whole[..., self.prompt_length :], -1),
            padding,
        )

    def check_room(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> None:
        """Put the first beam of every search into the state after its prompt; `ValueError` for too little room."""
        config, words = self.config, self.search.words
        passed_over = {config.bos_token_id, config.pad_token_id, *self.ends}
        each = len(self.complete) * self.search.num_beams
        prompts = input_ids[::each].tolist()
        masks = [[1] * len(prompt) for prompt in prompts] if attention_mask is None else attention_mask[::each].tolist()
        for group, (prompt, mask) in enumerate(zip(prompts, masks, strict=True)):
            real = [token for token, kept in zip(prompt, mask, strict=True) if kept and token not in passed_over]
            state = words.after(real)
            needed, room = int(words.distance[state]), config.max_length - self.prompt_length
            if needed > room:
                raise ValueError(
                    f"the required words take {needed} tokens, but a caption may have {room}: raise max_new_tokens to "
                    f"{needed + 1} or more, or require fewer words"
                )
            self.beams.scores[group, state, 0] = 0.0

    def goes_on(self) -> bool:
        """Whether any search has beams left."""
        return bool((self.beams.scores > NOT_A_BEAM).any())

    def allowed(self, log_probs: torch.Tensor, processed: torch.Tensor) -> torch.Tensor:
        """Log-probabilities (N, V) of the model and after the processors -> those that the search adds up: a required
        word is never ruled out, the end is where words are missing."""
        temperature = (self.config.temperature or 1.0) if self.search.do_sample else 1.0
        by_state = (-1, *self.beams.scores.shape[1:], log_probs.shape[1])  # (G, S, k, V)
        processed, own = processed.view(by_state), (log_probs / temperature).view(by_state)
        processed = torch.where(self.nearer[None, :, None] & processed.isneginf(), own, processed)
        ends = torch.zeros(log_probs.shape[1], dtype=torch.bool, device=self.device)
        ends[self.ends] = True
        too_early = ~self.complete[:, None, None] & ends  # (S, 1, V)
        return processed.masked_fill(too_early, NOT_A_BEAM).flatten(0, 2)

    def advance(self, scores: torch.Tensor, stopping_criteria: Any) -> torch.Tensor:
        """Take every search one word on; -> the row (N,) that each beam goes on from."""
        num_groups, _, num_beams = self.beams.scores.shape
        values, tokens, parents, keys = self.candidates(scores)  # (G, S, m)
        history, rows = (field.flatten(0, 2)[parents] for field in (self.beams.tokens, self.beams.rows))
        history = torch.cat([history, tokens[..., None]], dim=-1)  # (G, S, m, T + 1)
        rows = torch.cat([rows, parents[..., None]], dim=-1)
        done = stopping_criteria(history.flatten(0, 2), scores).view(values.shape).to(self.device)
        first = torch.arange(values.shape[2], device=self.device) < num_beams
        ended = done & first & self.complete[:, None] & (values > NOT_A_BEAM)
        length = history.shape[3] - self.prompt_length
        final = (values / length**self.config.length_penalty).masked_fill(~ended, NOT_A_BEAM)
        self.kept.add(final.flatten(1), history.flatten(1, 2), rows.flatten(1, 2))
        chosen = keys.masked_fill(done, NOT_A_BEAM).topk(num_beams, dim=2).indices  # (G, S, k)
        running = values.masked_fill(done, NOT_A_BEAM).gather(2, chosen)
        running = running.masked_fill(self.over(running, length + 1).view(num_groups, 1, 1), NOT_A_BEAM)
        self.beams = Beams(running, *(picked(field, chosen) for field in (history, rows)))
        return picked(parents, chosen).flatten()

    def candidates(self, scores: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The m best (or drawn) next words for each state: their scores, tokens, rows and what they were chosen by,
        (G, S, m) each, best first. m leaves k that go on where all others end."""
        num_groups, num_states, num_beams = self.beams.scores.shape
        vocab_size = scores.shape[1]
        values = self.beams.scores[..., None] + scores.view(num_groups, num_states, num_beams, vocab_size)
        keys = values
        if self.search.do_sample:
            keys = values - torch.empty_like(values).exponential_().log()  # Gumbel noise added
        num_candidates = num_beams * max(2, 1 + len(self.ends))
        shape = (num_groups, num_states, num_candidates)
        best_keys = keys.new_full(shape, NOT_A_BEAM)
        beams, tokens = (torch.zeros(shape, dtype=torch.long, device=self.device) for _ in range(2))
        for state in range(num_states):
            leads = self.next_state == state  # (S, V)
            sources = leads.any(dim=1).nonzero().flatten()
            if not len(sources):
                continue  # only before the first word
            open_keys = keys[:, sources].masked_fill(~leads[sources][None, :, None], NOT_A_BEAM).flatten(1)
            best, places = open_keys.topk(min(num_candidates, open_keys.shape[1]), dim=1)
            count, beam = best.shape[1], places // vocab_size
            best_keys[:, state, :count] = best
            beams[:, state, :count] = sources[beam // num_beams] * num_beams + beam % num_beams
            tokens[:, state, :count] = places % vocab_size
        of_group = torch.arange(num_groups, device=self.device)[:, None, None]
        chosen = values.flatten(1, 2)[of_group, beams, tokens].masked_fill(best_keys == NOT_A_BEAM, NOT_A_BEAM)
        return chosen, tokens, of_group * (num_states * num_beams) + beams, best_keys

    def over(self, running: torch.Tensor, next_length: int) -> torch.Tensor:
        """Which of the searches (G,) keep nothing better any more, whose beams have the scores (G, S, k)."""
        config, worst = self.config, self.kept.scores[:, -1]
        full = worst > NOT_A_BEAM
        if self.search.do_sample or config.early_stopping is True:
            return full
        longest = config.max_length - self.prompt_length
        length = longest if config.length_penalty > 0 else min(next_length, longest)
        return full & (running.amax(dim=(1, 2)) / length**config.length_penalty <= worst)

    def result(self, steps: "ModelSteps") -> Any:
        """The captions as `generate` returns them; `ValueError` where there are too few."""
        wanted = 1 if self.search.do_sample else self.search.num_captions
        scores, tokens, rows = (field[:, :wanted] for field in (self.kept.scores, self.kept.tokens, self.kept.rows))
        if (scores == NOT_A_BEAM).any():
            raise ValueError(
                "fewer captions than asked for ended with all required words in them: raise max_new_tokens or "
                "num_beams, or ask for fewer captions"
            )
        scores, tokens, rows = scores.flatten(), tokens.flatten(0, 1), rows.flatten(0, 1)
        longest = int((rows >= 0).sum(dim=1).max())
        tokens, rows = tokens[:, : self.prompt_length + longest], rows[:, :longest]
        if not self.config.return_dict_in_generate:
            return tokens
        return GenerateBeamDecoderOnlyOutput(
            sequences=tokens, sequences_scores=scores, beam_indices=rows, **steps.recorded()
        )


class ModelSteps:
    """Runs the model word by word, with its cache if it has one, and records what `generate` is asked to return."""

    def __init__(self, model: Any, inputs: dict[str, Any], config: Any):
        self.model, self.inputs, self.config = model, inputs, config
        self.cache: Any = None
        self.output: Any = None
        self.wanted: dict[str, list[Any]] = {
            name: []
            for name in ("scores", "logits", "attentions", "hidden_states")
            if config.return_dict_in_generate and getattr(config, f"output_{name}", None)
        }

    def log_probs(self, tokens: torch.Tensor) -> torch.Tensor:
        """The words so far (N, T) -> log-probabilities of the next one (N, V), float32."""
        inputs = dict(self.inputs)
        mask = inputs.get("attention_mask")
        if mask is not None:
            added = mask.new_ones(len(mask), tokens.shape[1] - mask.shape[1])
            inputs["attention_mask"] = torch.cat([mask, added], dim=1)
        if self.cache is not None:
            carried = {name: inputs[name] for name in (*CARRIED, "attention_mask") if name in inputs}
            inputs, tokens = {**carried, CACHE: self.cache}, tokens[:, -1:]
        self.output = self.model(input_ids=tokens, **inputs, return_dict=True)
        self.cache = self.output.get(CACHE)
        return self.output.logits[:, -1].to(tokens.device, torch.float32).log_softmax(dim=-1)

    def record(self, scores: torch.Tensor) -> None:
        """Keep what is to be returned of the step: `scores` (N, V) and the model's output."""
        for name, steps in self.wanted.items():
            values = {"scores": scores, "logits": self.output.logits[:, -1].float()}
            steps.append(values[name] if name in values else self.output[name])
        self.output = None

    def reorder(self, parents: torch.Tensor) -> None:
        """Let every row go on from the row of its parent, (N,)."""
        if self.cache is not None:
            self.cache.reorder_cache(parents)

    def recorded(self) -> dict[str, Any]:
        """What was recorded, a tuple over steps each, under the names of transformers' outputs."""
        return {name: tuple(steps) for name, steps in self.wanted.items()}


def best_of(old: torch.Tensor, new: torch.Tensor, chosen: torch.Tensor, *, blank: int) -> torch.Tensor:
    """The rows (G, p) that are chosen among the old (G, p, L) and then the new (G, n, T), these filled up to L."""
    filled = old.new_full((*new.shape[:2], old.shape[2]), blank)
    filled[..., : new.shape[2]] = new
    return torch.cat([old, filled], dim=1).gather(1, chosen[..., None].expand(-1, -1, old.shape[2]))


def picked(field: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """(G, S, m, ...) and the places (G, S, k) in its third axis -> (G, S, k, ...)."""
    index = chosen.reshape(*chosen.shape, *[1] * (field.dim() - 3)).expand(*chosen.shape, *field.shape[3:])
    return field.gather(2, index)
