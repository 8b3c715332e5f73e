"""
augment: one training image set per distinct data recipe, shared by all conditions that use it.

REQUIRED INPUTS: training images from stage data; synthetic images from stage generate where the recipe has some
OUTPUTS: results/cache/augment/{item}/{images.npy,labels.npy,manifest.parquet,meta.json}
"""


rule augment:
    """Build one training set: the real images, transformed, with synthetic images added or in their place."""
    input:
        inputs("augment"),
    output:
        outputs("augment"),
    log:
        "logs/augment/{item}.log",
    benchmark:
        "logs/augment/{item}.benchmark.tsv"
    wildcard_constraints:
        item=items("augment"),
    conda:
        "../../envs/environment.yaml"
    params:
        job=job("augment"),
    shell:
        "diversity-spectra augment --job {params.job:q} >{log} 2>&1"
