"""Any names for a detector's regions: logits by hand, the same alone and in a batch, prompts, and mistakes."""

import pytest
import torch
from transformers import BertModel

from modeling_updown import UpDownDetectorOutput, embed_names, open_regions
from modeling_updown.open_names_updown import name_scores, prompted

from ..tiny import tiny_detector, tiny_encoder_config, tiny_nanodet_detector, tiny_pyramid_detector, tiny_tokenizer

NAMES = ["dog", "red grass", "ocean"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    BertModel(tiny_encoder_config()).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def test_names_have_the_mean_of_their_words_states(encoder):
    """Each read by itself in its prompt, though they are padded to one length."""
    found = embed_names(NAMES, encoder, prompt="the {} runs")
    model = BertModel.from_pretrained(encoder).eval()
    for name, vector in zip(NAMES, found, strict=True):
        with torch.no_grad():
            mean = model(**tiny_tokenizer()(f"the {name} runs", return_tensors="pt")).last_hidden_state[0].mean(dim=0)
        torch.testing.assert_close(vector, mean / mean.norm(), atol=1e-5, rtol=0)


def test_prompts_have_articles():
    assert prompted(["orange cat", "unicorn", "dog"]) == ["an orange cat", "an unicorn", "a dog"]
    assert prompted(["apple"], "A {} there") == ["An apple there"] and prompted([" apple "], "{}") == ["apple"]


@torch.no_grad()
@pytest.mark.parametrize("make", [tiny_detector, tiny_pyramid_detector, tiny_nanodet_detector])
def test_logits_are_cosines_over_the_temperature(make):
    """With any number of images, of detected and of given boxes, whatever the vectors' length."""
    model = make(phrase_embedding_size=6, phrase_temperature=0.2).eval()
    draw = torch.Generator().manual_seed(0)
    pixels, names = torch.randn(2, 3, 96, 96, generator=draw), torch.randn(4, 6, generator=draw)
    output = model(pixels, name_embeds=3 * names)
    for image in range(2):
        for region in output.region_mask[image].nonzero().flatten().tolist():
            for name in range(4):
                cosine = torch.cosine_similarity(output.phrase_embeds[image, region], names[name], dim=0)
                assert output.name_logits[image, region, name] == pytest.approx(cosine.item() / 0.2, abs=1e-4)
    alone = model(pixels[1:], name_embeds=names)
    count = alone.name_logits.shape[1]
    torch.testing.assert_close(output.name_logits[1:, :count], alone.name_logits, atol=1e-4, rtol=0)
    given = model(pixels[:1], boxes=output.region_boxes[:1, :2], name_embeds=names)
    assert given.name_logits.shape == (1, 2, 4) and model(pixels).name_logits is None


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (torch.ones(2, 5), r"shape \(2, 5\), not \(names, 6\): embed one name or more with the text encoder"),
        (torch.ones(0, 6), "embed one name or more"),
        (torch.ones(6), "embed one name or more"),
        (torch.tensor([[1.0] * 6, [0.0] * 6]), "the vector of name 1 is zero or no number"),
        (torch.full((1, 6), float("nan")), "the vector of name 0 is zero or no number"),
    ],
)
def test_vectors_that_are_none(vectors, message):
    with pytest.raises(ValueError, match=message):
        tiny_pyramid_detector(phrase_embedding_size=6)(torch.zeros(1, 3, 64, 64), name_embeds=vectors)


def test_a_detector_without_phrases_cannot_be_asked():
    with pytest.raises(ValueError, match="learnt no phrases .* train one with phrases.encoder"):
        tiny_pyramid_detector()(torch.zeros(1, 3, 64, 64), name_embeds=torch.ones(2, 6))


def output_of(logits: list, sure: list[float], **more: object) -> UpDownDetectorOutput:
    count = len(sure)
    boxes = torch.arange(4.0 * count).view(1, count, 4) / 40
    fields = {"region_features": torch.zeros(1, count, 2), "region_boxes": boxes}
    fields |= {"region_mask": torch.ones(1, count, dtype=torch.bool), "region_scores": torch.tensor([sure])}
    return UpDownDetectorOutput(**{**fields, "name_logits": torch.tensor([logits]), **more})


def test_regions_have_their_likeliest_name():
    """The softmax over the names times how sure the region is; cells and padding are none."""
    output = output_of([[1.0, 3.0], [2.0, 2.0], [9.0, 0.0], [0.0, 9.0]], [0.9, 0.2, 0.8, 0.7])
    output.region_mask[0, 3], output.cell_mask = False, torch.tensor([[False, False, False, False]])
    scores = name_scores(output)
    assert scores[0, 0, 1].item() == pytest.approx(0.9 / (1 + torch.tensor(-2.0).exp().item()), abs=1e-6)
    (found,) = open_regions(output, ["dog", "cat"])
    assert [region["label"] for region in found] == ["dog", "cat", "dog"]
    assert [region["score"] for region in found] == pytest.approx([0.8 * 0.99988, 0.9 * 0.88080, 0.1], abs=1e-4)
    assert found[1]["box"] == pytest.approx([0, 0.025, 0.05, 0.075])
    assert [len(open_regions(output, ["dog", "cat"], threshold=limit)[0]) for limit in (0.5, 0.79, 0.9)] == [2, 2, 0]
    output.cell_mask[0, 2] = True
    assert [region["label"] for region in open_regions(output, ["dog", "cat"])[0]] == ["cat", "dog"]


def test_mistakes(encoder, tmp_path):
    for names, prompt, message in (
        ([], "a {}", "give a list of one or more"),
        ("dog", "a {}", "give a list of one or more"),
        (["dog", " "], "a {}", "a name is empty"),
        (["dog", 3], "a {}", "a name is empty or no text"),
        (["dog", "Dog"], "a {}", "a name stands twice"),
        (["dog"], "a thing", "has no place for the name"),
    ):
        with pytest.raises(ValueError, match=message):
            embed_names(names, encoder, prompt=prompt)
    with pytest.raises(ValueError, match="no text encoder with its tokenizer in"):
        embed_names(["dog"], str(tmp_path))
    with pytest.raises(ValueError, match="give two names or more"):
        open_regions(output_of([[1.0]], [0.5]), ["dog"])
    with pytest.raises(ValueError, match="no names were asked for"):
        name_scores(output_of([[1.0]], [0.5], name_logits=None))
    with pytest.raises(ValueError, match="3 names, but 2 were embedded"):
        open_regions(output_of([[1.0, 2.0]], [0.5]), NAMES)
