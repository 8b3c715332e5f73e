"""Stage `data`: class-balanced image sets from a data set."""
