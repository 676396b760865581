"""Visual entailment: statements about an image that it entails, leaves open or contradicts.

The rows are those of SNLI-VE, e-SNLI-VE, SNLI on images of its captions, or drawn scenes; the verbs stand in
`statements.py`.
What words alone decide is much in these data: beside every figure belong a run with `train.withhold=image` and an
evaluation with `evaluate.shuffle_images=true`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedConfig

from training.data.statements.formats import ENTAILMENT_FORMATS
from training.data.statements.rows import ENTAILMENT
from training.metrics.item_scores import item_scores
from training.metrics.reasoning.statements import snli_ve
from training.scenes.statements import read_scene_statements
from training.tasks.card_facts import text_facts
from training.tasks.spec import Scored, TaskSpec
from training.tasks.statements import STATEMENT_READS, Statements, StatementsTask, check_recipe

FORMATS: dict[str, Callable[..., Dataset]] = {**ENTAILMENT_FORMATS, "scenes": read_scene_statements}


class EntailmentTask(StatementsTask):
    """Statements about one image each."""

    labels = ENTAILMENT
    formats = FORMATS
    head = ("answer_hidden_size", "answer_dropout", "answer_similarity", "problem_type")

    def scored(self, found: Sequence[str], asked: Statements) -> Scored:
        """Accuracy, also of each true class; what is drawn anew for intervals are images, with all their statements."""
        scores = snli_ve(found, asked.rows["label"][:])
        metrics = {name: scores[name] for name in ("accuracy", "accuracy_x100")}
        classes = {
            name: {"accuracy_x100": 100 * right / total, "statements": total}
            for name, (right, total) in sorted(scores["per_class"].items())
        }
        ids = asked.images["image_id"][:]
        owners = asked.image_of[:, 0]
        items = {"accuracy": item_scores(ids, scores["per_item"], owners=owners)}
        return Scored(metrics, [], classes, items)


def card_facts(config: PreTrainedConfig, folder: Path) -> dict[str, str]:
    """What an entailment model reads and says."""
    return {**text_facts(config), "Classes": ", ".join(map(str, (config.id2label or {}).values()))}


SPEC = TaskSpec(
    name="entailment",
    task=EntailmentTask,
    hub_task="visual-entailment",
    counted="statements",
    models=("UpDownFusionForVisualEntailment",),
    formats=FORMATS,
    reads=STATEMENT_READS,
    objectives=("cross_entropy",),
    metrics={"accuracy": "accuracy"},
    best_by=("accuracy",),
    check=check_recipe,
    card_facts=card_facts,
)
