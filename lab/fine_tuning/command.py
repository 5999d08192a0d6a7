"""The entry of `driftline fine-tune`: a backbone for one scene more, with what its kernels start from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from lab.backbone_training import TextWidthError, encoded_items, encoded_queries, one_thread, write_starts
from lab.fine_tuning.examples import scene_examples
from lab.fine_tuning.origin import OldBackbone, TransferRefused, open_origin
from lab.kernel_start import PretrainingLog
from lab.progress import bars, reporter
from lab.streams import ensure_conversions, ensure_relevance
from lab.streams.choice import StreamChoice, open_recording
from lab.streams.fit import ensure_fits
from lab.streams.recording import Recording
from model.backbone.checkpoint import save_backbone
from model.backbone.dataset import ProfileTable
from model.backbone.examples import Examples
from model.backbone.levels import LEVELS, Level
from model.backbone.methods.method import METHOD_NAMES, MethodName
from model.backbone.methods.scenes import BackboneWithScenes
from model.backbone.report import PretrainReport, TrainingProgress
from model.backbone.schema import CARD
from model.backbone.transfer import Transferred, fine_tune
from model.encoding.profile import ItemFeatures, UserFeatures
from model.encoding.query import QueryFeatures
from model.near_names import did_you_mean
from model.whole_files import whole_folder, write_digests
from streaming.config import Config


@dataclass(frozen=True)
class FineTuneOptions:
    """The options of `driftline fine-tune`."""

    source: Path
    """Folder of the old backbone."""
    scene: str
    frozen: tuple[Level, ...]
    examples: int | None = None
    """Use only this many of the scene's first examples."""
    method: MethodName | None = None
    """Gives the scene parameters of its own; without one the layers learn that are not frozen."""


def levels_of(text: str) -> tuple[Level, ...]:
    """The levels that a user names: `L0,L1`, `none`, or `all`. Raises TransferRefused."""
    if text in ("none", "all"):
        return LEVELS if text == "all" else ()
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in LEVELS]
    if unknown:
        raise TransferRefused(f"--freeze {text}: no level {unknown[0]!r}; there are {', '.join(LEVELS)}, none and all")
    return tuple(level for level in LEVELS if level in names)


def method_of(text: str) -> MethodName | None:
    """The method that a user names, none for `full`. Raises TransferRefused."""
    known = ("full", *METHOD_NAMES)
    if text not in known:
        raise TransferRefused(f"--method {text}: there are {', '.join(known)}{did_you_mean(text, known)}")
    return next((name for name in METHOD_NAMES if name == text), None)


def run_fine_tune(
    config: Config, choice: StreamChoice, order: FineTuneOptions, *, console: Console | None = None
) -> int:
    """`driftline fine-tune`: writes the new backbone to `config.backbone_dir`; returns an exit code.

    Raises TransferRefused, BackboneRefused, StreamError or TextWidthError; each message names the cure.
    """
    console = console or Console(stderr=True)
    target = config.backbone_dir
    if target.exists():
        raise TransferRefused(f"{target} is there already: move it away, or name another run by --run-dir")
    origin = open_origin(config, order.source, order.scene)
    if order.method is not None:  # before the log is read and its texts are encoded
        BackboneWithScenes.of(origin.backbone).made(order.method, order.frozen)
    config = config.model_copy(update={"backbone": origin.config})
    recording = open_recording(config, choice, console)
    ensure_fits(config, recording, choice)
    ensure_conversions(config.backbone.tasks, recording.stream)
    ensure_relevance(config.backbone.relevance_weight, recording.stream)
    examples = scene_examples(recording, config.domain_space(), order.scene, order.examples)
    users = [UserFeatures(user.user_id, user.fields) for user in recording.users]
    queries = encoded_queries(config, recording)
    learned = _SceneData(recording, examples, users, _items(config, recording, console), queries)
    with whole_folder(target, finished=CARD) as folder, one_thread():
        result = _fine_tune(config, origin, order, learned, console)
        _write_starts(config, learned, result, folder)
        card = _card(origin, order, learned, result)
        save_backbone(folder, result.backbone, result.encoder, config.input_schema(), card)  # last, as in pretraining
        write_digests(folder)
    console.print(f"{_sentence(result.report)}\nbackbone: {target}", highlight=False, soft_wrap=True)
    return 0


@dataclass(frozen=True)
class _SceneData:
    """The training data of a fine-tuning."""

    recording: Recording
    examples: Examples
    users: list[UserFeatures]
    items: list[ItemFeatures]
    queries: list[QueryFeatures]


def _items(config: Config, recording: Recording, console: Console) -> list[ItemFeatures]:
    with bars(console) as progress:
        task = progress.add_task("titles", total=len(recording.items), note=config.features.text_model)
        try:
            return encoded_items(config, recording, reporter(progress, task))
        except TextWidthError as error:
            raise TransferRefused(
                f"{config.features.text_model!r} gives text vectors of another width than the backbone reads, which is "
                f"{config.backbone.text_width}: take the text model that it was pretrained with"
            ) from error


def _fine_tune(
    config: Config, origin: OldBackbone, order: FineTuneOptions, learned: _SceneData, console: Console
) -> Transferred:
    with bars(console) as progress:
        steps = progress.add_task("backbone", total=None, note=f"fine-tuning on {len(learned.examples):,} examples")

        def trained(at: TrainingProgress) -> None:
            note = f"pass {at.epoch}, validation AUC {at.validation_auc:.4f}"
            progress.update(steps, completed=at.step, total=at.steps, note=note)

        result = fine_tune(
            origin.backbone, learned.examples, learned.users, learned.items, origin.encoder, frozen=order.frozen,
            config=config.pretrain, click_rate=origin.click_rate, method=order.method, progress=trained,
            queries=learned.queries,
        )  # fmt: skip
        progress.update(steps, total=progress.tasks[steps].completed)
    return result


def _write_starts(config: Config, learned: _SceneData, result: Transferred, folder: Path) -> None:
    """Writes the kernel start from the scene's examples, in the same form as pretraining does."""
    profiles, encoder = ProfileTable(result.encoder, learned.users, learned.items, learned.queries), result.encoder
    names = [user.user_id for user in learned.users], [item.item_id for item in learned.items]
    log = PretrainingLog.of(learned.examples, *names, config.domain_space(), (profiles, encoder))
    held_out = np.array(result.report.held_out, dtype=np.float32)
    write_starts(config, folder, log, (result.backbone, profiles), held_out=held_out, encoder=encoder)


def _card(origin: OldBackbone, order: FineTuneOptions, learned: _SceneData, result: Transferred) -> dict[str, object]:
    """The card's fields besides the backbone itself; `lineage` has an entry per fine-tuning, the newest last."""
    entry = {
        "from": origin.backbone.fingerprint,
        "scene": order.scene,
        "method": order.method or "full",
        "frozen": list(order.frozen),
        "examples": len(learned.examples),
        "data": learned.recording.title,
        "grown": _grown(origin, result),
    }
    return {
        "data": f"{learned.recording.title}, scene {order.scene}",
        "pretrain": result.report.to_json(),
        "lineage": [*origin.lineage, entry],
    }


def _grown(origin: OldBackbone, result: Transferred) -> dict[str, int]:
    """Rows more than before, by table."""
    old, new = asdict(origin.backbone.shape), asdict(result.backbone.shape)
    return {table: new[table] - old[table] for table in ("users", "items", "user_rows", "item_rows")}


def _sentence(report: PretrainReport) -> str:
    before, kept = report.history[0], report.history[report.best_epoch]
    figures = f"log loss {before['log_loss']:.4f} before, {kept['log_loss']:.4f} after"
    outcome = (
        f"pass {report.best_epoch} is kept" if report.best_epoch else "no pass was better than what was there before"
    )
    return f"{report.validation_examples:,} held-out examples of the scene: {figures}; {outcome}"
