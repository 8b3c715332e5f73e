"""
data: image sets from a data set.

REQUIRED INPUTS: none, or the test set for its corruptions
OUTPUTS: results/cache/data/{item}/{images.npy,labels.npy,manifest.parquet,meta.json}
"""


rule data:
    """Prepare one image set: a split of the data set, an out-of-distribution set, or a corruption of the test set."""
    input:
        inputs("data"),
    output:
        outputs("data"),
    log:
        "logs/data/{item}.log",
    benchmark:
        "logs/data/{item}.benchmark.tsv"
    wildcard_constraints:
        item=items("data"),
    conda:
        "../../envs/environment.yaml"
    params:
        job=job("data"),
        # Not compared: what may be downloaded changes no image.
        offline=lambda wildcards, input: "--offline" if wildcards.item in PLAN.offline else "",
    shell:
        "diversity-spectra data --job {params.job:q} {params.offline} >{log} 2>&1"
