"""
data: image sets from a data set.

REQUIRED INPUTS: none, or the test set for its corruptions
OUTPUTS: results/cache/data/{item}/{images.npy,labels.npy,manifest.parquet,meta.json,spec.json}
"""


rule data:
    """Prepare one image set: a split of the data set, an out-of-distribution set, or a corruption of the test set."""
    input:
        needs("data"),
    output:
        "results/cache/data/{item}/spec.json",
    log:
        "logs/data/{item}.log",
    benchmark:
        "logs/data/{item}.benchmark.tsv"
    threads: cores("data")
    params:
        run=run("data"),
        told=told("data"),
    message:
        "{params.told}"
    shell:
        "diversity-spectra data {params.run} --threads {threads} >{log} 2>&1"
