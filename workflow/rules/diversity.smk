"""
diversity: Vendi scores of a training set, and the quality of the synthetic images.

REQUIRED INPUTS: an image set
OUTPUTS: results/cache/diversity/{item}/{scores.parquet,quality.parquet,spec.json}
"""


rule diversity:
    """Vendi scores per class and overall; for the synthetic set also distances to the real images and near-copies."""
    input:
        needs("diversity"),
    output:
        "results/cache/diversity/{item}/spec.json",
    log:
        "logs/diversity/{item}.log",
    benchmark:
        "logs/diversity/{item}.benchmark.tsv"
    threads: cores("diversity")
    resources:
        gpu=gpu("diversity"),
        mem_mb=grown(16_000),
        runtime=grown(80),
    params:
        run=run("diversity"),
        told=told("diversity"),
    message:
        "{params.told}"
    shell:
        "diversity-spectra diversity {params.run} --threads {threads} >{log} 2>&1"
