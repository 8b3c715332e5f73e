"""
finetune: train one model per condition and seed; the seeds of a block share a process.

REQUIRED INPUTS: a training set from stage data or augment; pretrained weights where the model has some
OUTPUTS: results/cache/pretrained/{item}/model.safetensors,
         results/cache/finetune/{item}/seed-{seed}/{model.safetensors,history.parquet,run.json,spec.json}
"""


rule pretrained:
    """Bring the pretrained weights of a model into one format, or make them; they are the reference of its spectra."""
    input:
        inputs("pretrained"),
    output:
        outputs("pretrained"),
    log:
        "logs/pretrained/{item}.log",
    benchmark:
        "logs/pretrained/{item}.benchmark.tsv"
    wildcard_constraints:
        item=items("pretrained"),
    priority: 50
    conda:
        "../../envs/environment.yaml"
    threads: EXECUTION.threads
    resources:
        gpu=gpu("pretrained"),
        mem_mb=grown(16_000),
        runtime=240,
    params:
        job=job("pretrained"),
        device=DEVICE,
        saving=untracked(f"--save-every {EXECUTION.save_every}"),
    shell:
        "diversity-spectra finetune pretrained --job {params.job:q} {params.device} --threads {threads}"
        " {params.saving} >{log} 2>&1"


# Not compared: a run whose loss stays finite is the same either way.
RECORDED = {runs.finetune.item for runs in PLAN.runs["finetune"] if runs.model.on_divergence == "record"}

for block in PLAN.blocks():

    rule:
        """Train one condition with the seeds of this block, one after another in one process."""
        name:
            f"finetune_{block[0]}_{block[-1]}"
        input:
            inputs("finetune"),
        output:
            outputs("finetune", block),
        log:
            f"logs/finetune/{{item}}/seeds-{block[0]}-{block[-1]}.log",
        benchmark:
            f"logs/finetune/{{item}}/seeds-{block[0]}-{block[-1]}.benchmark.tsv"
        wildcard_constraints:
            item=items("finetune", block),
        priority: 10
        conda:
            "../../envs/environment.yaml"
        threads: EXECUTION.threads
        resources:
            gpu=gpu("finetune"),
            mem_mb=grown(16_000),
            runtime=240,
        params:
            job=job("finetune"),
            device=DEVICE,
            saving=untracked(f"--save-every {EXECUTION.save_every}"),
            seeds=untracked(" ".join(map(str, block))),
            divergence=lambda wildcards, input: "--record-divergence" if wildcards.item in RECORDED else "",
        shell:
            "diversity-spectra finetune train --job {params.job:q} --seeds {params.seeds} {params.device} --threads {threads}"
            " {params.saving} {params.divergence} >{log} 2>&1"
