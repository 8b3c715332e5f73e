"""Columns of what was run and measured, the spectra aside."""

from __future__ import annotations

from diversity_spectra.columns.common import (
    CONDITION,
    FAMILY,
    GATHER,
    KIND,
    MODEL,
    PLAN,
    SEED,
    STRENGTH,
    TRAINING_SET,
    Column,
)

RUNS = {
    "model": MODEL,
    "condition": CONDITION,
    "seed": SEED,
    "diverged": Column("", "the loss was not finite and the training ended there", "finetune.training.train"),
    "dropout_places": Column(
        "", "modules in which dropout acts on an image, by name, in order", "finetune.models.dropout_places"
    ),
    "lr": Column(
        "1",
        "peak learning rate: the recipe's, or the one that was chosen; empty for a checkpoint",
        "finetune.command.run",
    ),
    "kappa": Column(
        "1",
        "product over steps t of (1 - lr_t x decay): what decoupled weight decay alone multiplies a matrix by; 1 where it is coupled",
        "finetune.training.decay_factor",
    ),
    "micro_batch": Column(
        "images",
        "images of a training batch that went through the network at a time: fewer than the batch where memory lacked",
        "finetune.training.train",
    ),
    "parameters": Column("count", "parameters of the network", "finetune.command.run"),
    "steps": Column("steps", "optimiser steps taken; 0 for a checkpoint", "finetune.training.train"),
    "train_accuracy": Column(
        "share",
        "right answers in the training batches of the last recorded period, dropout on",
        "finetune.training.train",
    ),
    "train_loss": Column(
        "nats", "mean cross-entropy of the same batches, label smoothing included", "finetune.training.train"
    ),
    "device": Column(
        "", "name of the GPU that trained the run, or `cpu`; empty for a checkpoint", "compare.gather.made_by"
    ),
    "machine": Column(
        "", "processor of the machine; empty where an earlier version trained the run", "compare.gather.made_by"
    ),
    "torch": Column("", "version of torch", "compare.gather.made_by"),
    "folder": Column("", "the run's folder below `results/cache/`", GATHER),
}

CONDITIONS = {
    "model": MODEL,
    "condition": CONDITION,
    "family": FAMILY,
    "kind": KIND,
    "strength": STRENGTH,
    "training_set": TRAINING_SET,
    "dropout": Column("rate", "dropout probability; 0: none, NaN: a checkpoint's is not known", "conditions.expand"),
    "weight_decay": Column(
        "1", "decay: decoupled with AdamW, coupled with other optimisers; 0: none", "conditions.expand"
    ),
    "synthetic": Column("ratio", "synthetic images per real image; 0: none", "conditions.expand"),
    "runs": Column("runs", "number of seeds", PLAN),
}

DIVERSITY = {
    "training_set": Column("", "name of the set; `synthetic`: the synthetic images alone", "compare.command.run"),
    "kernel": Column(
        "",
        "similarity of two images: cosine of `pixel` values (block means above 32 pixels a side), of `pixel_centred` ones (less the mean image), of the "
        "features of an `embedding`",
        "diversity.command.run",
    ),
    "order": Column("", "order q of the Renyi entropy: `1`, `2` or `inf`", "diversity.vendi.score_table"),
    "label": Column(
        "", "name of a class, `mean` over classes, or `overall`: all classes pooled", "diversity.vendi.score_table"
    ),
    "score": Column(
        "images",
        "Vendi score, an effective number of images: exp of the Renyi entropy of the eigenvalues of K / n, mean over subsamples of distinct pictures, one variant of each (arXiv 2210.02410)",
        "diversity.vendi.score",
    ),
    "{low,high}": Column(
        "images", "95 % interval over subsamples; empty where no picture was left out", "diversity.vendi.interval"
    ),
    "n": Column("images", "images per class in every score", "diversity.vendi.score_table"),
}

QUALITY = {
    "training_set": Column(
        "",
        "the set that is judged: `synthetic`, or a training set; near-copies of `plain` are test images, by these training images",
        "compare.command.run",
    ),
    "measure": Column(
        "",
        "`near_copies_<set>_<space>`: share of images as near to one of that set as its closest 1 % are to each other; "
        "with an embedding also `frechet_distance` (arXiv 1706.08500), `kernel_distance` (1801.01401), `precision`, "
        "`recall` (1904.06991), `density`, `coverage` (2002.09797); of every training set `wvs_<space>`, the weighted Vendi score of the "
        "study (2410.14602), and `wvs_by_class_<space>`, with their factors `rho_...`",
        "diversity.command.run",
    ),
    "label": Column("", "name of a class, `mean` over classes, or `overall`", "diversity.quality.distance_table"),
    "value": Column(
        "of the measure",
        "shares and precision to coverage from 0, all but density up to 1; distances from about 0",
        "diversity.quality.distance_table",
    ),
    "{low,high}": Column("of the measure", "95 % interval", "diversity.quality.distance_table"),
    "n": Column("images", "images per class behind a distance, images behind a share", "diversity.quality.share_table"),
}

EVALUATION = {
    "model": MODEL,
    "condition": CONDITION,
    "seed": SEED,
    "set": Column("", "name of the test set; `synthetic`: the synthetic images, baseline only", "evaluate.command.run"),
    "shift": Column(
        "", "`none` (test), `natural` (another source), `corruption` or `synthetic`", "evaluate.command.shift_of"
    ),
    "accuracy": Column("share", "examples whose largest logit is the label's", "evaluate.metrics.accuracy"),
    "balanced_accuracy": Column("share", "mean of the accuracies of the classes", "evaluate.metrics.balanced_accuracy"),
    "nll": Column("nats", "mean of -ln p(label)", "evaluate.metrics.negative_log_likelihood"),
    "brier": Column(
        "0 to 2", "mean over examples of the sum over classes of (p - one-hot)^2", "evaluate.metrics.brier"
    ),
    "ece": Column(
        "0 to 1",
        "expected calibration error: sum over 15 bins of equal width of the bin's share x |share right - mean "
        "confidence|; confidence 1 is in the last bin (arXiv 1706.04599)",
        "evaluate.metrics.calibration_error",
    ),
    "adaptive_ece": Column(
        "0 to 1",
        "the same over 15 bins of equally many examples (arXiv 1508.05154)",
        "evaluate.metrics.adaptive_calibration_error",
    ),
}
