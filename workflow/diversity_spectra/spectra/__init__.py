"""Stage `spectra`: eigenvalues and random-matrix measures of weight matrices."""
