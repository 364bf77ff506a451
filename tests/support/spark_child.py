"""A process that runs SQL in Spark with Delta; it knows nothing of neuralake.

Usage: spark_child.py JARS, the folder of Delta's. Each line of standard input is a statement, as
JSON; the answer is a line too: its rows, each value as `plain` text, or `{"error": …}`.
"""

from __future__ import annotations

import datetime
import json
import os
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

READY = "ready"


def plain(value: Any) -> Any:
    """A value as JSON, the same for what Spark returns and what Arrow does; instants in UTC."""
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if hasattr(value, "asDict"):
        return plain(value.asDict())
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if isinstance(value, bytes | bytearray):
        return value.hex()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime.datetime):
        text = value.replace(tzinfo=None).isoformat(sep=" ")
        return text.rstrip("0") if "." in text else text
    if isinstance(value, str):
        return value
    return repr(value)


def main(jars: Path) -> None:
    from pyspark.sql import SparkSession

    settings = {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.extraClassPath": ":".join(map(str, jars.glob("*.jar"))),
        # Little data: compiling costs more than it saves.
        "spark.driver.extraJavaOptions": "-Duser.timezone=UTC -XX:TieredStopAtLevel=1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "1g",
        "spark.databricks.delta.snapshotPartitions": "1",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    builder = SparkSession.builder.master("local[1]")
    for name, value in settings.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    print(json.dumps(READY), flush=True)
    for line in sys.stdin:
        try:
            frame = spark.sql(json.loads(line))
            for name, kind in frame.dtypes:
                if kind.startswith(
                    "timestamp"
                ):  # Python has no time before year 1 to compare it by.
                    frame = frame.withColumn(name, frame[f"`{name}`"].cast("string"))
            answer: Any = [plain(row) for row in frame.collect()]
        except Exception as error:
            answer = {"error": str(error)[:2000]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    os.environ["TZ"] = "UTC"
    main(Path(sys.argv[1]))
