"""
report: figures and one HTML page for each experiment.

REQUIRED INPUTS: the tables of stage compare; beside them image sets and eigenvalues, of which it shows what is there
OUTPUTS: results/cache/report/*/{report.html,figures/}, laid in results/<experiment>/
"""


rule report:
    """Draw every figure and write the page that explains them."""
    input:
        needs("report"),
    output:
        "results/.laid/report/{item}",
    log:
        "logs/report/{item}.log",
    benchmark:
        "logs/report/{item}.benchmark.tsv"
    # Of a cluster one: not every node has more.
    threads: min(4, workflow.resource_settings.cores or 1) if workflow.is_main_process else 1
    params:
        run=run("report"),
        told=told("report"),
    message:
        "{params.told}"
    shell:
        "diversity-spectra report {params.run} --threads {threads} >{log} 2>&1"
