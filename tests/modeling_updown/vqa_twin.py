"""A tiny question answerer on regions, what it is asked, and its slow twin: the equations in float64, by loops."""

from typing import Any

import torch

from modeling_updown import UpDownForVisualQuestionAnswering
from modeling_updown.linear_updown import NormedLinear

from ..tiny import ANSWERS, tiny_vqa
from .test_counting import slow_counts

WIDTH, WORDS, PAD, REGIONS = 10, 20, 0, 5

VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {},
    "hengyuan-hu": {"activation": "relu", "weight_norm": True, "attention": "multiply", "reads_padding": True},
    "everything": {
        "num_glimpses": 2,
        "num_attention_layers": 2,
        "counted_objects": 3,
        "box_embedding": True,
        "normalize_regions": True,
        "answer_hidden_size": 9,
    },
}


def answerer(**changes: Any) -> UpDownForVisualQuestionAnswering:
    """Fed with regions of width 10; 20 words. Biases and lengths of weight norm are not those of a new model."""
    fields: dict[str, Any] = {"vision_config": None, "region_feature_size": WIDTH, "vocab_size": WORDS}
    model, generator = tiny_vqa(**(fields | changes)), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear | NormedLinear):
                module.bias.normal_(std=0.3, generator=generator)
            if isinstance(module, NormedLinear):
                module.gain.mul_(1.5)
    return model


def images(count: int = 3, regions: int = REGIONS, *, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, regions, 2, generator=generator) / 2
    return {
        "region_features": torch.randn(count, regions, WIDTH, generator=generator),
        "region_boxes": torch.cat([corners, corners + 0.4], dim=-1),
        "region_mask": torch.ones(count, regions, dtype=torch.bool),
    }


def one_image(batch: dict[str, torch.Tensor], index: int, *, count: int = REGIONS) -> dict[str, torch.Tensor]:
    """One image's first regions, alone."""
    return {name: value[index : index + 1, :count] for name, value in batch.items()}


def words(rows: int, count: int = 6, *, seed: int = 0) -> torch.Tensor:
    return torch.randint(1, WORDS, (rows, count), generator=torch.Generator().manual_seed(seed))


def padded(ids: torch.Tensor, lengths: list[int], *, side: str) -> torch.Tensor:
    """The first `lengths` words of each row, with padding on one side."""
    rows = []
    for row, length in zip(ids, lengths, strict=True):
        filler = row.new_full((ids.shape[1] - length,), PAD)
        rows.append(torch.cat([filler, row[:length]] if side == "left" else [row[:length], filler]))
    return torch.stack(rows)


def soft_labels(rows: int) -> torch.Tensor:
    return torch.rand(rows, len(ANSWERS)).mul(4).floor() / 3  # 0, 1/3, 2/3 or 1


def gradients_of(model: UpDownForVisualQuestionAnswering, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


class SlowAnswerer:
    """One question about one image of real regions, in float64 and by loops, from the model's tensors alone."""

    def __init__(self, model: UpDownForVisualQuestionAnswering):
        self.model, self.config = model, model.config
        self.tensors = {name: value.detach().double() for name, value in model.state_dict().items()}

    def product(self, name: str, x: torch.Tensor) -> torch.Tensor:
        weight = self.tensors[f"{name}.weight"]
        if f"{name}.gain" in self.tensors:
            weight = self.tensors[f"{name}.gain"] * weight / weight.square().sum().sqrt()
        return weight @ x + self.tensors[f"{name}.bias"]

    def layer(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """Equations 8 to 10, or a ReLU."""
        product = self.product(f"{name}.linear", x)
        if self.config.activation == "relu":
            return product.clamp(min=0)
        half = len(product) // 2
        return product[:half].tanh() * product[half:].sigmoid()

    def read(self, ids: list[int]) -> torch.Tensor:
        ids = ids[: self.config.max_question_words]
        if self.config.reads_padding:
            ids = [PAD] * (self.config.max_question_words - len(ids)) + ids
        state = torch.zeros(self.config.hidden_size, dtype=torch.float64)
        for word in ids:
            given = self.product("question_gru.word_gates", self.tensors["embed_tokens.weight"][word]).chunk(3)
            kept = self.product("question_gru.state_gates", state).chunk(3)
            reset, update = (given[0] + kept[0]).sigmoid(), (given[1] + kept[1]).sigmoid()
            state = (1 - update) * (given[2] + reset * kept[2]).tanh() + update * state
        return state

    def attend(self, place: int, query: torch.Tensor, regions: list[torch.Tensor]) -> torch.Tensor:
        """Scores before the softmax (R, G)."""
        name, scores = f"attention.{place}", []
        for region in regions:
            if self.config.attention == "multiply":
                hidden = self.layer(f"{name}.of_region", region) * self.layer(f"{name}.of_query", query)
            else:
                hidden = self.layer(f"{name}.joint", torch.cat([region, query]))
            scores.append(self.product(f"{name}.score", hidden))
        return torch.stack(scores)

    def regions(self, features: torch.Tensor, boxes: torch.Tensor) -> list[torch.Tensor]:
        seen = []
        for feature, (left, top, right, bottom) in zip(features.double(), boxes.double(), strict=True):
            if self.config.normalize_regions:
                feature = feature / feature.square().sum().sqrt()
            if self.config.box_embedding:
                size = [right - left, bottom - top, (right - left) * (bottom - top)]
                feature = torch.cat([feature, torch.stack([left, top, right, bottom, *size])])
            seen.append(feature)
        return seen

    def answer(self, ids: list[int], features: torch.Tensor, boxes: torch.Tensor) -> dict[str, torch.Tensor]:
        question, regions = self.read(ids), self.regions(features, boxes)
        query = question
        for place in range(self.config.num_attention_layers):
            scores = self.attend(place, query, regions)
            alpha = scores.exp() / scores.exp().sum(dim=0)  # (R, G)
            found = torch.cat([
                sum((a * region for a, region in zip(glimpse, regions, strict=True)), start=torch.zeros(()))
                for glimpse in alpha.T
            ])  # fmt: skip
            if place + 1 < self.config.num_attention_layers:
                query = query + self.layer(f"next_query.{place}", found)
        joint = self.layer("of_question", question if place == 0 else query) * self.layer("of_photo", found)
        if self.model.counter is not None:
            counts = slow_counts(self.model.counter, scores[:, 0].tolist(), boxes.tolist())
            joint = joint + self.product("of_counts", torch.tensor(counts, dtype=torch.float64)).clamp(min=0)
        logits = self.product("answers", self.layer("before_answers", joint))
        return {"question": question, "weights": alpha.T, "joint": joint, "logits": logits}
