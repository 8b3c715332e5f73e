"""Stage `evaluate`: predictions and metrics in and out of distribution."""
