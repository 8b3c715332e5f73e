"""What a column is, and the columns that several tables share."""

from __future__ import annotations

from diversity_spectra.column import Column

__all__ = ["Column"]

PLAN, GATHER = "planning.plan.plan", "compare.gather.run"
MODEL = Column("", "name of the model", PLAN)
CONDITION = Column("", "name of the condition, for instance `dropout-0.3`", "conditions.expand")
FAMILY = Column("", "`baseline`, `dropout`, `weight_decay`, `augmentation`, `synthetic`, ...", "conditions.expand")
KIND = Column("", "kind of augmentation, mode of synthetic data, else empty", "conditions.expand")
STRENGTH = Column(
    "of the family",
    "level of the condition: dropout rate, decay, level of the augmentation, synthetic images per real image",
    "conditions.expand",
)
TRAINING_SET = Column("", "name of the training set; `plain`: the real images as they are", "conditions.expand")
SEED = Column("", "seed of the run", PLAN)
LAYER = Column(
    "", "path of the module without `.weight`; the part of a split matrix in brackets", "spectra.matrices.plan"
)
DEPTH = Column("", "place of the layer from input (0) to output; -1: unknown", GATHER)
MATRIX = Column(
    "", "`W` weights, `dW` = W - W_pretrained, `dW_corrected` = W - kappa W_pretrained", "spectra.table.analyse"
)
NOTE = Column("", "runs and features that were left out, and why", "compare.features.select")
N_BASELINE = Column("runs", "runs of the baseline behind the row", "compare.crossfit.shifts")
