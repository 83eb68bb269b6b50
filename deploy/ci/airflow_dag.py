"""Airflow 3: waits for the gates' answer on a commit. Needs `llmops` on the workers. See deploy/ci/README.md.

The password of the connection `llmops` is the token.
"""

from datetime import timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, Param

with DAG(
    dag_id="llmops_gates",
    schedule=None,
    params={"revision": Param(type="string", pattern="^[0-9a-f]{40}$", description="the commit's full SHA")},
):
    BashOperator(
        task_id="gates",
        bash_command='llmops run my-model --wait --remote https://dagster.example.com --revision "$REVISION"',
        env={"REVISION": "{{ params.revision }}", "LLMOPS_REMOTE_TOKEN": "{{ conn.llmops.password }}"},
        append_env=True,
        execution_timeout=timedelta(hours=6),
        retries=0,  # also where the installation's default is higher: after `failed`, a repetition starts a new run
    )
