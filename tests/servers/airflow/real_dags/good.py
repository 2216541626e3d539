"""A DAG that works. What it is triggered with reaches its command as data."""

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

with DAG("good", schedule=None, is_paused_upon_creation=False, description="Works.", tags=["sample"]):
    extract = BashOperator(
        task_id="extract",
        bash_command='echo "conf is $CONF"',
        env={"CONF": "{{ dag_run.conf | tojson }}"},
        append_env=True,
    )
    extract >> BashOperator(task_id="load", bash_command="echo loaded")
