"""
augment: one training image set per distinct data recipe, shared by all conditions that use it.

REQUIRED INPUTS: training images from stage data; synthetic images from stage generate where the recipe has some
OUTPUTS: results/cache/augment/{item}/{images.npy,labels.npy,manifest.parquet,meta.json,spec.json}; without images.npy
         where they are made when they are read
"""


rule augment:
    """Build one training set: the real images, transformed, with synthetic images added or in their place."""
    input:
        needs("augment"),
    output:
        "results/cache/augment/{item}/spec.json",
    log:
        "logs/augment/{item}.log",
    benchmark:
        "logs/augment/{item}.benchmark.tsv"
    threads: cores("augment")
    resources:
        runtime=240,
    params:
        run=run("augment"),
        told=told("augment"),
    message:
        "{params.told}"
    shell:
        "diversity-spectra augment {params.run} --threads {threads} >{log} 2>&1"
