"""
finetune: train one model per condition and seed; the seeds of a block share a process.

REQUIRED INPUTS: a training set from stage data or augment; pretrained weights where the model has some
OUTPUTS: results/cache/pretrained/{item}/{model.safetensors,spec.json},
         results/cache/choose/{item}/{choice.json,spec.json},
         results/cache/finetune/{item}/seed-{seed}/{model.safetensors,history.parquet,run.json,spec.json}
"""


rule pretrained:
    """Bring the pretrained weights of a model into one format, or make them; they are the reference of its spectra."""
    input:
        needs("pretrained"),
    output:
        "results/cache/pretrained/{item}/spec.json",
    log:
        "logs/pretrained/{item}.log",
    benchmark:
        "logs/pretrained/{item}.benchmark.tsv"
    priority: 50
    threads: cores("pretrained")
    resources:
        gpu=gpu("pretrained"),
        mem_mb=grown(16_000),
        runtime=240,
    params:
        run=run("pretrained"),
        told=told("pretrained"),
    message:
        "{params.told}"
    shell:
        "diversity-spectra finetune pretrained {params.run} --threads {threads} >{log} 2>&1"


rule choose:
    """Choose the learning rate of a model: by plain trainings with each, judged on images set aside."""
    input:
        needs("choose"),
    output:
        "results/cache/choose/{item}/spec.json",
    log:
        "logs/choose/{item}.log",
    benchmark:
        "logs/choose/{item}.benchmark.tsv"
    priority: 40
    params:
        run=run("choose"),
        told=told("choose"),
    message:
        "{params.told}"
    shell:
        "diversity-spectra finetune choose {params.run} >{log} 2>&1"


rule finetune:
    """Train one condition with the seeds of a block, one after another in one process, up to this one."""
    input:
        needs("finetune"),
    output:
        "results/cache/finetune/{item}/seed-{seed}/spec.json",
    log:
        "logs/finetune/{item}/seed-{seed}.log",
    benchmark:
        "logs/finetune/{item}/seed-{seed}.benchmark.tsv"
    priority: 10
    threads: cores("finetune")
    resources:
        gpu=gpu("finetune"),
        mem_mb=grown(16_000),
        runtime=240,
    params:
        run=run("finetune"),
        told=told("finetune"),
    message:
        "{params.told}"
    shell:
        "diversity-spectra finetune train {params.run} --threads {threads} >{log} 2>&1"
