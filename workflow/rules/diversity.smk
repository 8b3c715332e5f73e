"""
diversity: Vendi scores of a training set, and the quality of the synthetic images.

REQUIRED INPUTS: an image set
OUTPUTS: results/cache/diversity/{item}/scores.parquet, and quality.parquet for the synthetic set
"""


rule diversity:
    """Vendi scores per class and overall; for the synthetic set also distances to the real images and near-copies."""
    input:
        inputs("diversity"),
    output:
        outputs("diversity"),
    log:
        "logs/diversity/{item}.log",
    benchmark:
        "logs/diversity/{item}.benchmark.tsv"
    wildcard_constraints:
        item=items("diversity"),
    conda:
        "../../envs/environment.yaml"
    threads: EXECUTION.threads
    resources:
        gpu=gpu("diversity"),
        mem_mb=grown(16_000),
        runtime=grown(80),
    params:
        job=job("diversity"),
        device=DEVICE,
    shell:
        "diversity-spectra diversity --job {params.job:q} {params.device} --threads {threads} >{log} 2>&1"
