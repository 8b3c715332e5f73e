"""
generate: synthetic images from a diffusion model.

REQUIRED INPUTS: training images (or the pool) from stage data
OUTPUTS: results/cache/generator/{item}/ (kinds that are trained here: the trained model),
         results/cache/shard/{item}/, results/cache/generate/{item}/ (image sets)
"""


rule generator:
    """Train the generator."""
    input:
        needs("generator"),
    output:
        "results/cache/generator/{item}/spec.json",
    log:
        "logs/generator/{item}.log",
    benchmark:
        "logs/generator/{item}.benchmark.tsv"
    priority: 100
    threads: cores("generator")
    resources:
        gpu=gpu("generator"),
        mem_mb=grown(16_000),
        runtime=240,
    params:
        run=run("generator"),
        told=told("generator"),
    message:
        "{params.told}"
    shell:
        "diversity-spectra generate train {params.run} --threads {threads} >{log} 2>&1"


rule shard:
    """Generate one part of the synthetic images; every image depends on its own seed alone."""
    input:
        needs("shard"),
    output:
        "results/cache/shard/{item}/spec.json",
    log:
        "logs/shard/{item}.log",
    benchmark:
        "logs/shard/{item}.benchmark.tsv"
    priority: 100
    threads: cores("shard")
    resources:
        gpu=gpu("shard"),
        mem_mb=grown(16_000),
        runtime=grown(80),
    params:
        run=run("shard"),
        told=told("shard"),
    message:
        "{params.told}"
    shell:
        "diversity-spectra generate sample {params.run} --threads {threads} >{log} 2>&1"


rule generate:
    """Join the parts to one synthetic image set."""
    input:
        needs("generate"),
    output:
        "results/cache/generate/{item}/spec.json",
    log:
        "logs/generate/{item}.log",
    benchmark:
        "logs/generate/{item}.benchmark.tsv"
    params:
        run=run("generate"),
        told=told("generate"),
    message:
        "{params.told}"
    shell:
        "diversity-spectra generate join {params.run} >{log} 2>&1"
