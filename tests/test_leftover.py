"""Which jobs in a SLURM queue belong to this folder's experiments. `make test-slurm` has real ones."""

from __future__ import annotations

from diversity_spectra.planning.leftover import leftover

QUEUE = """\
11|rule_finetune_wildcards_mlp_baseline-0123456789ab_3|/home/me/checkout
12|rule_data_wildcards_digits-test-0123456789ab|/home/me/checkout
13|rule_finetune_wildcards_mlp_baseline-0123456789ab_3|/home/me/other
14|rule_finetune_wildcards_mlp_baseline-ffffffffffff_3|/home/me/checkout
15|(null)|/home/me/checkout
16|rule_compare_wildcards_tiny-0123456789ab|/home/me/checkout

"""


def test_only_jobs_of_this_folder_and_of_these_names() -> None:
    names = {"mlp_baseline-0123456789ab_3", "digits-test-0123456789ab", "tiny-0123456789ab"}
    assert leftover(QUEUE, "/home/me/checkout", names) == ["11", "12", "16"]
    assert leftover(QUEUE, "/home/me/checkout", {"other"}) == []
    assert leftover("", "/home/me/checkout", names) == []
