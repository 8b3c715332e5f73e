"""
sweep: one report over all experiments of a sweep.

REQUIRED INPUTS: the tables of stage compare of every experiment
OUTPUTS: results/<sweep>/report.html, results/<sweep>/tables/*.{parquet,csv}, results/<sweep>/figures/*.{svg,png}
"""

for sweep, sweep_job in PLAN.named("sweep").items():

    rule sweep:
        """Put the tables of all experiments together, and show networks, data sets and conditions side by side."""
        input:
            expand("results/{experiment}/tables/{table}.parquet", experiment=COMPARE, table=COMBINED),
        output:
            f"results/{sweep}/report.html",
            expand("results/{sweep}/tables/{table}.parquet", sweep=sweep, table=SWEEP_TABLES),
            drawn(sweep, "../report/sweep"),
        log:
            f"logs/sweep/{sweep}.log",
        benchmark:
            f"logs/sweep/{sweep}.benchmark.tsv"
        conda:
            "../../envs/environment.yaml"
        params:
            job=as_it_is(told(sweep_job)),
        shell:
            "diversity-spectra sweep --job {params.job:q} >{log} 2>&1"
