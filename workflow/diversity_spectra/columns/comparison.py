"""Columns of the comparison; docs/method.md derives them."""

from __future__ import annotations

from diversity_spectra.columns.common import (
    CONDITION,
    DEPTH,
    FAMILY,
    KIND,
    LAYER,
    MATRIX,
    MODEL,
    N_BASELINE,
    NOTE,
    STRENGTH,
    TRAINING_SET,
    Column,
)

SHIFT = {
    "model": MODEL,
    "layer": LAYER,
    "depth": DEPTH,
    "matrix": MATRIX,
    "measure": Column("", "a column of the table `spectra`", "compare.features.collect"),
    "condition": CONDITION,
    "unit": Column("", "scale of `shift`: `log10` of the measure, or `linear`", "compare.shift.shift_table"),
    "shift": Column(
        "as `unit` says",
        "mean over the condition's runs minus mean over the baseline's, `correction` included",
        "compare.shift.shift_table",
    ),
    "correction": Column(
        "as `unit` says",
        "what was added to take the arithmetic of weight decay out: -p log10(kappa) for a measure that grows as |W|^p",
        "compare.features.collect",
    ),
    "standardised": Column("noise sd", "shift / noise_sd", "compare.shift.shift_table"),
    "standard_error": Column(
        "as `unit` says",
        "of shift: noise_sd sqrt(f_c / n + f_0 / n_baseline), f: variance factors",
        "compare.shift.shift_table",
    ),
    "noise_sd": Column(
        "as `unit` says", "run-to-run standard deviation, pooled over conditions and shrunk", "compare.noise.fit"
    ),
    "minimum_detectable": Column(
        "as `unit` says",
        "shift found with probability 0.8: (t_(1 - level/2) + t_0.8) standard_error",
        "compare.shift.detectable",
    ),
    "t": Column("1", "shift / standard_error", "compare.shift.shift_table"),
    "n": Column("runs", "runs of the condition that have the measure", "compare.shift.group_means"),
    "n_baseline": Column("runs", "runs of the baseline that have it", "compare.shift.group_means"),
    "test_family": Column("", "rows that are corrected together: one kind of matrix", "compare.shift.shift_table"),
    "p": Column("0 to 1", "two-sided, Student's t with the pooled degrees of freedom", "compare.shift.shift_table"),
    "q": Column("0 to 1", "p after Benjamini-Hochberg within `test_family`", "compare.shift.benjamini_hochberg"),
}

CONTROLS = {
    "model": MODEL,
    "family": Column("", "the control: `dropout` or `weight_decay`", "compare.controls.control_table"),
    "condition": Column(
        "", "one strength of it; empty: the family over all its strengths", "compare.controls.control_table"
    ),
    "strength": STRENGTH,
    "squared_length": Column(
        "noise variances", "cross-fitted squared length of the shift; of a family, the sum", "compare.crossfit.shifts"
    ),
    "effect": Column(
        "noise sd",
        "sqrt(max(squared_length, 0) / features); of a family, its largest",
        "compare.controls.control_table",
    ),
    "smallest_detectable": Column(
        "noise sd",
        "effect seen with probability 0.8; of a family, by its joint test if one strength alone has it; empty where p_floor >= level",
        "compare.controls.smallest_length",
    ),
    "p": Column(
        "0 to 1",
        "permutation test of the squared length; of a family, of the sum with all labels permuted",
        "compare.crossfit.permutation_p",
    ),
    "p_floor": Column(
        "0 to 1", "least p that so few runs, or permutations, can give", "compare.controls.control_table"
    ),
    "n": Column("runs", "runs of the condition or family", "compare.controls.control_table"),
    "n_baseline": N_BASELINE,
    "features": Column("count", "measures of matrices that make up a shift", "compare.controls.control_table"),
    "q": Column(
        "0 to 1",
        "p after Benjamini-Hochberg over the families of the model, or over its single strengths",
        "compare.shift.benjamini_hochberg",
    ),
    "detected": Column("", "q < level", "compare.controls.control_table"),
    "note": NOTE,
}

ALIGNMENT = {
    "model": MODEL,
    "condition": CONDITION,
    "target": Column("", "the family or condition it is compared with", "compare.alignment.alignment_table"),
    "target_kind": Column(
        "",
        "`family`: the mean shift over the family's strengths, the condition itself left out; or `condition`",
        "compare.alignment.family_weights",
    ),
    "cosine": Column(
        "-1 to 1",
        "cross-fitted cosine of the two shifts in noise sd; empty where a squared length is not positive",
        "compare.crossfit.cosines",
    ),
    "{low,high}": Column("-1 to 1", "interval of the cosine at 1 - level", "compare.crossfit.cosine_intervals"),
    "plain_cosine": Column(
        "-1 to 1", "not cross-fitted: too high, as both share the baseline", "compare.crossfit.cosines"
    ),
    "p": Column(
        "0 to 1",
        "permutation test that the condition does nothing, by the inner product with the target",
        "compare.crossfit.permutation_p",
    ),
    "p_floor": Column(
        "0 to 1", "least p that so few runs, or permutations, can give", "compare.crossfit.permutation_p"
    ),
    "n": Column("runs", "runs of the condition", "compare.crossfit.shifts"),
    "n_target": Column("runs", "runs of the target", "compare.alignment.alignment_table"),
    "n_baseline": N_BASELINE,
    "q": Column("0 to 1", "p after Benjamini-Hochberg over targets of one kind", "compare.shift.benjamini_hochberg"),
    "reason": Column("", "why there is no cosine", "compare.alignment.alignment_table"),
    "note": NOTE,
}

BEYOND = {
    "model": MODEL,
    "path": Column(
        "",
        "what is projected out: `length` (the direction of longer training), `rate` (of a higher learning rate), `both`",
        "compare.beyond.directions",
    ),
    "condition": CONDITION,
    "explained{,_low,_high}": Column(
        "0 to 1", "share of the squared shift that lies along the path", "compare.beyond.share_beyond"
    ),
    "length": Column("noise sd", "length of the rest of the shift", "compare.beyond.lengths"),
    "{dropout,weight_decay}_cosine{,_low,_high}": Column(
        "-1 to 1",
        "partial cosine: of the rest with the rest of the control's direction, the condition itself left out",
        "compare.beyond.mean_cosine",
    ),
    "note": NOTE,
}

DIVERSITY_GAIN = Column(
    "nats",
    "ln(score of the training set / score of the baseline's), order 1, mean over classes (imported: of all images together); interval at 1 - level from those of the scores, empty where they are",
    "compare.metric.vendi_gains",
)
EFFICIENCY = Column(
    "noise sd / nat",
    "length_along_dropout / diversity_gain; empty where the interval of the latter holds 0 or is not known",
    "compare.metric.metric_table",
)
WITH_STEPS = "other numbers of steps (`conditions.optimisation.steps`)"
WITH_EMBEDDING = "an embedding (`diversity.embedding`)"

METRIC = {
    "model": MODEL,
    "condition": CONDITION,
    "family": FAMILY,
    "kind": KIND,
    "strength": STRENGTH,
    "training_set": TRAINING_SET,
    "n": Column("runs", "runs of the condition", "compare.metric.metric_table"),
    "{dropout,weight_decay}_equivalent{,_low,_high}": Column(
        "strength",
        "strength on the family's path of shifts nearest to the condition's shift, linear between strengths",
        "compare.metric.nearest_on_path",
    ),
    "{dropout,weight_decay}_residual{,_low,_high}": Column(
        "0 to 1", "share of the squared shift that lies off the path there", "compare.metric.nearest_on_path"
    ),
    "{dropout,weight_decay}_beyond": Column(
        "", "the nearest point is the strongest strength swept", "compare.metric.metric_table"
    ),
    "steps_equivalent{,_low,_high}": Column(
        "1",
        "factor of the baseline's steps nearest to the condition's shift, linear between factors",
        "compare.metric.nearest_in_steps",
        WITH_STEPS,
    ),
    "steps_residual{,_low,_high}": Column(
        "0 to 1",
        "share of the squared shift that lies off the path there",
        "compare.metric.nearest_on_path",
        WITH_STEPS,
    ),
    "steps_beyond": Column("", "the nearest point is an end of the path", "compare.metric.metric_table", WITH_STEPS),
    "length_along_dropout{,_low,_high}": Column(
        "noise sd",
        "<shift, f> / |f|, f the direction of dropout: signed length along it",
        "compare.metric.signed_length",
    ),
    "length_along_weight_decay{,_low,_high}": Column(
        "noise sd", "the same along the direction of weight decay", "compare.metric.signed_length"
    ),
    "length": Column(
        "noise sd",
        "of the whole shift, cross-fitted; 0 where it is no longer than its noise",
        "compare.metric.metric_table",
    ),
    "diversity_gain_{pixel,pixel_centred}{,_low,_high}": DIVERSITY_GAIN,
    "diversity_gain_embedding{,_low,_high}": Column(
        DIVERSITY_GAIN.unit, "the same by the embedding", DIVERSITY_GAIN.source, WITH_EMBEDDING
    ),
    "wvs_pixel": Column(
        "1",
        "ln(WVS / WVS of the baseline's set), WVS = Vendi x rho, the metric of the study (Ba, Mancenido and Pan, arXiv 2410.14602): rho of"
        " rows as they are, paired by index",
        "diversity.weighted.by_index",
    ),
    "wvs_by_class_pixel": Column(
        "1",
        "the same with the rho of centred class means, which depends on no order of files",
        "diversity.weighted.by_class",
    ),
    "wvs_{,by_class_}embedding": Column("1", "both by the embedding", "diversity.weighted.by_class", WITH_EMBEDDING),
    "efficiency_{pixel,pixel_centred}{,_low,_high}": EFFICIENCY,
    "efficiency_embedding{,_low,_high}": Column(
        EFFICIENCY.unit, "the same by the embedding", EFFICIENCY.source, WITH_EMBEDDING
    ),
    "mean_alpha_shift": Column(
        "1",
        "shift of `alpha` of `W`, mean over layers of 50 eigenvalues or more, the classifier left out",
        "compare.metric.alpha_by_run",
    ),
    "{id,natural,corruption}_accuracy_gain{,_low,_high}": Column(
        "share",
        "accuracy minus that of the baseline: on the test set, on natural shifts, on corruptions (mean over sets)",
        "compare.benefits.benefits",
    ),
    "ood_accuracy_gain{,_low,_high}": Column(
        "share", "the same for the mean of natural and corruption accuracy", "compare.benefits.benefits"
    ),
    "{,ood_}calibration_gain{,_low,_high}": Column(
        "share",
        "ECE of the baseline minus that of the condition, on the test set and out of distribution",
        "compare.benefits.benefits",
    ),
    "note": NOTE,
}

VALIDATION = {
    "model": MODEL,
    "scope": Column(
        "",
        "`data`: kinds with another training set; `all`: every trained kind; combinations are in neither",
        "compare.validation.validation_table",
    ),
    "predictor": Column("", "a column of the table `metric`", "compare.validation.validation_table"),
    "benefit": Column("", "`ood_accuracy`, `id_accuracy` or `calibration`", "compare.validation.validation_table"),
    "correlation": Column(
        "-1 to 1",
        "Spearman's, over kinds (means over their strengths), of the predictor in one half of the runs with the benefit in the "
        "other; mean over ten halves",
        "compare.ranks.searched",
    ),
    "{low,high}": Column(
        "-1 to 1",
        "its interval at 1 - level, alone and not corrected; empty below 5 kinds",
        "compare.ranks.rank_interval",
    ),
    "n": Column("kinds", "kinds of which both are known", "compare.validation.validation_table"),
    "p": Column(
        "0 to 1",
        "permutation of the kinds' benefits, against the largest correlation of all predictors of the scope in one division of the "
        "runs: corrected for that search",
        "compare.ranks.searched",
    ),
}
RELATION = {
    "model": MODEL,
    "kernel": Column("", "of the Vendi score", "compare.relation.relation_table"),
    "shift": Column(
        "",
        "`length_along_dropout`, `length_along_weight_decay` or `length`, of the table `metric`",
        "compare.relation.relation_table",
    ),
    "n": Column(
        "kinds", "kinds of conditions with another training set than the baseline's", "compare.relation.relation_table"
    ),
    "slope{,_low,_high}": Column(
        "noise sd", "of the shift on the gain in ln(Vendi), by Theil and Sen", "compare.relation.relation_table"
    ),
    "intercept": Column("noise sd", "of the same line", "compare.relation.relation_table"),
    "correlation": Column(
        "-1 to 1", "Spearman's, over kinds (means over their strengths)", "compare.ranks.rank_correlation"
    ),
    "{low,high}": Column("-1 to 1", "its interval at 1 - level; empty below 5 kinds", "compare.ranks.rank_correlation"),
    "p": Column(
        "0 to 1",
        "permutation of the kinds' shifts, against the largest correlation of all kernels with it: corrected for that search",
        "compare.ranks.searched",
    ),
    "partial{,_low,_high,_p}": Column(
        "-1 to 1",
        "the same with the change of the training loss taken out of both sides; empty where it is not known",
        "compare.ranks.rank_correlation",
    ),
}

CLAIMS = {
    "model": MODEL,
    "claim": Column("", "`a` to `e`", "compare.claims.Claim"),
    "statement": Column("", "the claim in words", "compare.claims.Claim"),
    "estimand": Column("", "what `effect` is", "compare.claims.Claim"),
    "effect": Column("of the estimand", "its estimate", "compare.evidence.Judgement"),
    "{low,high}": Column(
        "of the estimand",
        "interval at 1 - level or more: of (a) for all controls at once, of (c) and (d) the one behind the verdict",
        "compare.evidence.Judgement",
    ),
    "n": Column(
        "runs",
        "runs behind the estimate; 0 where undecided for want of data",
        "compare.evidence.Judgement",
    ),
    "verdict": Column(
        "",
        "`supported`, `contradicted`, `mixed` (families of data contradict each other) or `inconclusive`, by the rule in docs/method.md",
        "compare.evidence.Judgement",
    ),
    "asked": Column(
        "", "false where the experiment has not the conditions that the claim is about", "compare.evidence.Judgement"
    ),
    "details": Column(
        "",
        "the facts behind the verdict, or what is missing, as JSON: docs/method.md, section 10",
        "compare.claims.claims_table",
    ),
}

ROBUSTNESS = {
    "model": MODEL,
    "claim": Column("", "`a`, `b` or `e`", "compare.robustness.robustness_table"),
    "kind": Column("", "what is chosen otherwise; empty: nothing", "compare.robustness.choices"),
    "choice": Column("", "and how", "compare.robustness.choices"),
    "effect": Column("of the estimand", "its estimate", "compare.evidence.Judgement"),
    "{low,high}": Column("of the estimand", "its interval", "compare.evidence.Judgement"),
    "verdict": Column("", "of the claim, by this choice", "compare.evidence.Judgement"),
    "agrees": Column("", "with the verdict where nothing is chosen otherwise", "compare.robustness.robustness_table"),
}

GAINS = {
    "model": MODEL,
    "family": FAMILY,
    "conditions": Column("conditions", "conditions of the family, whose gains are averaged", "sweep.combine.gains"),
    "benefit": Column("", "accuracy or calibration on a kind of test set", "compare.benefits.benefits"),
    "gain": Column("share", "mean over the family's conditions minus the baseline's mean", "sweep.combine.gains"),
    "{low,high}": Column(
        "share", "its interval at 1 - level, each condition with its own variance", "sweep.combine.gains"
    ),
    "n": Column("runs", "runs behind the gain, the baseline's included", "sweep.combine.gains"),
}
