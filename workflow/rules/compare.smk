"""
compare: every condition against dropout and weight decay.

REQUIRED INPUTS: metrics, spectra and records of all runs; diversity of all training sets
OUTPUTS: results/cache/gather/{item}/*.parquet; results/cache/compare/*/*.{parquet,csv}, laid in results/<experiment>/tables/
"""


rule gather:
    """Put the tables of some hundred runs together."""
    input:
        needs("gather"),
    output:
        "results/cache/gather/{item}/spec.json",
    log:
        "logs/gather/{item}.log",
    benchmark:
        "logs/gather/{item}.benchmark.tsv"
    params:
        run=run("gather"),
        told=told("gather"),
    message:
        "{params.told}"
    shell:
        "diversity-spectra gather {params.run} >{log} 2>&1"


rule compare:
    """Shifts, alignments, equivalents, the diversity metric and the claims of one experiment, with intervals."""
    input:
        needs("compare"),
    output:
        "results/.laid/compare/{item}",
    log:
        "logs/compare/{item}.log",
    benchmark:
        "logs/compare/{item}.benchmark.tsv"
    params:
        run=run("compare"),
        told=told("compare"),
    message:
        "{params.told}"
    shell:
        "diversity-spectra compare {params.run} >{log} 2>&1"
