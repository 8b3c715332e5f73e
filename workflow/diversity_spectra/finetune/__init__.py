"""Stage `finetune`: training, one run per condition and seed."""
