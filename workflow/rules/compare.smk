"""
compare: every condition against dropout and weight decay.

REQUIRED INPUTS: metrics, spectra and records of all runs; diversity of all training sets
OUTPUTS: results/cache/gather/{item}/*.parquet, results/<experiment>/tables/*.{parquet,csv}
"""


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
    """Shifts, alignments, equivalents, the diversity metric and the claims of one experiment, with intervals."""
    input:
        compared_results,
    output:
        expand("results/{{experiment}}/tables/{table}.parquet", table=TABLES),
        "results/{experiment}/tables/spec.json",
    log:
        "logs/compare/{experiment}.log",
    benchmark:
        "logs/compare/{experiment}.benchmark.tsv"
    wildcard_constraints:
        experiment=one_of(COMPARE),
    conda:
        "../../envs/environment.yaml"
    params:
        job=lambda wildcards: told(COMPARE[wildcards.experiment]),
    shell:
        "diversity-spectra compare --job {params.job:q} >{log} 2>&1"
