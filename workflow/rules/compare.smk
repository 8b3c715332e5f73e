"""
compare: every condition against dropout and weight decay.

REQUIRED INPUTS: metrics, spectra and records of all runs; diversity of all training sets
OUTPUTS: results/cache/gather/{item}/*.parquet, results/<experiment>/tables/*.{parquet,csv}
"""

COMPARE = next(iter(PLAN.jobs["compare"].values()))


rule gather:
    """Put the tables of some hundred runs together."""
    input:
        gathered_runs,
    output:
        outputs("gather"),
    log:
        "logs/gather/{item}.log",
    benchmark:
        "logs/gather/{item}.benchmark.tsv"
    wildcard_constraints:
        item=items("gather"),
    conda:
        "../../envs/environment.yaml"
    params:
        job=job("gather"),
    shell:
        "diversity-spectra gather --job {params.job:q} >{log} 2>&1"


rule compare:
    """Shifts, alignments, equivalents, the diversity metric and the claims, with intervals."""
    input:
        [
            file
            for folder in [*COMPARE.inputs["runs"], *COMPARE.settings["diversity"].values()]
            for file in result(folder)
        ],
    output:
        expand("{place}/{table}.parquet", place=COMPARE.out, table=TABLES),
        f"{COMPARE.out}/spec.json",
    log:
        f"logs/compare/{EXPERIMENT}.log",
    benchmark:
        f"logs/compare/{EXPERIMENT}.benchmark.tsv"
    conda:
        "../../envs/environment.yaml"
    params:
        job=COMPARE.text,
    shell:
        "diversity-spectra compare --job {params.job:q} >{log} 2>&1"
