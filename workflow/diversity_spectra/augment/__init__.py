"""Stage `augment`: one training image set per data recipe."""
