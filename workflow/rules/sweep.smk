"""
sweep: one report over all experiments of a sweep.

REQUIRED INPUTS: the tables of stage compare of every experiment
OUTPUTS: results/cache/sweep/*/{report.html,tables/,figures/}, laid in results/<sweep>/
"""


rule sweep:
    """Put the tables of all experiments together, and show networks, data sets and conditions side by side."""
    input:
        needs("sweep"),
    output:
        "results/.laid/sweep/{item}",
    log:
        "logs/sweep/{item}.log",
    benchmark:
        "logs/sweep/{item}.benchmark.tsv"
    params:
        run=run("sweep"),
        told=told("sweep"),
    message:
        "{params.told}"
    shell:
        "diversity-spectra sweep {params.run} >{log} 2>&1"
