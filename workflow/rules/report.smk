"""
report: figures and one HTML page for each experiment.

REQUIRED INPUTS: the tables of stage compare; beside them image sets and eigenvalues, of which it shows what is there
OUTPUTS: results/<experiment>/report.html, results/<experiment>/figures/*.{svg,png}
"""

# Networks, and so figures, differ between experiments: each has a rule of its own.
for experiment, report_job in PLAN.named("report").items():

    rule:
        """Draw every figure and write the page that explains them."""
        name:
            f"report_{experiment}"
        input:
            expand("results/{experiment}/tables/{table}.parquet", experiment=experiment, table=TABLES),
        output:
            f"results/{experiment}/report.html",
            drawn(experiment, "../report"),
        log:
            f"logs/report/{experiment}.log",
        benchmark:
            f"logs/report/{experiment}.benchmark.tsv"
        conda:
            "../../envs/environment.yaml"
        params:
            job=as_it_is(told(report_job)),
        shell:
            "diversity-spectra report --job {params.job:q} >{log} 2>&1"
