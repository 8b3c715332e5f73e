"""
spectra: eigenvalues and random-matrix measures of every run's weight matrices.

REQUIRED INPUTS: models from stage finetune, and the pretrained weights where there are some
OUTPUTS: results/cache/spectra/{item}/seed-{seed}/{rows.parquet,eigenvalues.npz,spec.json}
"""

for block in PLAN.blocks():

    rule:
        """Take the eigenvalues and the measures of the weight matrices of this block of seeds."""
        name:
            f"spectra_{block[0]}_{block[-1]}"
        input:
            lambda wildcards, seeds=block: run_inputs("spectra", wildcards, seeds),
        output:
            outputs("spectra", block),
        log:
            f"logs/spectra/{{item}}/seeds-{block[0]}-{block[-1]}.log",
        benchmark:
            f"logs/spectra/{{item}}/seeds-{block[0]}-{block[-1]}.benchmark.tsv"
        wildcard_constraints:
            item=items("spectra", block),
        priority: 5
        conda:
            "../../envs/environment.yaml"
        threads: EXECUTION.threads
        params:
            job=job("spectra"),
            seeds=untracked(" ".join(map(str, block))),
        shell:
            "diversity-spectra spectra --job {params.job:q} --seeds {params.seeds} --threads {threads} >{log} 2>&1"
