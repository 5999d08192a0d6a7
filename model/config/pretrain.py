"""Settings of pretraining."""

from __future__ import annotations

from pydantic import Field

from model.config.section import MAX_SEED, Section


class PretrainConfig(Section):
    """How the backbone is trained."""

    epochs: int = Field(default=20, ge=1, description="Upper bound on passes over the training half.")
    batch_size: int = Field(default=512, ge=1, description="Examples per step.")
    learning_rate: float = Field(default=2e-3, gt=0, description="Peak learning rate of AdamW.")
    weight_decay: float = Field(default=1e-4, ge=0, description="Weight decay of AdamW.")
    patience: int = Field(default=4, ge=1, description="Passes without a better validation log loss before it stops.")
    validation_share: float = Field(
        default=0.1, gt=0, lt=0.5, description="Last share of the training half, by time, that validates."
    )
    refit: bool = Field(
        default=True,
        description="Whether the model is trained again on the whole training half, for the number of passes that "
        "validated best.",
    )
    content_steps: int = Field(
        default=400,
        ge=0,
        description="Most steps of fitting the content vectors to users' residuals; 0 takes principal components.",
    )
    cloze_passes: int = Field(
        default=10, ge=0, description="Passes of cloze pretraining, in which `bert4rec` guesses hidden items."
    )
    clue_steps: int = Field(
        default=200, ge=0, description='Steps of CLUE pretraining of the user encoder (`user_objective = "clue"`).'
    )
    seed: int = Field(default=7, ge=0, le=MAX_SEED, description="Seed of initialisation, shuffling and dropout.")
