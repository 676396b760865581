"""Every number of the models that stand on a Hugging Face text model: the fusion model and the prefix language model.

The other configs are in `configuration_updown.py`.
"""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from .configuration_moments_updown import MomentConfig
from .configuration_reading_updown import ReadingConfig
from .configuration_time_updown import TimedRegionsConfig
from .configuration_updown import region_source_config
from .labels_updown import LabelledConfig


@strict
class UpDownFusionConfig(ReadingConfig, MomentConfig, LabelledConfig):
    r"""The fusion model: any Hugging Face text encoder, run on words, on regions or on both together.

    text_config (any encoder's config, or its fields with `model_type`, defaults to `BertConfig()`):
        The layers. The encoder takes `inputs_embeds`, `position_ids` and a 4-D mask, as BERT, RoBERTa, DistilBERT and
        ModernBERT do; one that reads words otherwise beside regions than alone, or that padding reaches, is refused
        when the model is made.
    region_feature_size (`int`, defaults to 2048):
        Width D of the regions that come in.
    region_dropout (`float`, defaults to 0.0):
        Dropout of the regions' features before they are embedded.
    region_embedding (`"sum"`, `"uniter"` or `"visualbert"`, defaults to `"sum"`):
        What the encoder reads of a region. `"sum"`: the sum of its embeddings in place of a word's, to which the
        encoder's own embedding layer adds the first word's position and type before it normalises. `"uniter"`: that sum
        after a LayerNorm and dropout of its own, without that layer (Chen et al. 2020); `text_config` is a BERT's then.
        `"visualbert"`: as `"sum"`, of the feature's linear map alone, without a LayerNorm or boxes (Li et al. 2019).
    mask_embedding (`bool`, defaults to `False`):
        Add a learnt vector to the feature of a masked region, as UNITER does.
    num_images (`int`, defaults to 1):
        How many images of one row are told apart, each by a learnt vector of its place that its regions carry: the left
        and the right one of a pair (UNITER's token types of NLVR2). 1 tells none apart.
    cls_token_id (`int`, *optional*):
        The token that stands first where there are regions alone; by default the text config's own, else 101 (BERT).
    pooling (`"cls"` or `"mean"`, defaults to `"cls"`):
        How a pass over words alone or regions alone becomes one vector: the first token's state, or the mean over all.
        Of words and regions together the joint vector is always the first token's state.
    pooler (`bool`, defaults to `False`):
        Map the first token's state by a linear layer and tanh, as BERT's pooler does, wherever it is the joint vector.
    match_by (`"cls"` or `"product"`, defaults to `"cls"`):
        What matching (ITM) reads where words and regions are read together: the first token's state (UNITER), or the
        product of what ITC compares, words' mean and regions' mean, each having seen the other (after ViLBERT, Lu et
        al. 2019). The product starts from what ITC knows.
    projection_size (`int`, defaults to 256):
        Width E of the embeddings that images and texts are compared by (ALBEF).
    temperature, min_temperature, max_temperature (`float`, default to 0.07, 0.001, 0.5):
        Where the learnt temperature of those comparisons starts, and its bounds.
    clip_pooling (`""`, `"mean"`, `"attention"` or `"transformer"`, defaults to `""`):
        Retrieval of clips: how frames become one vector. `""`: the regions of all frames are read in one pass; else
        those of each second of `region_seconds` in a pass of its own, and the vectors are pooled as `ClipPooling` has
        it (CLIP4Clip).
    clip_layers, clip_heads (`int`, default to 1, 4):
        Of the small transformer over frames.
    objectives (`dict[str, float]`, *optional*):
        What is learnt, of `OBJECTIVES`, and how much each weighs; by default `DEFAULT_OBJECTIVES`, each 1. Heads exist
        for these alone.
    hard_negatives (`bool`, defaults to `True`):
        Whether matching (ITM) learns from wrong pairs that look alike to ITC, or from any.
    match_share (`float`, defaults to 1.0):
        The share of a batch's images, drawn anew in every step, whose pairs are matched (ITM, WRA). Their wrong
        partners come from the whole batch: contrast wants it large, and reading pairs together costs the most.
    distillation (`float`, defaults to 0.4):
        With a momentum copy: the share of its own similarities in the targets of ITC (ALBEF's alpha).
    word_bias (`bool`, defaults to `False`):
        Masked words (MLM) are scored by the word embeddings and a bias for each, as BERT's are.
    head_norm_eps (`float`, defaults to 1e-5):
        Of the LayerNorm in the heads of masked words, masked regions and answers (BERT and UNITER: 1e-12).
    num_objects, num_attributes (`int`, default to 1600, 400):
        Classes of masked region classification, without background, and of masked region attributes, without none.
    mrc_average_classes (`bool`, defaults to `False`):
        Divide the losses of masked region classification, attributes too, by the number of classes, as UNITER's does.
    mrc_weights (`"even"` or `"confidence"`, defaults to `"even"`):
        How much each masked region counts in them: all the same, or by the detector's `region_scores`, as in LXMERT.
    mrfr_average_width (`bool`, defaults to `True`):
        Average the squared distance of masked region feature regression over the width (UNITER), or sum it.
    answer_hidden_size, num_answers (`int`, *optional*):
        The answer head's hidden layer (twice the text encoder's width, as LXMERT) and answers A; taken from `id2label`
        where given. Question answering has that head, pretraining where `objectives` name `qa`, and visual entailment,
        whose answers are its classes; what these learn, `problem_type` says as in transformers.
    answer_dropout (`float`, defaults to 0.0):
        Before the answers.
    answer_similarity (`bool`, defaults to `False`):
        Visual entailment: the cosine of image and statement, each read by itself and projected as for retrieval, joins
        what their joint vector says.
    image_pairs (`"pair"`, `"triplet"` or `"pair_biattention"`, defaults to `"pair_biattention"`):
        How a statement about `num_images` images is read, in UNITER's words for two: with each image by itself, whose
        joint vectors are joined; with all in one pass; or with each by itself, after which the words and regions of
        each look at those of the others.
    image_pairs_dropout (`float`, defaults to 0.1):
        Of what has looked at the others, with `"pair_biattention"`.
    grounding_score (`"concat"`, `"multiply"` or `"region"`, defaults to `"concat"`):
        What a region is scored for a phrase by: the states of both, joined or multiplied (BAN), or its own state alone,
        of texts that are one expression each (UNITER).
    grounding_hidden_size (`int`, *optional*):
        The layer before that score (by default the text encoder's width); 0 has none, with `"region"` alone.
    grounding_loss (`"kl"`, `"cross_entropy"` or `"binary"`, defaults to `"kl"`):
        What is learnt of the regions: their distribution by IoU with the true boxes (VisualBERT), the best one
        (UNITER), or whether each is one of the phrase's (VL-BERT), which also learns that a phrase has none.
    grounding_iou (`float`, defaults to 0.5):
        From which IoU with a true box on a region is the phrase's.
    grounding_box_weight (`float`, defaults to 1.0):
        How much the regression of regions to the true boxes weighs; 0 has none, and boxes stay as they are.
    grounding_dropout (`float`, defaults to 0.0):
        Before score and regression.
    grounding_none (`bool`, defaults to `False`):
        Score one more, learnt region for each phrase, beside those of the image: that it speaks of none of them. With
        `"concat"` or `"multiply"`, and not with the loss `"binary"`, which learns that without it.
    choice_attention (`"full"` or `"shared"`, defaults to `"full"`):
        Multiple choice: each candidate is read with its context in a pass of its own, as UNITER does, or context and
        regions are read once, without the candidates, each of which sees them and itself.
    choice_loss (`"softmax"` or `"binary"`, defaults to `"softmax"`):
        Whether the candidates of an item compete, or each is right or wrong by itself, in two scores (UNITER's VCR).
    choice_hidden_size (`int`, *optional*), choice_activation (`"gelu"` or `"relu"`, defaults to `"gelu"`):
        Width (twice the text encoder's by default) and activation of the layer before that score.
    choice_dropout (`float`, defaults to 0.0):
        Before it.
    region_links (`bool`, defaults to `False`):
        Multiple choice: words may be linked to regions ("[person1]"), whose embeddings are then added to theirs.
    moment_head, moment_inputs, ... :
        Which spans of a clip a sentence is about, as `MomentConfig` has it.
    reading_head, reading_objects, ... :
        Answers that are read off OCR words, as `ReadingConfig` has it.
    initializer_range (`float`, defaults to 0.02):
        Of new weights.
    object_tags, attribute_tags, ..., time_embedding, vision_config, freeze_regions:
        As for the captioner.
    """

    model_type = "updown_fusion"
    label_fields = {"num_answers": ("id2label", None)}
    keys_to_ignore_at_inference = [
        *("losses", "logits_per_image", "logits_per_text", "object_logits", "attribute_logits", "region_predictions"),
        *("answer_logits", "phrase_scores", "none_scores", "pred_boxes"),
        *("span_predictions", "saliency_scores", "step_seconds"),
        *("hidden_states", "attentions", "region_boxes", "ocr_boxes"),
    ]
    sub_configs = {"text_config": AutoConfig, "vision_config": AutoConfig}

    text_config: Any = None
    region_feature_size: int = 2048
    region_dropout: float | int = 0.0
    region_embedding: Literal["sum", "uniter", "visualbert"] = "sum"
    mask_embedding: bool = False
    num_images: int = 1
    cls_token_id: int | None = None
    pooling: Literal["cls", "mean"] = "cls"
    pooler: bool = False
    match_by: Literal["cls", "product"] = "cls"
    projection_size: int = 256
    temperature: float = 0.07
    min_temperature: float = 0.001
    max_temperature: float = 0.5
    clip_pooling: Literal["", "mean", "attention", "transformer"] = ""
    clip_layers: int = 1
    clip_heads: int = 4
    objectives: dict[str, float | int] | None = None
    hard_negatives: bool = True
    match_share: float | int = 1.0
    distillation: float | int = 0.4
    word_bias: bool = False
    head_norm_eps: float = 1e-5
    num_objects: int = 1600
    num_attributes: int = 400
    mrc_average_classes: bool = False
    mrc_weights: Literal["even", "confidence"] = "even"
    mrfr_average_width: bool = True
    answer_hidden_size: int | None = None
    num_answers: int | None = None
    answer_dropout: float | int = 0.0
    answer_similarity: bool = False
    image_pairs: Literal["pair", "triplet", "pair_biattention"] = "pair_biattention"
    image_pairs_dropout: float | int = 0.1
    grounding_score: Literal["concat", "multiply", "region"] = "concat"
    grounding_hidden_size: int | None = None
    grounding_loss: Literal["kl", "cross_entropy", "binary"] = "kl"
    grounding_iou: float = 0.5
    grounding_box_weight: float | int = 1.0
    grounding_dropout: float | int = 0.0
    grounding_none: bool = False
    choice_attention: Literal["full", "shared"] = "full"
    choice_loss: Literal["softmax", "binary"] = "softmax"
    choice_hidden_size: int | None = None
    choice_activation: Literal["gelu", "relu"] = "gelu"
    choice_dropout: float | int = 0.0
    region_links: bool = False
    initializer_range: float = 0.02
    vision_config: Any = None
    freeze_regions: bool = True
    tie_word_embeddings: bool = False
    pad_token_id: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if isinstance(self.vision_config, dict):  # first, since transformers hands settings down to both
            self.vision_config = region_source_config(self.vision_config)
        self.text_config = text_model_config(self.text_config, default="bert")
        if self.num_answers is not None and self.id2label is None:  # type: ignore[has-type]
            self.id2label = {i: f"answer {i}" for i in range(self.num_answers)}
        super().__post_init__(**kwargs)
        if self.pad_token_id is None:
            self.pad_token_id = getattr(self.text_config, "pad_token_id", None) or 0
        if self.cls_token_id is None:
            named = [getattr(self.text_config, name, None) for name in ("cls_token_id", "bos_token_id")]
            self.cls_token_id = next((number for number in named if number is not None), 101)
        self.cls_token_id %= self.text_config.vocab_size  # a tiny vocabulary has fewer tokens than BERT's
        if self.vision_config is not None:
            self.region_feature_size = self.vision_config.region_feature_size
        self.objectives = dict.fromkeys(DEFAULT_OBJECTIVES, 1.0) if self.objectives is None else dict(self.objectives)
        self._check()

    def _check(self) -> None:
        unknown = sorted((self.objectives or {}).keys() - set(OBJECTIVES))
        if unknown:
            raise ValueError(f"objectives names {', '.join(unknown)}; known are {', '.join(OBJECTIVES)}")
        if self.match_by == "product" and self.weight("itm") and not self.weight("itc"):
            raise ValueError("match_by='product' matches by what ITC compares: add itc to objectives, or use 'cls'")
        if not 0 < self.match_share <= 1:
            raise ValueError(
                f"match_share={self.match_share} must be above 0 and at most 1, a share of a batch's images"
            )
        text = self.text_config
        if self.region_embedding == "uniter" and (text.model_type != "bert" or text.type_vocab_size < 2):
            raise ValueError(
                f"region_embedding='uniter' needs a text_config of BERT with two token types, this is a "
                f"{text.model_type!r} with {getattr(text, 'type_vocab_size', 0)}: use region_embedding='sum'"
            )
        if self.num_images < 1:
            raise ValueError(f"num_images={self.num_images} must be 1 or more, as a row has an image")
        if not 0 < self.grounding_iou <= 1:
            raise ValueError(f"grounding_iou={self.grounding_iou} must be above 0 and at most 1, as an IoU is")
        if self.grounding_hidden_size == 0 and self.grounding_score != "region":
            raise ValueError(
                f"grounding_hidden_size=0 scores region states as they are, which grounding_score="
                f"{self.grounding_score!r} joins with phrases: set a width, or grounding_score='region'"
            )
        if self.grounding_none and (self.grounding_score == "region" or self.grounding_loss == "binary"):
            raise ValueError(
                "grounding_none=True learns a region for phrases without one, which grounding_score='region' cannot "
                "score for a phrase and grounding_loss='binary' does without: change these, or leave it out"
            )
        heads = self.clip_heads
        if self.clip_pooling == "transformer" and (self.clip_layers < 1 or heads < 1 or self.projection_size % heads):
            raise ValueError(
                f"clip_layers={self.clip_layers} must be 1 or more, and clip_heads={heads} must divide "
                f"projection_size={self.projection_size}"
            )
        if self.moment_similarity and self.pooling != "mean":
            raise ValueError(
                f"moment_similarity compares means of states, but pooling is {self.pooling!r}: set it to mean"
            )
        if not 0 < self.min_temperature <= self.temperature <= self.max_temperature:
            raise ValueError(
                f"min_temperature={self.min_temperature}, temperature={self.temperature} and "
                f"max_temperature={self.max_temperature} must be above 0 and rise"
            )

    def weight(self, objective: str) -> float:
        """How much an objective weighs; 0 for one that is not learnt."""
        return float((self.objectives or {}).get(objective, 0.0))

    @property
    def hidden_size(self) -> int:
        return self.text_config.hidden_size

    @property
    def num_hidden_layers(self) -> int:
        return self.text_config.num_hidden_layers

    @property
    def num_attention_heads(self) -> int:
        return self.text_config.num_attention_heads

    @property
    def vocab_size(self) -> int:
        return self.text_config.vocab_size

    @vocab_size.setter
    def vocab_size(self, value: int) -> None:
        self.text_config.vocab_size = value


# What a fusion model can learn: image-text contrast and matching, words aligned with regions, masked words, masked
# regions' class and attribute (hard or soft labels), masked regions' feature, masked cells of a grid, the next word,
# answers to questions about the images.
OBJECTIVES = ("itc", "itm", "wra", "mlm", "mrc_ce", "mrc_kl", "mra_ce", "mra_kl", "mrfr", "mim", "prefix_lm", "qa")
DEFAULT_OBJECTIVES = ("itc", "itm", "mlm", "mrc_kl", "mrfr")


@strict
class UpDownPrefixLMConfig(TimedRegionsConfig):
    r"""The prefix language model: regions stand before the words of any Hugging Face causal language model.

    text_config (any causal language model's config, or its fields with `model_type`, defaults to `GPT2Config()`):
        The language model. It takes `inputs_embeds` and `position_ids`, as GPT-2, Llama, Qwen2, SmolLM and OPT do.
    region_feature_size (`int`, defaults to 2048):
        Width D of the regions that come in.
    box_embedding (`bool`, defaults to `True`):
        Add an embedding of the box geometry (corners, width, height, area) to each region.
    region_dropout (`float`, defaults to 0.0):
        Dropout of the embedded regions.
    prefix_attention (`"full"` or `"causal"`, defaults to `"full"`):
        Whether each region sees all regions of its image or, as language models do by themselves, those before it.
    tuning (`"full"`, `"frozen"` or `"lora"`, defaults to `"full"`):
        What of the language model trains: all, nothing, or adapters of low rank beside its weights (Hu et al. 2022;
        they need the library peft). The regions' embedding always trains. `model.set_tuning` changes it.
    lora_rank, lora_alpha, lora_dropout (default to 16, 32, 0.05):
        The adapters' rank, scale (alpha / rank) and dropout.
    lora_target_modules (`list[str]`, *optional*):
        Names of the layers that get adapters; by default every linear layer but the output (Dettmers et al. 2023).
    label_smoothing (`float`, defaults to 0.0):
        Share of the target spread evenly over the other words.
    question_prompt (`str`, defaults to `"question: {question} answer:"`):
        Question answering: what the words of an answer follow.
    knowledge_prompt (`str`, defaults to `"knowledge: {knowledge} "`):
        What stands before that where sentences are given beside the question.
    max_question_words, max_knowledge_words (`int`, default to 32, 64):
        How many tokens are read of a question, and of all sentences beside it.
    knowledge_sentences (`int`, defaults to 0):
        How many sentences stood beside each question in training.
    answer_length_penalty (`float`, defaults to 0.0):
        Answers are compared by their log-likelihood over the number of their tokens to this power.
    initializer_range (`float`, defaults to 0.02):
        Of the regions' embedding; the language model has its own initialisation.
    object_tags, attribute_tags, ..., time_embedding, vision_config, freeze_regions:
        As for the captioner.
    pad_token_id, bos_token_id, eos_token_id (`int`, *optional*):
        Where not given, the text config's own; where that has no BOS or padding, its EOS takes their place.
    """

    model_type = "updown_prefix_lm"
    keys_to_ignore_at_inference = [
        "past_key_values",
        "cache",
        "label_log_probs",
        "hidden_states",
        "attentions",
        "region_boxes",
    ]
    sub_configs = {"text_config": AutoConfig, "vision_config": AutoConfig}

    text_config: Any = None
    region_feature_size: int = 2048
    box_embedding: bool = True
    region_dropout: float | int = 0.0
    prefix_attention: Literal["full", "causal"] = "full"
    tuning: Literal["full", "frozen", "lora"] = "full"
    lora_rank: int = 16
    lora_alpha: float | int = 32
    lora_dropout: float | int = 0.05
    lora_target_modules: list[str] | None = None
    label_smoothing: float | int = 0.0
    question_prompt: str = "question: {question} answer:"
    knowledge_prompt: str = "knowledge: {knowledge} "
    max_question_words: int = 32
    max_knowledge_words: int = 64
    knowledge_sentences: int = 0
    answer_length_penalty: float | int = 0.0
    initializer_range: float = 0.02
    vision_config: Any = None
    freeze_regions: bool = True
    use_cache: bool = True
    tie_word_embeddings: bool = False  # of this model; the text config has the language model's
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if isinstance(self.vision_config, dict):  # first, since transformers hands settings down to both
            self.vision_config = region_source_config(self.vision_config)
        self.text_config = text_model_config(self.text_config, default="gpt2")
        super().__post_init__(**kwargs)
        if self.vision_config is not None:
            self.region_feature_size = self.vision_config.region_feature_size
        if self.eos_token_id is None:
            self.eos_token_id = self._text_token_id("eos_token_id")
        end = next(iter(self.eos_token_id), None) if isinstance(self.eos_token_id, list) else self.eos_token_id
        for name in ("bos_token_id", "pad_token_id"):
            if getattr(self, name) is None:
                own = self._text_token_id(name)
                setattr(self, name, end if own is None else own)
        for name in ("lora_rank", "max_question_words", "max_knowledge_words"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more")
        for name in ("question", "knowledge"):
            prompt = getattr(self, f"{name}_prompt")
            if prompt.count(f"{{{name}}}") != 1:
                raise ValueError(f"{name}_prompt={prompt!r} must hold {{{name}}} once, where the {name} goes")

    def _text_token_id(self, name: str) -> Any:
        """The text config's own special token; defaults beyond a smaller vocabulary are none."""
        value = getattr(self.text_config, name, None)
        values = value if isinstance(value, list) else [value]
        return value if all(v is not None and 0 <= v < self.vocab_size for v in values) else None

    @property
    def hidden_size(self) -> int:
        return self.text_config.hidden_size

    @property
    def num_hidden_layers(self) -> int:
        return self.text_config.num_hidden_layers

    @property
    def num_attention_heads(self) -> int:
        return self.text_config.num_attention_heads

    @property
    def vocab_size(self) -> int:
        return self.text_config.vocab_size

    @vocab_size.setter
    def vocab_size(self, value: int) -> None:
        self.text_config.vocab_size = value


def text_model_config(fields: Any, *, default: str) -> PreTrainedConfig:
    """A text model's config, from a config or from its fields with `model_type`; `default`'s where there are none."""
    if isinstance(fields, PreTrainedConfig):
        return fields
    fields = dict(fields or {})
    return AutoConfig.for_model(fields.pop("model_type", default), **fields)
