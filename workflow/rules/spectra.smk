"""
spectra: eigenvalues and random-matrix measures of every run's weight matrices.

REQUIRED INPUTS: models from stage finetune, and the pretrained weights where there are some
OUTPUTS: results/cache/spectra/{item}/seed-{seed}/{rows.parquet,eigenvalues.npz,spec.json}
"""


rule spectra:
    """Take the eigenvalues and the measures of the weight matrices of a block of seeds."""
    input:
        needs("spectra"),
    output:
        "results/cache/spectra/{item}/seed-{seed}/spec.json",
    log:
        "logs/spectra/{item}/seed-{seed}.log",
    benchmark:
        "logs/spectra/{item}/seed-{seed}.benchmark.tsv"
    priority: 5
    threads: cores("spectra")
    params:
        run=run("spectra"),
        told=told("spectra"),
    message:
        "{params.told}"
    shell:
        "diversity-spectra spectra {params.run} --threads {threads} >{log} 2>&1"
