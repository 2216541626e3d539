"""A DAG whose middle task fails in both of its attempts."""

from datetime import timedelta

from airflow.sdk import dag, task


@dag(schedule=None, is_paused_upon_creation=False)
def failing():
    @task
    def extract():
        print("rows: 3")

    @task(retries=1, retry_delay=timedelta(seconds=1))
    def transform():
        for number, price in enumerate(["12", "n/a"]):
            print("row", number)
            float(price)

    @task
    def load():
        print("never")

    extract() >> transform() >> load()


failing()
