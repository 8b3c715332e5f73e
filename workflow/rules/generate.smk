"""
generate: synthetic images from a diffusion model.

REQUIRED INPUTS: training images (or the pool) from stage data
OUTPUTS: results/cache/generator/{item}/ (kind ddpm: the trained model),
         results/cache/shard/{item}/, results/cache/generate/{item}/ (image sets)
"""


rule generator:
    """Train the class-conditional diffusion model."""
    input:
        inputs("generator"),
    output:
        outputs("generator"),
    log:
        "logs/generator/{item}.log",
    benchmark:
        "logs/generator/{item}.benchmark.tsv"
    wildcard_constraints:
        item=items("generator"),
    priority: 100
    conda:
        "../../envs/environment.yaml"
    threads: EXECUTION.threads
    resources:
        gpu=gpu("generator"),
        mem_mb=grown(16_000),
        runtime=240,
    params:
        job=job("generator"),
        device=DEVICE,
        saving=untracked(f"--save-every {EXECUTION.save_every}"),
    shell:
        "diversity-spectra generate train --job {params.job:q} {params.device} --threads {threads}"
        " {params.saving} >{log} 2>&1"


rule shard:
    """Generate one part of the synthetic images; every image depends on its own seed alone."""
    input:
        inputs("shard"),
    output:
        outputs("shard"),
    log:
        "logs/shard/{item}.log",
    benchmark:
        "logs/shard/{item}.benchmark.tsv"
    wildcard_constraints:
        item=items("shard"),
    priority: 100
    conda:
        "../../envs/environment.yaml"
    threads: EXECUTION.threads
    resources:
        gpu=gpu("shard"),
        mem_mb=grown(16_000),
        runtime=grown(80),
    params:
        job=job("shard"),
        device=DEVICE,
        batch=untracked(f"--batch-size {EXECUTION.generate_batch}"),
    shell:
        "diversity-spectra generate sample --job {params.job:q} {params.device} --threads {threads}"
        " {params.batch} >{log} 2>&1"


rule generate:
    """Join the parts to one synthetic image set."""
    input:
        inputs("generate"),
    output:
        outputs("generate"),
    log:
        "logs/generate/{item}.log",
    benchmark:
        "logs/generate/{item}.benchmark.tsv"
    wildcard_constraints:
        item=items("generate"),
    conda:
        "../../envs/environment.yaml"
    params:
        job=job("generate"),
    shell:
        "diversity-spectra generate join --job {params.job:q} >{log} 2>&1"
