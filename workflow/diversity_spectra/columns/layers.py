"""Columns of the study's own analysis, which takes layers as replicates; docs/study.md says what it can show."""

from __future__ import annotations

from diversity_spectra.columns.common import DEPTH, FAMILY, LAYER, PLAN, Column

NETWORKS = Column("", "name of the model, or of several with the same layers, whose shifts are averaged: `a, b`", PLAN)
SOURCE = "compare.layer_shifts.tests_table"

LAYER_SHIFTS = {
    "model": NETWORKS,
    "layer": LAYER,
    "depth": DEPTH,
    "head": Column("", "whether the layer is the last of the network", "compare.layer_shifts.shifts_table"),
    "family": FAMILY,
    "measure": Column("", "a column of the table `spectra`, of W", "compare.layer_shifts.changes"),
    "shift": Column(
        "of the measure",
        "as in the study: change in training less that of the baseline, mean over the family's conditions; raw, no decay taken out",
        "compare.layer_shifts.shifts_table",
    ),
    "conditions": Column("count", "conditions of the family", "compare.layer_shifts.shifts_table"),
    "runs": Column("runs", "runs of the family", "compare.layer_shifts.shifts_table"),
}

LAYER_TESTS = {
    "model": NETWORKS,
    "measure": Column("", "a column of the table `spectra`, of W", "compare.layer_shifts.changes"),
    "head": Column("", "whether the last layer is among the layers, where it is large enough to be analysed", SOURCE),
    "statistic": Column(
        "",
        "over layers: `mean` of a family, `cosine`, `pearson`, `t` of two, `anova_f` of all; without shared noise: `cosine_across` networks, `trend` with the strengths of a family",
        "compare.layer_shifts.statistics",
    ),
    "families": Column("", "families compared, or a family and the kind whose strengths vary", SOURCE),
    "layers": Column("count", "layers", SOURCE),
    "value": Column(
        "1",
        "the statistic; `trend`: squared length per layer, between networks the mean product, in standard deviations over runs; empty where there is no common shift",
        SOURCE,
    ),
    "p_layers": Column("0 to 1", "p of the study: layers as replicates", "compare.layer_shifts.statistics"),
    "null_{low,median,high}": Column(
        "1", "median and range of 1 - level of the statistic of relabelled runs", "compare.relabelling.orders"
    ),
    "null_significant": Column("share", "relabellings in which `p_layers` is below the level", SOURCE),
    "null_closed": Column(
        "1",
        "cosine that one shared baseline gives to independent noise: v_0 / sqrt((v_0 + v_f)(v_0 + v_g)), each a sum over networks",
        "compare.layer_shifts.shared_baseline",
    ),
    "p_relabelled": Column(
        "0 to 1",
        "share of relabellings within seeds whose statistic is at least as extreme",
        "compare.relabelling.share_at_least",
    ),
    "p_holm": Column("0 to 1", "the same after Holm over the measures", "compare.across.holm"),
    "p_floor": Column(
        "0 to 1",
        "p that a shift common to all can hardly fall below: one over the choices of baseline runs, and over the relabellings",
        SOURCE,
    ),
    "relabellings": Column("count", "relabellings, the runs as they are among them", "compare.relabelling.orders"),
    "all_relabellings": Column("", "whether these are all that there are", "compare.relabelling.orders"),
    "dealt_median": Column("1", "median of the statistic of the baseline's own runs, dealt out as families", SOURCE),
    "dealt_significant": Column("share", "deals in which `p_layers` is below the level", SOURCE),
    "deals": Column("count", "deals; 0 where the baseline has too few runs", SOURCE),
    "signs": Column("", "signs of the product with each network left out in turn", "compare.across.across_table"),
    "note": Column("", "why there is no value, or what it cannot say", "compare.across.across_table"),
}
