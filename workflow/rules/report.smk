"""
report: figures and one HTML page.

REQUIRED INPUTS: the tables of stage compare; image sets; eigenvalues
OUTPUTS: results/<experiment>/report.html, results/<experiment>/figures/*.{svg,png}
"""

REPORT = next(iter(PLAN.jobs["report"].values()))


rule report:
    """Draw every figure and write the page that explains them."""
    input:
        [f"{COMPARE.out}/{table}.parquet" for table in TABLES],
    output:
        f"{REPORT.out}/report.html",
        [
            report(
                f"{REPORT.out}/figures/{figure.name}.svg",
                caption=f"../report/{figure.kind}.rst",
                category="figures",
                labels=figure.labels,
            )
            for figure in figures(PLAN.config)
        ],
    log:
        f"logs/report/{EXPERIMENT}.log",
    benchmark:
        f"logs/report/{EXPERIMENT}.benchmark.tsv"
    conda:
        "../../envs/environment.yaml"
    params:
        job=REPORT.text,
    shell:
        "diversity-spectra report --job {params.job:q} >{log} 2>&1"
