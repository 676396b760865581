"""Multiple choice: candidates in one pass as one by one, in both layouts; links of words to regions; mistakes."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForMultipleChoice, DistilBertConfig, RobertaConfig

from modeling_updown import UpDownFusionForMultipleChoice
from tests.tiny import seeded, tiny_encoder_config, tiny_fusion_config, tiny_multiple_choice

SEP, CLS = 3, 2
LAYOUTS = ["full", "shared"]


def made_items(*, items: int = 3, candidates: int = 5, regions: int = 4) -> dict[str, torch.Tensor]:
    """Contexts of 3 to 6 tokens, candidates of 2 to 6 and, of item 1, one fewer; regions of one image an item."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 60, (items, 6), generator=draw)
    ids[:, 0] = CLS
    ids = ids.masked_fill(torch.arange(6) >= torch.tensor([6, 3, 4])[:items, None], 0)
    own = torch.randint(5, 60, (items, candidates, 6), generator=draw)
    own[..., 0] = SEP
    lengths = torch.randint(2, 7, (items, candidates), generator=draw)
    lengths[1, -1] = 0
    own = own.masked_fill(torch.arange(6) >= lengths[..., None], 0)
    mask = torch.ones(items, regions, dtype=torch.bool)
    mask[2, 2:] = False
    corners = torch.rand(items, regions, 2, generator=draw) / 2
    return {
        "input_ids": ids,
        "choice_input_ids": own,
        "region_features": torch.randn(items, regions, 8, generator=draw),
        "region_boxes": torch.cat([corners, corners + 0.4], dim=-1),
        "region_mask": mask,
    }


def made_model(**changes: Any) -> UpDownFusionForMultipleChoice:
    return tiny_multiple_choice(**{"vision_config": None, "region_feature_size": 8, **changes})


def linked(items: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same with words that carry regions: the second word of a context two, the second of a candidate one."""
    context = torch.full((*items["input_ids"].shape, 2), -1)
    context[:, 1] = torch.tensor([0, 1])
    own = torch.full((*items["choice_input_ids"].shape, 1), -1)
    own[:, :, 1, 0] = torch.arange(own.shape[1]) % 2
    return items | {"word_regions": context, "choice_word_regions": own}


def one_by_one(model: Any, items: dict[str, torch.Tensor]) -> torch.Tensor:
    """Scores of every candidate alone, its item alone, without any padding; (N, C), -inf where there is none."""
    found = torch.full(items["choice_input_ids"].shape[:2], float("-inf"))
    for item, choice in (items["choice_input_ids"][..., 0] > 0).nonzero().tolist():
        words = items["input_ids"][item] > 0
        own = items["choice_input_ids"][item, choice] > 0
        real = items["region_mask"][item]
        given = {name: items[name][item][real][None] for name in ("region_features", "region_boxes")}
        if "word_regions" in items:
            given["word_regions"] = items["word_regions"][item][words][None]
            given["choice_word_regions"] = items["choice_word_regions"][item, choice][own][None, None]
        candidate = items["choice_input_ids"][item, choice][own][None, None]
        out = model(items["input_ids"][item][words][None], choice_input_ids=candidate, **given)
        found[item, choice] = out.logits[0, 0]
    return found


@torch.no_grad()
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
def test_all_candidates_at_once_are_as_one_by_one(layout: str, kind: str) -> None:
    sizes: dict[str, Any] = {"vocab_size": 60, "initializer_range": 0.2}
    text = {
        "bert": tiny_encoder_config(),
        "roberta": RobertaConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, **sizes),
        "distilbert": DistilBertConfig(dim=32, n_layers=2, n_heads=4, hidden_dim=48, pad_token_id=0, **sizes),
    }[kind]
    model = made_model(text_config=text, choice_attention=layout, region_links=True)
    for items in (made_items(), linked(made_items())):
        masks = {"attention_mask": items["input_ids"] > 0, "choice_attention_mask": items["choice_input_ids"] > 0}
        found, expected = model(**items, **masks).logits, one_by_one(model, items)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        assert found[1, -1] == float("-inf") and found[0].std() > 1e-3


@torch.no_grad()
def test_whole_texts_are_contexts_with_their_candidates() -> None:
    """As transformers' models of multiple choice take them; a text an item where they have no candidates."""
    model, items = made_model(), made_items()
    items = {name: part[:1] for name, part in items.items()}  # no padding in the context
    whole = torch.cat([items["input_ids"][:, None].expand(-1, 5, -1), items["choice_input_ids"]], dim=2)
    images = {name: items[name] for name in ("region_features", "region_boxes", "region_mask")}
    expected = model(**items).logits
    torch.testing.assert_close(model(whole, **images).logits, expected, atol=1e-6, rtol=1e-6)
    alone = model(whole[0], image_index=torch.zeros(5, dtype=torch.long), **images).logits
    torch.testing.assert_close(alone[:, 0], expected[0], atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_a_shared_context_sees_no_candidate() -> None:
    model, items = made_model(choice_attention="shared"), made_items()
    states = model(**items, output_hidden_states=True).hidden_states[-1]
    other = items | {"choice_input_ids": items["choice_input_ids"].flip(1)}
    changed = model(**other, output_hidden_states=True).hidden_states[-1]
    before = items["input_ids"].shape[1] + items["region_mask"].shape[1]
    torch.testing.assert_close(states[:, :before], changed[:, :before], atol=1e-6, rtol=1e-6)
    there = (items["choice_input_ids"] > 0).sum(dim=(1, 2)).max()
    assert states.shape[1] == before + there  # no padding between candidates


@torch.no_grad()
@pytest.mark.parametrize("layout", LAYOUTS)
def test_images_are_shared_by_items(layout: str) -> None:
    model, items = made_model(choice_attention=layout), made_items()
    owners = torch.tensor([2, 0, 2])
    images = ("region_features", "region_boxes", "region_mask")
    expected = model(**(items | {name: items[name][owners] for name in images})).logits
    found = model(**items, image_index=owners).logits
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_linked_word_changes_with_its_region_alone(layout: str) -> None:
    """Boxes of regions 0 and 1 swapped change the score; the same swap with the links swapped too changes nothing."""
    model, items = made_model(choice_attention=layout, region_links=True), linked(made_items())
    items["word_regions"][:, 1] = torch.tensor([0, -1])
    order = torch.tensor([1, 0, 2, 3])
    swapped = {name: items[name][:, order] for name in ("region_features", "region_boxes")}
    known = model(**items).logits.nan_to_num(neginf=0)
    found = model(**(items | swapped)).logits.nan_to_num(neginf=0)
    assert (found - known).abs()[items["choice_input_ids"][..., 0] > 0].min() > 1e-4
    renamed = {name: torch.where(items[name] >= 0, 1 - items[name], -1) for name in ("word_regions",)}
    renamed["choice_word_regions"] = torch.where(
        items["choice_word_regions"] >= 0, 1 - items["choice_word_regions"], -1
    )
    back = model(**(items | swapped | renamed)).logits.nan_to_num(neginf=0)
    torch.testing.assert_close(back, known, atol=1e-5, rtol=1e-5)
    without = {name: part for name, part in items.items() if not name.endswith("word_regions")}
    unlinked = [model(**(without | one)).logits.nan_to_num(neginf=0) for one in ({}, swapped)]
    torch.testing.assert_close(*unlinked, atol=1e-5, rtol=1e-5)  # regions have no order


def test_losses_are_those_of_the_candidates_that_are_there() -> None:
    items, right = made_items(), torch.tensor([4, 0, -100])
    model = made_model()
    output = model(**items, labels=right)
    expected = torch.nn.functional.cross_entropy(output.logits[:2], right[:2])
    torch.testing.assert_close(output.loss, expected)
    shares = torch.zeros(3, 5)
    shares[0, :2], shares[1, 3] = torch.tensor([1.0, 0.6]), 0.4
    soft = model(**items, labels=shares)
    log_probs = soft.logits.log_softmax(dim=1)
    by_hand = -(log_probs[0, 0] / 1.6 + 0.6 * log_probs[0, 1] / 1.6 + log_probs[1, 3]) / 2
    torch.testing.assert_close(soft.loss, by_hand)
    soft.loss.backward()
    assert model.choice_score.score.weight.grad.abs().max() > 0
    assert model(**items, labels=torch.full((3,), -100)).loss == 0


def test_each_by_itself_is_right_or_wrong() -> None:
    model = made_model(choice_loss="binary", choice_activation="relu")
    items, right = made_items(), torch.tensor([4, 0, -100])
    output = model(**items, labels=right)
    assert model.choice_score.score.out_features == 2 and output.logits.shape == (3, 5)
    assert output.loss > 0 and output.loss.isfinite()


@torch.no_grad()
def test_saved_and_loaded_it_scores_the_same(tmp_path: Any) -> None:
    model, items = made_model(choice_attention="shared", region_links=True), linked(made_items())
    model.save_pretrained(tmp_path)
    loaded = AutoModelForMultipleChoice.from_pretrained(tmp_path)
    assert isinstance(loaded, UpDownFusionForMultipleChoice)
    torch.testing.assert_close(loaded(**items).logits, model(**items).logits)


@torch.no_grad()
def test_pixels_are_read_too() -> None:
    model, items = tiny_multiple_choice(choice_attention="shared"), made_items()
    words = {name: items[name] for name in ("input_ids", "choice_input_ids")}
    pixels = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    scores = model(**words, pixel_values=pixels).logits
    assert (
        scores[:, :4].isfinite().all() and (scores[:, :4] - model(**words, pixel_values=1 - pixels).logits[:, :4]).any()
    )


def test_mistakes_are_named() -> None:
    model, items = made_model(region_links=True), linked(made_items())
    plain = made_items()
    far = items["word_regions"].clone()
    far[0, 1, 0] = 7
    with pytest.raises(ValueError, match="word 1 of item 0 is linked to region 7, but its image has 4 regions"):
        model(**(items | {"word_regions": far}))
    hidden = items["word_regions"].clone()
    hidden[2, 1, 0] = 3
    with pytest.raises(ValueError, match="word 1 of item 2 is linked to region 3, but its image has 2 regions"):
        model(**(items | {"word_regions": hidden}))
    with pytest.raises(ValueError, match="links no words to regions.*region_links=True"):
        made_model()(**items)
    with pytest.raises(ValueError, match="the label of item 1 is 4, but it has 4 candidates"):
        model(**plain, labels=torch.tensor([0, 4, 0]))
    with pytest.raises(ValueError, match=r"labels have shape \(2,\), but must be \(3,\)"):
        model(**plain, labels=torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="labels as shares must be in 0..1"):
        model(**plain, labels=torch.full((3, 5), 2.0))
    with pytest.raises(ValueError, match="there are 2 contexts and candidates of 3 items"):
        model(**(plain | {"input_ids": plain["input_ids"][:2]}))
    with pytest.raises(ValueError, match="item 1 has no candidate"):
        model(**plain, choice_mask=torch.tensor([[True] * 5, [False] * 5, [True] * 5]))
    with pytest.raises(ValueError, match=r"candidates have shape \(3, 6\), but must be \(items, candidates, words\)"):
        model(**(plain | {"choice_input_ids": plain["choice_input_ids"][:, 0]}))
    with pytest.raises(ValueError, match="token types other than 0 are read with region_embedding='uniter' alone"):
        model(**plain, token_type_ids=torch.ones(3, 6, dtype=torch.long))
    uniter = made_model(region_embedding="uniter")
    with pytest.raises(ValueError, match="token type 1 is that of regions"):
        uniter(**plain, token_type_ids=torch.ones(3, 6, dtype=torch.long))
    long = plain | {"input_ids": torch.full((3, 60), 9)}
    with pytest.raises(ValueError, match="have 66 words together, but the text encoder reads 64: cut the context"):
        model(**long)


def test_an_encoder_that_mixes_candidates_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_fusion_config(vision_config=None, region_feature_size=8, choice_attention="shared")
    model = seeded(UpDownFusionForMultipleChoice, config)
    read = model.fusion.text_model.forward

    def blind(*args: Any, **kwargs: Any) -> Any:
        return read(*args, **(kwargs | {"attention_mask": None}))

    monkeypatch.setattr(model.fusion.text_model, "forward", blind)
    with pytest.raises(ValueError, match="not read as each alone: use choice_attention='full'"):
        model.check_layout()
