"""
evaluate: predictions and metrics of every run, in and out of distribution.

REQUIRED INPUTS: models from stage finetune; test sets from stage data
OUTPUTS: results/cache/evaluate/{item}/seed-{seed}/{predictions.npz,metrics.parquet,spec.json}
"""


rule evaluate:
    """Predict every test set with the models of a block of seeds, and measure accuracy and calibration."""
    input:
        needs("evaluate"),
    output:
        "results/cache/evaluate/{item}/seed-{seed}/spec.json",
    log:
        "logs/evaluate/{item}/seed-{seed}.log",
    benchmark:
        "logs/evaluate/{item}/seed-{seed}.benchmark.tsv"
    priority: 5
    threads: cores("evaluate")
    resources:
        gpu=gpu("evaluate"),
        mem_mb=grown(16_000),
        runtime=grown(80),
    params:
        run=run("evaluate"),
        told=told("evaluate"),
    message:
        "{params.told}"
    shell:
        "diversity-spectra evaluate {params.run} --threads {threads} >{log} 2>&1"
