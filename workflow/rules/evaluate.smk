"""
evaluate: predictions and metrics of every run, in and out of distribution.

REQUIRED INPUTS: models from stage finetune; test sets from stage data
OUTPUTS: results/cache/evaluate/{item}/seed-{seed}/{predictions.npz,metrics.parquet,spec.json}
"""

for block in PLAN.blocks():

    rule:
        """Predict every test set with the models of this block of seeds, and measure accuracy and calibration."""
        name:
            f"evaluate_{block[0]}_{block[-1]}"
        input:
            lambda wildcards, seeds=block: run_inputs("evaluate", wildcards, seeds),
        output:
            outputs("evaluate", block),
        log:
            f"logs/evaluate/{{item}}/seeds-{block[0]}-{block[-1]}.log",
        benchmark:
            f"logs/evaluate/{{item}}/seeds-{block[0]}-{block[-1]}.benchmark.tsv"
        wildcard_constraints:
            item=items("evaluate", block),
        priority: 5
        conda:
            "../../envs/environment.yaml"
        threads: EXECUTION.threads
        resources:
            gpu=gpu("evaluate"),
            mem_mb=grown(16_000),
            runtime=grown(80),
        params:
            job=job("evaluate"),
            device=DEVICE,
            seeds=untracked(" ".join(map(str, block))),
        shell:
            "diversity-spectra evaluate --job {params.job:q} --seeds {params.seeds} {params.device} --threads {threads}"
            " >{log} 2>&1"
