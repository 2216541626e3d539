"""A DAG that fails in three other ways: a command, one part of a mapped task, an exit in a long log."""

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, task

with DAG("mixed", schedule=None, is_paused_upon_creation=False):
    BashOperator(task_id="sh", bash_command="echo working; echo 'cat: nothing' >&2; exit 3")

    @task
    def part(number):
        if number == 1:
            try:
                {}["k"]
            except KeyError as error:
                raise RuntimeError("no part\nsecond line") from error

    part.expand(number=[0, 1])

    @task
    def big():
        for number in range(20000):
            print("line", number, "x" * 80)
        raise SystemExit(4)

    big()
