"""Our own forms of transformers' common tests, where attention is over regions and a state is no list of keys.

`common_spec.py` and `common_spec_fusion.py` put them on the test classes in place of theirs.
"""

import copy
import tempfile
from typing import Any

import torch

from modeling_updown import (
    UpDownForImageCaptioning,
    UpDownForVisualQuestionAnswering,
    UpDownPrefixLMForImageCaptioning,
)


def check_attention_outputs(test: Any) -> None:
    """One tensor (rows, words, regions), asked for by argument or config; sums to 1, exactly 0 on padding."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    by_argument = test.all_model_classes[0](config).eval()
    config._attn_implementation = "eager"
    config.output_attentions = True
    by_config = test.all_model_classes[0](config).eval()
    for model, arguments in ((by_argument, {"output_attentions": True}), (by_config, {})):
        (weights,) = model(**inputs, **arguments).attentions
        test.assertEqual(weights.shape[:2], inputs["input_ids"].shape)
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:2]))
        if "region_mask" in inputs:
            padding = ~inputs["region_mask"][:, None].expand_as(weights)
            test.assertEqual(weights[padding].abs().max().item(), 0)


def check_gradients_reach_outputs(test: Any) -> None:
    """The words (first hidden state) keep their gradient; the attention returned is a stack of the steps' weights, so a
    gradient starts from it but none stays on it."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    model = UpDownForImageCaptioning(config)
    output = model(**inputs, output_hidden_states=True, output_attentions=True)
    output.hidden_states[0].retain_grad()
    (output.logits.sum() + output.attentions[0].square().sum()).backward()
    test.assertGreater(output.hidden_states[0].grad.abs().max().item(), 0)
    test.assertGreater(model.attention.score.weight.grad.abs().max().item(), 0)


def check_gradients_of_sentences(test: Any) -> None:
    """As `check_gradients_reach_outputs`, of a dense captioner."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    model = test.all_model_classes[0](config)
    output = model(**inputs, output_hidden_states=True, output_attentions=True)
    output.hidden_states[0].retain_grad()
    weights = () if output.attentions is None else output.attentions
    (output.logits.sum() + output.pred_boxes.sum() + sum(one.square().sum() for one in weights)).backward()
    test.assertGreater(output.hidden_states[0].grad.abs().max().item(), 0)
    test.assertGreater(model.region_embedding.weight.grad.abs().max().item(), 0)


def check_generated_attentions(
    test: Any, batch_size: int, attentions: tuple, prompt_length: int, output_length: int, *args: Any, **kwargs: Any
) -> None:
    """One entry a step: (rows, words run, regions), each word's weights summing to 1."""
    test.assertEqual(len(attentions), output_length - prompt_length)
    for (weights,) in attentions:
        test.assertEqual(weights.shape[0], batch_size)
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:2]))


def check_generated_state(test: Any, batch_size: int, cache: Any, seq_length: int, config: Any) -> None:
    """Two LSTM states (rows, H), which have seen every word but the last."""
    test.assertEqual(cache.get_seq_length(), seq_length)
    for layer in cache.layers:
        test.assertEqual(layer.keys.shape, (batch_size, config.hidden_size))
        test.assertEqual(layer.values.shape, (batch_size, config.hidden_size))


def check_tuple_of_regions(test: Any) -> None:
    """`return_dict=False` gives the same tensors as a tuple (the common test would subtract bool masks)."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    model = test.all_model_classes[0](config).eval()
    for ours, expected in zip(model(**inputs, return_dict=False), model(**inputs).values(), strict=True):
        torch.testing.assert_close(ours, expected)


def check_question_attention(test: Any) -> None:
    """One tensor a layer of attention, (questions, glimpses, regions), asked for or not; sums to 1, exactly 0 on
    padding."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    model = UpDownForVisualQuestionAnswering(config).eval()
    for arguments in ({"output_attentions": True}, {}):
        attentions = model(**inputs, **arguments).attentions
        test.assertEqual(len(attentions), config.num_attention_layers)
        for weights in attentions:
            test.assertEqual(weights.shape[:2], (len(inputs["input_ids"]), config.num_glimpses))
            torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:2]))
            if "region_mask" in inputs:
                padding = ~inputs["region_mask"][:, None].expand_as(weights)
                test.assertEqual(weights[padding].abs().max().item(), 0)


def check_question_states(test: Any) -> None:
    """The question's state and what question and image make together, (questions, H) each, by argument or config."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    by_argument = UpDownForVisualQuestionAnswering(config).eval()
    test.assertIsNone(by_argument(**inputs).hidden_states)
    config.output_hidden_states = True
    by_config = UpDownForVisualQuestionAnswering(config).eval()
    for model, arguments in ((by_argument, {"output_hidden_states": True}), (by_config, {})):
        question, joint = model(**inputs, **arguments).hidden_states
        test.assertEqual(question.shape, (len(inputs["input_ids"]), config.hidden_size))
        test.assertEqual(joint.shape, question.shape)
        torch.testing.assert_close(question, model.read(inputs["input_ids"]))


def check_gradients_through_language_model(test: Any) -> None:
    """The words' first and last hidden states keep their gradient; the attention returned is made of the layer's, so a
    gradient starts from it, and reaches the regions' embedding."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    model = UpDownPrefixLMForImageCaptioning(config)
    output = model(**inputs, output_hidden_states=True, output_attentions=True)
    for states in (output.hidden_states[0], output.hidden_states[-1]):
        states.retain_grad()
    output.logits.sum().backward(retain_graph=True)
    for states in (output.hidden_states[0], output.hidden_states[-1]):
        test.assertGreater(states.grad.abs().max().item(), 0)
    model.zero_grad()
    output.attentions[0].square().sum().backward()
    test.assertGreater(model.prefix_embedding.of_features.weight.grad.abs().max().item(), 0)


def check_keys_of_regions_and_words(test: Any) -> None:
    """Keys and values of every layer hold the regions, then the words; the cache counts the words."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    model = UpDownPrefixLMForImageCaptioning(config).eval()
    rows, words = inputs["input_ids"].shape
    cache = model(**inputs, use_cache=True).cache
    check_generated_keys(test, rows, cache, words, config)


def check_generated_keys(test: Any, batch_size: int, cache: Any, seq_length: int, config: Any) -> None:
    """(rows, heads, regions + words, width of a head) in every layer."""
    text = config.text_config
    regions = cache.region_mask.shape[1]
    shape = (batch_size, text.num_key_value_heads, regions + seq_length, text.hidden_size // text.num_attention_heads)
    test.assertEqual(cache.get_seq_length(), seq_length)
    test.assertEqual(len(cache.layers), text.num_hidden_layers)
    for layer in cache.layers:
        test.assertEqual(layer.keys.shape, shape)
        test.assertEqual(layer.values.shape, shape)


def check_word_attention(test: Any) -> None:
    """One tensor a layer, (texts, words, regions), asked for by argument or config; sums to 1, exactly 0 on padding."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    model = test.all_model_classes[0](config).eval()
    test.assertIsNone(model(**inputs).attentions)
    eager = test.all_model_classes[0](config).eval()
    eager.set_attn_implementation("eager")
    eager.config.output_attentions = True
    for asked, arguments in ((model, {"output_attentions": True}), (eager, {})):
        attentions = asked(**inputs, **arguments).attentions
        test.assertEqual(len(attentions), config.num_hidden_layers)
        for weights in attentions:
            test.assertEqual(weights.shape, (*inputs["input_ids"].shape, inputs["region_mask"].shape[1]))
            torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:2]))
            test.assertEqual(weights[~inputs["region_mask"][:, None].expand_as(weights)].abs().max().item(), 0)


def inputs_with_candidates(test: Any, inputs_dict: dict, model_class: type, return_labels: bool = False) -> dict:
    """In the place of `_prepare_for_class`, which makes candidates of all inputs of a model of multiple choice, regions
    too: these inputs have theirs."""
    inputs = copy.deepcopy(inputs_dict)
    return {**inputs, "labels": torch.arange(len(inputs["input_ids"])) % 2} if return_labels else inputs


def inputs_with_masks(test: Any, inputs_dict: dict, model_class: type, return_labels: bool = False) -> dict:
    """In the place of `_prepare_for_class`: a detector's labels come with masks, one object has none."""
    inputs = copy.deepcopy(inputs_dict)
    if not return_labels:
        return inputs
    masks = torch.ones(8, 8, dtype=torch.int8).tril().repeat(3, 2, 1, 1)
    masks[1, 0] = -1
    return {**inputs, "labels": torch.tensor([[1, 2], [6, 0], [3, -1]]), "true_masks": masks}


def check_choice_glances(test: Any) -> None:
    """One tensor a layer, (items, candidates, regions), where asked for; sums to 1, exactly 0 on padding."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    model = test.all_model_classes[0](config).eval()
    test.assertIsNone(model(**inputs).attentions)
    attentions = model(**inputs, output_attentions=True).attentions
    test.assertEqual(len(attentions), config.num_hidden_layers)
    for weights in attentions:
        test.assertEqual(weights.shape, (*inputs["choice_input_ids"].shape[:2], inputs["region_mask"].shape[1]))
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:2]))
        test.assertEqual(weights[~inputs["region_mask"][:, None].expand_as(weights)].abs().max().item(), 0)


def check_query_glances(test: Any) -> None:
    """One tensor a decoder layer, (texts, spans, steps), where asked for; sums to 1, exactly 0 on padding."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    model = test.all_model_classes[0](config).eval()
    test.assertIsNone(model(**inputs).attentions)
    attentions = model(**inputs, output_attentions=True).attentions
    test.assertEqual(len(attentions), config.moment_decoder_layers)
    for weights in attentions:  # each region is a step
        test.assertEqual(
            weights.shape, (len(inputs["input_ids"]), config.moment_queries, inputs["region_mask"].shape[1])
        )
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:2]))
        test.assertEqual(weights[~inputs["region_mask"][:, None].expand_as(weights)].abs().max().item(), 0)


def check_map_states(test: Any) -> None:
    """The map before and after each convolution, (texts, segments, segments, H), by argument or config."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    by_argument = test.all_model_classes[0](config).eval()
    test.assertIsNone(by_argument(**inputs, output_attentions=True).attentions)
    config.output_hidden_states = True
    by_config = test.all_model_classes[0](config).eval()
    count = config.moment_segments
    for model, arguments in ((by_argument, {"output_hidden_states": True}), (by_config, {})):
        states = model(**inputs, **arguments).hidden_states
        test.assertEqual(len(states), config.moment_map_layers + 1)
        for one in states:
            test.assertEqual(one.shape, (len(inputs["input_ids"]), count, count, config.moment_hidden_size))


def check_gradients_of_map(test: Any) -> None:
    """As `check_gradients_of_states`, of a map, whose cells that are no run score -inf, and which has no attention."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    model = test.all_model_classes[0](config)
    output = model(**inputs, output_hidden_states=True)
    output.hidden_states[0].retain_grad()
    output.logits[output.logits.isfinite()].sum().backward()
    test.assertGreater(output.hidden_states[0].grad.abs().max().item(), 0)
    test.assertGreater(model.fusion.region_embedding.of_features.weight.grad.abs().max().item(), 0)


def check_gradients_of_states(test: Any) -> None:
    """Hidden states keep their gradient; the attention returned is scaled over the regions, so a gradient starts from
    it but none stays on it."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    model = test.all_model_classes[0](config)
    output = model(**inputs, output_hidden_states=True, output_attentions=True)
    output.hidden_states[0].retain_grad()
    (output.logits.sum() + output.attentions[0].square().sum()).backward()
    test.assertGreater(output.hidden_states[0].grad.abs().max().item(), 0)
    test.assertGreater(model.fusion.region_embedding.of_features.weight.grad.abs().max().item(), 0)


def check_gradients_of_finite_states(test: Any) -> None:
    """As `check_gradients_of_states`, where scores of padding are -inf: the loss is made of the others."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    model = test.all_model_classes[0](config)
    output = model(**inputs, output_hidden_states=True, output_attentions=True)
    output.hidden_states[0].retain_grad()
    (output.logits[output.logits.isfinite()].sum() + output.attentions[0].square().sum()).backward()
    test.assertGreater(output.hidden_states[0].grad.abs().max().item(), 0)
    test.assertGreater(model.fusion.region_embedding.of_features.weight.grad.abs().max().item(), 0)


def check_seeded_tuples(test: Any) -> None:
    """`return_dict=False` gives the same tensors as a tuple, where matching draws the same wrong pairs."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    model_class = test.all_model_classes[0]
    model = model_class(config).eval()
    for labelled in (False, True):
        given = test._prepare_for_class(inputs, model_class, return_labels=labelled)
        for more in ({}, {"output_attentions": True}):
            outputs = []
            for return_dict in (True, False):
                torch.manual_seed(0)
                outputs.append(model(**given, **more, return_dict=return_dict))
            test.assertIsInstance(outputs[1], tuple)
            torch.testing.assert_close(outputs[1], outputs[0].to_tuple())


def check_seeded_losses(test: Any) -> None:
    """The same loss and outputs of every pass and of the model saved and loaded, where matching draws the same wrong
    pairs."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    model_class = test.all_model_classes[0]
    model = model_class(config).eval()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        loaded = model_class.from_pretrained(folder).eval()
    outputs = []
    for same in (model, model, loaded):
        torch.manual_seed(0)
        with torch.no_grad():
            outputs.append(same(**test._prepare_for_class(inputs, model_class)).to_tuple())
    test.assertGreater(outputs[0][0].item(), 0)
    torch.testing.assert_close(outputs[1], outputs[0], rtol=0, atol=0)
    torch.testing.assert_close(outputs[2], outputs[0])


def check_glances(test: Any) -> None:
    """One tensor a layer, (questions, heads, regions), where asked for; sums to 1, exactly 0 on padding."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    model = test.all_model_classes[0](config).eval()
    real = inputs["region_mask"]
    if "image_index" in inputs:  # the regions of several images stand side by side
        real = real[inputs["image_index"]].flatten(1)
    test.assertIsNone(model(**inputs).attentions)
    attentions = model(**inputs, output_attentions=True).attentions
    test.assertEqual(len(attentions), config.num_hidden_layers)
    for weights in attentions:
        test.assertEqual(weights.shape, (len(inputs["input_ids"]), config.num_attention_heads, real.shape[1]))
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:2]))
        test.assertEqual(weights[~real[:, None].expand_as(weights)].abs().max().item(), 0)


def check_step_glances(test: Any) -> None:
    """One tensor a layer, (answers, steps, objects and OCR words), where asked for; sums to 1, exactly 0 on padding."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    model = test.all_model_classes[0](config).eval()
    test.assertIsNone(model(**inputs).attentions)
    attentions = model(**inputs, output_attentions=True).attentions
    test.assertEqual(len(attentions), config.num_hidden_layers)
    masks = [inputs[name] for name in ("region_mask", "ocr_mask") if name in inputs]
    check_shares(test, attentions, torch.cat(masks, dim=1))


def check_single_glance(test: Any) -> None:
    """As `check_step_glances`, of the one layer and step of a single pass."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    model = test.all_model_classes[0](config).eval()
    attentions = model(**inputs, output_attentions=True).attentions
    test.assertEqual(len(attentions), 1)
    check_shares(test, attentions, torch.cat([inputs["region_mask"], inputs["ocr_mask"]], dim=1))


def check_shares(test: Any, attentions: tuple[torch.Tensor, ...], mask: torch.Tensor) -> None:
    """Weights (rows, 1, what is weighed) sum to 1 and are 0 where mask (rows, what is weighed) is False."""
    for weights in attentions:
        test.assertEqual(weights.shape, (len(mask), 1, mask.shape[1]))
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:2]))
        test.assertEqual(weights[~mask[:, None]].abs().max().item(), 0)


def check_states_of_question(test: Any) -> None:
    """The states of the question's words, by argument or config."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    by_argument = test.all_model_classes[0](config).eval()
    test.assertIsNone(by_argument(**inputs).hidden_states)
    config.output_hidden_states = True
    by_config = test.all_model_classes[0](config).eval()
    for model, arguments in ((by_argument, {"output_hidden_states": True}), (by_config, {})):
        (states,) = model(**inputs, **arguments).hidden_states
        test.assertEqual(states.shape, (*inputs["input_ids"].shape, config.hidden_size))


def check_gradients_of_question(test: Any) -> None:
    """The question's states keep their gradient, and one starts from the weights."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    model = test.all_model_classes[0](config)
    output = model(**inputs, output_hidden_states=True, output_attentions=True)
    output.hidden_states[0].retain_grad()
    scores = output.logits[output.logits > -1000]
    (scores.sum() + output.attentions[0].square().sum()).backward()
    test.assertGreater(output.hidden_states[0].grad.abs().max().item(), 0)


def check_gradients_of_documents(test: Any) -> None:
    """As `check_gradients_of_states`, without objects."""
    config, inputs = test.model_tester.prepare_config_and_inputs_for_common()
    model = test.all_model_classes[0](config)
    output = model(**inputs, output_hidden_states=True, output_attentions=True)
    output.hidden_states[0].retain_grad()
    (output.logits.sum() + output.attentions[0].square().sum()).backward()
    test.assertGreater(output.hidden_states[0].grad.abs().max().item(), 0)
    test.assertGreater(model.ocr_embedding.of_boxes.weight.grad.abs().max().item(), 0)
