"""Every figure of the report by its kind."""

from __future__ import annotations

from diversity_spectra.report import comparison_figures, data_figures, run_figures, spectra_figures

DRAW = {
    "sample_grids": data_figures.sample_grids,
    "diversity": data_figures.diversity,
    "accuracy": run_figures.accuracy,
    "synthetic_amount": run_figures.synthetic_amount,
    "esd": spectra_figures.esd,
    "dose_response": run_figures.dose_response,
    "layers": spectra_figures.layers,
    "quadrants": comparison_figures.quadrants,
    "alignment": comparison_figures.alignment,
    "metric": comparison_figures.metric,
}
